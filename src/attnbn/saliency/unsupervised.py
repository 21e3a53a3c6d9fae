"""Salient objects without a trained model: what stands out is what the background at the border does not explain.

A photograph's superpixels are scored (:mod:`~attnbn.saliency.scores`), and the scores are made a map. Pixels and arithmetic
alone: nothing is downloaded. A photograph in which nothing stands out gets a low map, not a stretched one; see
:func:`confidence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from attnbn.saliency import scores
from attnbn.saliency.frames import inside_frame
from attnbn.saliency.regions import Floats, lab
from attnbn.saliency.superpixels import grid_of

SUPERPIXELS, CELL = 250, 12
"""How many superpixels, about, and the side in pixels of the cell that each begins as."""
SLOPE, MIDDLE = 16.0, 0.5
"""Of the sigmoid that makes scores a map."""
BLUR = 0.7
"""Deviation in pixels of the Gaussian over the superpixels' outlines."""
SECLUSION = 10.0
"""In CIE-Lab units: an object that far from the border stands out with confidence 0.39, one thrice as far with 0.99."""
_ENOUGH = 1000
"""Shorter side in pixels from twice which on every second pixel is read, and so on: a pixel of the map still averages 5×5."""
_THUMBNAIL = 256
"""Longest side in pixels of the copy in which frames are looked for."""


class UnsupervisedDetector:
    """The weight-free detector; it offers what :class:`~attnbn.saliency.detector.Detector` asks for.

    Attributes:
        batch: 1: maps are in the shapes of their photographs.
    """

    batch: int | None = 1

    def identity(self) -> dict[str, Any]:
        """The method and its constants, for manifests."""
        return {
            "model": "unsupervised",
            "method": "robust background, manifold ranking, geodesic and barrier distances, relearned in the photograph",
            "version": 1,
            "superpixels": SUPERPIXELS,
            "cell": CELL,
            "compactness": scores.COMPACTNESS,
            "centre": [scores.CENTRE_SHARE, scores.CENTRE_SCALE],
            "appearance": scores.APPEARANCE_SHARE,
            "even": [scores.EVEN_SCALE, scores.EVEN_FLOOR, scores.EVEN_HOLD],
            "sigmoid": [SLOPE, MIDDLE],
            "blur": BLUR,
            "seclusion": SECLUSION,
        }

    def prepare(self, image: Tensor) -> NDArray[np.float32]:
        """All of the work: the map at the detector's own resolution.

        Args:
            image: uint8 ``3×H×W``, RGB.

        Returns:
            float32 ``1×h×w`` in [0, 1].
        """
        step = max(min(image.shape[-2:]) // _ENOUGH, 1)
        pixels = image[:, ::step, ::step].permute(1, 2, 0)
        return saliency_map(np.ascontiguousarray(pixels.numpy()))[None]

    def maps(self, inputs: Sequence[NDArray[np.float32]], names: Sequence[str]) -> Tensor:
        """The prepared maps, as a batch.

        Args:
            inputs: From :meth:`prepare`, of one shape.
            names: Of their photographs; unused.

        Returns:
            float32 ``B×1×h×w`` in [0, 1].
        """
        return torch.from_numpy(np.stack(inputs))

    def of(self, image: Tensor, name: str) -> Tensor:
        """The map of a photograph; one of 0 everywhere is an answer too: nothing stands out.

        Args:
            image: uint8 ``3×H×W``, RGB.
            name: Unused.

        Returns:
            float32 ``1×H×W`` in [0, 1].
        """
        found = self.maps([self.prepare(image)], [name])
        size = (image.shape[-2], image.shape[-1])
        return F.interpolate(found, size=size, mode="bilinear", align_corners=False, antialias=True)[0].clamp_(0, 1)


def saliency_map(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each pixel of a photograph stands out; a plain frame around it does not.

    Args:
        pixels: uint8 ``H×W×3``, RGB.

    Returns:
        float32 ``h×w`` in [0, 1], about 36,000 pixels in the photograph's shape.
    """
    picture = Image.fromarray(pixels)
    thumbnail = picture.copy()
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    rows, columns = inside_frame(np.asarray(thumbnail))
    top, bottom = _stretch(rows, thumbnail.height, picture.height)
    left, right = _stretch(columns, thumbnail.width, picture.width)
    found = _inner_map(picture.crop((left, top, right, bottom)))
    if (bottom - top, right - left) == (picture.height, picture.width):
        return found
    down, across = found.shape[0] / (bottom - top), found.shape[1] / (right - left)
    above, before = round(top * down), round(left * across)
    below, behind = round((picture.height - bottom) * down), round((picture.width - right) * across)
    return np.pad(found, ((above, below), (before, behind)))


def _inner_map(picture: Image.Image) -> NDArray[np.float32]:
    rows, columns = grid_of((picture.height, picture.width), SUPERPIXELS)
    # the gap: a large photograph is first shrunk by whole factors, which is faster by far and looks the same
    small = picture.resize((columns * CELL, rows * CELL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    score, seclusion = scores.score(lab(np.asarray(small)), (rows, columns))
    squashed = 1 / (1 + np.exp(-SLOPE * (score - MIDDLE)))
    soft: Floats = ndimage.gaussian_filter(squashed, BLUR) * confidence(seclusion)
    return soft.astype(np.float32)


def confidence(seclusion: float) -> float:
    """How surely anything in a picture stands out, in [0, 1].

    Args:
        seclusion: The largest geodesic distance from the border, in CIE-Lab units.

    >>> confidence(0.0), round(confidence(30.0), 2)
    (0.0, 0.99)
    """
    return float(-np.expm1(-(seclusion**2) / (2 * SECLUSION**2)))


def _stretch(inside: slice, thumbnail: int, full: int) -> tuple[int, int]:
    """A range of a thumbnail's lines in the picture's; a blurred line is left out at either end."""
    start, stop = inside.start, inside.stop
    return -(-start * full // thumbnail), full if stop == thumbnail else stop * full // thumbnail
