"""A photograph's own classifier (after Tong et al., CVPR 2015): taught by a rough map of it, it makes the map even.

The surest superpixels of a rough map, inside and outside, teach what the object and what the rest look like; colours and
texture alone then tell every superpixel's side, wherever it lies. That fills what the rough map missed of the object and
takes out what it wrongly marked.
"""

from __future__ import annotations

import numpy as np

from attnbn.saliency.background import distances
from attnbn.saliency.regions import Floats

SLOPE = 10.0
"""How fast a superpixel's say grows with its distance from the threshold."""
RIDGE = 1.0
"""Of the regression, against weights whose mean over superpixels is 1."""
_LEAST = 1e-3
"""Say of a superpixel right at the threshold."""


def relearned(rough: Floats, features: Floats, area: Floats) -> Floats:
    """The rough map as seen by a classifier of appearance that it taught.

    Weighted kernel ridge regression: the target is whether the rough map exceeds its own mean; the weight is area times
    how far from the mean; the kernel is Gaussian and as wide as the median distance.

    Args:
        rough: ``K`` in [0, 1].
        features: ``K×C``, what superpixels look like.
        area: ``K``.

    Returns:
        ``K`` in [0, 1].
    """
    size = area / area.mean()
    threshold = float((rough * size).sum() / size.sum())
    weight = size * np.abs(np.tanh(SLOPE / 2 * (rough - threshold))) + _LEAST
    target = (rough > threshold).astype(np.float64)
    return np.clip(kernel_ridge(features, target, weight, RIDGE), 0, 1)


def kernel_ridge(features: Floats, target: Floats, weight: Floats, ridge: float) -> Floats:
    """Weighted ridge regression in a Gaussian kernel, at the points themselves.

    Args:
        features: ``K×C``.
        target: ``K``.
        weight: ``K``, above 0.
        ridge: The penalty.

    Returns:
        ``K``.
    """
    squares = distances(features) ** 2
    width = float(np.median(squares))
    if width <= 0:  # most points are the same one
        width = 1.0
    kernel = np.exp(-squares / width)
    mean = (weight * target).sum() / weight.sum()
    fitted: Floats = kernel @ np.linalg.solve(kernel + ridge * np.diag(1 / weight), target - mean) + mean
    return fitted
