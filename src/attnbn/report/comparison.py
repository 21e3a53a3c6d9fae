"""Two or more models on one photograph, side by side, as the paper's Figures 3 and 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attnbn.inference.evaluate import image_miou, segment
from attnbn.inference.predict import Prediction, full_size
from attnbn.report.figures import Cell, Row, mask_cell, overlay


def comparison_headings(models: Sequence[str]) -> list[str]:
    """Column headings of :func:`comparison_row`: photograph, ground truth, then each model's attention and mask."""
    return ["Photograph", "Ground truth", *(text for model in models for text in (model, "its mask"))]


def comparison_row(
    title: str, image: Tensor, predictions: Sequence[Prediction], thresholds: Sequence[float], classes: Sequence[str]
) -> Row:
    """A photograph, its true mask, and what each model sees in it.

    The attention shown is the highest over the predicted classes; under it stand those classes and their probabilities,
    under the mask its mean IoU on this photograph.

    Args:
        title: Of the row.
        image: uint8 ``3×H×W``, RGB.
        predictions: One per model; the first one's true mask is shown.
        thresholds: One per model.
        classes: Names of the N classes.
    """
    truth = predictions[0].mask
    photograph = np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))
    if truth is None:
        cells = [Cell(photograph), Cell(photograph, "no mask")]
    else:
        present = [name for i, name in enumerate(classes) if bool((truth == i + 1).any())]
        cells = [Cell(photograph), mask_cell(image, truth, ", ".join(present) or "background")]
    for prediction, threshold in zip(predictions, thresholds, strict=True):
        maps = full_size(prediction.maps, prediction.size)
        highest = maps.amax(0) if len(maps) else torch.zeros(prediction.size)
        cells.append(Cell(overlay(image, highest), _said(prediction, classes)))
        value = image_miou(prediction, threshold)
        caption = "" if math.isnan(value) else f"{100 * value:.1f} % mIoU"
        cells.append(mask_cell(image, segment(prediction, threshold), caption))
    return Row(title, cells)


def stacked_headings(models: Sequence[str]) -> list[str]:
    """Column headings of :func:`stacked_rows`: photograph, then each model."""
    return ["Photograph", *models]


def stacked_rows(row: Row) -> list[Row]:
    """A row of :func:`comparison_row` as two lines, for more models than fit beside one another.

    The photograph and each model's attention, and under them the ground truth and each model's mask.
    """
    return [Row(row.title, row.cells[0::2]), Row("", row.cells[1::2])]


def _said(prediction: Prediction, classes: Sequence[str], most: int = 2) -> str:
    """The predicted classes, surest first: ``dog 97 %, cat 61 % +1``."""
    ranked = sorted(prediction.classes.tolist(), key=lambda c: -float(prediction.scores[c]))
    said = ", ".join(f"{classes[c]} {100 * float(prediction.scores[c].sigmoid()):.0f}\u00a0%" for c in ranked[:most])
    return said + (f" and {len(ranked) - most} more" if len(ranked) > most else "")
