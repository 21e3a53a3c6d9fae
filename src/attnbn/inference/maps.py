"""Maps brought to one scale and one size: normalised by their maxima, resized, fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Fuse = Literal["mean", "product"]


def full_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at a photograph's own resolution.

    Bilinear with pixel centres aligned (``align_corners=False``), the way the photograph came to the network's size.

    Args:
        maps: ``K×h×w`` in [0, 1].
        size: Height and width H, W.

    Returns:
        float32 ``K×H×W`` in [0, 1].
    """
    if not len(maps):
        return maps.new_zeros(0, *size, dtype=torch.float32)
    grown = nn.functional.interpolate(maps[None].float(), size=size, mode="bilinear", align_corners=False)
    return grown[0].clamp(0, 1)  # the four weights of a pixel may add up to one and a rounding


def max_normalized(maps: Tensor) -> Tensor:
    """Each map divided by its own maximum; an all-zero map stays zero, one that is not finite becomes NaN somewhere.

    Args:
        maps: ``K×h×w``, not negative.

    Returns:
        float32 ``K×h×w`` in [0, 1].
    """
    maps = maps.float()
    peak = maps.amax((-2, -1), keepdim=True)
    return torch.where(peak <= 0, torch.zeros_like(maps), maps / peak)


def fused(maps: Sequence[Tensor], how: Fuse = "mean") -> Tensor:
    """One map of several views of the same: other layers, other scales, mirrored and back.

    Each is divided by its own maximum, brought bilinearly to the finest grid among them, averaged with the others, and
    the average divided by its maximum. So every view has the same say, whatever the scale of its scores and gradients.

    Args:
        maps: Views of the same K maps, each ``K×h×w``, not negative, with an h and w of its own.
        how: The ``mean``, or the ``product`` (its root, the geometric mean), which keeps only what all views see.

    Returns:
        float32 ``K×H×W`` in [0, 1] with the largest H and the largest W of the views.
    """
    size = (max(view.shape[-2] for view in maps), max(view.shape[-1] for view in maps))
    grown = torch.stack([full_size(max_normalized(view), size) for view in maps])
    return max_normalized(grown.mean(0) if how == "mean" else grown.prod(0).pow(1 / len(grown)))
