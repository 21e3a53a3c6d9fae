"""What a run said of the held-out source images and of the target's test images, read from the folder that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from attnbn.evaluation.classification import said_classes
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_object
from attnbn.io.reading import check_file, check_filled

TRANSFER, TENSORS = "transfer.json", "transfer.safetensors"


@dataclass(frozen=True)
class Seen:
    """M images of one domain as one run sees them.

    Attributes:
        names: Of the images.
        scores: Logits, float32 ``M×N``.
        labels: float32 ``M×N`` in {0, 1}, NaN = unknown.
        features: float32 ``M×C``.
        figures: As :func:`attnbn.evaluation.classification.classification_figures` gives them.
    """

    names: list[str]
    scores: Tensor
    labels: Tensor
    features: Tensor
    figures: Mapping[str, Any]

    @property
    def said(self) -> Tensor:
        """The class with the highest score, int64 ``M``."""
        return said_classes(self.scores, self.labels)

    @property
    def right(self) -> Tensor:
        """Whether that class is there, bool ``M``."""
        return self.labels.gather(1, self.said[:, None]).squeeze(1) == 1

    @property
    def surety(self) -> Tensor:
        """Probability of the classes that are there, their mean, float32 ``M`` in [0, 1]; NaN for an image without any."""
        there = self.labels == 1
        return (self.scores.sigmoid() * there).sum(1) / there.sum(1)


@dataclass(frozen=True)
class Transfer:
    """A run on both domains.

    Attributes:
        source: Images held out of the source.
        target: The target's test images.
    """

    source: Seen
    target: Seen


def read_transfer(folder: Path) -> Transfer:
    """Read ``transfer.json`` and ``transfer.safetensors``.

    Raises:
        InputError: They are not there, cannot be read, or do not fit together.
    """
    try:
        figures = read_object(folder / TRANSFER, "a run's figures on both domains", largest=None)
        check_file(folder / TENSORS, "file of tensors")
        check_filled(folder / TENSORS, "file of tensors")
        tensors = load_file(folder / TENSORS)
        source = _seen(figures["source_names"], tensors, "source_", figures["validation"])
        target = _seen(figures["names"], tensors, "", figures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise InputError(
            f"expected a run's figures on both domains ({TRANSFER}, {TENSORS}), could not read them ({error}); test the run "
            f"again: {folder}"
        ) from error
    return Transfer(source, target)


def _seen(names: list[str], tensors: Mapping[str, Tensor], prefix: str, figures: Mapping[str, Any]) -> Seen:
    scores, labels, features = (tensors[f"{prefix}{key}"] for key in ("scores", "labels", "features"))
    if scores.shape != labels.shape or not len(scores) == len(features) == len(names):
        raise ValueError(f"{len(names)} names, scores {[*scores.shape]}, labels {[*labels.shape]}")
    if not torch.isfinite(features).all():
        raise ValueError("features that are not finite")
    return Seen(names, scores, labels, features, figures)
