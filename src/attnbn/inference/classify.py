"""A network and a data set to scores and features, without attention: what a classifier says of each photograph.

Like :func:`attnbn.inference.predict.predict` it leaves no trace in the network's modes or the global random state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnbn.data.dataset import ImageDataset
from attnbn.data.transforms import normalize
from attnbn.inference.modes import evaluating, parameter
from attnbn.inference.reading import Item, Reader, batches, readable
from attnbn.io.errors import InputError, RunError


@dataclass(frozen=True)
class Classified:
    """What the network says of M photographs, in the data set's order; all tensors are on the CPU.

    Attributes:
        names: Of the photographs.
        scores: Logits, float32 ``M×N``.
        labels: float32 ``M×N`` in {0, 1}, NaN = unknown; None where the data set has none.
        features: F averaged over its places, float32 ``M×C``.
    """

    names: list[str]
    scores: Tensor
    labels: Tensor | None
    features: Tensor


def classify(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    size: int,
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_broken: bool = False,
    broken: list[str] | None = None,
) -> Classified:
    """Classify the photographs of a data set.

    Args:
        net: ``net(images)`` gives features, scores and no attention; used in ``eval`` mode, then put back.
        dataset: The photographs.
        size: Side of the square that the whole photograph is resized to.
        batch_size: Photographs a forward pass.
        workers: Processes that read; the result does not depend on it.
        device: Where the network is; None: where its weights are.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        broken: Collects one line for each photograph left out.

    Raises:
        InputError: A photograph cannot be read, or there is none.
        RunError: The network gives numbers that are not finite, or a reading process died.
    """
    device = torch.device(device) if device is not None else parameter(net).device
    reader = Reader(dataset, (size,), range(len(dataset)))
    groups = batches(reader, batch_size, workers, pin=device.type == "cuda")
    names: list[str] = []
    parts: list[tuple[Tensor, Tensor]] = []
    labels: list[Tensor] = []
    for items in readable(groups, skip_broken, broken):
        parts.append(_forward(net, items, device))
        names += [item.name for item in items]
        # Cloned: what came from a worker holds a file handle as long as it lives.
        labels += [item.labels.clone() for item in items if item.labels is not None]
    if not names:
        raise InputError(f"expected photographs to classify, got none that can be read: {dataset.title}")
    scores, features = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Classified(names, scores, torch.stack(labels) if len(labels) == len(names) else None, features)


def _forward(net: nn.Module, items: list[Item], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scores ``B×N`` and pooled features ``B×C`` of one batch."""
    images = normalize(torch.stack([item.images[0] for item in items]).to(device, non_blocking=True))
    with evaluating(net), torch.no_grad():
        output = net(images.to(parameter(net).dtype))
    scores, features = output.scores.float().cpu(), output.features.float().mean((-2, -1)).cpu()
    for item, score, feature in zip(items, scores, features, strict=True):
        if not (score.isfinite().all() and feature.isfinite().all()):
            raise RunError(f"expected finite scores and features, got NaN or infinity, check the weights: {item.name}")
    return scores, features
