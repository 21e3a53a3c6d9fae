"""Endless shuffled streams whose every sample is a pure function of (seed, stream, j).

Sample ``j`` of a stream is item ``permutation(epoch)[j mod n]`` under the augmentation seed of ``j``; both are hashes. So the
result does not depend on the number of loader processes, and resuming at step k is starting the sampler at step k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from attnbn.data.readers import read_ahead
from attnbn.io.errors import InputError


def fold(*parts: object) -> int:
    """A seed in [0, 2^63) from any parts, the same on every machine and in every process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@lru_cache(maxsize=8)
def _permutation(seed: int, name: str, epoch: int, length: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(fold(seed, name, "order", epoch))).permutation(length)


def item_of(seed: int, name: str, j: int, length: int) -> int:
    """Which item sample ``j`` of stream ``name`` is: each epoch is a permutation of its own."""
    epoch, place = divmod(j, length)
    return int(_permutation(seed, name, epoch, length)[place])


def augmentation_seed(seed: int, name: str, j: int) -> int:
    """The seed under which sample ``j`` is augmented."""
    return fold(seed, name, "augment", j)


class _Seeded(Dataset[Any]):
    """Index j of the stream -> the transformed item."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, j: int) -> Any:
        stream = self.stream
        try:
            item = stream.dataset[item_of(stream.seed, stream.name, j, stream.length)]
        except InputError as error:
            # as a value: an exception would come from a loader process wrapped in that process's traceback
            return _Unreadable(str(error))
        return stream.transform(item, augmentation_seed(stream.seed, stream.name, j))


@dataclass(frozen=True)
class _Unreadable:
    """An item that could not be read, and why."""

    message: str


class _Collate:
    """The stream's own collating, unless an item could not be read."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        return next((item for item in items if isinstance(item, _Unreadable)), None) or self.collate(items)


class _Steps(Sampler[list[int]]):
    """For each step from ``start`` to ``stop``, this process's samples of the global batch, in so many parts."""

    def __init__(self, start: int, stop: int, batch: int, rank: int, world: int, parts: int) -> None:
        self.start, self.stop, self.parts = start, stop, parts
        self.batch, self.rank, self.share = batch, rank, batch // world

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.stop):
            first = step * self.batch + self.rank * self.share
            size = self.share // self.parts
            for part in range(self.parts):
                yield list(range(first + part * size, first + (part + 1) * size))

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts


class Stream:
    """One domain's endless supply of batches.

    Args:
        name: Part of every seed; two streams of one data set differ by it.
        dataset: Items by index.
        transform: ``(item, seed) -> transformed item``, a pure function.
        collate: List of transformed items -> batch.
        seed: The run's.
        batch_size: Over all processes.

    Raises:
        InputError: for a data set without items.
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        transform: Callable[[Any, int], Any],
        collate: Callable[[list[Any]], Any],
        *,
        seed: int,
        batch_size: int,
    ) -> None:
        self.name, self.dataset, self.transform, self.collate = name, dataset, transform, collate
        self.seed, self.batch_size = seed, batch_size
        self.length = len(dataset)
        if not self.length:
            raise InputError(f"expected at least one image in the {name} data, found none")

    @cached_property
    def data(self) -> dict[str, int | str]:
        """What tells its items from others: how many they are, and a digest of their names in order."""
        names = "\n".join(getattr(self.dataset, "names", ())).encode("utf-8", "surrogateescape")
        return {"images": self.length, "names": hashlib.blake2b(names, digest_size=16).hexdigest()}

    def batches(
        self,
        start: int,
        stop: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin: bool = False,
        parts: int = 1,
    ) -> Generator[Any, None, None]:
        """This process's batches of steps ``start`` to ``stop - 1``, each in ``parts`` smaller ones.

        Raises:
            InputError: if the batch cannot be divided among the processes, or an item cannot be read.
            RunError: if a loader process died.
        """
        check_shares(self.batch_size, world, parts)
        for batch in read_ahead(
            _Seeded(self),
            workers,
            batch_sampler=_Steps(start, stop, self.batch_size, rank, world, parts),
            collate_fn=_Collate(self.collate),
            pin_memory=pin,
        ):
            if isinstance(batch, _Unreadable):
                raise InputError(batch.message)
            yield batch


def check_shares(batch_size: int, world: int, parts: int) -> None:
    """Refuse a batch that cannot be divided among the processes, or into the parts of ``training.accumulate``.

    Raises:
        InputError: naming the three numbers.
    """
    if batch_size % (world * parts):
        each = f" times {parts} parts (training.accumulate)" if parts > 1 else ""
        raise InputError(f"expected training.batch_size divisible by {world} processes{each}, got {batch_size}")
