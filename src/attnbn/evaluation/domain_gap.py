"""Do the features of two domains differ? How well a linear classifier tells them apart, cross-fitted: 0.5 = not at all.

The field's proxy A-distance (Ben-David et al., Analysis of representations for domain adaptation, NIPS 2006) is
2·(2a - 1) of this accuracy a.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnbn.evaluation.classification import single_labels

FOLDS = 5
"""Each image is judged by a classifier fitted to the other four fifths."""

RIDGE = 1.0
"""Of the fit, in units of a standardised feature's variance: steady where there are more features than images."""


def domain_gap(source: Tensor, source_labels: Tensor, target: Tensor, target_labels: Tensor) -> float:
    """Accuracy of a domain classifier on images that it was not fitted to.

    A ridge regression of the domain (+1 and -1) on the standardised features. Only images that show exactly one class count,
    of classes that both domains have at least twice, and each class weighs as much in the one domain as in the other: else
    the classes' shares alone would tell the domains apart.

    Args:
        source: Features ``S×C``.
        source_labels: ``S×N`` in {0, 1}; NaN = unknown.
        target: Features ``T×C``.
        target_labels: ``T×N``.

    Returns:
        In [0, 1]; 0.5 is chance. NaN where the domains share no class.

    Raises:
        ValueError: The shapes do not fit together.
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(f"expected features S×C and T×C, got {[*source.shape]} and {[*target.shape]}")
    if len(source) != len(source_labels) or len(target) != len(target_labels):
        raise ValueError(
            f"expected labels of each image, got {len(source_labels)} and {len(target_labels)} for {len(source)} and "
            f"{len(target)}"
        )
    features = torch.cat([source, target]).double()
    true = torch.cat([single_labels(source_labels), single_labels(target_labels)])
    sign = torch.ones(len(features), dtype=torch.float64)
    sign[len(source) :] = -1
    cells = _cells(true, sign)
    used = torch.cat([cell for pair in cells for cell in pair]) if cells else torch.zeros(0, dtype=torch.long)
    if not len(used):
        return float("nan")
    fold, weight = _folds_and_weights(cells, len(features))
    right = total = 0.0
    for judged in range(FOLDS):
        fitted, test = used[fold[used] != judged], used[fold[used] == judged]
        if not len(test):
            continue
        said = _fit_and_apply(features[fitted], sign[fitted], weight[fitted], features[test])
        # at the border neither domain is named: half of each
        hits = torch.where(said == 0, 0.5, (said.sign() == sign[test]).double())
        right += float((weight[test] * hits).sum())
        total += float(weight[test].sum())
    return right / total


def _cells(true: Tensor, sign: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each class that both domains have at least twice, its images in the source and in the target."""
    pairs = []
    for index in sorted(set(true[true >= 0].tolist())):
        pair = tuple(((true == index) & (sign == side)).nonzero().squeeze(1) for side in (1, -1))
        if min(map(len, pair)) >= 2:
            pairs.append((pair[0], pair[1]))
    return pairs


def _folds_and_weights(cells: list[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Each image's fold (its turn within its class and domain) and weight (one over the images of these)."""
    fold, weight = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.float64)
    for pair in cells:
        for cell in pair:
            fold[cell] = torch.arange(len(cell)) % FOLDS
            weight[cell] = 1 / len(cell)
    return fold, weight


def _fit_and_apply(features: Tensor, sign: Tensor, weight: Tensor, others: Tensor) -> Tensor:
    """Weighted ridge regression, min Σ w (y - b - xβ)² + λ‖β‖² with Σ w = 1; its values for other features."""
    weight = weight / weight.sum()
    mean = weight @ features
    spread = (weight @ (features - mean).square()).sqrt()
    spread = torch.where(spread > 1e-12, spread, 1.0)
    x = (features - mean) / spread
    offset = weight @ sign
    inner = (x.T * weight) @ x
    inner.diagonal().add_(RIDGE)
    beta = torch.linalg.solve(inner, (x.T * weight) @ (sign - offset))
    values: Tensor = offset + ((others - mean) / spread) @ beta
    return values
