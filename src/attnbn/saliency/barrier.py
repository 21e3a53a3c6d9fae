"""The minimum barrier distance to the border (Strand et al. 2013), by sweeps as in MBS (Zhang et al., ICCV 2015).

The cost of a path is the largest value on it less the smallest: how high a barrier one must cross from the border to a
pixel. Unlike a sum of steps it does not grow over slow shading, so that a plain but unevenly lit background stays near.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def barrier_distance(image: NDArray[np.floating], *, rounds: int = 3) -> NDArray[np.float64]:
    """Each pixel's distance to the border of its image, per channel.

    A round sweeps down, up, right and left; in a sweep, each line of pixels is offered the paths of the line before it.
    What comes out is the cost of a path, so never less than the distance. A pixel keeps one path, though, and the best path
    onwards may begin with another: on noise, about one pixel in ten gets a little more than the distance.

    Args:
        image: ``H×W×C``.
        rounds: Each allows a path four more bends.

    Returns:
        ``H×W×C``, at least 0; the border's pixels have 0.
    """
    values = np.ascontiguousarray(image, dtype=np.float64)
    turned = np.ascontiguousarray(values.transpose(1, 0, 2))
    cost = np.full_like(values, np.inf)
    cost[0] = cost[-1] = cost[:, 0] = cost[:, -1] = 0
    highest, lowest = values.copy(), values.copy()
    upright = (values, cost, highest, lowest)
    sideways = (turned, *(array.transpose(1, 0, 2) for array in (cost, highest, lowest)))
    for _ in range(rounds):
        for value, *path in (upright, sideways):
            _sweep(value, *path)
            _sweep(*(array[::-1] for array in (value, *path)))
    return cost


def _sweep(
    values: NDArray[np.float64], cost: NDArray[np.float64], highest: NDArray[np.float64], lowest: NDArray[np.float64]
) -> None:
    """Offer each row the paths of the row above it, in place."""
    for row in range(1, len(values)):
        high = np.maximum(highest[row - 1], values[row])
        low = np.minimum(lowest[row - 1], values[row])
        offered = high - low
        better = offered < cost[row]
        np.copyto(cost[row], offered, where=better)
        np.copyto(highest[row], high, where=better)
        np.copyto(lowest[row], low, where=better)
