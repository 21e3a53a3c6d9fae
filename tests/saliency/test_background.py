"""Robust background, manifold ranking and the photograph's own classifier against loops and dense solutions."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from attnbn.saliency import background, ranking
from attnbn.saliency.bootstrap import kernel_ridge, relearned
from attnbn.saliency.regions import regions_of


@pytest.fixture
def regions():
    random = np.random.default_rng(3)
    colours = random.normal(0, 2, (30, 40, 3)) + (50, 0, 0)
    colours[8:22, 12:28] += (0, 40, 10)
    return regions_of(colours, (6, 8), compactness=10.0)


@pytest.fixture
def unlike(regions):
    return background.distances(regions.colour)


def test_distances_are_euclidean(regions, unlike):
    wanted = [[math.dist(one, other) for other in regions.colour] for one in regions.colour]
    assert unlike == pytest.approx(np.array(wanted), abs=1e-5)


def test_boundary_connectivity_and_contrast_are_those_of_loops(regions, unlike):
    count = len(regions.area)
    rim = [k for k in range(count) if regions.border[k] > 0]
    edges = {tuple(pair) for pair in regions.edges.tolist()} | {(a, b) for a in rim for b in rim if a < b}
    closest = []
    for k in range(count):
        steps = [unlike[a, b] for a, b in regions.edges.tolist() if k in (a, b)]
        closest.append(min(steps))
    noise = sum(closest) / len(closest)
    path = np.full((count, count), np.inf)
    np.fill_diagonal(path, 0)
    for a, b in edges:
        path[a, b] = path[b, a] = max(unlike[a, b] - noise, 0)
    for via in range(count):  # Floyd and Warshall
        for a in range(count):
            for b in range(count):
                path[a, b] = min(path[a, b], path[a, via] + path[via, b])
    found = background.background_of(regions, unlike)
    for k in range(count):
        area = sum(math.exp(-(path[k, i] ** 2) / 200) for i in range(count))
        length = sum(math.exp(-(path[k, i] ** 2) / 200) for i in rim)
        assert found.connectivity[k] == pytest.approx(length / math.sqrt(area), rel=1e-5)
        assert found.share[k] == pytest.approx(1 - math.exp(-(length**2 / area) / 2), rel=1e-4, abs=1e-6)
        assert found.depth[k] == pytest.approx(min(path[k, i] for i in rim), abs=1e-5)
    for k in range(count):
        contrast = sum(
            unlike[k, i] * math.exp(-(math.dist(regions.place[k], regions.place[i]) ** 2) / 0.125) * found.share[i]
            for i in range(count)
        )
        assert found.contrast[k] == pytest.approx(contrast, rel=1e-6)


def test_the_object_is_no_background(regions, unlike):
    found = background.background_of(regions, unlike)
    inside = regions.colour[:, 1] > 20
    assert found.share[inside].max() < 0.1 and found.share[~inside].min() > 0.9


def test_the_balance_is_the_least_of_its_energy():
    random = np.random.default_rng(0)
    count = 7
    weights = random.uniform(size=(count, count))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    away, near = random.uniform(size=count), random.uniform(size=count)

    def energy(s):
        ties = sum(weights[i, j] * (s[i] - s[j]) ** 2 for i in range(count) for j in range(i))
        return sum(away * s**2) + sum(near * (s - 1) ** 2) + ties

    found = background.balance(weights, away, near)
    assert found == pytest.approx(minimize(energy, np.full(count, 0.5), tol=1e-12).x, abs=1e-5)
    assert found.min() >= 0 and found.max() <= 1


def test_pairs_are_neighbours_and_theirs(regions):
    count = len(regions.area)
    near = {k: set() for k in range(count)}
    for a, b in regions.edges.tolist():
        near[a].add(b)
        near[b].add(a)
    rim = set(regions.rim.tolist())
    wanted = {
        (a, b)
        for a in range(count)
        for b in range(a + 1, count)
        if b in near[a] or near[a] & near[b] or (a in rim and b in rim)
    }
    assert {tuple(pair) for pair in background.two_rings(regions).tolist()} == wanted


def test_ranking_is_the_fixed_point_of_its_diffusion(regions, unlike):
    pairs = background.two_rings(regions)
    outside, inside = ranking.rank(regions, unlike, pairs)
    count = len(unlike)
    weights = np.zeros((count, count))
    for a, b in pairs.tolist():
        weights[a, b] = weights[b, a] = math.exp(-unlike[a, b] / 10)

    def ranked(query):
        """(D - 0.99 W) f = q without self-votes: each query's own column of the inverse, one by one."""
        total = np.zeros(count)
        for k in np.flatnonzero(query):
            unit = np.eye(count)[k]
            answer = np.linalg.lstsq(np.diag(weights.sum(1)) - 0.99 * weights, unit, rcond=None)[0]
            answer[k] = 0
            total += answer
        return (total - total.min()) / (total.max() - total.min())

    wanted = np.ones(count)
    for side in regions.sides:
        wanted *= 1 - ranked(np.isin(np.arange(count), side))
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    assert outside == pytest.approx(wanted, abs=1e-6)
    assert inside == pytest.approx(ranked(wanted > wanted.mean()), abs=1e-6)
    assert (inside > 0.5).tolist() == (regions.colour[:, 1] > 20).tolist()


def test_stretching_takes_values_to_both_ends_and_constants_to_0():
    assert ranking.stretched(np.array([2.0, 3.0, 4.0])).tolist() == [0, 0.5, 1]
    assert ranking.stretched(np.full(3, 7.3)).tolist() == [0, 0, 0]
    assert ranking.stretched(np.array([5.0, 5.0 + 1e-12])).tolist() == [0, 0]


def test_kernel_ridge_is_scikit_learns():
    random = np.random.default_rng(0)
    features, target, weight = random.normal(size=(20, 3)), random.uniform(size=20), random.uniform(0.1, 2, size=20)
    squares = ((features[:, None] - features[None]) ** 2).sum(-1)
    kernel = RBF(math.sqrt(np.median(squares) / 2))(features)
    mean = (weight * target).sum() / weight.sum()
    peer = KernelRidge(alpha=0.7, kernel="precomputed").fit(kernel, target - mean, sample_weight=weight)
    assert kernel_ridge(features, target, weight, 0.7) == pytest.approx(peer.predict(kernel) + mean)


def test_relearning_brings_back_what_the_rough_map_missed_and_takes_out_what_it_added():
    random = np.random.default_rng(0)
    kind = np.repeat([0.0, 1.0], 30)
    features = kind[:, None] * 4 + random.normal(size=(60, 3)) * 0.3
    rough = np.clip(kind * 0.8 + 0.1 + random.normal(size=60) * 0.03, 0, 1)
    rough[[3, 7]], rough[[40, 50]] = 0.9, 0.15
    found = relearned(rough, features, np.full(60, 100.0))
    assert found[:30].max() < 0.3 and found[30:].min() > 0.7


def test_relearning_a_constant_map_or_one_superpixel_stays_finite():
    for count in (1, 5):
        found = relearned(np.zeros(count), np.zeros((count, 8)), np.ones(count))
        assert np.isfinite(found).all() and not found.any()
