"""The minimum barrier distance against its definition."""

import heapq

import numpy as np
import pytest

from attnbn.saliency.barrier import barrier_distance


def by_definition(image):
    """Exact: for every floor on a path's values, the lowest ceiling (a minimax path) that reaches the pixel."""
    height, width = image.shape
    rim = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
    best = np.full(image.shape, np.inf)
    for floor in np.unique(image):
        ceiling = np.full(image.shape, np.inf)
        queue = [(image[p], p) for p in rim if image[p] >= floor]
        heapq.heapify(queue)
        while queue:
            top, (y, x) = heapq.heappop(queue)
            if top >= ceiling[y, x]:
                continue
            ceiling[y, x] = top
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= v < height and 0 <= u < width and image[v, u] >= floor:
                    heapq.heappush(queue, (max(top, image[v, u]), (v, u)))
        best = np.minimum(best, ceiling - floor)
    for p in rim:
        best[p] = 0
    return best


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_the_definitions_or_a_little_more(seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 12, (9, 11)).astype(float)
    exact, found = by_definition(image), barrier_distance(image[..., None], rounds=6)[..., 0]
    assert np.all(found >= exact)  # the cost of a path, so never less
    assert (found == exact).mean() > 0.85 and (found - exact).mean() < 0.3


def test_distances_are_exact_over_even_surfaces():
    image = np.full((12, 14), 3.0)
    image[3:9, 4:10] = 8.0  # one wall to climb
    image[5:7, 6:8] = 1.0  # and a pit within it: 8 - 1
    exact = by_definition(image)
    assert set(exact[5:7, 6:8].ravel()) == {7.0} and exact[3, 4] == 5.0
    assert np.array_equal(barrier_distance(image[..., None])[..., 0], exact)


def test_slow_shading_is_no_barrier_and_a_ring_is_one():
    ramp = np.arange(20.0)[None].repeat(15, 0)
    assert barrier_distance(ramp[..., None]).max() == 0  # along each column nothing changes
    ring = ramp.copy()
    ring[5:10, 8:13] += 50
    assert barrier_distance(ring[..., None])[7, 10, 0] >= 46


def test_channels_are_apart_and_shapes_may_be_tiny():
    random = np.random.default_rng(0)
    image = random.uniform(size=(8, 9, 3))
    together = barrier_distance(image)
    for channel in range(3):
        assert np.array_equal(together[..., channel], barrier_distance(image[..., [channel]])[..., 0])
    for shape in ((1, 1, 2), (1, 6, 1), (2, 2, 1), (5, 1, 3)):
        assert not barrier_distance(random.uniform(size=shape)).any()
