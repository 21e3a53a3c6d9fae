"""Direct evaluation of attention maps as a segmentation (Sec. 4.2), exact for all thresholds in one pass.

A predicted class's map M, max-normalised and at the image's resolution, is foreground where M ≥ t; where several
are, the class with the larger score wins. So with the predicted classes in falling order of score, a pixel belongs to
class k exactly for t in (max_{j<k} M_j, M_k], and to the background for t above all maps. Each pixel therefore changes
class at few thresholds, and counting those changes gives the confusion matrices of *all* thresholds at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attnbn.evaluation.confusion import mean_iou
from attnbn.io.errors import InputError

VOID = 255
"""Value of the pixels of a true mask that do not count."""

THRESHOLDS = tuple(i / 100 for i in range(1, 100))
"""0.01, 0.02, …, 0.99."""


def predicted_classes(scores: Tensor) -> Tensor:
    """The classes a classifier says are there: those with sigmoid(score) > 0.5, or the arg-max if there is none.

    Args:
        scores: Logits ``B×N``.

    Returns:
        bool ``B×N`` with at least one True a row.

    Raises:
        ValueError: A score is NaN.
    """
    if torch.isnan(scores).any():
        raise ValueError("expected scores that are numbers, got NaN")
    # score > 0 is sigmoid > 0.5 without its rounding: sigmoid(1e-9) is exactly 0.5 in float32.
    positive = scores > 0
    best = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).bool()
    return torch.where(positive.any(1, keepdim=True), positive, best)


def combine(maps: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Make one mask of the maps of an image's predicted classes.

    Args:
        maps: float ``K×H×W`` in [0, 1].
        scores: Logits ``K`` of those classes; of equal scores the first class wins.
        classes: Integer ``K``, class indices from 0.
        threshold: A pixel is foreground where its map is at least this, in (0, 1]; compared in float32.

    Returns:
        uint8 ``H×W``: 0 = background, i + 1 = class i.

    Raises:
        ValueError: The shapes do not fit together or a value is out of its range.
    """
    _check_maps(maps, scores, classes)
    bound = _check_thresholds([threshold])[0]
    mask = torch.zeros(maps.shape[1:], dtype=torch.uint8)
    for k in reversed(_falling(scores)):
        mask[maps[k].float().cpu() >= bound] = int(classes[k]) + 1
    return mask


class CrossFitted(NamedTuple):
    """What :meth:`ThresholdCurve.cross_fitted` gives.

    Attributes:
        matrix: int64 ``C×C``, the parts pooled, each at its own threshold.
        thresholds: For each part, the threshold that is best on the other parts.
    """

    matrix: Tensor
    thresholds: tuple[float, ...]


class ThresholdCurve:
    """Confusion matrices at every threshold, summed over images.

    The images fall into fixed parts by a hash of their names, independent of order, machine and other images, so that
    a threshold can be chosen on one part and scored on another.

    Attributes:
        thresholds: The thresholds, rising.
        counts: int64 ``halves×(T+1)×C×C``: changes of the matrices from one threshold to the next. Adding the
            ``counts`` and ``images`` of two processes merges them.
        images: int64 ``halves``, images counted.
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float] = THRESHOLDS, halves: int = 2) -> None:
        """Start at zero.

        Args:
            num_classes: Number of classes C, the background included (at most 255, for 255 is void).
            thresholds: Rising, in (0, 1].
            halves: Number of parts.

        Raises:
            ValueError: A threshold is outside (0, 1], they do not rise, or a number is out of range.
        """
        if not 2 <= num_classes <= VOID or halves < 1:
            raise ValueError(f"expected 2 … {VOID} classes and at least 1 part, got {num_classes} and {halves}")
        self._bounds = _check_thresholds(thresholds)
        self.thresholds = tuple(float(t) for t in thresholds)
        self.num_classes = num_classes
        self.counts = torch.zeros(halves, len(thresholds) + 1, num_classes, num_classes, dtype=torch.int64)
        self.images = torch.zeros(halves, dtype=torch.int64)

    def update(self, maps: Tensor, scores: Tensor, classes: Tensor, truth: Tensor, name: str) -> None:
        """Count an image, in time O(K·pixels) whatever the number of thresholds.

        Args:
            maps: float ``K×H×W`` in [0, 1], the predicted classes' maps at the truth's resolution.
            scores: Logits ``K``.
            classes: Integer ``K``, class indices from 0.
            truth: Integer ``H×W``: 0 = background, i + 1 = class i, 255 = void.
            name: The image's name.

        Raises:
            ValueError: The shapes do not fit together or a map is outside [0, 1].
            InputError: The true mask has a value outside the classes.
        """
        _check_maps(maps, scores, classes)
        if maps.shape[1:] != truth.shape:
            raise ValueError(f"expected maps of {[*truth.shape]} like the true mask, got {[*maps.shape[1:]]}: {name}")
        valid = (truth != VOID).cpu()
        true = truth.cpu()[valid].long()
        if true.numel() and not 0 <= int(true.min()) <= int(true.max()) < self.num_classes:
            raise InputError(
                f"expected mask values 0 … {self.num_classes - 1} or {VOID}, got {int(true.max())}: the mask of {name}"
            )
        # reached[p] = number of thresholds at which pixel p already belongs to one of the classes seen so far.
        reached = torch.zeros_like(true)
        before = self._histogram(true, reached)
        part = self.counts[self.part(name)]
        for k in _falling(scores):
            levels = torch.bucketize(maps[k].float().cpu()[valid], self._bounds, right=True)
            reached = torch.maximum(reached, levels)
            after = self._histogram(true, reached)
            part[:, :, int(classes[k]) + 1] += before - after
            before = after
        part[:, :, 0] += before
        self.images[self.part(name)] += 1

    def merge(self, other: ThresholdCurve) -> None:
        """Add the images of another curve with the same classes, thresholds and parts.

        Raises:
            ValueError: They differ.
        """
        if self.thresholds != other.thresholds or self.counts.shape != other.counts.shape:
            raise ValueError("expected a curve with the same classes, thresholds and parts")
        self.counts += other.counts
        self.images += other.images

    def part(self, name: str) -> int:
        """The part an image belongs to, 0 … halves - 1: a hash of its name alone."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % len(self.counts)

    def matrices(self, part: int | None = None) -> Tensor:
        """The confusion matrices, int64 ``T×C×C``, rows the truth; of all images or of one part."""
        counts = self.counts.sum(0) if part is None else self.counts[part]
        return counts.cumsum(0)[:-1]

    def at(self, threshold: float) -> Tensor:
        """The confusion matrix at one of the thresholds, int64 ``C×C``.

        Raises:
            ValueError: The curve was not taken at that threshold.
        """
        same = (self._bounds == torch.tensor(threshold, dtype=torch.float32)).nonzero()
        if not len(same):
            raise ValueError(f"expected one of the curve's {len(self.thresholds)} thresholds, got {threshold}")
        return self.matrices()[int(same[0])]

    def curve(self) -> Tensor:
        """Mean IoU at each threshold, float64 ``T`` in [0, 1]; NaN where there is no image."""
        return mean_iou(self.matrices())

    def best(self) -> tuple[float, float]:
        """The threshold with the highest mIoU (of equals the lowest) and that mIoU.

        Raises:
            InputError: There is no image.
        """
        return self._best(self.matrices())

    def can_cross_fit(self) -> bool:
        """Whether every part has an image."""
        return len(self.images) > 1 and bool((self.images > 0).all())

    def cross_fitted(self) -> CrossFitted:
        """Score each part at the threshold that is best on the others, and pool the parts' matrices.

        So a split can choose the threshold and still be scored without having seen its own truth.

        Raises:
            InputError: A part has no image.
        """
        if not self.can_cross_fit():
            raise InputError(
                "expected images in each part of the split, to choose a threshold on the others, got "
                f"{self.images.tolist()}: use a larger split or give the threshold (--threshold)"
            )
        parts = [self.matrices(part) for part in range(len(self.counts))]
        total = self.matrices()
        thresholds = tuple(self._best(total - part)[0] for part in parts)
        chosen = [part[self.thresholds.index(t)] for part, t in zip(parts, thresholds, strict=True)]
        return CrossFitted(torch.stack(chosen).sum(0), thresholds)

    def _best(self, matrices: Tensor) -> tuple[float, float]:
        values = mean_iou(matrices)
        if torch.isnan(values).any():
            raise InputError("expected images with masks to choose a threshold on, got none")
        index = int(values.argmax())
        return self.thresholds[index], float(values[index])

    def _histogram(self, true: Tensor, reached: Tensor) -> Tensor:
        """Pixels by number of thresholds reached and true class, int64 ``(T+1)×C``."""
        flat = torch.bincount(reached * self.num_classes + true, minlength=self.counts[0, :, :, 0].numel())
        return flat.reshape(-1, self.num_classes)


def _falling(scores: Tensor) -> list[int]:
    """Indices by falling score; of equal scores the first class comes first."""
    order: list[int] = scores.cpu().argsort(descending=True, stable=True).tolist()
    return order


def _check_thresholds(thresholds: Sequence[float]) -> Tensor:
    bounds = torch.tensor([float(t) for t in thresholds], dtype=torch.float32)
    if not len(bounds) or not bool((bounds > 0).all() and (bounds <= 1).all() and (bounds.diff() > 0).all()):
        raise ValueError(f"expected rising thresholds in (0, 1], got {list(thresholds)}")
    return bounds


def _check_maps(maps: Tensor, scores: Tensor, classes: Tensor) -> None:
    if maps.ndim != 3 or not len(maps) == len(scores) == len(classes):
        raise ValueError(
            "expected maps K×H×W with K scores and K classes, got "
            f"{[*maps.shape]}, {[*scores.shape]} and {[*classes.shape]}"
        )
    # Written so that NaN fails it too.
    if maps.numel() and not (float(maps.min()) >= 0 and float(maps.max()) <= 1):
        raise ValueError("expected maps in [0, 1], got values outside")
