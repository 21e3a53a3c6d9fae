"""Many strings in one block of memory, for processes that read.

A forked process shares its parent's memory until one of them writes to it, and merely looking at a Python string writes: its
count of references. Reading processes that walk through a list of a million names end with a copy of it each, however little
they change (https://github.com/pytorch/pytorch/issues/13246). A packed block is only ever read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class Packed(Sequence[str]):
    """Strings that cannot be changed, each made anew when it is asked for.

    Args:
        strings: File names and the like; bytes that are no text are kept.

    >>> Packed(["a", "bc"])[-1]
    'bc'
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = index % len(self)
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogateescape")
