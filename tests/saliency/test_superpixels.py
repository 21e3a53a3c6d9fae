"""Superpixels against loops over pixels, and the measures taken of them."""

from itertools import product

import numpy as np
import pytest

from attnbn.saliency.regions import lab, regions_of, touching
from attnbn.saliency.superpixels import grid_of, superpixels


def by_loops(colours, grid, compactness, rounds):
    """SLIC on a grid, written out pixel by pixel."""
    height, width, _ = colours.shape
    rows, columns = grid
    side = height // rows
    pixels = [(y, x) for y in range(height) for x in range(width)]
    feature = {(y, x): np.array([*colours[y, x], compactness / side * y, compactness / side * x]) for y, x in pixels}
    cell = {(y, x): (y // side, x // side) for y, x in pixels}
    centre = {}
    for place in product(range(rows), range(columns)):
        centre[place] = np.mean([feature[p] for p in pixels if cell[p] == place], axis=0)
    label = dict(cell)
    for _ in range(rounds):
        for p in pixels:
            row, column = cell[p]
            near = [
                (row + i, column + j)
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if 0 <= row + i < rows and 0 <= column + j < columns
            ]
            label[p] = min(near, key=lambda place: float(((feature[p] - centre[place]) ** 2).sum()))
        for place in centre:
            members = [feature[p] for p in pixels if label[p] == place]
            if members:
                centre[place] = np.mean(members, axis=0)
    return label


def test_superpixels_are_those_of_the_loops():
    random = np.random.default_rng(0)
    colours = random.uniform(0, 60, (12, 20, 3))
    found = superpixels(colours, (3, 5), compactness=10.0, rounds=3)
    wanted = by_loops(colours, (3, 5), 10.0, 3)
    names = sorted(set(wanted.values()))
    assert found.tolist() == [[names.index(wanted[y, x]) for x in range(20)] for y in range(12)]


def test_every_label_occurs_also_where_a_cluster_starves():
    colours = np.zeros((8, 8, 3))
    colours[:, 4:] = 100.0
    colours[3, 3] = 1e4
    found = superpixels(colours, (4, 4), rounds=5)
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))


def test_cells_must_be_square_and_fill_the_picture():
    for grid in ((2, 2), (3, 4), (16, 24)):
        with pytest.raises(ValueError, match="expected square cells that fill 8×12"):
            superpixels(np.zeros((8, 12, 3)), grid)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (37, 53), (4000, 3000)])
def test_a_grid_has_about_the_count_and_the_shape(size):
    rows, columns = grid_of(size, 250)
    assert 1 <= rows * columns <= 500
    if max(size) < 4 * min(size):
        assert rows * columns == pytest.approx(250, rel=0.1)
        assert rows / columns == pytest.approx(size[0] / size[1], rel=0.1)


def test_lab_has_the_known_colours():
    # the primaries' published CIE-Lab coordinates (D65)
    known = {
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    for colour, wanted in known.items():
        assert lab(np.array(colour, np.uint8)) == pytest.approx(wanted, abs=0.02)
    greys = lab(np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1))
    assert np.abs(greys[:, 1:]).max() < 1e-6 and np.all(np.diff(greys[:, 0]) > 0)


def test_measures_of_superpixels_are_those_of_loops():
    random = np.random.default_rng(1)
    colours = random.uniform(0, 50, (12, 18, 3))
    regions = regions_of(colours, (2, 3), compactness=10.0)
    labels, height, width = regions.labels, 12, 18
    border = np.zeros(len(regions.area))
    pairs = set()
    for y, x in product(range(height), range(width)):
        border[labels[y, x]] += y in (0, height - 1) or x in (0, width - 1)
        for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1), (y + 1, x - 1)):
            if v < height and 0 <= u < width and labels[v, u] != labels[y, x]:
                pairs.add((min(labels[v, u], labels[y, x]), max(labels[v, u], labels[y, x])))
    for one in range(len(regions.area)):
        members = np.argwhere(labels == one)
        values = colours[labels == one]
        assert regions.area[one] == len(members)
        assert regions.colour[one] == pytest.approx(values.mean(0))
        assert regions.texture[one, 2:] == pytest.approx(values.std(0))
        assert regions.place[one] == pytest.approx((members + 0.5).mean(0) / width)
    assert regions.border.tolist() == border.tolist()
    assert [tuple(pair) for pair in regions.edges.tolist()] == sorted(pairs)
    assert [side.tolist() for side in regions.sides] == [
        sorted(set(line.tolist())) for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    ]


def test_a_picture_of_one_superpixel_touches_nothing():
    assert touching(np.zeros((5, 4), int)).shape == (0, 2)
