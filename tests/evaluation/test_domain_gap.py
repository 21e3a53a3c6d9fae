"""How far features tell two domains apart: against scikit-learn, and on domains whose difference is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from attnbn.evaluation.domain_gap import domain_gap


def one_hot(classes: np.ndarray, count: int = 3) -> Tensor:
    return torch.eye(count)[torch.from_numpy(classes)]


def domains(seed: int, shift: float, shares: tuple[list[float], list[float]], size: int = 150) -> tuple[Tensor, ...]:
    """Features around their class's place, the target's moved by ``shift`` in the last of six directions."""
    rng = np.random.default_rng(seed)
    parts = []
    for domain, share in enumerate(shares):
        classes = rng.choice(3, size, p=share)
        features = rng.normal(size=(size, 6)) + 3 * np.eye(3, 6)[classes]
        features[:, 5] += shift * domain
        parts += [torch.from_numpy(features).float(), one_hot(classes)]
    return tuple(parts)


EVEN = ([1 / 3] * 3, [1 / 3] * 3)


def by_scikit_learn(source: Tensor, s_labels: Tensor, target: Tensor, t_labels: Tensor) -> float:
    """The same from its definition: folds in turn within class and domain, weights of one over their number."""
    x = torch.cat([source, target]).double().numpy()
    classes = torch.cat([s_labels, t_labels]).argmax(1).numpy()
    y = np.array([1.0] * len(source) + [-1.0] * len(target))
    fold, weight, seen = np.zeros(len(x), int), np.zeros(len(x)), dict[tuple[int, float], int]()
    for i, key in enumerate(zip(classes.tolist(), y.tolist(), strict=True)):
        fold[i] = seen.get(key, 0) % 5
        seen[key] = seen.get(key, 0) + 1
    for i, key in enumerate(zip(classes.tolist(), y.tolist(), strict=True)):
        weight[i] = 1 / seen[key]
    right = 0.0
    for k in range(5):
        fit, test = fold != k, fold == k
        scaler = StandardScaler().fit(x[fit], sample_weight=weight[fit])
        model = Ridge(alpha=1.0)
        model.fit(scaler.transform(x[fit]), y[fit], sample_weight=weight[fit] / weight[fit].sum())
        right += (weight[test] * (np.sign(model.predict(scaler.transform(x[test]))) == y[test])).sum()
    return right / weight.sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_equals_scikit_learns_ridge(seed: int, shift: float) -> None:
    case = domains(seed, shift, ([0.2, 0.3, 0.5], [0.5, 0.4, 0.1]))
    assert domain_gap(*case) == pytest.approx(by_scikit_learn(*case), abs=1e-9)


def test_chance_where_nothing_differs_and_certain_where_all_does() -> None:
    values = [domain_gap(*domains(seed, 0.0, EVEN)) for seed in range(8)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.04)
    assert domain_gap(*domains(0, 12.0, EVEN)) == 1.0
    assert 0.6 < domain_gap(*domains(0, 1.5, EVEN)) < 0.9


def test_other_shares_of_the_classes_are_no_gap() -> None:
    shares = ([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    values = [domain_gap(*domains(seed, 0.0, shares, 400)) for seed in range(4)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)


def test_only_images_of_one_class_count() -> None:
    source, s_labels, target, t_labels = domains(1, 0.8, EVEN)
    noise = torch.full((20, 6), 100.0)
    several = torch.tensor([[1.0, 1.0, 0.0]] * 10 + [[0.0, 0.0, math.nan]] * 10)
    more = torch.cat([target, noise]), torch.cat([t_labels, several])
    assert domain_gap(source, s_labels, *more) == domain_gap(source, s_labels, target, t_labels)


def test_constant_features_and_more_features_than_images() -> None:
    labels = one_hot(np.arange(12) % 3)
    assert domain_gap(torch.ones(12, 4), labels, torch.ones(12, 4), labels) == 0.5
    wide = torch.randn(12, 500)
    assert 0 <= domain_gap(wide, labels, torch.randn(12, 500), labels) <= 1


def test_no_shared_class() -> None:
    source, target = one_hot(np.zeros(5, int)), one_hot(np.ones(5, int))
    assert math.isnan(domain_gap(torch.randn(5, 2), source, torch.randn(5, 2), target))
    assert math.isnan(domain_gap(torch.zeros(0, 2), torch.zeros(0, 3), torch.randn(5, 2), target))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"features S×C and T×C, got \[2, 3\] and \[2, 4\]"):
        domain_gap(torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 4), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="labels of each image, got 1 and 2 for 2 and 2"):
        domain_gap(torch.zeros(2, 3), torch.zeros(1, 1), torch.zeros(2, 3), torch.zeros(2, 1))
