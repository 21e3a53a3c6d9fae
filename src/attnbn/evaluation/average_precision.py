"""Average precision of multi-label scores: the area under each class's precision-recall steps.

Written out here, rather than taken from a metrics package, because two conventions have to be exact: unknown labels
(VOC's "difficult", NaN) leave only their own class's ranking, and equal scores form one step of the curve.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Method = Literal["steps", "voc2007"]


def average_precision(scores: Tensor, labels: Tensor, method: Method = "steps") -> Tensor:
    """Average precision of each class.

    ``steps`` is AP = Σ_n (R_n - R_{n-1}) P_n over the distinct scores, highest first (no interpolation). ``voc2007`` is
    the mean, over the eleven recalls 0, 0.1, ..., 1, of the highest precision at that recall or beyond (Everingham et
    al., IJCV 2010).

    Args:
        scores: ``S×N``, any increasing function of the probability; no NaN.
        labels: ``S×N`` in {0, 1}; NaN = unknown, left out of its class.
        method: The definition, ``steps`` or ``voc2007``.

    Returns:
        float64 ``N`` in [0, 1]; NaN for a class without a positive.

    Raises:
        ValueError: The shapes differ, a score is NaN or a label is none of 0, 1 and NaN.

    >>> average_precision(torch.tensor([[3.0], [2.0], [1.0]]), torch.tensor([[1.0], [0.0], [1.0]])).item()
    0.8333333333333333
    """
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"expected scores and labels of one shape S×N, got {[*scores.shape]} and {[*labels.shape]}")
    if torch.isnan(scores).any():
        raise ValueError("expected scores that can be ranked, got NaN")
    known = ~torch.isnan(labels)
    if not ((labels == 0) | (labels == 1) | ~known).all():
        raise ValueError("expected labels 0, 1 or NaN (unknown), got others")
    if method not in ("steps", "voc2007"):
        raise ValueError(f"expected method steps or voc2007, got {method}")
    one_class = _steps if method == "steps" else _eleven_points
    values = [one_class(*_ranking(scores[k, n], labels[k, n])) for n, k in enumerate(known.T)]
    return torch.tensor(values, dtype=torch.float64)


def mean_average_precision(scores: Tensor, labels: Tensor, method: Method = "steps") -> float:
    """Mean of :func:`average_precision` over the classes that have a positive; NaN if none has.

    Args:
        scores: ``S×N``.
        labels: ``S×N`` in {0, 1}, NaN = unknown.
        method: As in :func:`average_precision`.

    Raises:
        ValueError: As :func:`average_precision`.
    """
    return average_precision(scores, labels, method).nanmean().item()


def _ranking(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """True positives and retrieved samples (int64) at each distinct score, highest first."""
    scores, order = scores.sort(descending=True)
    hits = labels[order].long().cumsum(0)
    # Samples of one score cannot be told apart, so the curve has a point only where the score changes.
    last = torch.ones_like(scores, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    return hits[last], (last.nonzero().squeeze(1) + 1)


def _steps(hits: Tensor, retrieved: Tensor) -> float:
    if not len(hits) or not hits[-1]:
        return float("nan")
    gained = hits.diff(prepend=hits.new_zeros(1)).double() / hits[-1]
    return float((gained * (hits / retrieved.double())).sum())


def _eleven_points(hits: Tensor, retrieved: Tensor) -> float:
    if not len(hits) or not hits[-1]:
        return float("nan")
    precision = hits / retrieved.double()
    # In whole numbers: recall >= i/10 in floating point would lose the points that are met exactly.
    return sum(float(precision[10 * hits >= i * hits[-1]].max()) for i in range(11)) / 11
