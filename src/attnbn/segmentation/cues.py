"""Localisation cues: the few pixels of a photograph whose class attention and saliency make certain (SEC, DSRG).

Foreground where a labelled class's attention is high, background where nothing is salient, unknown elsewhere. The
thresholds are the literature's; how maps are combined, which it leaves to each author, is settings here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbn.losses import normalize_by_max

Conflict = Literal["smaller", "ignore", "both"]
AgainstBackground = Literal["unknown", "foreground", "background"]

UNKNOWN = 255
"""Value of a mask's pixels without a class."""

ROUNDING = 1e-5
"""How far outside [0, 1] a map may be: resizing adds weights up to one and a rounding."""


def make_cues(
    attention: Tensor,
    classes: Sequence[int] | Tensor,
    num_classes: int,
    saliency: Tensor | None = None,
    *,
    grid: tuple[int, int] = (41, 41),
    foreground: float = 0.2,
    background: float = 0.06,
    background_attention: float = 0.05,
    conflict: Conflict = "smaller",
    against_background: AgainstBackground = "unknown",
) -> Tensor:
    """Make the cues of one photograph.

    Attention comes to the grid bilinearly (``align_corners=False``, with antialiasing when it shrinks), saliency by area
    averaging. Each class's area is that of its foreground before any conflict is settled. An all-zero map is no evidence:
    it gives no seed of its class, and without saliency none of the background either. So does a photograph that has
    neither a labelled class nor saliency.

    Args:
        attention: float ``K×h×w`` in [0, 1], the maps of the labelled classes, each divided by its maximum.
        classes: K different indices, 0 … ``num_classes - 1``, in the maps' order.
        num_classes: N.
        saliency: float ``H×W`` or ``1×H×W`` in [0, 1]; None: the background comes from low attention.
        grid: Rows and columns of the cues, those of the segmentation network's output.
        foreground: A class is seeded where its map on the grid exceeds this share of the map's maximum there.
        background: The background is seeded where saliency is below this.
        background_attention: Without saliency, where every labelled class's map is below this share of its maximum.
        conflict: Where several classes are foreground: the one with the ``smaller`` area stays (of equals the one with the
            lower index), none (``ignore``), or all (``both``).
        against_background: Where a pixel is foreground and background: neither (``unknown``), or the one named.

    Returns:
        bool ``(N+1)×rows×columns`` on the attention's device; channel 0 is the background, i + 1 class i.

    Raises:
        ValueError: A shape, a value or a setting is none of the above.

    >>> attention = torch.tensor([[[1.0, 0.5, 0.0]]])
    >>> make_cues(attention, [1], 2, grid=(1, 3)).int().tolist()
    [[[0, 0, 1]], [[0, 0, 0]], [[1, 1, 0]]]
    """
    _check_map("attention", attention, "K×h×w", attention.ndim == 3)
    chosen = _checked_classes(classes, num_classes, len(attention))
    _check_settings(grid, foreground, background, background_attention, conflict, against_background)
    maps = _on_grid(attention, grid)
    claimed = maps > foreground
    if saliency is not None:
        flat = saliency[0] if saliency.ndim == 3 and len(saliency) == 1 else saliency
        _check_map("saliency", flat, "H×W or 1×H×W", flat.ndim == 2)
        empty = F.adaptive_avg_pool2d(flat.to(maps)[None], grid)[0] < background
    else:
        known = len(maps) > 0 and bool((maps.amax((1, 2)) > 0).all())
        empty = (maps < background_attention).all(0) & known
    both = claimed.any(0) & empty
    seeded = _settled(claimed, chosen, conflict)
    if against_background != "foreground":
        seeded = seeded & ~both
    if against_background != "background":
        empty = empty & ~both
    cues = torch.zeros(num_classes + 1, *grid, dtype=torch.bool, device=attention.device)
    cues[0] = empty
    cues[chosen + 1] = seeded
    return cues


def seeds_to_mask(cues: Tensor) -> Tensor:
    """The cues as a mask to look at and for tools that know nothing else.

    Args:
        cues: bool ``(N+1)×h×w``, N at most 254.

    Returns:
        uint8 ``h×w``: the class's channel, 255 where there is no class or more than one.

    Raises:
        ValueError: The cues have another shape or type, or too many classes for a mask.

    >>> seeds_to_mask(torch.tensor([[[1, 0, 1, 0]], [[0, 1, 1, 0]]]).bool()).tolist()
    [[0, 1, 255, 255]]
    """
    if cues.ndim != 3 or cues.dtype != torch.bool or not 1 <= len(cues) <= UNKNOWN:
        raise ValueError(f"expected boolean cues (N+1)×h×w of at most 254 classes, got {cues.dtype} {[*cues.shape]}")
    seeds = cues.to(torch.uint8)
    return torch.where(cues.sum(0) == 1, seeds.argmax(0), UNKNOWN).to(torch.uint8)


def _on_grid(attention: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps ``K×rows×columns``, each as a share of its maximum there."""
    if not len(attention):
        return attention.new_zeros(0, *grid, dtype=torch.float32)
    maps = F.interpolate(attention[None].float(), size=grid, mode="bilinear", align_corners=False, antialias=True)[0]
    return normalize_by_max(maps.clamp(min=0), eps=torch.finfo(maps.dtype).tiny)


def _settled(claimed: Tensor, classes: Tensor, conflict: Conflict) -> Tensor:
    """The foreground ``K×rows×columns`` after the classes' conflicts."""
    if conflict == "both" or not len(claimed):
        return claimed
    contested = claimed.sum(0) > 1
    if conflict == "ignore":
        return claimed & ~contested
    # by area, then by index: the smallest class that claims a pixel keeps it
    areas, numbers = claimed.sum((1, 2)).tolist(), classes.tolist()
    settled, taken = torch.zeros_like(claimed), torch.zeros_like(contested)
    for k in sorted(range(len(areas)), key=lambda k: (areas[k], numbers[k])):
        settled[k] = claimed[k] & ~taken
        taken |= claimed[k]
    return settled


def _checked_classes(classes: Sequence[int] | Tensor, num_classes: int, maps: int) -> Tensor:
    numbers = [int(c) for c in classes]
    if num_classes < 1 or not all(0 <= c < num_classes for c in numbers):
        raise ValueError(f"expected classes in 0 … {num_classes - 1}, got {numbers}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"expected each class once, got {numbers}")
    if len(numbers) != maps:
        raise ValueError(f"expected an attention map for each of {len(numbers)} classes, got {maps}")
    return torch.tensor(numbers, dtype=torch.long)


def _check_map(what: str, values: Tensor, shape: str, fits: bool) -> None:
    if not fits or not values.is_floating_point() or 0 in values.shape[-2:]:
        raise ValueError(f"expected {what} {shape} of floats, got {values.dtype} {[*values.shape]}")
    # written so that NaN fails it too
    if values.numel() and not (float(values.min()) >= -ROUNDING and float(values.max()) <= 1 + ROUNDING):
        raise ValueError(f"expected {what} in [0, 1], got {float(values.min()):.4g} … {float(values.max()):.4g}")


def _check_settings(
    grid: tuple[int, int], foreground: float, background: float, low: float, conflict: str, against: str
) -> None:
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"expected a grid of at least 1×1, got {grid}")
    if not 0 <= foreground < 1:
        raise ValueError(f"expected the foreground threshold in [0, 1), got {foreground}")
    if not (0 <= background <= 1 and 0 <= low <= 1):
        raise ValueError(f"expected the background thresholds in [0, 1], got {background} and {low}")
    for what, value, known in (
        ("conflict", conflict, get_args(Conflict)),
        ("against_background", against, get_args(AgainstBackground)),
    ):
        if value not in known:
            raise ValueError(f"expected {what} to be one of {', '.join(known)}, got {value}")
