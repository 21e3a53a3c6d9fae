"""What scores say about images of which the labels are known: accuracy, confusion, average precision, loss.

Accuracy is for images that show one class. Where a label is unknown (NaN), its class takes no part in that image: it is
neither said nor counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attnbn.evaluation.average_precision import average_precision
from attnbn.evaluation.confusion import confusion_matrix, recall
from attnbn.io.atomic import without_nan
from attnbn.losses import classification_loss


def single_labels(labels: Tensor) -> Tensor:
    """The class of each image that shows exactly one, int64 ``M``; -1 for the others.

    Args:
        labels: ``M×N`` in {0, 1}; NaN = unknown.
    """
    positive = labels == 1
    return torch.where(positive.sum(1) == 1, positive.to(torch.uint8).argmax(1), -1)


def said_classes(scores: Tensor, labels: Tensor) -> Tensor:
    """The class with the highest score among those whose label is known, int64 ``M``; of equal scores the first.

    Args:
        scores: Logits ``M×N``.
        labels: ``M×N`` in {0, 1}; NaN = unknown.

    Raises:
        ValueError: The shapes differ, there is no class or a score is NaN.
    """
    if scores.ndim != 2 or scores.shape != labels.shape or not scores.shape[1]:
        raise ValueError(f"expected scores and labels of one shape M×N, got {[*scores.shape]} and {[*labels.shape]}")
    if torch.isnan(scores).any():
        raise ValueError("expected scores that can be compared, got NaN")
    return scores.masked_fill(labels.isnan(), -torch.inf).argmax(1)


def class_confusion(scores: Tensor, labels: Tensor) -> Tensor:
    """Count the images that show exactly one class by that class and the one said.

    Args:
        scores: Logits ``M×N``.
        labels: ``M×N`` in {0, 1}; NaN = unknown.

    Returns:
        int64 ``N×N``: rows the truth, columns what is said.

    Raises:
        ValueError: As :func:`said_classes`.

    >>> class_confusion(torch.tensor([[3.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [[1, 0], [1, 0]]
    """
    said, true = said_classes(scores, labels), single_labels(labels)
    return confusion_matrix(said, true, labels.shape[1], ignore=-1)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of the images showing exactly one class whose highest score is that class's, in [0, 1]; NaN without any.

    Args:
        scores: Logits ``M×N``.
        labels: ``M×N`` in {0, 1}; NaN = unknown.

    Raises:
        ValueError: As :func:`said_classes`.
    """
    return _accuracy(class_confusion(scores, labels))


def classification_figures(scores: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """All figures as they stand in JSON: fractions, and None where a figure does not exist.

    Args:
        scores: Logits ``M×N``.
        labels: ``M×N`` in {0, 1}; NaN = unknown.
        classes: Names of the N classes.

    Returns:
        ``mean_ap`` over the classes with a positive and ``ap`` by class name; ``accuracy``, ``accuracy_by_class`` (the share of
        the images of a class alone that are said to be it) and ``confusion`` (lists, rows the truth) over the images that show
        exactly one class; ``loss``, Eq. 4 with the mean over all known labels; ``images``, how many in all.

    Raises:
        ValueError: As :func:`said_classes`, or the number of names is another.
    """
    if labels.ndim != 2 or len(classes) != labels.shape[1]:
        raise ValueError(f"expected labels for {len(classes)} classes, got {[*labels.shape]}")
    confusion = class_confusion(scores, labels)
    ap = average_precision(scores, labels)
    known = bool((~labels.isnan()).any())
    loss = float(classification_loss(scores.double(), labels.double())) if known else float("nan")
    figures: dict[str, Any] = {
        "mean_ap": float(ap.nanmean()),
        "ap": dict(zip(classes, ap.tolist(), strict=True)),
        "accuracy": _accuracy(confusion),
        "accuracy_by_class": dict(zip(classes, recall(confusion).tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "loss": loss,
        "images": len(scores),
    }
    cleaned: dict[str, Any] = without_nan(figures)
    return cleaned


def _accuracy(confusion: Tensor) -> float:
    return float(confusion.diagonal().sum().double() / confusion.sum())
