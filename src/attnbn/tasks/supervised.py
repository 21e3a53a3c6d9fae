"""A segmentation network trained on masks by cross entropy.

Two uses: the second stage of weakly supervised segmentation, on masks that a first stage predicted; and the ceiling, on
true masks, which says how far the scenes and the resolution of F let anyone come (never part of the method).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from attnbn.config import Phase, TrainingConfig
from attnbn.data.sample import Sample
from attnbn.data.transforms import normalize
from attnbn.losses import Mean
from attnbn.tasks.dsrg import segmentation_sgd
from attnbn.training.task import Terms

VOID = 255


class MaskBatch(NamedTuple):
    """Images uint8 ``B×3×S×S`` and their masks int64 ``B×S×S``."""

    image: Tensor
    mask: Tensor


def collate_masks(samples: Sequence[Sample]) -> MaskBatch:
    """Samples with masks to a batch.

    Raises:
        ValueError: if a sample has no mask.
    """
    masks = [sample.mask for sample in samples if sample.mask is not None]
    if len(masks) != len(samples):
        raise ValueError("expected a mask for every sample")
    images = torch.stack([sample.image.as_subclass(Tensor) for sample in samples])
    return MaskBatch(images, torch.stack([mask.as_subclass(Tensor) for mask in masks]).long())


class Supervised:
    """Cross entropy on masks, void left out, as a task for :class:`attnbn.training.loop.Loop`.

    Args:
        network: Images -> logits ``B×(N+1)×h×w``, up-sampled bilinearly to the masks.
        fresh: Its newly initialised layers.
        training: Optimiser settings.
    """

    def __init__(self, network: nn.Module, fresh: Sequence[nn.Module], training: TrainingConfig) -> None:
        self.modules: dict[str, nn.Module] = {"network": network}
        self.network, self.fresh, self.training = network, list(fresh), training

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """As for seeded region growing."""
        return {"network": segmentation_sgd(self.network, self.fresh, lr, self.training)}

    def stream_names(self, phase: Phase) -> list[str]:
        """The target alone."""
        return ["target"]

    def losses(self, batch: Mapping[str, MaskBatch], phase: Phase, step: int) -> Iterator[tuple[str, Terms]]:
        """One term."""
        images, masks = batch["target"]
        logits = self.modules["network"](normalize(images))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)
        total = F.cross_entropy(logits, masks, ignore_index=VOID, reduction="sum")
        yield "network", {"masks": Mean(total, (masks != VOID).sum().to(total.dtype))}

    def counts(self, batch: Mapping[str, MaskBatch], phase: Phase) -> dict[str, Tensor]:
        """A mean over known pixels."""
        return {"masks": (batch["target"].mask != VOID).sum()}
