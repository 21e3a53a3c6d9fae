"""Saliency by a word: ``onnx:FILE``, the name of a known model or ``unsupervised`` runs a detector; a folder holds maps.

A bare word that names a detector means it, also where a folder has the same name: ``./u2net`` is the folder.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attnbn.io.errors import InputError
from attnbn.saliency.detector import Detector
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.presets import (
    PRESETS,
    UNSUPERVISED,
    Preset,
    another_file,
    find_preset,
    is_detector,
    missing,
    preset_of,
)
from attnbn.saliency.session import Device, NotAModelError


def open_saliency(spec: str, *, required: bool = True) -> SaliencyFolder | Detector:
    """Open a detector or a folder of maps; both have ``of(image, name)``.

    Args:
        spec: ``onnx:FILE`` (of a name that is no known model's: one of the U²-Net family; of others, make the maps with
            ``attnbn saliency``, which has the settings they need), a name of :data:`~attnbn.saliency.presets.PRESETS`,
            ``unsupervised``, or a folder.
        required: Whether a photograph without a map in the folder is an error; a detector has one for every photograph.

    Raises:
        InputError: An unknown word, a missing file or folder, no ONNX model, or onnxruntime is not installed.
    """
    if is_detector(spec):
        return open_detector(spec)
    _check_folder(spec)
    return SaliencyFolder(spec, required=required)


def open_detector(spec: str, *, threads: int | None = None, device: Device = "auto", **settings: Any) -> Detector:
    """Open a detector.

    Args:
        spec: ``onnx:FILE``, a name of :data:`~attnbn.saliency.presets.PRESETS`, or ``unsupervised``.
        threads: That compute, for models; None: as many as torch uses.
        device: ``auto``, ``cpu`` or ``cuda``, for models.
        settings: Fields of :class:`~attnbn.saliency.onnx.DetectorSettings`, for models; they win over what is known of a
            model by its name.

    Raises:
        InputError: An unknown word, settings for a detector that has none, a missing file, no ONNX model, or onnxruntime is
            not installed.
    """
    if not is_detector(spec):
        if Path(spec).expanduser().is_dir():
            raise InputError(f"expected a detector, got a folder (maps that are made already?): {spec}")
        raise _unknown(spec)
    if spec == UNSUPERVISED:
        if settings:
            first = {"output": "output-index"}.get(key := next(iter(settings)), key)
            raise InputError(f"unexpected --{first} for {UNSUPERVISED}, which is no model and has no settings")
        from attnbn.saliency.unsupervised import UnsupervisedDetector

        return UnsupervisedDetector()
    return _open_model(*_model(spec), threads, device, settings)


def _model(spec: str) -> tuple[Path, Preset | None]:
    """A model's file, and what is known of it."""
    if spec in PRESETS:
        preset = PRESETS[spec]
        found = find_preset(preset)
        if found is None:
            raise missing(preset)
        return found, preset
    file = spec.removeprefix("onnx:")
    if not file:
        raise InputError("expected onnx:FILE, got no file: onnx:")
    if file in PRESETS and not Path(file).exists():
        raise InputError(f"expected onnx:FILE, got the name of a known model; write {file} without onnx:")
    return Path(file).expanduser(), preset_of(file)


def _open_model(
    path: Path, preset: Preset | None, threads: int | None, device: Device, settings: dict[str, Any]
) -> Detector:
    from attnbn.saliency.onnx import U2NET, OnnxDetector

    known = U2NET if preset is None else preset.settings
    try:
        return OnnxDetector(path, settings=replace(known, **settings), threads=threads, device=device)
    except NotAModelError as error:
        why = None if preset is None else another_file(preset, path)
        raise (
            error if why is None else NotAModelError(f"{str(error).removesuffix(f': {path}')}; {why}: {path}")
        ) from None


def _check_folder(spec: str) -> None:
    """Refuse a word that is surely not meant as a folder of maps.

    Raises:
        InputError: Of a kind that there is not, a model's path without its kind, or nearly a detector's name.
    """
    place = Path(spec).expanduser()
    if not place.is_dir() and (place.suffix.lower() == ".onnx" or _kind(spec) or (not place.exists() and _close(spec))):
        raise _unknown(spec, "or a folder of saliency maps")


def _unknown(spec: str, more: str = "") -> InputError:
    """What to say of a word that names no detector."""
    expected = f"expected onnx:FILE, {UNSUPERVISED}, the name of a known model{', ' * bool(more)}{more}"
    kind = _kind(spec)
    if Path(spec).suffix.lower() == ".onnx" and (kind is None or Path(spec).expanduser().is_file()):
        return InputError(f"{expected}, got a file; write onnx:{spec}")
    if kind is not None:
        return InputError(f"{expected}, got the kind {kind!r}: {spec}")
    close = _close(spec)
    hint = f"did you mean {' or '.join(close)}?" if close else f"the models are {', '.join(PRESETS)}"
    return InputError(f"{expected}, got {spec!r}; {hint}")


def _kind(spec: str) -> str | None:
    """What stands before a colon, unless it is a drive or part of a path."""
    kind, colon, _ = spec.partition(":")
    return kind if colon and len(kind) > 1 and not set(kind) & set("/\\") else None


def _close(spec: str) -> list[str]:
    return get_close_matches(spec.lower(), [UNSUPERVISED, *PRESETS], n=2, cutoff=0.75)
