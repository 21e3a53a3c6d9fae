"""Files to tensors: photographs, masks; and masks back to files."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from attnbn.io.atomic import write_bytes
from attnbn.io.errors import InputError
from attnbn.io.pictures import decoders, open_picture, to_rgb

VOID = 255
"""The mask value of pixels that count nowhere."""

_LOSSY = frozenset(("JPEG", "MPO", "WEBP", "AVIF"))
_GREY_STEP = {"L;2": 85, "L;4": 17}
"""Pillow stretches 2- and 4-bit grey to 0..255 by these factors; class ids must be shrunk back."""


def read_image(path: str | Path) -> tv_tensors.Image:
    """Read a photograph: any mode, upright, first frame.

    Returns:
        uint8 ``3×H×W``, RGB. The memory is laid out as decoded, channels last, which the resizing kernels prefer.

    Raises:
        InputError: The file is missing, empty, damaged, too large, or no picture.
    """
    pixels = to_rgb(open_picture(path), path)
    # a copy: Pillow's memory is read-only, and torch warns about and cannot protect it
    return tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))


@cache
def voc_palette() -> NDArray[np.uint8]:
    """VOC's colour map, uint8 ``256×3`` (VOC devkit, ``VOClabelcolormap``).

    Bit ``3j + c`` of the id is bit ``7 - j`` of channel c.
    """
    ids = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for channel in range(3):
        for j in range(3):
            palette[:, channel] |= (((ids >> (3 * j + channel)) & 1) << (7 - j)).astype(np.uint8)
    palette.setflags(write=False)
    return palette


def read_mask(path: str | Path, num_classes: int, size: tuple[int, int] | None = None) -> tv_tensors.Mask:
    """Read a mask of class ids: palette or grey PNG, or RGB in VOC's colours.

    Args:
        path: The file.
        num_classes: Ids 0 (background) to this, and 255 (void), are legal.
        size: ``(H, W)`` of the upright image; None: not checked.

    Returns:
        uint8 ``H×W``.

    Raises:
        InputError: Another size, an id outside the classes, a colour outside VOC's map, a lossy format, or a
            palette whose colours and indices name different ids.
    """
    picture = open_picture(path, "mask")
    if (kind := lossy(picture)) is not None:
        raise InputError(f"expected a lossless mask, got {kind}, which blurs ids; save it as PNG: {path}")
    if size is not None:
        _check_size((picture.height, picture.width), size, path)
    ids = _mask_ids(picture, path)
    wrong = ((ids > num_classes) & (ids != VOID)) | (ids < 0)
    if wrong.any():
        worst = ", ".join(str(i) for i in np.unique(ids[wrong])[:5])
        raise InputError(
            f"expected mask ids 0 to {num_classes} (0 = background) or {VOID} (void), got {worst}; "
            f"correct the mask or the list of classes: {path}"
        )
    return tv_tensors.Mask(torch.from_numpy(ids.astype(np.uint8)))


def _check_size(got: tuple[int, int], size: tuple[int, int], path: str | Path) -> None:
    if got == size:
        return
    turned = " (turned by a quarter: the mask must lie over the upright photograph)" if got == size[::-1] else ""
    raise InputError(f"expected a mask of {size[0]}×{size[1]} like its image, got {got[0]}×{got[1]}{turned}: {path}")


def _mask_ids(picture: Image.Image, path: str | Path) -> NDArray[np.integer]:
    """Pixels to class ids, whatever way the file stores them."""
    mode = picture.mode
    if mode in ("LA", "RGBA"):
        if picture.getextrema()[-1] != (255, 255):
            raise InputError(f"expected an opaque mask, got transparent pixels; save it as palette PNG: {path}")
        mode = mode[:-1]
        picture = picture.convert(mode)
    if mode == "RGB":
        return _ids_of_colours(np.asarray(picture), path)
    if mode == "P":
        ids = np.asarray(picture)
        _check_palette(picture, ids, path)
        return ids
    if mode in ("1", "L") or mode.startswith("I"):
        ids = np.asarray(picture)
        return ids.astype(np.int64) // _grey_step(path) if mode == "L" else ids.astype(np.int64)
    raise InputError(f"expected a palette or grey mask, got mode {mode}; save it as palette PNG: {path}")


def _grey_step(path: str | Path) -> int:
    """The factor by which Pillow has stretched the file's grey values (1 for 8 bits)."""
    with Image.open(path, formats=decoders()) as picture:
        rawmode = picture.tile[0][3] if picture.tile else None
    return _GREY_STEP.get(rawmode, 1) if isinstance(rawmode, str) else 1


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """RGB triples ``...×3`` as single integers."""
    wide = colours.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


@cache
def _palette_order() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """VOC's colours as sorted integers, and the id of each."""
    codes = _codes(voc_palette())
    order = np.argsort(codes)
    return codes[order], order


def _ids_of_colours(colours: NDArray[np.uint8], path: str | Path) -> NDArray[np.int64]:
    codes, ids = _palette_order()
    wanted = _codes(colours)
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    known = codes[place] == wanted
    if not known.all():
        colour = tuple(int(v) for v in colours[~known][0])
        raise InputError(
            f"expected a mask in VOC's colours, got colour {colour}; "
            f"save it as a palette or grey PNG of class ids: {path}"
        )
    return ids[place]


def _check_palette(picture: Image.Image, indices: NDArray[np.uint8], path: str | Path) -> None:
    """Refuse palettes that contradict their indices.

    An index is the class id, whatever colour the palette paints it. But image editors that rewrite a VOC mask renumber
    the colours in use, and then the indices are no ids any more: where every colour in use is one of VOC's, it must be
    the colour of its index.
    """
    palette = np.asarray(picture.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    if used[-1] >= len(palette):
        return
    codes, ids = _palette_order()
    wanted = _codes(palette[used])
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    meant = ids[place]
    distinct = len(np.unique(wanted)) == len(used)
    if distinct and (codes[place] == wanted).all() and (meant != used).any():
        k = int(np.flatnonzero(meant != used)[0])
        raise InputError(
            f"expected palette indices that are class ids, got index {used[k]} in VOC's colour of id "
            f"{meant[k]} (renumbered by an editor?); save it as RGB or with VOC's palette: {path}"
        )


def lossy(picture: Image.Image) -> str | None:
    """The name of the format, if it keeps pixels only nearly."""
    if picture.format == "TIFF" and picture.info.get("compression") == "jpeg":
        return "TIFF with JPEG's compression"
    return picture.format if picture.format in _LOSSY else None


def write_mask(path: str | Path, mask: Tensor) -> None:
    """Write class ids as a palette PNG in VOC's colours; the file appears whole or not at all.

    Args:
        path: Ends in ``.png``.
        mask: ``H×W`` of integers in 0..255.

    Raises:
        ValueError: The tensor is no mask.
        RunError: The file cannot be written.
    """
    values = mask.detach().cpu()
    if values.ndim != 2 or values.is_floating_point() or values.numel() == 0 or values.min() < 0 or values.max() > 255:
        raise ValueError(f"expected a mask H×W of integers in 0..255, got {tuple(mask.shape)} {mask.dtype}")
    picture = Image.fromarray(values.to(torch.uint8).numpy())
    picture.putpalette(voc_palette().ravel().tolist())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
