"""The confusion matrix of a segmentation and the figures read from it.

One matrix is summed over all pixels of a split and the figures are taken once from the sum, as VOC does; a mean of
per-image figures would be another quantity. All functions but the first take any leading dimensions, so that a stack of
matrices (one per threshold) is read in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def confusion_matrix(pred: Tensor, truth: Tensor, num_classes: int, ignore: int = 255) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        pred: Integer tensor of any shape, values 0 … ``num_classes - 1`` wherever ``truth`` counts.
        truth: Integer tensor of the same shape, values 0 … ``num_classes - 1`` or ``ignore``.
        num_classes: Number of classes, the background included.
        ignore: Value of ``truth`` at pixels that do not count.

    Returns:
        int64 ``num_classes×num_classes``: rows the truth, columns the prediction.

    Raises:
        ValueError: The shapes differ or a value is outside the classes.

    >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), 2).tolist()
    [[1, 1], [0, 0]]
    """
    if pred.shape != truth.shape:
        raise ValueError(f"expected a prediction of {[*truth.shape]} like the truth, got {[*pred.shape]}")
    counts = truth != ignore
    pred, truth = pred[counts].long(), truth[counts].long()
    for what, values in (("truth", truth), ("prediction", pred)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < num_classes:
            raise ValueError(f"expected a {what} in 0 … {num_classes - 1}, got {values.min()} … {values.max()}")
    pairs = torch.bincount(truth * num_classes + pred, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def iou(matrix: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        matrix: ``…×C×C`` counts, rows the truth.

    Returns:
        float64 ``…×C`` in [0, 1]; NaN for a class absent from truth and prediction.
    """
    hits, union = _diagonal(matrix), matrix.sum(-1) + matrix.sum(-2) - _diagonal(matrix)
    return hits.double() / union


def mean_iou(matrix: Tensor, over: Tensor | None = None) -> Tensor:
    """Mean of :func:`iou`, float64 ``…``; NaN if there is no pixel.

    Args:
        matrix: ``…×C×C`` counts, rows the truth.
        over: bool ``C``, the classes to average over; None: those present in truth or prediction.
    """
    values = iou(matrix)
    return (values if over is None else values[..., over]).nanmean(-1)


def in_truth(matrix: Tensor) -> Tensor:
    """Which classes the truth has a pixel of, bool ``…×C``: the same whatever was predicted."""
    return matrix.sum(-1) > 0


def precision(matrix: Tensor) -> Tensor:
    """Share of the pixels given to each class that are right, float64 ``…×C``; NaN for a class never predicted."""
    return _diagonal(matrix).double() / matrix.sum(-2)


def recall(matrix: Tensor) -> Tensor:
    """Share of each class's true pixels that were found, float64 ``…×C``; NaN for a class absent from the truth."""
    return _diagonal(matrix).double() / matrix.sum(-1)


def figures_of(matrix: Tensor, classes: Sequence[str], over: Tensor | None = None) -> dict[str, Any]:
    """All of the above by name, as fractions.

    Args:
        matrix: int64 ``(N+1)×(N+1)``, background first.
        classes: Names of the N classes.
        over: As in :func:`mean_iou`.

    Returns:
        ``miou``, and ``iou``, ``precision`` and ``recall`` by class name, ``background`` included.
    """
    names = ("background", *classes)
    kinds = {"iou": iou, "precision": precision, "recall": recall}
    by_name = {kind: dict(zip(names, figure(matrix).tolist(), strict=True)) for kind, figure in kinds.items()}
    return {"miou": float(mean_iou(matrix, over)), **by_name}


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)
