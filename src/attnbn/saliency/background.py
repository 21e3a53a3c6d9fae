"""What looks like background: the robust background measure and optimisation of Zhu et al. (CVPR 2014).

A region that reaches the border along much of its outline is background; an object that the frame merely cuts is not. From
this follow each superpixel's contrast to the background, and the saliency that agrees with both and is even within what
looks alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

from attnbn.saliency.regions import Floats, Indices, Regions

COLOUR_SCALE = 10.0
"""Deviation of the likeness of colours, in CIE-Lab units: that of Zhu et al."""
PLACE_SCALE = 0.25
"""Deviation of nearness, in units of the longer side: that of Zhu et al."""
BORDER_SCALE = 1.0
"""Of boundary connectivity, above which a region is background: that of Zhu et al."""
_NEVER_ZERO = 1e-9
"""A step costs at least so much: sparse graphs forget edges of no cost. Taken off again from whole paths."""


class Background(NamedTuple):
    """What boundary connectivity tells of K superpixels.

    Attributes:
        connectivity: ``K``, how much of its outline each one's region has on the border (Eq. 4).
        share: ``K`` in [0, 1], how surely each is background (Eq. 6's weight).
        contrast: ``K``, colour distance to what is background nearby (Eq. 6), in CIE-Lab units.
        depth: ``K``, the geodesic distance to the border, in CIE-Lab units (Wei et al., ECCV 2012).
    """

    connectivity: Floats
    share: Floats
    contrast: Floats
    depth: Floats


def distances(features: Floats) -> Floats:
    """Euclidean distances ``K×K`` between rows of ``K×C``."""
    found: Floats = cdist(features, features)  # not by a matrix product: what is alike is exactly 0 apart
    return found


def background_of(regions: Regions, unlike: Floats) -> Background:
    """Boundary connectivity and what follows from it.

    Args:
        regions: The picture's.
        unlike: ``K×K``, distances between mean colours.
    """
    geodesic = geodesics(regions, unlike)
    alike = np.exp(-(geodesic**2) / (2 * COLOUR_SCALE**2))
    connectivity = alike[:, regions.rim].sum(1) / np.sqrt(alike.sum(1))
    share = 1 - np.exp(-(connectivity**2) / (2 * BORDER_SCALE**2))
    near = np.exp(-(distances(regions.place) ** 2) / (2 * PLACE_SCALE**2))
    contrast = (unlike * near) @ share
    return Background(connectivity, share, contrast, geodesic[:, regions.rim].min(1))


def geodesics(regions: Regions, unlike: Floats) -> Floats:
    """Shortest paths ``K×K`` over neighbours, a step costing the difference of colours less what is noise.

    All superpixels at the border are each other's neighbours, so that a background cut in two by the object is one. What
    is noise is measured: the mean over superpixels of the difference from the neighbour most alike.
    """
    count, rim = len(unlike), regions.rim
    one, other = regions.edges.T
    step = unlike[one, other]
    closest = np.full(count, np.inf)
    np.minimum.at(closest, one, step)
    np.minimum.at(closest, other, step)
    closest = closest[np.isfinite(closest)]
    noise = closest.mean() if len(closest) else 0.0
    linked = np.zeros((count, count), bool)
    linked[one, other] = True
    linked[np.ix_(rim, rim)] = True
    one, other = np.nonzero(np.triu(linked | linked.T, 1))
    cost = np.maximum(unlike[one, other] - noise, 0) + _NEVER_ZERO
    graph = coo_matrix((cost, (one, other)), (count, count)).tocsr()
    paths: Floats = np.maximum(dijkstra(graph, directed=False) - count * _NEVER_ZERO, 0)
    return paths


def two_rings(regions: Regions) -> Indices:
    """Pairs ``E×2`` of superpixels that touch or share a neighbour; all at the border count as touching."""
    count, rim = len(regions.area), regions.rim
    touch = np.zeros((count, count), np.float32)
    touch[tuple(regions.edges.T)] = 1
    touch += touch.T
    near = (touch + touch @ touch) > 0
    near[np.ix_(rim, rim)] = True
    return np.argwhere(np.triu(near, 1))


def affinity(unlike: Floats, pairs: Indices, scale: float, floor: float = 0.0) -> Floats:
    """Weights ``K×K`` of a graph: ``exp(-d² / 2 scale²) + floor`` on pairs, 0 elsewhere, symmetric."""
    one, other = pairs.T
    weights = np.zeros_like(unlike)
    weights[one, other] = np.exp(-(unlike[one, other] ** 2) / (2 * scale**2)) + floor
    return weights + weights.T


def balance(weights: Floats, background: Floats, foreground: Floats) -> Floats:
    """The saliency s of least ``Σ background s² + Σ foreground (s - 1)² + Σ_{i<j} w_ij (s_i - s_j)²`` (Eq. 9).

    Args:
        weights: ``K×K``, symmetric.
        background: ``K``, at least 0.
        foreground: ``K``, at least 0; somewhere one of the two is above 0.

    Returns:
        ``K`` in [0, 1].
    """
    laplacian = np.diag(weights.sum(1)) - weights
    return np.asarray(np.linalg.solve(laplacian + np.diag(background + foreground), foreground), np.float64)
