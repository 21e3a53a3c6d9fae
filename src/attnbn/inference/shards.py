"""Which process does which photograph: a hash of the name, so that processes share work without talking.

The share does not depend on order or on the other photographs. A run that was interrupted may therefore go on with the
same number of processes, or with another.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from attnbn.io.errors import InputError


class Shard(NamedTuple):
    """This process among all that share the work.

    Attributes:
        rank: 0 … world - 1.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1


def current_shard(
    rank: int | None = None, world: int | None = None, environment: Mapping[str, str] | None = None
) -> Shard:
    """This process's shard: as given, else as the launcher says (``RANK`` and ``WORLD_SIZE``), else the only one.

    Args:
        rank: Given together with ``world``.
        world: Number of processes.
        environment: Read instead of ``os.environ``.

    Raises:
        InputError: One of the two is missing, is no whole number, or the rank is not in 0 … world - 1.
    """
    environment = os.environ if environment is None else environment
    given = (rank, world) if (rank, world) != (None, None) else (environment.get("RANK"), environment.get("WORLD_SIZE"))
    if given == (None, None):
        return Shard()
    text = f"rank {given[0]} of {given[1]}"
    try:
        shard = Shard(int(str(given[0])), int(str(given[1])))
    except ValueError as error:
        raise InputError(f"expected a rank and a number of processes (RANK and WORLD_SIZE), got {text}") from error
    if not 0 <= shard.rank < shard.world:
        raise InputError(f"expected a rank from 0 to the number of processes less one (RANK, WORLD_SIZE), got {text}")
    return shard


def shard_of(name: str, world: int) -> int:
    """The process, 0 … world - 1, that a photograph of this name belongs to."""
    # "person" keeps it independent of the halves of the threshold's cross-fitting, also a hash of the name.
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, person=b"shard").digest()
    return int.from_bytes(digest, "big") % world


def own(names: Iterable[str], shard: Shard) -> list[int]:
    """Indices of the names that belong to the shard, in order."""
    return [index for index, name in enumerate(names) if shard_of(name, shard.world) == shard.rank]


def own_batches(images: int, batch_size: int, shard: Shard) -> list[int]:
    """Indices of every ``world``-th batch: whole ones, so that each photograph is looked at in the company it always has.

    >>> own_batches(7, 2, Shard(0, 2)), own_batches(7, 2, Shard(1, 2))
    ([0, 1, 4, 5], [2, 3, 6])
    """
    return [index for index in range(images) if index // batch_size % shard.world == shard.rank]


def remaining(
    names: Sequence[str], complete: Callable[[str], bool], shard: Shard | None = None
) -> tuple[list[int], int]:
    """What a process has still to do.

    Args:
        names: All photographs.
        complete: Whether the results of one are there.
        shard: The process's share; None: as the launcher says.

    Returns:
        Indices of the shard's names that are to do, in order; and how many of its names are done.

    >>> remaining(["a", "b", "c"], lambda name: name == "b", Shard())
    ([0, 2], 1)
    """
    mine = own(names, current_shard() if shard is None else shard)
    wanted = [index for index in mine if not complete(names[index])]
    return wanted, len(mine) - len(wanted)
