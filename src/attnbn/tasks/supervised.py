"""A network trained on masks: the ceiling of what image-level labels could reach with the same trunk and maps.

Not part of the method, and never of its training data: it says how far the scenes and the resolution of F let anyone come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from attnbn.config import Phase, TrainingConfig
from attnbn.data.sample import Sample
from attnbn.data.transforms import normalize
from attnbn.losses import Mean

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


class Segmenter(nn.Module):
    """A trunk with a 1×1 convolution to background and N classes, up-sampled bilinearly.

    Args:
        trunk: From images to F.
        channels: Of F.
        classes: N.
    """

    def __init__(self, trunk: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.classifier = nn.Conv2d(channels, classes + 1, 1)

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Logits ``B×(N+1)×H×W``, at the images' size unless ``size`` says otherwise."""
        logits = self.classifier(self.trunk(images))
        return F.interpolate(logits, size=size or images.shape[-2:], mode="bilinear", align_corners=False)


class Supervised:
    """Cross entropy on masks, void left out, as a task for :class:`attnbn.training.loop.Loop`.

    Args:
        network: The segmenter.
        training: Optimiser settings.
    """

    def __init__(self, network: Segmenter, training: TrainingConfig) -> None:
        self.modules: dict[str, nn.Module] = {"network": network}
        self.network, self.training = network, training

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """SGD as for the classifier."""
        momentum, decay = self.training.momentum, self.training.weight_decay
        return {"network": SGD(self.network.parameters(), lr=lr, momentum=momentum, weight_decay=decay)}

    def stream_names(self, phase: Phase) -> list[str]:
        """The target alone."""
        return ["target"]

    def losses(self, batch: Mapping[str, MaskBatch], phase: Phase, step: int) -> Iterator[tuple[str, dict[str, Mean]]]:
        """One term."""
        images, masks = batch["target"]
        logits = self.modules["network"](normalize(images))
        total = F.cross_entropy(logits, masks, ignore_index=VOID, reduction="sum")
        yield "network", {"masks": Mean(total, (masks != VOID).sum().to(total.dtype))}
