"""Figures of a classifier against scikit-learn, plain loops and torch's own loss."""

from __future__ import annotations

import json
import math

import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, recall_score
from torch import Tensor

from attnbn.evaluation.classification import (
    accuracy,
    class_confusion,
    classification_figures,
    said_classes,
    single_labels,
)

CLASSES = ("cat", "dog", "cow", "bird")


def random_case(seed: int, unknown: float = 0.0) -> tuple[Tensor, Tensor]:
    """Scores with ties; images of none, one and several classes; some labels unknown."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(60, 4, generator=generator).mul(2).round() / 2
    labels = (torch.rand(60, 4, generator=generator) < 0.35).float()
    return scores, labels.masked_fill(torch.rand(60, 4, generator=generator) < unknown, math.nan)


def counted(scores: Tensor, labels: Tensor) -> tuple[list[list[int]], list[int], list[int]]:
    """Confusion, true and said classes by loops from the definition."""
    matrix = [[0] * 4 for _ in range(4)]
    true, said = [], []
    for score, label in zip(scores.tolist(), labels.tolist(), strict=True):
        there = [c for c in range(4) if label[c] == 1]
        if len(there) != 1:
            continue
        best = max((c for c in range(4) if not math.isnan(label[c])), key=lambda c: (score[c], -c))
        matrix[there[0]][best] += 1
        true.append(there[0])
        said.append(best)
    return matrix, true, said


@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_loops_and_scikit_learn(seed: int, unknown: float) -> None:
    scores, labels = random_case(seed, unknown)
    matrix, true, said = counted(scores, labels)
    assert class_confusion(scores, labels).tolist() == matrix
    assert class_confusion(scores, labels).dtype == torch.int64
    assert matrix == confusion_matrix(true, said, labels=range(4)).tolist()
    assert accuracy(scores, labels) == pytest.approx(accuracy_score(true, said), rel=1e-12)
    figures = classification_figures(scores, labels, CLASSES)
    assert (figures["confusion"], figures["images"]) == (matrix, 60)
    assert figures["accuracy"] == pytest.approx(accuracy_score(true, said))
    by_class = recall_score(true, said, labels=range(4), average=None)
    assert list(figures["accuracy_by_class"].values()) == pytest.approx(by_class.tolist())
    known = ~labels.isnan()
    ap = [average_precision_score(labels[known[:, c], c], scores[known[:, c], c]) for c in range(4)]
    assert list(figures["ap"].values()) == pytest.approx(ap)
    assert figures["mean_ap"] == pytest.approx(sum(ap) / 4)
    assert list(figures["ap"]) == list(figures["accuracy_by_class"]) == list(CLASSES)


def test_the_loss_is_equation_4() -> None:
    scores, labels = random_case(7)
    expected = torch.nn.functional.multilabel_soft_margin_loss(scores, labels)
    assert classification_figures(scores, labels, CLASSES)["loss"] == pytest.approx(float(expected), rel=1e-6)
    labels = random_case(7, 0.3)[1]
    terms = [
        math.log1p(math.exp(-score if label else score))
        for score, label in zip(scores.flatten().tolist(), labels.flatten().tolist(), strict=True)
        if not math.isnan(label)
    ]
    assert classification_figures(scores, labels, CLASSES)["loss"] == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_unknown_classes_are_not_said() -> None:
    scores = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 2.0]])
    labels = torch.tensor([[math.nan, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert said_classes(scores, labels).tolist() == [1, 0]
    assert single_labels(labels).tolist() == [1, -1]
    assert accuracy(scores, labels) == 1.0


@pytest.mark.parametrize(
    "labels", [torch.zeros(2, 4), torch.full((2, 4), math.nan), torch.ones(2, 4), torch.ones(0, 4)]
)
def test_figures_that_do_not_exist_are_none(labels: Tensor) -> None:
    scores = torch.zeros(len(labels), 4)
    assert math.isnan(accuracy(scores, labels))
    figures = classification_figures(scores, labels, CLASSES)
    assert figures["accuracy"] is None
    assert set(figures["accuracy_by_class"].values()) == {None}
    assert (figures["loss"] is None) == bool(labels.isnan().all())
    assert (figures["mean_ap"] is None) == (not bool((labels == 1).any()))
    json.dumps(figures, allow_nan=False)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"one shape M×N, got \[2, 3\] and \[2, 4\]"):
        accuracy(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="compared, got NaN"):
        class_confusion(torch.full((1, 2), math.nan), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"labels for 3 classes, got \[2, 4\]"):
        classification_figures(torch.zeros(2, 4), torch.zeros(2, 4), CLASSES[:3])
