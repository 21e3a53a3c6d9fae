"""What is left when a process has done its share: whichever of several ends last finds nothing left, and sums up.

No process waits for another or speaks to it. Each looks at the files when it ends, after it has written its own; so the one
that looks last sees all of them, on whatever machine they were made. A process that was stopped leaves its photographs
undone, nobody sums up, and the same command again does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from attnbn.inference.saliency_summary import read_left_out, write_left_out
from attnbn.inference.shards import Shard, shard_of


class Left(NamedTuple):
    """What a process that has done its share finds undone.

    Attributes:
        missing: Photographs that other processes have still to do.
        broken: By name, in the photographs' order, why one could not be read, by whichever process; complete once ``missing``
            is 0.
    """

    missing: int
    broken: dict[str, str]


def by_name(names: Sequence[str], complete: Callable[[str], bool], broken: Sequence[str]) -> dict[str, str]:
    """Which photographs the lines on unreadable ones are about.

    Args:
        names: What this process was to do, in the order in which it was done.
        complete: Whether the results of one are there.
        broken: A line for each that is not, in the same order.

    >>> by_name(["a", "b", "c"], lambda name: name != "b", ["b is no picture"])
    {'b': 'b is no picture'}
    """
    without = [name for name in names if not complete(name)] if broken else []
    return dict(zip(without, broken, strict=True))


def look_round(
    folder: Path,
    names: Sequence[str],
    complete: Callable[[str], bool],
    digest: str,
    shard: Shard,
    broken: Mapping[str, str],
) -> Left:
    """Look at what all processes have done; to be called when this one has written all of its own.

    Args:
        folder: Of the results.
        names: All photographs, whatever the shard.
        complete: Whether the results of one are there; asked of other processes' photographs alone.
        digest: Of what makes the results.
        shard: This process.
        broken: By name, why photographs of its own could not be read; the others are told.
    """
    if folder.is_dir() or (broken and shard.world > 1):
        write_left_out(folder, shard, digest, broken)
    if shard.world == 1:
        return Left(0, dict(broken))
    known = {**read_left_out(folder, digest), **broken}
    others = (name for name in names if shard_of(name, shard.world) != shard.rank)
    undone = set(broken).union(name for name in others if not complete(name))
    lines = {name: known[name] for name in names if name in undone and name in known}
    return Left(len(undone) - len(lines), lines)
