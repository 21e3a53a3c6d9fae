"""Samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attnbn.data.sample import Sample


class Batch(NamedTuple):
    """A batch of samples of one size; a plain tuple of tensors, so that it is pickled and pinned as it is.

    Attributes:
        image: ``B×3×S×S`` uint8 (see :func:`attnbn.data.transforms.normalize`).
        labels: ``B×N`` float32 in {0, 1}, NaN = unknown; None where the data set has none.
        saliency: ``B×1×S×S`` float32 in [0, 1], zero for samples without a map; None where no sample has one.
        has_saliency: ``B`` bool.
        names: ``B`` names.
        layers: How many layers of the trunk are done already: not 0 where ``image`` holds their kept output,
            float32 ``B×C×h×w``, and ``saliency`` has the attention's size.
    """

    image: Tensor
    labels: Tensor | None
    saliency: Tensor | None
    has_saliency: Tensor
    names: list[str]
    layers: int = 0


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; ``collate_fn`` of a ``DataLoader``.

    Masks are left out: training never sees them, and in evaluation each keeps its own resolution.

    Raises:
        ValueError: No samples, images of different sizes, or labels for some samples only.
    """
    if not samples:
        raise ValueError("expected at least one sample")
    sizes = {tuple(sample.image.shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size, got {sorted(sizes)}: transform the samples before collating")
    labelled = [sample.labels for sample in samples if sample.labels is not None]
    if labelled and len(labelled) != len(samples):
        raise ValueError("expected labels for all samples of a batch or for none")
    has_saliency = torch.tensor([sample.saliency is not None for sample in samples])
    return Batch(
        image=torch.stack([sample.image.as_subclass(Tensor) for sample in samples]).contiguous(),
        labels=torch.stack(labelled) if labelled else None,
        saliency=_stack_saliency(samples) if has_saliency.any() else None,
        has_saliency=has_saliency,
        names=[sample.name for sample in samples],
    )


def _stack_saliency(samples: Sequence[Sample]) -> Tensor:
    height, width = samples[0].image.shape[-2:]
    stacked = torch.zeros(len(samples), 1, height, width)
    for row, sample in zip(stacked, samples, strict=True):
        if sample.saliency is not None:
            row.copy_(sample.saliency.as_subclass(Tensor))
    return stacked
