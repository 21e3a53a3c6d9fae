"""Chance that is the same everywhere: whole numbers from one counter-based generator, nothing platform-dependent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Dice:
    """A stream of draws that is a pure function of its seeds.

    Only the bit generator's raw words are used: NumPy guarantees those for ever, its distributions it does not.

    Args:
        seeds: Non-negative whole numbers.
    """

    def __init__(self, *seeds: int) -> None:
        self._bits = np.random.Philox(np.random.SeedSequence(seeds))

    def share(self) -> float:
        """A number in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) / (1 << 53)

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.share()

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + int(self.share() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.share() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def order(self, items: Sequence[T]) -> list[T]:
        """The items in a random order."""
        rest = list(items)
        return [rest.pop(self.whole(0, len(rest) - 1)) for _ in range(len(rest))]

    def grain(self, shape: tuple[int, ...]) -> NDArray[np.int32]:
        """Noise of mean about 0 in [-127, 128], bell-shaped (the mean of two bytes)."""
        count = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw((count + 3) // 4), dtype="<u8")
        pairs = words.view(np.uint8)[: 2 * count].reshape(count, 2).astype(np.int32)
        grain: NDArray[np.int32] = (pairs[:, 0] + pairs[:, 1]) // 2 - 127
        return grain.reshape(shape)
