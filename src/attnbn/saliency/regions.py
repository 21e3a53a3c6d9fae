"""A picture as a graph of superpixels: colours, texture and place of each, who touches whom, who lies at the border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from attnbn.saliency.superpixels import superpixels

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE-XYZ."""
_WHITE = _TO_XYZ.sum(1)
_EDGE_SCALES = (1.0, 2.0)
"""Of the Gaussians before gradients are measured, in pixels."""


@dataclass(frozen=True)
class Regions:
    """The superpixels of a picture, K of them.

    Attributes:
        labels: ``H×W``, 0 to K - 1.
        area: ``K``, pixels.
        colour: ``K×3``, mean CIE-Lab.
        texture: ``K×5``: mean log gradient of the lightness at two scales, and the deviations of the three channels.
        place: ``K×2``, mean row and column in units of the longer side.
        border: ``K``, pixels on the picture's border.
        sides: Superpixels at the top, bottom, left and right.
        edges: ``E×2``, pairs of neighbours (eight-connected), the smaller index first, sorted.
    """

    labels: Indices
    area: Floats
    colour: Floats
    texture: Floats
    place: Floats
    border: Floats
    sides: tuple[Indices, Indices, Indices, Indices]
    edges: Indices

    @property
    def rim(self) -> Indices:
        """Superpixels at the border."""
        return np.flatnonzero(self.border)

    def mean(self, values: NDArray[np.floating]) -> Floats:
        """Means over superpixels ``K×C`` of an array ``H×W×C``."""
        return _sums(values, self.labels, len(self.area)) / self.area[:, None]


def lab(pixels: NDArray[np.uint8]) -> Floats:
    """CIE-Lab (D65) of sRGB.

    Args:
        pixels: uint8 ``...×3``.

    Returns:
        ``...×3``: L in [0, 100], a and b about -100 to 100.

    >>> lab(np.full((1, 3), 255, np.uint8)).round(3) + 0.0
    array([[100.,   0.,   0.]])
    """
    xyz = _LINEAR[pixels] @ (_TO_XYZ / _WHITE[:, None]).T
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _linear_table() -> Floats:
    """Linear light of the 256 sRGB values."""
    value = np.arange(256) / 255
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


_LINEAR = _linear_table()


def regions_of(colours: Floats, grid: tuple[int, int], *, compactness: float, blur: float = 0.7) -> Regions:
    """Cut a picture into superpixels and measure them.

    Args:
        colours: CIE-Lab ``H×W×3``; ``grid`` divides it into square cells.
        grid: Rows and columns of superpixels.
        compactness: See :func:`~attnbn.saliency.superpixels.superpixels`.
        blur: Deviation in pixels of the Gaussian before the superpixels are found.
    """
    height, width, _ = colours.shape
    labels = superpixels(ndimage.gaussian_filter(colours, (blur, blur, 0)), grid, compactness=compactness)
    area = np.bincount(labels.ravel()).astype(np.float64)
    count = len(area)

    def mean(values: Floats) -> Floats:
        return _sums(values, labels, count) / area[:, None]

    colour = mean(colours)
    gradients = [ndimage.gaussian_gradient_magnitude(colours[..., 0], scale) for scale in _EDGE_SCALES]
    spread = np.sqrt(np.maximum(mean(colours**2) - colour**2, 0))
    rows, columns = np.mgrid[:height, :width] + 0.5
    lines = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    top, bottom, left, right = (np.unique(line) for line in lines)
    rim = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    return Regions(
        labels=labels,
        area=area,
        colour=colour,
        texture=np.concatenate([mean(np.log1p(np.stack(gradients, -1))), spread], 1),
        place=mean(np.stack([rows, columns], -1)) / max(height, width),
        border=np.bincount(rim, minlength=count).astype(np.float64),
        sides=(top, bottom, left, right),
        edges=touching(labels),
    )


def touching(labels: Indices) -> Indices:
    """Pairs of labels that meet, across sides and corners of pixels.

    Args:
        labels: ``H×W``.

    Returns:
        ``E×2``, the smaller label first, sorted, each pair once.

    >>> touching(np.array([[0, 0], [1, 2]])).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    pairs = [
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    ]
    one, other = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    count = int(labels.max()) + 1
    low, high = np.minimum(one, other), np.maximum(one, other)
    codes = np.unique((low * count + high)[low != high])
    return np.stack(np.divmod(codes, count), -1)


def _sums(values: NDArray[np.floating], labels: Indices, count: int) -> Floats:
    """Sums over labels ``K×C`` of an array ``H×W×C``."""
    flat = labels.ravel()
    return np.stack([np.bincount(flat, channel.ravel(), count) for channel in np.moveaxis(values, -1, 0)], -1)
