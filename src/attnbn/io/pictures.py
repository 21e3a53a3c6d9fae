"""Opening picture files: whatever a file holds, an upright decoded picture or one clear line comes out.

Shared by the readers of photographs, masks and saliency maps. *Upright* is what an image viewer shows: the file's
own EXIF orientation is applied, once, here. A mask or a saliency map lies over the upright photograph; the
photograph's orientation is never applied to it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from attnbn.io.errors import InputError
from attnbn.io.reading import check_file, refusal

EXTENSIONS = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
    )
)
"""Names that are taken for pictures in a folder, in lower case."""

_DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF")
"""Pillow's names of what is opened, whatever a file is called. Pillow knows more formats, one of which (EPS) is a program
that it has Ghostscript run. AVIF is what some sites serve under the name of a JPEG."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that undoes it; 1 and unknown values need none."""


def is_picture(name: str) -> bool:
    """Whether a file name looks like a picture: a known ending, not hidden (``._a.jpg`` is no photograph)."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def list_pictures(root: str | Path, folders: list[str] | None = None) -> Iterator[str]:
    """Pictures below a folder as sorted relative paths with ``/``; hidden files and folders are passed over.

    Linked folders are followed, each real folder once, so that a link to a parent does no harm.

    Args:
        root: The folder.
        folders: Takes up the path of every folder that was looked into, where one wants to know.
    """
    seen: set[str] = set()

    def walk(folder: str, prefix: str) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
        if folders is not None:
            folders.append(folder)
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise refusal(error, "folder of pictures", folder) from None
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from walk(entry.path, f"{prefix}{entry.name}/")
            elif is_picture(entry.name):
                yield prefix + entry.name

    return walk(os.fspath(root), "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle: no folder; a picture's name among them is refused when it is read
        return False


def open_picture(path: str | Path, what: str = "photograph") -> Image.Image:
    """Decode the first frame of a picture file, upright, in its own colour mode.

    Args:
        path: The file.
        what: What the file is to be, for messages.

    Returns:
        A loaded PIL picture that no longer needs the file. Its ``format`` is kept.

    Raises:
        InputError: The file is missing, a pipe or a device, empty, not a picture, cut off, damaged, or has too many pixels.
    """
    check_file(path, what)
    try:
        # Pillow warns on odd metadata and on pictures of more than 89 million pixels; both are read, and a
        # warning in the middle of a training tells nobody what to do. Above 179 million it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=decoders()) as picture:
                picture.load()
                return _upright(picture)
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(
            f"expected a {what} of at most {limit} million pixels, got more; scale it down: {path}"
        ) from None
    except UnidentifiedImageError:
        kinds = "as JPEG, PNG, WebP, BMP, GIF or TIFF" if what == "photograph" else "as PNG"
        raise InputError(f"expected a {what} {kinds}, got {_found(path)}; convert it or take it out: {path}") from None
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have no number
            raise refusal(error, what, path) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"expected a {what}, got a damaged or cut-off file ({reason}); fetch it again or take it out: {path}"
        ) from None


@cache
def decoders() -> list[str]:
    """Pillow's names of the formats that are opened, as far as this Pillow has them: for ``Image.open``."""
    Image.init()
    return [name for name in _DECODERS if name in Image.OPEN]


_SIGNS = (
    (b"\xff\xd8\xff", "a damaged or unusual JPEG"),
    (b"\x89PNG", "a damaged or unusual PNG"),
    (b"GIF8", "a damaged or unusual GIF"),
    (b"II*\x00", "a damaged or unusual TIFF"),
    (b"MM\x00*", "a damaged or unusual TIFF"),
    (b"RIFF", "a damaged or unusual WebP"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a zip archive"),
)
"""How files begin, and what they are then."""


def _found(path: str | Path) -> str:
    """What a file is that no decoder takes."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        return "something else"
    if not head:
        return "an empty file (0 bytes)"
    for sign, kind in _SIGNS:
        if head.startswith(sign):
            return kind
    if head[4:8] == b"ftyp":
        return "a HEIC picture, a damaged AVIF or a film"
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page (from a download that failed?)"
    return "something else, text" if b"\0" not in head and head.isascii() else "something else"


def _upright(picture: Image.Image) -> Image.Image:
    """Undo the EXIF orientation; unreadable EXIF data counts as none, as in image viewers."""
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        orientation = 1
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.format = picture.format
    return turned


def to_rgb(picture: Image.Image, path: str | Path) -> NDArray[np.uint8]:
    """The picture as 8-bit RGB.

    Transparent parts are laid over white, as pages and viewers show cut-outs; the colour stored below them is
    arbitrary (often black) and was never meant to be seen. 16-bit grey is scaled by 1/257, so that its white is white.
    Colour profiles are passed over, as by torchvision's loaders.

    Args:
        picture: In any mode.
        path: For messages.

    Returns:
        uint8 ``H×W×3``.

    Raises:
        InputError: The mode has no agreed range (floating point, 32-bit integers beyond 16 bits).
    """
    if picture.mode == "RGB" and not picture.has_transparency_data:
        return np.asarray(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = np.rint(grey_16(picture, path) * 255).astype(np.uint8)
        if isinstance(key := picture.info.get("transparency"), int):
            grey[np.asarray(picture) == key] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    try:
        if not picture.has_transparency_data:
            return np.asarray(picture.convert("RGB"))
        cutout = picture.convert("RGBA")
    except ValueError:
        raise InputError(
            f"expected a picture in RGB, grey or CMYK, got mode {picture.mode}; convert it: {path}"
        ) from None
    page = Image.new("RGB", cutout.size, (255, 255, 255))
    page.paste(cutout, mask=cutout.getchannel("A"))
    return np.asarray(page)


def grey_16(picture: Image.Image, path: str | Path) -> NDArray[np.float64]:
    """16-bit grey as ``H×W`` in [0, 1].

    Pillow hands out 16-bit grey as mode ``I;16`` or, by format, as 32-bit integers.

    Raises:
        InputError: Values outside 0..65535, or floating point: which of them is white is anybody's guess.
    """
    values = np.asarray(picture)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        kind = "floating-point" if picture.mode == "F" else "32-bit"
        raise InputError(f"expected 8- or 16-bit pixels, got {kind} ones whose white is unknown; convert it: {path}")
    return values / 65535.0
