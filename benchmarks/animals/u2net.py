"""Saliency maps of the source photographs by U²-Net-p (Qin et al., Pattern Recognition 2020), as the bench has them.

The working copy (:mod:`pictures`) comes to 320×320 by Lanczos, is divided by its own largest value, then ImageNet's mean
and deviation. Of the network's first output the range over the image is stretched to [0, 1]; 8 bits; bilinear to the
copy's size; box-averaged to half of the bench photograph's width and height. (The stretch makes something salient in
every photograph. That is so in the bench's maps, and does no harm where each photograph does show an animal.)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbn.io.errors import InputError

INPUT = 320
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Detector:
    """U²-Net-p as an ONNX file.

    Args:
        model: The file, with one input ``1×3×320×320``; its first output is the map ``1×1×320×320``.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or no such model.
    """

    def __init__(self, model: Path) -> None:
        try:
            onnxruntime: Any = import_module("onnxruntime")
        except ImportError:
            raise InputError(
                "expected onnxruntime for the saliency maps, it is not installed; "
                "pip install onnxruntime, or leave --saliency-model out"
            ) from None
        if not model.is_file():
            raise InputError(
                f"expected the ONNX file of U²-Net-p, found none; check --saliency-model or leave it out: {model}"
            )
        try:
            options = onnxruntime.SessionOptions()
            # waiting threads that spin take the cores of whatever else runs, and the time is theirs then
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = " ".join(str(error).split())
            raise InputError(f"expected an ONNX model, got something else ({reason}): {model}") from None
        self.input = self.session.get_inputs()[0].name

    def __call__(self, copy: Image.Image, size: tuple[int, int]) -> Image.Image:
        """The grey map of a working copy for a bench photograph of ``size = (width, height)``.

        Raises:
            InputError: The network gives the same value everywhere, or values that are no numbers.
        """
        scores = self.session.run(None, {self.input: network_input(copy)})[0][0, 0]
        return half_map(scores, copy.size, size)


def network_input(picture: Image.Image) -> NDArray[np.float32]:
    """An RGB picture as float32 ``1×3×320×320``."""
    small = np.asarray(picture.resize((INPUT, INPUT), Image.Resampling.LANCZOS)).astype(np.float32)
    small /= max(float(small.max()), 1.0)  # a black picture stays black
    return np.ascontiguousarray(((small - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])


def half_map(scores: NDArray[np.float32], copy: tuple[int, int], photograph: tuple[int, int]) -> Image.Image:
    """The network's map at half a photograph's size.

    Args:
        scores: ``320×320``.
        copy: Width and height of the working copy.
        photograph: Those of the bench's photograph.

    Raises:
        InputError: All scores are equal, or some are no numbers.
    """
    low, high = float(scores.min()), float(scores.max())
    if not high > low:
        raise InputError(f"expected a saliency map that varies, got {low:.3g} everywhere; check --saliency-model")
    grey = Image.fromarray(np.rint((scores - scores.min()) / (scores.max() - scores.min()) * 255).astype(np.uint8))
    half = max(photograph[0] // 2, 1), max(photograph[1] // 2, 1)
    return grey.resize(copy, Image.Resampling.BILINEAR).resize(half, Image.Resampling.BOX)
