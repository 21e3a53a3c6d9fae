"""ONNX files opened for running: every way in which a file can be no saliency model becomes one clear line.

onnxruntime is an extra (``pip install "attnbn[saliency]"``) and is imported here only, when a model is opened.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from attnbn.io.errors import InputError

Device = Literal["auto", "cpu", "cuda"]

DEFAULT_SIDE = 320
"""Of the input of a model that takes any size: what the U²-Net family is trained at."""

_NUMBERS: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class NotAModelError(InputError):
    """A file that onnxruntime does not open."""


class InputSpec(NamedTuple):
    """What a model takes.

    Attributes:
        name: Of its input.
        batch: Photographs at a time; None: any number.
        size: Height and width.
        number: Floating-point type.
    """

    name: str
    batch: int | None
    size: tuple[int, int]
    number: type[np.floating[Any]]


def open_session(path: Path, *, threads: int | None = None, device: Device = "auto") -> Any:
    """Open an ONNX file.

    Args:
        path: The file.
        threads: That compute; None: as many as torch uses in this process.
        device: ``auto`` is the GPU if the installed onnxruntime can use one, else the CPU.

    Returns:
        An ``onnxruntime.InferenceSession`` of this process; it must not be carried over a fork.

    Raises:
        InputError: onnxruntime is not installed or lacks the device, or the file is missing.
        NotAModelError: The file is no ONNX model.
    """
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError:
        raise InputError(
            f'expected onnxruntime, to run a saliency model, it is not installed; pip install "attnbn[saliency]": {path}'
        ) from None
    if not path.is_file():
        found = "got a folder; name the file" if path.is_dir() else "found no file; check the path"
        raise InputError(f"expected an ONNX model, {found}: {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings on how a model was exported help nobody here
    # waiting threads that spin take the cores of whatever else runs, and the time is theirs then
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(onnxruntime, device)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        reason = " ".join(str(error).split())
        # https://github.com/microsoft/onnxruntime/issues/26261
        remedy = "; a fault of onnxruntime 1.23: pip install -U onnxruntime" if "external tensors" in reason else ""
        raise NotAModelError(
            "expected an ONNX model, got something else or one of a newer kind than onnxruntime reads "
            f"({reason}){remedy}: {path}"
        ) from None


def input_of(session: Any, path: Path, side: int | None = None, free: int = DEFAULT_SIDE) -> InputSpec:
    """What the model takes, read from the model.

    Args:
        session: From :func:`open_session`.
        path: For messages.
        side: Of the input square, for a model that takes any size; None: ``free``.
        free: The side that a model which takes any size was trained at.

    Raises:
        InputError: The model takes something other than one batch of RGB pictures, or not this size.
    """
    inputs = session.get_inputs()
    first = inputs[0]
    shape = [size if isinstance(size, int) and size > 0 else None for size in first.shape]
    said = "×".join(map(str, first.shape)) + f" {first.type}"
    if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, None) or first.type not in _NUMBERS:
        came = said if len(inputs) == 1 else f"{len(inputs)} inputs"
        raise InputError(f"expected a model of RGB pictures, one input 1×3×H×W of floats, got {came}: {path}")
    if shape[0] not in (1, None):
        raise InputError(f"expected a model of one picture at a time, or of any number, got {said}: {path}")
    if side is not None and {shape[2], shape[3]} - {None, side}:
        raise InputError(f"expected the model's own input size {said}, got --size {side}; leave it out: {path}")
    height, width = (size or side or free for size in shape[2:])
    return InputSpec(first.name, shape[0], (height, width), _NUMBERS[first.type])


def output_of(session: Any, path: Path, index: int) -> str:
    """The name of the output that holds the map.

    Raises:
        InputError: The model has no such output.
    """
    names: list[str] = [output.name for output in session.get_outputs()]
    if not 0 <= index < len(names):
        raise InputError(f"expected an output of the model, 0 to {len(names) - 1}, got --output-index {index}: {path}")
    return names[index]


def _providers(onnxruntime: Any, device: Device) -> list[str]:
    """Where it computes, best first; the CPU last, for what the GPU cannot."""
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    if device == "cpu":
        return [cpu]
    if gpu in onnxruntime.get_available_providers():
        return [gpu, cpu]
    if device == "cuda":
        raise InputError("expected an onnxruntime that uses the GPU, got one for the CPU; pip install onnxruntime-gpu")
    return [cpu]
