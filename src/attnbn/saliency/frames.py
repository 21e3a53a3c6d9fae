"""Plain frames around photographs: letterboxes, mounts and margins, which belong neither to object nor to background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 12
"""Of 255: how far from a frame's colour its pixels may lie, in any channel."""
WIDEST = 0.2
"""Of the picture's side: beyond it, plain lines are a backdrop rather than a frame."""
_NESTED = 3
"""Frames that may lie in one another."""
_SMALLEST = 16
"""Shorter side in pixels of a picture in which frames are told at all: of a line of few pixels, any is plain."""
_PLAIN = 0.95
"""Share of a line's pixels that must have the frame's colour."""
_ABRUPT = 0.8
"""Share of the first line inside a frame that must not have its colour: a backdrop goes on, a frame ends."""


def inside_frame(pixels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The part of a picture within its plain frames (one may lie in another); all of it where there is none.

    An object on a plain backdrop has plain lines around it too, but the backdrop goes on beside the object, where a frame
    ends all along its side.

    Args:
        pixels: uint8 ``H×W×3``.

    Returns:
        Rows and columns.
    """
    values = pixels.astype(np.int16)
    top, left = 0, 0
    bottom, right = values.shape[:2]
    for _ in range(_NESTED):
        inner = values[top:bottom, left:right]
        if min(inner.shape[:2]) < _SMALLEST:
            break
        above, below, before, behind = _frame(inner)
        top, bottom, left, right = top + above, bottom - below, left + before, right - behind
    return slice(top, bottom), slice(left, right)


def _frame(values: NDArray[np.int16]) -> tuple[int, int, int, int]:
    """Widths of the outermost frame: above, below, left and right."""
    turned = values.transpose(1, 0, 2)
    top, bottom = _plain_lines(values), _plain_lines(values[::-1])
    left, right = _plain_lines(turned), _plain_lines(turned[::-1])
    height, width = values.shape[:2]
    inner = values[top : height - bottom, left : width - right]
    across = inner.transpose(1, 0, 2)
    return (
        top if _ends(values[0], inner) else 0,
        bottom if _ends(values[-1], inner[::-1]) else 0,
        left if _ends(turned[0], across) else 0,
        right if _ends(turned[-1], across[::-1]) else 0,
    )


def _plain_lines(rows: NDArray[np.int16]) -> int:
    """How many rows from the first have its colour; 0 where they are too many for a frame."""
    widest = int(WIDEST * len(rows))
    near = _like(rows[: widest + 1], np.median(rows[0], 0)).mean(1) >= _PLAIN
    lines = len(near) if near.all() else int(near.argmin())
    return lines if lines <= widest else 0


def _ends(outer: NDArray[np.int16], inner: NDArray[np.int16]) -> bool:
    """Whether the frame's colour ends with it; one line is left for the blur between."""
    line = inner[min(1, len(inner) - 1)]
    return bool((~_like(line, np.median(outer, 0))).mean() >= _ABRUPT)


def _like(values: NDArray[np.int16], colour: NDArray[np.floating]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(values - colour) <= TOLERANCE).all(-1))
