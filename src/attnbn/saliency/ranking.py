"""Manifold ranking (Yang et al., CVPR 2013): how related each superpixel is to the borders, then to what is not."""

from __future__ import annotations

import numpy as np

from attnbn.saliency.regions import Floats, Indices, Regions

COLOUR_SCALE = 10.0
"""Over which the affinity of neighbours falls to 1/e, in CIE-Lab units."""
MEMORY = 0.99
"""How far a query spreads: Yang et al.'s α."""


def stretched(values: Floats) -> Floats:
    """Values from their least to their largest as 0 to 1; all alike: 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > 1e-9 * max(abs(high), 1) else np.zeros_like(values)


def rank(regions: Regions, unlike: Floats, pairs: Indices) -> tuple[Floats, Floats]:
    """Both stages.

    Args:
        regions: The picture's.
        unlike: ``K×K``, distances between mean colours.
        pairs: ``E×2``, the graph's edges.

    Returns:
        ``K`` in [0, 1], twice: how little each superpixel relates to any one side of the picture (the product over the
        four sides); and how much it relates to those above the mean of that.
    """
    spread = diffusion(unlike, pairs)
    outside = np.ones(len(unlike))
    for side in regions.sides:
        query = np.zeros(len(unlike))
        query[side] = 1
        outside *= 1 - stretched(spread @ query)
    outside = stretched(outside)
    return outside, stretched(spread @ (outside > outside.mean()))


def diffusion(unlike: Floats, pairs: Indices) -> Floats:
    """The ranking matrix ``(D - α W)⁻¹`` without its diagonal, ``K×K``: a superpixel does not vote for itself."""
    one, other = pairs.T
    weights = np.zeros_like(unlike)
    weights[one, other] = np.exp(-unlike[one, other] / COLOUR_SCALE)
    weights += weights.T
    # a superpixel that nothing resembles still has an inverse
    degree = np.maximum(weights.sum(1), 1e-6)
    spread = np.asarray(np.linalg.inv(np.diag(degree) - MEMORY * weights), np.float64)
    np.fill_diagonal(spread, 0)
    return spread
