"""Several data sets of the same classes as one: the sources of domain generalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import PurePath

import torch

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample


class Combined(ImageDataset):
    """Data sets one after the other, without their masks; each name is prefixed so that it stays unique.

    Args:
        datasets: Of the same classes in the same order, all with labels or all without.
        prefixes: Of the names of each, without ``/`` at the end and each once; None: ``1``, ``2`` and so on.

    Raises:
        ValueError: No data set, classes that differ, labels of some only, or as many prefixes as do not fit.
    """

    def __init__(self, datasets: Sequence[ImageDataset], prefixes: Sequence[str] | None = None) -> None:
        if not datasets or len({dataset.classes for dataset in datasets}) != 1:
            raise ValueError(f"expected data sets of the same classes, got {[dataset.classes for dataset in datasets]}")
        tables = [dataset.labels for dataset in datasets if dataset.labels is not None]
        if tables and len(tables) != len(datasets):
            raise ValueError(f"expected labels of all data sets or of none, got those of {len(tables)}")
        prefixes = [str(i + 1) for i in range(len(datasets))] if prefixes is None else list(prefixes)
        if len(set(prefixes)) != len(datasets):
            raise ValueError(f"expected {len(datasets)} prefixes that differ, got {prefixes}")
        super().__init__(
            datasets[0].classes,
            [f"{prefix}/{name}" for prefix, part in zip(prefixes, datasets, strict=True) for name in part.names],
            torch.cat(tables) if tables else None,
            has_saliency=any(dataset.has_saliency for dataset in datasets),
            notes=[line for prefix, part in zip(prefixes, datasets, strict=True) for line in _notes(prefix, part)],
            title=" + ".join(dataset.title for dataset in datasets),
        )
        self.datasets = list(datasets)
        self._ends = torch.tensor(list(accumulate(len(dataset) for dataset in datasets)))

    def __getitem__(self, index: int) -> Sample:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        part = int(torch.searchsorted(self._ends, index, right=True))
        start = 0 if part == 0 else int(self._ends[part - 1])
        return replace(self.datasets[part][index - start], mask=None, name=self.names[index])


def _notes(prefix: str, dataset: ImageDataset) -> list[str]:
    return [f"{prefix}/: {dataset.describe()}", *(f"{prefix}/: {note}" for note in dataset.notes)]


def combine(datasets: Sequence[ImageDataset], places: Sequence[str]) -> ImageDataset:
    """One data set as it is, several as :class:`Combined`, prefixed by the last parts of where they are.

    Args:
        datasets: As of :class:`Combined`.
        places: Path or name of each, each once.
    """
    return datasets[0] if len(datasets) == 1 else Combined(datasets, short_names(places))


def short_names(places: Sequence[str]) -> list[str]:
    """For each place the last parts of its path, as many as tell all of them apart.

    So the names of images stay the same where the data sets are moved together or come in another order.

    Args:
        places: Paths or names, each once.

    >>> short_names(["data/office/amazon/images", "data/office/dslr/images"])
    ['amazon/images', 'dslr/images']
    """
    parts = [[part for part in PurePath(place).parts if part not in ("/", "..")] for place in places]
    for count in range(1, max(map(len, parts), default=0) + 1):
        short = ["/".join(part[-count:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return [str(i + 1) for i in range(len(places))]
