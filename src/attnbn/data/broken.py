"""Photographs that cannot be read, found before training instead of in the middle of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from attnbn.data.dataset import ImageDataset, Subset
from attnbn.io.errors import InputError

SHOWN = 10
"""Broken photographs named in full; of more only the number is told."""


def without_broken(dataset: ImageDataset, threads: int = 4) -> ImageDataset:
    """The data set without the samples that cannot be read, each of which is read once here.

    Returns:
        The data set itself if all can be read, else a subset whose notes count and name what was left out.

    Raises:
        InputError: None can be read.
    """

    def trouble(index: int) -> str | None:
        try:
            dataset[index]
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(trouble, range(len(dataset))))
    broken = [line for line in found if line is not None]
    if not broken:
        return dataset
    if len(broken) == len(dataset):
        raise InputError(f"none of the {len(dataset)} images can be read; the first: {broken[0]}")
    more = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    note = f"left out {len(broken)} of {len(dataset)} images that cannot be read: {'; '.join(broken[:SHOWN])}{more}"
    return Subset(dataset, [index for index, line in enumerate(found) if line is None], note)
