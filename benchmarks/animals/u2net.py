"""Saliency maps of the source photographs by U²-Net-p (Qin et al., Pattern Recognition 2020), as the bench has them.

The working copy (:mod:`pictures`) comes to 320×320 by Lanczos, is divided by its own largest value, then ImageNet's mean
and deviation. Of the network's first output the range over the image is stretched to [0, 1]; 8 bits; bilinear to the
copy's size; box-averaged to half of the bench photograph's width and height. (The stretch makes something salient in
every photograph. That is so in the bench's maps, and does no harm where each photograph does show an animal.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbn.io.errors import InputError
from attnbn.saliency import onnx
from attnbn.saliency.session import open_session

INPUT = 320


class Detector:
    """U²-Net-p as an ONNX file.

    Args:
        model: The file, with one input ``1×3×320×320``; its first output is the map ``1×1×320×320``.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or no such model.
    """

    def __init__(self, model: Path) -> None:
        self.session = open_session(model, device="cpu")
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
    return onnx.network_input(picture, (INPUT, INPUT))[None]


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
