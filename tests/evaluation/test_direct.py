"""The one-pass threshold curve against brute force: a mask and a matrix per threshold."""

import numpy as np
import pytest
import torch
from torch import Tensor

from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.evaluation.direct import THRESHOLDS, ThresholdCurve, combine, predicted_classes
from attnbn.io.errors import InputError

CLASSES = 5


def image(seed: int, on_grid: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random maps, scores, classes and truth; ``on_grid`` puts map values exactly onto thresholds, and makes ties."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, CLASSES))
    values = rng.random((count, 11, 8)).astype(np.float32)
    scores = rng.normal(size=count).astype(np.float32)
    if on_grid:
        values = (rng.integers(0, 101, values.shape) / 100).astype(np.float32)
        scores = np.round(scores)
    truth = rng.integers(0, CLASSES, (11, 8)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    classes = rng.permutation(CLASSES - 1)[:count]
    return torch.tensor(values), torch.tensor(scores), torch.tensor(np.sort(classes)), torch.tensor(truth)


def combine_by_loop(maps: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> np.ndarray:
    mask = np.zeros(maps.shape[1:], np.uint8)
    for y, x in np.ndindex(mask.shape):
        best = None
        for k in range(len(maps)):
            above = maps[k, y, x].numpy() >= np.float32(threshold)
            if above and (best is None or scores[k] > scores[best]):
                best = k
        mask[y, x] = 0 if best is None else int(classes[best]) + 1
    return mask


@pytest.mark.parametrize("threshold", [0.01, 0.29, 0.57, 0.99, 1.0])
@pytest.mark.parametrize("on_grid", [False, True])
def test_combine_equals_a_loop_over_pixels(threshold: float, on_grid: bool) -> None:
    for seed in range(6):
        maps, scores, classes, _ = image(seed, on_grid)
        expected = combine_by_loop(maps, scores, classes, threshold)
        mask = combine(maps, scores, classes, threshold)
        assert mask.dtype == torch.uint8
        np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("on_grid", [False, True])
def test_curve_equals_brute_force_at_every_threshold(on_grid: bool) -> None:
    curve = ThresholdCurve(CLASSES)
    brute = torch.zeros(len(THRESHOLDS), CLASSES, CLASSES, dtype=torch.int64)
    for seed in range(25):
        maps, scores, classes, truth = image(seed, on_grid)
        curve.update(maps, scores, classes, truth, f"image{seed}")
        for i, t in enumerate(THRESHOLDS):
            brute[i] += confusion_matrix(combine(maps, scores, classes, t), truth, CLASSES)
    assert torch.equal(curve.matrices(), brute)
    assert torch.equal(curve.matrices(0) + curve.matrices(1), brute)
    torch.testing.assert_close(curve.curve(), mean_iou(brute), rtol=0, atol=0)
    assert torch.equal(curve.at(0.29), brute[28])
    threshold, value = curve.best()
    assert value == mean_iou(brute).max()
    assert threshold == THRESHOLDS[int(mean_iou(brute).argmax())]


def test_a_steeper_grid_of_thresholds_up_to_one() -> None:
    curve = ThresholdCurve(CLASSES, [0.3, 1.0], halves=1)
    maps, scores, classes, truth = image(3, on_grid=True)
    maps[0, 0] = 1.0
    curve.update(maps, scores, classes, truth, "a")
    for t in (0.3, 1.0):
        assert torch.equal(curve.at(t), confusion_matrix(combine(maps, scores, classes, t), truth, CLASSES))


def filled(seeds: range) -> ThresholdCurve:
    curve = ThresholdCurve(CLASSES)
    for seed in seeds:
        curve.update(*image(seed), f"image{seed}")
    return curve


def test_cross_fitting_scores_each_half_at_the_others_threshold() -> None:
    curve = filled(range(20))
    halves = [ThresholdCurve(CLASSES, halves=1) for _ in range(2)]
    for seed in range(20):
        halves[curve.part(f"image{seed}")].update(*image(seed), f"image{seed}")
    (t0, _), (t1, _) = (half.best() for half in halves)
    pooled = curve.cross_fitted()
    assert pooled.thresholds == (t1, t0)
    assert torch.equal(pooled.matrix, halves[0].at(t1) + halves[1].at(t0))


def test_the_halves_never_change() -> None:
    # These decide published figures: another hash would make them incomparable.
    curve = ThresholdCurve(2)
    assert [curve.part(n) for n in ("2007_000032", "2007_000039", "2011_003276", "été/猫", "")] == [1, 1, 0, 0, 0]
    names = [f"{i:06d}" for i in range(4000)]
    assert 0.45 < sum(map(curve.part, names)) / len(names) < 0.55


def test_merging_equals_one_pass_in_any_order() -> None:
    whole, left, right = filled(range(12)), filled(range(5)), filled(range(5, 12))
    right.merge(left)
    assert torch.equal(right.counts, whole.counts)
    assert torch.equal(right.images, whole.images)
    with pytest.raises(ValueError, match="same classes, thresholds and parts"):
        whole.merge(ThresholdCurve(CLASSES, [0.5]))


def test_no_images() -> None:
    curve = ThresholdCurve(CLASSES)
    assert curve.curve().isnan().all()
    with pytest.raises(InputError, match="to choose a threshold on, got none"):
        curve.best()
    curve.update(*image(0), "only")
    with pytest.raises(InputError, match=r"images in each part .*(\[1, 0\]|\[0, 1\]).*--threshold"):
        curve.cross_fitted()


def test_predicted_classes_fall_back_to_the_arg_max() -> None:
    scores = torch.tensor([[1.0, -1.0, 1e-9], [-3.0, -1.0, -2.0], [0.0, 0.0, -1.0]])
    expected = [[True, False, True], [False, True, False], [True, False, False]]
    assert predicted_classes(scores).tolist() == expected
    with pytest.raises(ValueError, match="got NaN"):
        predicted_classes(torch.tensor([[float("nan")]]))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.zeros(2, 11, 8), "K×H×W with K scores and K classes"),
        (torch.full((1, 11, 8), 1.01), r"maps in \[0, 1\], got values outside"),
        (torch.full((1, 11, 8), float("nan")), r"maps in \[0, 1\], got values outside"),
    ],
)
def test_bad_maps(maps: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine(maps, torch.zeros(1), torch.zeros(1, dtype=torch.long), 0.5)
    with pytest.raises(ValueError, match=message):
        ThresholdCurve(3).update(maps, torch.zeros(1), torch.zeros(1), torch.zeros(11, 8, dtype=torch.uint8), "a")


def test_bad_truth() -> None:
    curve, one = ThresholdCurve(3), torch.zeros(1)
    with pytest.raises(InputError, match=r"mask values 0 … 2 or 255, got 7: the mask of bad"):
        curve.update(torch.zeros(1, 2, 2), one, one, torch.full((2, 2), 7, dtype=torch.uint8), "bad")
    with pytest.raises(ValueError, match=r"maps of \[3, 2\] like the true mask, got \[2, 2\]: bad"):
        curve.update(torch.zeros(1, 2, 2), one, one, torch.zeros(3, 2, dtype=torch.uint8), "bad")


@pytest.mark.parametrize("thresholds", [[], [0.0, 0.5], [0.5, 0.5], [0.5, 1.1], [0.6, 0.5]])
def test_bad_thresholds(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rising thresholds in \(0, 1\]"):
        ThresholdCurve(3, thresholds)


def test_threshold_outside_the_curve() -> None:
    with pytest.raises(ValueError, match=r"99 thresholds, got 0\.123"):
        ThresholdCurve(3).at(0.123)
