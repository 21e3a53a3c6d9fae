"""Photographs from a data set, resized to what the network sees, in batches, read by this process or by others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from attnbn.data.dataset import ImageDataset
from attnbn.data.readers import read_ahead
from attnbn.data.transforms import eval_transform
from attnbn.io.errors import InputError


class Item(NamedTuple):
    """A photograph as read.

    Attributes:
        name: Its name in its data set.
        images: uint8 ``3×S×S`` for each side S that is wanted.
        size: Its own height and width.
        mask: True mask ``H×W`` where the data set has one.
        labels: float32 ``N`` where the data set has them.
    """

    name: str
    images: Sequence[Tensor]
    size: tuple[int, int]
    mask: Tensor | None
    labels: Tensor | None


class Reader(Dataset["Item | str | None"]):
    """Reads and resizes; a photograph that cannot be read becomes its message.

    An exception would cross from a worker wrapped in that worker's traceback, and end the worker's stream.

    Args:
        dataset: The photographs.
        sides: Of the squares that the whole photograph is resized to, each from the photograph itself.
        indices: Which photographs.
        only: Those of them that are wanted; of another that cannot be read nothing is said. None: all.
    """

    def __init__(
        self, dataset: ImageDataset, sides: Sequence[int], indices: Sequence[int], only: Collection[int] | None = None
    ) -> None:
        self.dataset = dataset
        self.transforms = [eval_transform(side) for side in sides]
        self.indices, self.only = indices, None if only is None else frozenset(only)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Item | str | None:
        index = self.indices[position]
        try:
            sample = self.dataset[index]
        except InputError as error:
            return str(error) if self.only is None or index in self.only else None
        height, width = sample.image.shape[-2:]
        images = [transform(sample).image.as_subclass(Tensor) for transform in self.transforms]
        mask, labels = (None if t is None else t.as_subclass(Tensor) for t in (sample.mask, sample.labels))
        return Item(sample.name, images, (height, width), mask, labels)


def whole_batches(indices: Sequence[int], only: Collection[int], batch_size: int) -> list[int]:
    """All photographs of those batches that hold a wanted one.

    What a network says of a photograph depends, in its last bits, on those that are looked at with it. So work that goes on
    looks at the same batches as work that was never stopped.

    >>> whole_batches([0, 1, 2, 3, 4, 5, 6], {4, 6}, 3)
    [3, 4, 5, 6]
    """
    only = frozenset(only)
    groups = (indices[start : start + batch_size] for start in range(0, len(indices), batch_size))
    return [index for group in groups if not only.isdisjoint(group) for index in group]


def batches(reader: Reader, batch_size: int, workers: int, pin: bool) -> Iterator[list[Item | str | None]]:
    """The photographs in order, ``batch_size`` at a time; the result does not depend on the number of workers.

    Raises:
        RunError: A reading process died.
    """
    workers = min(workers, -(-len(reader) // batch_size))
    return read_ahead(reader, workers, batch_size=batch_size, collate_fn=list, pin_memory=pin, shuffle=False)


def readable(
    groups: Iterable[list[Item | str | None]], skip_broken: bool, broken: list[str] | None
) -> Iterator[list[Item]]:
    """The batches without the photographs that could not be read; a batch without any other is left out.

    Args:
        groups: From :func:`batches`.
        skip_broken: Leave them out instead of stopping at the first.
        broken: Collects one line for each photograph left out.

    Raises:
        InputError: A photograph cannot be read.
    """
    for items in groups:
        read: list[Item] = []
        for item in items:
            if isinstance(item, Item):
                read.append(item)
            elif item is None:
                continue
            elif not skip_broken:
                raise InputError(item)
            elif broken is not None:
                broken.append(item)
        if read:
            yield read
