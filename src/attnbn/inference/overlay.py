"""What a network sees drawn over its photograph: attention as heat, a segmentation as coloured areas with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from attnbn.data.images import voc_palette

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


NARROWEST = 240
"""Pixels; a narrower photograph is enlarged, so that the legend below it can be read."""


def segmentation_overlay(image: Tensor, mask: Tensor, classes: Sequence[str]) -> Picture:
    """Colour the classes of a mask over its photograph, outline them, and name them below with their shares of pixels.

    The colours are those of the mask's palette, lightened: its darkest would hide what they cover.

    Args:
        image: uint8 ``3×h×w``, RGB.
        mask: Integer ``H×W``: 0 = background, i + 1 = class i; brought to the photograph's size if it has another.
        classes: Names of the N classes.

    Returns:
        uint8 ``H'×W'×3``: the photograph, enlarged by a whole factor if it is narrower than :data:`NARROWEST`, with a legend
        of one or more lines below it.
    """
    size = (image.shape[-2], image.shape[-1])
    shown = torch.nn.functional.interpolate(mask[None, None].float().cpu(), size=size, mode="nearest-exact")[0, 0]
    factor = max(1, min(-(-NARROWEST // size[1]), 1024 // max(size)))
    ids = _enlarged(shown.to(torch.uint8).numpy(), factor)
    photograph = _enlarged(np.asarray(image.cpu()).transpose(1, 2, 0), factor).astype(np.float32)
    grey = photograph @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    background = (0.5 * photograph + 0.5 * grey[..., None]) * 0.7 + 18
    colours = _light_palette()[ids]
    there = (ids > 0)[..., None]
    picture = np.where(there, 0.5 * photograph + 0.5 * colours, background)
    picture = np.where(_outline(ids)[..., None], 255, picture)
    found, counts = np.unique(mask.cpu().numpy(), return_counts=True)
    shares = {int(index): count / mask.numel() for index, count in zip(found, counts, strict=True) if index > 0}
    band = _legend(picture.shape[1], shares, classes)
    return np.concatenate([(picture + 0.5).clip(0, 255).astype(np.uint8), band])


def _enlarged(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return picture.repeat(factor, 0).repeat(factor, 1)


def _outline(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels of a class that touch another class or the background, below or to the right."""
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    return edge


def _legend(width: int, shares: dict[int, float], classes: Sequence[str]) -> Picture:
    """Lines of class names, each after a square of its colour, largest share first."""
    font = _font(max(11, min(round(width * 0.032), 28)))
    line, pad, box = round(font.size * 1.7), round(font.size * 0.6), round(font.size * 0.8)
    entries = [(f"{classes[i - 1]} {shares[i]:.0%}", i) for i in sorted(shares, key=lambda i: -shares[i])]
    places: list[tuple[float, int]] = []
    left, row = float(pad), 0
    for text, _ in entries:
        length = box + pad / 2 + font.getlength(text)
        if left > pad and left + length + pad > width:
            left, row = float(pad), row + 1
        places.append((left, row))
        left += length + 1.5 * pad
    band = Image.new("RGB", (width, line * (row + 1) + pad // 2), (12, 14, 18))
    draw = ImageDraw.Draw(band)
    if not entries:
        draw.text((pad, pad // 4 + line / 2), "background only", font=font, fill=(150, 155, 165), anchor="lm")
    for (text, index), (x, at) in zip(entries, places, strict=True):
        middle = pad // 4 + line * (at + 0.5)
        red, green, blue = _light_palette()[index].astype(int).tolist()
        corner = (x, middle - box / 2, x + box, middle + box / 2)
        draw.rounded_rectangle(corner, radius=box // 5, fill=(red, green, blue), outline=(200, 205, 215))
        draw.text((x + box + pad / 2, middle), text, font=font, fill=(255, 255, 255), anchor="lm")
    return np.asarray(band)


@cache
def _light_palette() -> NDArray[np.float32]:
    return (255 * (voc_palette() / 255) ** 0.6).astype(np.float32)


@cache
def _colours() -> NDArray[np.float32]:
    return (mpl.colormaps[COLORMAP](np.arange(256))[:, :3] * 255).astype(np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans: the same letters on every machine, Latin, Greek, Cyrillic and more.
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
