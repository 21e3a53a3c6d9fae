"""Photographs from a data set, resized to what the network sees, in batches, read by this process or by others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from attnbn.data.dataset import ImageDataset
from attnbn.data.transforms import eval_transform
from attnbn.io.errors import InputError, RunError


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


class Reader(Dataset["Item | str"]):
    """Reads and resizes; a photograph that cannot be read becomes its message.

    An exception would cross from a worker wrapped in that worker's traceback, and end the worker's stream.

    Args:
        dataset: The photographs.
        sides: Of the squares that the whole photograph is resized to, each from the photograph itself.
        indices: Which photographs.
    """

    def __init__(self, dataset: ImageDataset, sides: Sequence[int], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.transforms = [eval_transform(side) for side in sides]
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Item | str:
        try:
            sample = self.dataset[self.indices[position]]
        except InputError as error:
            return str(error)
        height, width = sample.image.shape[-2:]
        images = [transform(sample).image.as_subclass(Tensor) for transform in self.transforms]
        mask, labels = (None if t is None else t.as_subclass(Tensor) for t in (sample.mask, sample.labels))
        return Item(sample.name, images, (height, width), mask, labels)


def batches(reader: Reader, batch_size: int, workers: int, pin: bool) -> Iterator[list[Item | str]]:
    """The photographs in order, ``batch_size`` at a time; the result does not depend on the number of workers.

    Raises:
        RunError: A reading process died.
    """
    # An own generator: the loader would otherwise draw a seed from the global one.
    generator = torch.Generator().manual_seed(0)
    workers = min(workers, -(-len(reader) // batch_size))
    loader = DataLoader(
        reader, batch_size, num_workers=workers, collate_fn=list, generator=generator, pin_memory=pin, shuffle=False
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or isinstance(error, RunError):
            raise
        raise RunError("a process that reads photographs died (too little memory?): use fewer --workers") from error


def readable(groups: Iterable[list[Item | str]], skip_broken: bool, broken: list[str] | None) -> Iterator[list[Item]]:
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
            elif not skip_broken:
                raise InputError(item)
            elif broken is not None:
                broken.append(item)
        if read:
            yield read
