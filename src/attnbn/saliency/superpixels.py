"""Superpixels: a picture in a few hundred patches of one colour each, by SLIC on a grid (Achanta et al., TPAMI 2012).

The picture's sides are whole numbers of square cells. Each cell seeds one cluster, and a pixel chooses among its own
cell's cluster and the eight around it, so that one round is one small matrix product per cell. Patches are not forced to
be connected: what follows works on their mean colours and on who touches whom, and a stray pixel changes neither much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def grid_of(size: tuple[int, int], count: int) -> tuple[int, int]:
    """Rows and columns of about ``count`` nearly square cells over a picture.

    Args:
        size: ``(H, W)`` of the picture; only its shape matters.
        count: How many cells are wanted; never are there more than twice as many.

    >>> grid_of((300, 400), 300)
    (15, 20)
    >>> grid_of((20, 20_000), 300)
    (1, 300)
    """
    height, width = size
    rows = min(max(round((count * height / width) ** 0.5), 1), count)
    columns = min(max(round((count * width / height) ** 0.5), 1), count)
    return rows, columns


def superpixels(
    colours: NDArray[np.floating], grid: tuple[int, int], *, compactness: float = 10.0, rounds: int = 5
) -> NDArray[np.intp]:
    """Cluster pixels by colour and place, as k-means in which each pixel sees only the clusters around it.

    Args:
        colours: ``H×W×C``, in a space in which the Euclidean distance is one of colours (CIE-Lab).
        grid: Rows and columns of cells; they divide H and W into square cells.
        compactness: The distance of colours that weighs as much as a cell's side of distance in the plane.
        rounds: Of k-means.

    Returns:
        Labels ``H×W``, 0 to the number of superpixels - 1, each of which occurs.

    Raises:
        ValueError: The cells are not square, or do not fill the picture.
    """
    (height, width, _), (rows, columns) = colours.shape, grid
    side = height // rows
    if (rows * side, columns * side) != (height, width) or side < 1:
        raise ValueError(f"expected square cells that fill {height}×{width}, got {rows}×{columns} of them")
    place = np.indices((height, width)).transpose(1, 2, 0) * (compactness / side)
    features = np.concatenate([colours, place], -1).astype(np.float32)
    features -= features.mean((0, 1))  # small numbers: distances below are differences of squares
    cells = _cells(features, grid, side)
    around = _around(grid)
    centres = cells.mean(1)
    labels = np.repeat(np.arange(len(cells)), side * side)
    flat = cells.reshape(len(labels), -1)
    for _ in range(rounds):
        near = centres[around]
        distance = (near**2).sum(-1)[:, None] - 2 * cells @ near.transpose(0, 2, 1)
        labels = np.take_along_axis(around, distance.argmin(-1), 1).ravel()
        count = np.bincount(labels, minlength=len(cells))
        sums = np.stack([np.bincount(labels, values, len(cells)) for values in flat.T], -1)
        alive = count > 0  # a cluster that lost all its pixels waits where it was
        centres[alive] = sums[alive] / count[alive, None]
    labels = (np.cumsum(np.bincount(labels, minlength=len(cells)) > 0) - 1)[labels]
    return labels.reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(height, width)


def _cells(features: NDArray[np.float32], grid: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Pixels by cell, ``cells×side²×C``."""
    rows, columns = grid
    blocks = features.reshape(rows, side, columns, side, -1).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(blocks.reshape(rows * columns, side * side, -1))


def _around(grid: tuple[int, int]) -> NDArray[np.intp]:
    """For each cell the nine at and around it, ``cells×9``; at the picture's border the nearest stand in, twice."""
    rows, columns = grid
    row, column = np.divmod(np.arange(rows * columns), columns)
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    near = [
        np.clip(row + down, 0, rows - 1) * columns + np.clip(column + right, 0, columns - 1) for down, right in steps
    ]
    return np.stack(near, -1)
