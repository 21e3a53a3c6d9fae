"""Figures on any labels and predictions: plain loops, and what no order, batching or void pixel may change."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.evaluation.average_precision import average_precision, mean_average_precision
from attnbn.evaluation.confusion import confusion_matrix, iou, mean_iou, precision, recall
from attnbn.evaluation.direct import VOID, ThresholdCurve, combine, predicted_classes
from properties.draws import FILE_PARTS, LONG, SEEDS, chance, generator, normal, uniform

settings.load_profile("properties")

VOIDS = st.sampled_from([0.0, 0.3, 1.0])


def masks(seed: int, classes: int, void: float, *shape: int) -> tuple[Tensor, Tensor]:
    """A prediction and a truth; what is predicted under void is none of the classes."""
    pred, truth = (torch.randint(0, classes, shape, generator=generator(seed + i)) for i in (0, 1))
    hidden = chance(seed + 2, void, *shape)
    truth[hidden], pred[hidden] = VOID, 254
    return pred.to(torch.uint8), truth.to(torch.uint8)


@given(SEEDS, st.integers(1, 6), VOIDS, LONG, st.integers(0, 4))
def test_a_matrix_is_a_loop_over_pixels_in_any_order_and_any_batches(
    seed: int, classes: int, void: float, size: tuple[int, int], images: int
) -> None:
    pred, truth = masks(seed, classes, void, images, *size)
    matrix = confusion_matrix(pred, truth, classes)
    counted = [[0] * classes for _ in range(classes)]
    for p, t in zip(pred.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if t != VOID:
            counted[t][p] += 1
    assert matrix.tolist() == counted and matrix.dtype == torch.int64
    each = [confusion_matrix(p, t, classes) for p, t in zip(pred, truth, strict=True)]
    assert torch.equal(sum(reversed(each), torch.zeros_like(matrix)), matrix)
    order = torch.randperm(truth.numel(), generator=generator(seed))
    assert torch.equal(confusion_matrix(pred.flatten()[order], truth.flatten()[order], classes), matrix)
    figures = {name: figure(matrix) for name, figure in (("iou", iou), ("precision", precision), ("recall", recall))}
    for values in figures.values():
        assert bool(((values >= 0) & (values <= 1) | values.isnan()).all())
    assert bool((figures["iou"].nan_to_num(0) <= figures["recall"].nan_to_num(1)).all())
    mean = float(mean_iou(matrix))
    assert 0 <= mean <= 1 if int(matrix.sum()) else math.isnan(mean)
    perfect = confusion_matrix(truth, truth, classes)
    assert float(mean_iou(perfect)) == 1 or not int(matrix.sum())


def labelled(seed: int, samples: int, ties: int, unknown: float) -> tuple[Tensor, Tensor]:
    """Scores with few different values, the infinities among them."""
    steps = torch.randint(-ties, ties + 1, (samples, 2), generator=generator(seed))
    scores = steps.double()
    scores[steps == ties], scores[steps == -ties] = math.inf, -math.inf
    labels = chance(seed + 1, 0.4, samples, 2).double()
    labels[chance(seed + 2, unknown, samples, 2)] = math.nan
    return scores, labels


@given(SEEDS, st.integers(0, 12), st.integers(1, 9), st.sampled_from([0.0, 0.3, 1.0]))
def test_average_precision_is_scikit_learns_with_ties_and_infinite_scores(
    seed: int, samples: int, ties: int, unknown: float
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = labelled(seed, samples, ties, unknown)
    for method in ("steps", "voc2007"):
        found = average_precision(scores, labels, method)  # type: ignore[arg-type]
        for n in range(2):
            known = ~labels[:, n].isnan()
            if not bool((labels[known, n] == 1).any()):
                assert math.isnan(float(found[n]))
                continue
            assert 0 < float(found[n]) <= 1
            if method == "steps":
                finite = scores[known, n].clamp(-99, 99)
                expected = metrics.average_precision_score(labels[known, n], finite)
                assert float(found[n]) == pytest.approx(expected, abs=1e-12)
        order = torch.randperm(samples, generator=generator(seed))
        for other in (scores[order], scores[order].clamp(-20, 20).exp()):  # only their order counts
            again = average_precision(other, labels[order], method)  # type: ignore[arg-type]
            assert torch.equal(again.nan_to_num(-1), found.nan_to_num(-1))
    best = average_precision(labels.nan_to_num(0.5), labels)
    assert bool((best.nan_to_num(1) == 1).all())
    mean = mean_average_precision(scores, labels)
    assert 0 <= mean <= 1 or math.isnan(mean)


@given(SEEDS, st.integers(0, 5), st.integers(1, 6), st.sampled_from([0.0, 1.0, 1e4]))
def test_something_is_always_predicted(seed: int, batch: int, classes: int, size: float) -> None:
    scores = normal(seed, batch, classes) * size
    there = predicted_classes(scores)
    assert bool(there.any(1).all())
    for row, chosen in zip(scores, there, strict=True):
        positive = row > 0
        assert torch.equal(chosen, positive) if positive.any() else int(chosen.sum()) == 1 and chosen[row.argmax()]


THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 1.0)


def seen(seed: int, size: tuple[int, int], classes: int, k: int, void: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maps in steps of an eighth (some meet a threshold exactly), tied scores, the classes, the truth."""
    k = min(k, classes)
    maps = torch.randint(0, 9, (k, *size), generator=generator(seed)).float() / 8
    chosen = torch.randperm(classes, generator=generator(seed + 1))[:k].sort().values
    _, truth = masks(seed, classes + 1, void, *size)
    return maps, normal(seed, k).round(), chosen, truth


@given(st.lists(st.tuples(SEEDS, LONG, st.integers(0, 3)), max_size=5), st.integers(1, 4), VOIDS, st.integers(1, 3))
def test_the_threshold_curve_is_a_mask_for_each_threshold_and_falls_with_it(
    pictures: list[tuple[int, tuple[int, int], int]], classes: int, void: float, halves: int
) -> None:
    whole = ThresholdCurve(classes + 1, THRESHOLDS, halves)
    apart = [ThresholdCurve(classes + 1, THRESHOLDS, halves) for _ in range(2)]
    expected = torch.zeros(len(THRESHOLDS), classes + 1, classes + 1, dtype=torch.int64)
    for number, (seed, size, k) in enumerate(pictures):
        maps, scores, chosen, truth = seen(seed, size, classes, k, void)
        whole.update(maps, scores, chosen, truth, f"picture {number}")
        hidden = maps.clone()
        hidden[:, truth == VOID] = 1 - hidden[:, truth == VOID]  # void pixels count nowhere
        apart[seed % 2].update(hidden, scores, chosen, truth, f"picture {number}")
        for i, t in enumerate(THRESHOLDS):
            expected[i] += confusion_matrix(combine(maps, scores, chosen, t), truth, classes + 1)
    assert torch.equal(whole.matrices(), expected)
    apart[1].merge(apart[0])
    assert torch.equal(apart[1].counts, whole.counts) and torch.equal(apart[1].images, whole.images)
    covered = whole.matrices()[..., 1:].sum((1, 2))
    assert bool((covered.diff() <= 0).all())  # a higher threshold never covers more
    assert len(set(whole.matrices().sum((1, 2)).tolist())) == 1
    values = whole.curve()
    assert bool(((values >= 0) & (values <= 1) | values.isnan()).all())
    assert int(whole.images.sum()) == len(pictures)
    if int(expected.sum()):
        assert whole.best()[1] == float(values.max())


@given(st.lists(FILE_PARTS, min_size=1, max_size=30, unique=True), st.integers(1, 4), SEEDS)
def test_the_halves_of_a_cross_fit_part_the_images_and_nothing_else(names: list[str], halves: int, seed: int) -> None:
    curve = ThresholdCurve(2, THRESHOLDS, halves)
    alone = [ThresholdCurve(2, THRESHOLDS, 1) for _ in range(halves)]
    for number, name in enumerate(names):
        maps, scores, chosen, truth = seen(seed + number, (3, 4), 1, 1, 0.0)
        curve.update(maps, scores, chosen, truth, name)
        assert 0 <= curve.part(name) < halves
        alone[curve.part(name)].update(maps, scores, chosen, truth, name)
    for part, other in enumerate(alone):
        assert torch.equal(curve.matrices(part), other.matrices())
    assert torch.equal(sum(curve.matrices(part) for part in range(halves)), curve.matrices())
    assume(curve.can_cross_fit())
    matrix, thresholds = curve.cross_fitted()
    assert int(matrix.sum()) == 12 * len(names)
    for part, threshold in enumerate(thresholds):  # chosen without its own images
        rest = sum(alone[other].matrices() for other in range(halves) if other != part)
        assert float(mean_iou(rest)[THRESHOLDS.index(threshold)]) == float(mean_iou(rest).max())


@given(SEEDS, st.integers(1, 4), LONG)
def test_maps_outside_their_range_are_refused(seed: int, k: int, size: tuple[int, int]) -> None:
    maps = uniform(seed, k, *size)
    for odd in (-1e-6, 1 + 1e-6, math.nan, math.inf):
        maps[-1, -1, -1] = odd
        with pytest.raises(ValueError, match=r"expected maps in \[0, 1\]"):
            combine(maps, torch.zeros(k), torch.arange(k), 0.5)
