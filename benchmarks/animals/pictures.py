"""How the bench's pictures are made of the originals, to the byte where Pillow's JPEG library is the same.

Target: RGB, longest side 256 (a smaller photograph is enlarged), Lanczos, JPEG of quality 88. Source: first a copy with a
longest side of at most 320, JPEG of quality 90, on which the saliency detector works; from that the photograph with a
longest side of at most 256 as before. Masks: nearest neighbour at their photograph's size.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbn.io.pictures import open_picture, to_rgb

SIDE = 256
WORKING_SIDE = 320
QUALITY = 88
WORKING_QUALITY = 90


def target_photograph(path: Path) -> bytes:
    """A VOC photograph as the bench's JPEG.

    Raises:
        InputError: The file is no readable photograph.
    """
    return as_jpeg(scaled(_read(path), SIDE, enlarge=True), QUALITY)


def working_copy(path: Path) -> Image.Image:
    """The source photograph from which both the bench's photograph and its saliency map are made.

    Raises:
        InputError: The file is no readable photograph.
    """
    copy = Image.open(io.BytesIO(as_jpeg(scaled(_read(path), WORKING_SIDE), WORKING_QUALITY)))
    copy.load()
    return copy


def source_photograph(copy: Image.Image) -> bytes:
    """The bench's JPEG of a working copy."""
    return as_jpeg(scaled(copy, SIDE), QUALITY)


def scaled(picture: Image.Image, longest: int, *, enlarge: bool = False) -> Image.Image:
    """The picture with its longest side at ``longest`` pixels; a smaller one stays as it is unless told to ``enlarge``."""
    factor = longest / max(picture.size)
    if factor == 1 or (factor > 1 and not enlarge):
        return picture
    width, height = (max(round(side * factor), 1) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def scaled_mask(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Class ids ``H×W`` at ``size = (width, height)``, by nearest neighbour: ids are never mixed."""
    return np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture."""
    with Image.open(io.BytesIO(jpeg)) as picture:
        return picture.size


def as_jpeg(picture: Image.Image, quality: int) -> bytes:
    """The picture as JPEG with Pillow's other settings as they are (4:2:0)."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _read(path: Path) -> Image.Image:
    return Image.fromarray(to_rgb(open_picture(path), path))
