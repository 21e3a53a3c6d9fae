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
    given = read_probabilities(probabilities)
    if given.shape[1:] != pixels.shape[1:]:
        raise InputError(
            f"expected probabilities C×{pixels.shape[1]}×{pixels.shape[2]} like the photograph {image}, "
            f"got {'×'.join(map(str, given.shape))} (C×H×W, C first): {probabilities}"
        )
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


def read_probabilities(path: str | Path) -> Tensor:
    """Read the array ``probabilities`` of an ``.npz`` file.

    Returns:
        float32 ``C×H×W``.

    Raises:
        InputError: There is no such file or array, the array is of another kind, or it was pickled.
    """
    try:
        _check_kind(path)
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise InputError(f"expected an .npz file with an array {KEY}, got a single array: {path}")
        with arrays:
            if KEY not in arrays:
                held = ", ".join(arrays.files) or "none"
                raise InputError(f"expected an array {KEY}, got {held}; save with np.savez(path, {KEY}=...): {path}")
            values = arrays[KEY]
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"expected probabilities, found no file; check the path: {path}") from None
    except OSError as error:
        raise InputError(f"expected an .npz file of probabilities, got {error.strerror or error}: {path}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = "pickled objects, which are never read" if "pickle" in str(error) else f"a damaged file ({error})"
        raise InputError(f"expected an .npz file of plain numbers, got {reason}; save it again: {path}") from error
    if values.ndim != 3 or not np.issubdtype(values.dtype, np.floating) or not 1 <= len(values) <= 255:
        shape = "×".join(map(str, values.shape)) or "a single number"
        raise InputError(f"expected {KEY} as floats C×H×W with C of 1 to 255, got {values.dtype} {shape}: {path}")
    return torch.from_numpy(values.astype(np.float32))


def _check_kind(path: str | Path) -> None:
    """Refuse what is no file of NumPy's: NumPy would take it for a pickle.

    Raises:
        InputError: Naming the kind of picture, where it is one.
    """
    with open(path, "rb") as file:
        head = file.read(6)
    if head.startswith((b"PK", b"\x93NUMPY")):
        return
    try:
        with Image.open(path) as picture:
            kind = f"a {picture.format} picture"
    except (OSError, Image.DecompressionBombError):
        kind = "another kind of file" if head else "an empty file"
    raise InputError(
        f"expected an .npz file with an array {KEY}, got {kind}; save with np.savez(path, {KEY}=...): {path}"
    )
