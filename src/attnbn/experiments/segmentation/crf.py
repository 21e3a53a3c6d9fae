"""The dense CRF on files: a photograph and its probabilities in, a mask out."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnbn.data.images import read_image, write_mask
from attnbn.io.atomic import write_bytes
from attnbn.io.errors import InputError
from attnbn.io.pictures import decoders
from attnbn.io.reading import check_file
from attnbn.segment_config import CrfConfig
from attnbn.segmentation.crf import dense_crf

KEY = "probabilities"


def refine_file(
    image: str | Path,
    probabilities: str | Path,
    output: str | Path,
    settings: CrfConfig,
    *,
    marginals: str | Path | None = None,
    device: str = "cpu",
) -> float:
    """Refine the probabilities of one photograph and write its mask.

    Args:
        image: The photograph.
        probabilities: ``.npz`` with the array ``probabilities``, ``C×H×W``.
        output: The mask, a palette PNG.
        settings: Of the CRF.
        marginals: Where to write the refined probabilities, float32, under the same name; None: nowhere.
        device: Where to compute.

    Returns:
        The share of pixels whose most probable class the CRF has changed.

    Raises:
        InputError: A file that cannot be read, or probabilities that are none or not this photograph's.
        RunError: A file cannot be written.
    """
    for path, ending in ((output, ".png"), (marginals, ".npz")):
        if path is not None and Path(path).suffix.lower() != ending:
            raise InputError(f"expected a file that ends in {ending} to write to, got another: {path}")
        if path is not None and any(
            os.path.realpath(path) == os.path.realpath(read) for read in (image, probabilities)
        ):
            raise InputError(f"expected another file to write to than those that are read: {path}")
    pixels = read_image(image).as_subclass(Tensor)
    given = read_probabilities(probabilities, image, (pixels.shape[1], pixels.shape[2]))
    try:
        refined = dense_crf(pixels[None].to(device), given[None].to(device), **settings.arguments())[0].cpu()
    except ValueError as error:
        raise InputError(f"{error}: {probabilities}") from error
    mask = refined.argmax(0)
    if marginals is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=refined.numpy())
        write_bytes(marginals, buffer.getvalue())
    write_mask(output, mask)
    return float((mask != given.argmax(0)).double().mean())


def read_probabilities(path: str | Path, image: str | Path, size: tuple[int, int]) -> Tensor:
    """Read the array ``probabilities`` of an ``.npz`` file.

    What the array says of itself is checked before it is unpacked: a few megabytes may unpack to any size.

    Args:
        path: The file.
        image: Its photograph, for messages.
        size: ``(H, W)`` of the photograph.

    Returns:
        float32 ``C×H×W``.

    Raises:
        InputError: There is no such file or array, the array is of another kind or shape, or it was pickled.
    """
    check_file(path, "file of probabilities")
    try:
        _check_kind(path)
        with np.load(path, allow_pickle=False) as arrays:
            if KEY not in arrays.files:
                held = ", ".join(arrays.files) or "none"
                raise InputError(f"expected an array {KEY}, got {held}; save with np.savez(path, {KEY}=...): {path}")
            _check_header(path, image, size)
            values = arrays[KEY]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"expected an .npz file of probabilities, got {error.strerror or error}: {path}") from error
    except (
        Exception
    ) as error:  # a damaged archive fails in many ways: BadZipFile, zlib.error, EOFError, ValueError, KeyError
        reason = "pickled objects, which are never read" if "pickle" in str(error) else f"a damaged file ({error})"
        raise InputError(f"expected an .npz file of plain numbers, got {reason}; save it again: {path}") from error
    return torch.from_numpy(values.astype(np.float32))


def _check_header(path: str | Path, image: str | Path, size: tuple[int, int]) -> None:
    """Refuse an array by its shape and type, of which the first bytes tell.

    Raises:
        InputError: It is no probabilities, or those of another photograph.
        ValueError: It was pickled.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    if dtype.hasobject:
        raise ValueError("a pickle")
    shown = "×".join(map(str, shape)) or "a single number"
    if len(shape) != 3 or not np.issubdtype(dtype, np.floating) or not 1 <= shape[0] <= 255:
        raise InputError(f"expected {KEY} as floats C×H×W with C of 1 to 255, got {dtype} {shown}: {path}")
    if shape[1:] != size:
        raise InputError(
            f"expected probabilities C×{size[0]}×{size[1]} like the photograph {image}, got {shown} (C×H×W, C first): {path}"
        )


def _check_kind(path: str | Path) -> None:
    """Refuse what is no archive of NumPy's: NumPy would take it for a pickle.

    Raises:
        InputError: Naming the kind of picture, where it is one.
    """
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith(b"PK"):
        return
    if head.startswith(b"\x93NUMPY"):
        raise InputError(f"expected an .npz file with an array {KEY}, got a single array: {path}")
    try:
        with Image.open(path, formats=decoders()) as picture:
            kind = f"a {picture.format} picture"
    except (OSError, Image.DecompressionBombError):
        kind = "another kind of file" if head else "an empty file"
    raise InputError(
        f"expected an .npz file with an array {KEY}, got {kind}; save with np.savez(path, {KEY}=...): {path}"
    )
