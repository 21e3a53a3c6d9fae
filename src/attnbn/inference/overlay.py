"""Attention drawn over its photograph: colour where the network looks, the photograph itself elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Picture = NDArray[np.uint8]
"""A picture, uint8 ``H×W×3``, RGB."""

COLORMAP = "turbo"
"""Blue, green, yellow, red with rising attention, ordered in lightness up to the warm end."""


def overlay(image: Tensor, attention: Tensor, strength: float = 0.62) -> Picture:
    """Lay a map over its photograph.

    The photograph is shown with less colour, so that the map's stands out; the map covers more where it is stronger, so
    that details stay visible where there is no attention.

    Args:
        image: uint8 ``3×H×W``, RGB.
        attention: float ``H×W`` in [0, 1].
        strength: Cover at attention 1, in [0, 1].

    Returns:
        uint8 ``H×W×3``.

    Raises:
        ValueError: The two are not of one size.
    """
    if image.shape[-2:] != attention.shape:
        raise ValueError(f"expected a map of {[*image.shape[-2:]]} like its photograph, got {[*attention.shape]}")
    photograph = np.asarray(image.cpu(), dtype=np.float32).transpose(1, 2, 0)
    grey = photograph @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    base = 0.45 * photograph + 0.55 * grey[..., None]
    level = (np.asarray(attention.cpu(), dtype=np.float32).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    # A table of 256 colours and covers: a colour map evaluated per pixel would take most of the time.
    cover = (strength * np.clip(np.linspace(0, 1, 256, dtype=np.float32) * 1.6, 0.12, 1))[level][..., None]
    picture: Picture = (base * (1 - cover) + _colours()[level] * cover + 0.5).astype(np.uint8)
    return picture


def captioned(picture: Picture, text: str) -> Picture:
    """The picture with a line of text on a dark plate in its lower left corner."""
    height, width = picture.shape[:2]
    font = _font(max(9, min(round(min(height, width) * 0.05), 64)))
    canvas = Image.fromarray(picture).convert("RGBA")
    left, _top, right, _bottom = font.getbbox(text)
    pad = round(font.size * 0.45)
    box_height = round(font.size * 1.2) + pad
    plate = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(plate)
    corner = (pad, height - box_height - pad, pad + right - left + 2 * pad, height - pad)
    draw.rounded_rectangle(corner, radius=pad, fill=(12, 14, 18, 190))
    middle = (corner[1] + corner[3]) / 2
    draw.text((2 * pad - left, middle), text, font=font, fill=(255, 255, 255, 255), anchor="lm")
    return np.asarray(Image.alpha_composite(canvas, plate).convert("RGB"))


@cache
def _colours() -> NDArray[np.float32]:
    return (mpl.colormaps[COLORMAP](np.arange(256))[:, :3] * 255).astype(np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans: the same letters on every machine, Latin, Greek, Cyrillic and more.
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
