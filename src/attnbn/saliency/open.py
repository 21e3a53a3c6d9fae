"""Saliency by a word: ``onnx:FILE`` runs a detector, anything else is a folder of maps."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor

from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder


class SaliencyMaps(Protocol):
    """Photograph to saliency, wherever it comes from."""

    def of(self, image: Tensor, name: str) -> Tensor | None:
        """The map of the photograph ``image`` (uint8 ``3×H×W``, RGB), float32 ``1×H×W`` in [0, 1]; None: it has none."""


def open_saliency(spec: str, *, required: bool = True) -> SaliencyMaps:
    """Open a detector or a folder of maps.

    Args:
        spec: ``onnx:FILE`` (a model of the U²-Net family; of others, make the maps with ``attnbn saliency``, which has the
            settings they need) or a folder.
        required: Whether a photograph without a map in the folder is an error; a detector has one for every photograph.

    Raises:
        InputError: An unknown kind, a missing file or folder, no ONNX model, or onnxruntime is not installed.
    """
    model = detector_file(spec)
    if model is None:
        return SaliencyFolder(spec, required=required)
    from attnbn.saliency.onnx import OnnxDetector

    return OnnxDetector(model)


def detector_file(spec: str) -> Path | None:
    """The model's file where the words name a detector, None where they name a folder.

    Raises:
        InputError: Of a kind that there is not, or a model's path without its kind.

    >>> detector_file("onnx:u2netp.onnx")
    PosixPath('u2netp.onnx')
    >>> detector_file("maps/voc") is None
    True
    """
    kind, colon, path = spec.partition(":")
    if colon and kind == "onnx":
        if not path:
            raise InputError("expected onnx:FILE, got no file: onnx:")
        return Path(path).expanduser()
    place = Path(spec).expanduser()
    if place.is_dir():
        return None
    if place.suffix.lower() == ".onnx" and (not colon or place.is_file()):
        raise InputError(f"expected onnx:FILE or a folder of saliency maps, got a file; write onnx:{spec}")
    if colon and len(kind) > 1 and not set(kind) & set("/\\"):  # one letter is a drive
        raise InputError(f"expected saliency as onnx:FILE or as a folder of maps, got the kind {kind!r}: {spec}")
    return None
