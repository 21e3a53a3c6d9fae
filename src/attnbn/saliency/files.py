"""Saliency maps in a folder parallel to their photographs: ``<folder>/<name>.png`` for the photograph ``<name>``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from attnbn.io.errors import InputError
from attnbn.io.pictures import grey_16, list_pictures, open_picture, to_rgb
from attnbn.saliency.presets import is_detector

_ASPECT_TOLERANCE = 0.03
"""Relative; a map whose height misses the image's shape by more belongs to another image or was padded or turned."""
_GREY_TOLERANCE = 8
"""Of 255: how far apart the channels of a grey map saved in colour may lie (JPEG's rounding)."""


class SaliencyFolder:
    """Saliency by name: the callable that data sets take.

    Args:
        path: The folder; it is listed once, here.
        required: Whether a photograph without a usable map is an error; otherwise its saliency is None, and Eq. 3
            leaves it out. Broken files and maps of another shape are errors either way.

    Raises:
        InputError: The folder is missing or holds no picture.
    """

    def __init__(self, path: str | Path, *, required: bool = True) -> None:
        self.path = Path(path).expanduser()
        self.required = required
        if not self.path.is_dir():
            if is_detector(str(path)):
                raise InputError(
                    f"expected a folder of saliency maps, got the detector {path}; make the maps first: "
                    f"attnbn saliency PHOTOGRAPHS --detector {path} --output MAPS, then give MAPS"
                )
            raise InputError(
                f"expected a folder of saliency maps, found none; check data.saliency or --saliency: {self.path}"
            )
        self._files: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        for file in list_pictures(self.path):
            name = os.path.splitext(file)[0]
            if self._files.setdefault(name, file) != file:
                self._twice[name] = file
        if not self._files:
            raise InputError(f"expected saliency maps named as their photographs, found no picture: {self.path}")

    def __len__(self) -> int:
        return len(self._files)

    def __call__(self, name: str, size: tuple[int, int]) -> Tensor | None:
        """The map of a photograph.

        Args:
            name: The photograph's name in its data set.
            size: ``(H, W)`` of the upright photograph.

        Returns:
            float32 ``1×H×W`` in [0, 1], or None where maps are not required and this one is missing or constant.

        Raises:
            InputError: See :func:`read_saliency`; also where two files claim the name and, where maps are required, for
                a missing or constant map: a constant prior would teach the attention to cover everything or nothing.
        """
        saliency = self._read(name, size)
        if saliency is not None and is_constant(saliency):
            if self.required:
                raise InputError(
                    f"expected a saliency map that marks an object, got a constant one (every pixel "
                    f"{saliency.mean():.2f}); make it anew or take out its photograph: {self.path / self._files[name]}"
                )
            return None
        return saliency

    def of(self, image: Tensor, name: str) -> Tensor | None:
        """The map of a photograph, a constant one too: for cues, that nothing stands out is an answer.

        Args:
            image: ``3×H×W``, upright; its size alone is used.
            name: The photograph's name in its data set.

        Returns:
            float32 ``1×H×W`` in [0, 1], or None where maps are not required and this one is missing.

        Raises:
            InputError: As for a call, but for constant maps.
        """
        return self._read(name, (image.shape[-2], image.shape[-1]))

    def _read(self, name: str, size: tuple[int, int]) -> Tensor | None:
        if name not in self._files:
            if self.required:
                raise self._missing([name])
            return None
        if name in self._twice:
            raise InputError(
                f"expected one saliency map for {name!r}, "
                f"got {self._files[name]} and {self._twice[name]}; remove one: {self.path}"
            )
        return read_saliency(self.path / self._files[name], size)

    def check(self, names: Iterable[str]) -> None:
        """Refuse at once, not at step 1000, photographs without a map.

        Raises:
            InputError: Maps are required and some are missing.
        """
        missing = [name for name in names if name not in self._files] if self.required else []
        if missing:
            raise self._missing(missing)

    def _missing(self, names: list[str]) -> InputError:
        more = f" ({len(names):,} photographs have none)" if len(names) > 1 else ""
        return InputError(
            f"expected a saliency map of the photograph {names[0]!r}, found none{more}; make it, "
            f"take the photograph out, or correct data.saliency or --saliency: {self.path / (names[0] + '.png')}"
        )


def read_saliency(path: str | Path, size: tuple[int, int]) -> Tensor:
    """Read a grey map of any resolution and bring it to its image's.

    The map lies over the *upright* photograph: its own EXIF orientation, if it has one, is applied as a viewer would,
    the photograph's never.

    Args:
        path: An 8- or 16-bit grey picture, also one stored in palette or RGB with equal channels.
        size: ``(H, W)`` of the upright photograph.

    Returns:
        float32 ``1×H×W`` in [0, 1]; resized, where needed, bilinearly with antialiasing.

    Raises:
        InputError: The file is unreadable, in colour, transparent, or its shape is not the image's.
    """
    picture = open_picture(path, "saliency map")
    _check_shape(picture.height, picture.width, size, path)
    grey = torch.from_numpy(_grey(picture, path))[None]
    if grey.shape[-2:] != size:
        grey = F.interpolate(grey[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return grey.clamp_(0, 1)


def is_constant(saliency: Tensor) -> bool:
    """Whether a map in [0, 1] says nothing: its values spread over less than two of 256 grey levels."""
    low, high = saliency.aminmax()
    return bool(high - low < 1.5 / 255)


def _check_shape(height: int, width: int, size: tuple[int, int], path: str | Path) -> None:
    expected = width * size[0] / size[1]
    # a small map's sides are rounded to whole pixels; one pixel is then more than 3 %
    if abs(height - expected) <= max(1.0, _ASPECT_TOLERANCE * expected):
        return
    turned = abs(width - height * size[0] / size[1]) <= max(1.0, _ASPECT_TOLERANCE * width)
    hint = " (turned by a quarter: the map must lie over the upright photograph)" if turned else ""
    raise InputError(
        f"expected a saliency map in the shape of its image {size[0]}×{size[1]}, "
        f"got {height}×{width}{hint}; make it anew: {path}"
    )


def _grey(picture: Image.Image, path: str | Path) -> NDArray[np.float32]:
    """Pixels as float32 ``H×W`` in [0, 1]."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        return grey_16(picture, path).astype(np.float32)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getextrema()[-1] != (255, 255):
            raise InputError(
                f"expected a grey saliency map, got transparent pixels (a cut-out?); "
                f"save its alpha channel as grey: {path}"
            )
    if picture.mode not in ("1", "L"):
        colours = to_rgb(picture, path)
        if (colours.max(2) - colours.min(2)).max() > _GREY_TOLERANCE:
            raise InputError(
                f"expected a grey saliency map, got colours (a photograph, or a heat map?); "
                f"save it as 8- or 16-bit grey: {path}"
            )
        picture = Image.fromarray(colours)
    return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)
