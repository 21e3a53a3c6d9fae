"""What finished runs see in the photographs of one data set: pixel counts of all of them, pictures of a few.

Only counts are kept of every photograph, so that a report on a large data set fits in memory; the maps of those that a
gallery shows are taken anew, once. One network is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.evaluation.confusion import confusion_matrix, iou, mean_iou
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.predict import Prediction, predict


class Views:
    """The photographs as each run sees them; every run looks at every photograph once, however often it is asked.

    Args:
        dataset: With masks.
        device: Where the networks compute.
    """

    def __init__(self, dataset: ImageDataset, device: str = "cpu") -> None:
        self.dataset = dataset
        self._device = device
        self._counts: dict[Path, Tensor] = {}
        self._thresholds: dict[Path, float] = {}
        self._seen: dict[tuple[Path, int], Prediction] = {}

    def threshold(self, run: Path) -> float:
        """The run's own threshold, at which its masks are cut."""
        self.counts(run)
        return self._thresholds[run]

    def counts(self, run: Path) -> Tensor:
        """Confusion matrices of single photographs, background first.

        Args:
            run: A finished run's folder.

        Returns:
            int64 ``S×(N + 1)×(N + 1)`` in the data set's order, rows the truth; all zero for a photograph that cannot
            be read or has no mask.
        """
        if run not in self._counts:
            trained = load(run, device=self._device)
            size = len(self.dataset.classes) + 1
            counts = torch.zeros(len(self.dataset), size, size, dtype=torch.int64)
            place = {name: index for index, name in enumerate(self.dataset.names)}
            for seen in predict(trained.network, self.dataset, size=trained.config.data.size, skip_broken=True):
                if seen.mask is not None:
                    counts[place[seen.name]] = confusion_matrix(segment(seen, trained.threshold), seen.mask, size)
            self._counts[run], self._thresholds[run] = counts, trained.threshold
        return self._counts[run]

    def predictions(self, run: Path, indices: Sequence[int]) -> list[Prediction]:
        """What a run sees in some photographs, in the order asked for."""
        missing = sorted({index for index in indices if (run, index) not in self._seen})
        if missing:
            trained = load(run, device=self._device)
            seen = predict(trained.network, self.dataset, size=trained.config.data.size, indices=missing)
            self._seen.update({(run, index): one for index, one in zip(missing, seen, strict=True)})
        return [self._seen[run, index] for index in indices]

    def named(self, values: Tensor) -> dict[str, float]:
        """Figures ``S`` by photograph."""
        return dict(zip(self.dataset.names, values.tolist(), strict=True))


def image_mious(counts: Tensor) -> Tensor:
    """Mean IoU of each photograph over the classes in its true mask or in its own, float64 ``S``; NaN without a mask."""
    return mean_iou(counts)


def class_ious(counts: Tensor, index: int) -> Tensor:
    """IoU of class ``index`` (0 = background) in each photograph that shows it, float64 ``S``; NaN in the others."""
    shown = counts[:, index].sum(-1) > 0
    return torch.where(shown, iou(counts)[:, index], math.nan)


def spill(counts: Tensor) -> Tensor:
    """Share of each photograph's pixels that are background and were given to a class, float64 ``S`` in [0, 1].

    The false positives at the expense of the background: where a scene stands for its object, they are its part. NaN
    for a photograph without a mask.
    """
    return counts[:, 0, 1:].sum(-1).double() / counts.sum((-2, -1))
