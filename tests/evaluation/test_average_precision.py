"""Average precision against scikit-learn and against a plain loop."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from attnbn.evaluation.average_precision import average_precision, mean_average_precision


def random_case(seed: int, ties: bool, samples: int = 60, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(samples, classes))
    if ties:
        scores = np.round(scores * 2)
    labels = (rng.random((samples, classes)) < 0.3).astype(np.float32)
    labels[rng.random((samples, classes)) < 0.15] = np.nan
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_steps_equal_scikit_learn(seed: int, ties: bool) -> None:
    scores, labels = random_case(seed, ties)
    expected = []
    for n in range(labels.shape[1]):
        known = ~torch.isnan(labels[:, n])
        expected.append(average_precision_score(labels[known, n].numpy(), scores[known, n].numpy()))
    np.testing.assert_allclose(average_precision(scores, labels).numpy(), expected, rtol=1e-12)


def eleven_points_by_loop(scores: list[float], labels: list[float]) -> float:
    points = []
    for cut in sorted(set(scores)):
        hits = sum(1 for s, y in zip(scores, labels, strict=True) if s >= cut and y == 1)
        points.append((hits, sum(1 for s in scores if s >= cut)))
    total = sum(1 for y in labels if y == 1)
    return sum(max(h / r for h, r in points if 10 * h >= i * total) for i in range(11)) / 11


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_voc2007_equals_a_plain_loop(seed: int, ties: bool) -> None:
    scores, labels = random_case(seed, ties)
    for n, value in enumerate(average_precision(scores, labels, "voc2007").tolist()):
        known = ~torch.isnan(labels[:, n])
        expected = eleven_points_by_loop(scores[known, n].tolist(), labels[known, n].tolist())
        assert value == pytest.approx(expected, rel=1e-12)


def test_voc2007_counts_a_recall_met_exactly() -> None:
    # Ten positives, the first three of them on top, then one negative: recall 0.3 is met with precision 1.
    scores = torch.arange(11, 0, -1.0)[:, None]
    labels = torch.tensor([1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1.0])[:, None]
    assert average_precision(scores, labels, "voc2007").item() == pytest.approx((4 * 1 + 7 * 10 / 11) / 11)


def test_class_without_positive_is_nan_and_left_out_of_the_mean() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 0.0, float("nan")]])
    values = average_precision(scores, labels)
    assert values[0] == 1
    assert values[1:].isnan().all()
    assert mean_average_precision(scores, labels) == 1.0
    assert np.isnan(mean_average_precision(scores[:, 1:], labels[:, 1:]))
    assert np.isnan(mean_average_precision(scores[:0], labels[:0]))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"one shape S×N, got \[2, 3\] and \[3, 2\]"),
        (torch.tensor([[float("nan")]]), torch.zeros(1, 1), "got NaN"),
        (torch.zeros(1, 1), torch.tensor([[-1.0]]), "labels 0, 1 or NaN"),
    ],
)
def test_bad_input(scores: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision(scores, labels)


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="steps or voc2007, got coco"):
        average_precision(torch.zeros(1, 1), torch.zeros(1, 1), "coco")  # type: ignore[arg-type]
