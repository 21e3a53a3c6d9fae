"""``data.source_cap``: at most so many images of each class, from several data sets in equal shares."""

from __future__ import annotations

from collections.abc import Sequence

from attnbn.data.combined import combine
from attnbn.data.dataset import ImageDataset, Subset, hashed, rarest_class
from attnbn.io.errors import InputError


def take_at_most(datasets: Sequence[ImageDataset], places: Sequence[str], most: int, seed: int) -> list[ImageDataset]:
    """Take a seeded choice of at most so many images of each class; a smaller one is a subset of a larger one.

    Within each class and data set the images are ordered by a hash of seed and name; then the first of every data set
    comes before the second of any, and so on. The first ``most`` are taken: equal numbers of each data set as long as it
    has images, the rest from the others (of Caltech-256's 1,032 birds and ImageNet's 76,700, with 1,000 to take, 500 each).
    So the choice depends on the names alone: it is the same on every machine, and for another order of the data sets or
    of their images. An image of several classes counts for the rarest of them, in all data sets together.

    Args:
        datasets: Of the same classes, with labels (without, all images count as one class).
        places: Path or name of each, each once, by which images of one name are told apart.
        most: Images of a class, over all data sets.
        seed: Of the order.

    Returns:
        For each data set itself if nothing is left out of it, else a :class:`~attnbn.data.dataset.Subset` of it, perhaps
        empty, in its own order.

    Raises:
        InputError: ``most`` is below 1.
    """
    if most < 1:
        raise InputError(f"expected a number of images of a class of at least 1, got {most}: data.source_cap")
    combined = combine(datasets, places)
    owners = [owner for owner, dataset in enumerate(datasets) for _ in range(len(dataset))]
    strata: dict[int, dict[int, list[int]]] = {}
    for index, (label, owner) in enumerate(zip(rarest_class(combined), owners, strict=True)):
        strata.setdefault(label, {}).setdefault(owner, []).append(index)
    taken: list[list[int]] = [[] for _ in datasets]
    for of_class in strata.values():
        for index in _shared_out(of_class, combined.names, most, seed):
            taken[owners[index]].append(index)
    parts: list[ImageDataset] = []
    start = 0
    for dataset, chosen in zip(datasets, taken, strict=True):
        note = f"{len(chosen):,} of {len(dataset):,} images: at most {most:,} of each class, seed {seed}"
        whole = len(chosen) == len(dataset)
        parts.append(dataset if whole else Subset(dataset, sorted(index - start for index in chosen), note))
        start += len(dataset)
    return parts


def _shared_out(by_owner: dict[int, list[int]], names: Sequence[str], most: int, seed: int) -> list[int]:
    """The images of a class that come first: the firsts of all data sets, then the seconds, ties by the hash."""
    queue = []
    for members in by_owner.values():
        ordered = sorted((hashed(seed, names[index]), index) for index in members)
        queue += [(rank, key, index) for rank, (key, index) in enumerate(ordered[:most])]
    return [index for _, _, index in sorted(queue)[:most]]
