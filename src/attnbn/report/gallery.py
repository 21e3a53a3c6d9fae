"""Which photographs a report shows: chosen by a rule from their figures, never by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple


class Choice(NamedTuple):
    """A photograph chosen for the gallery.

    Attributes:
        name: The photograph.
        gain: Its figure under the second model less that under the first.
        why: Its place among all photographs, in words.
    """

    name: str
    gain: float
    why: str


def choose(per_image_gains: Mapping[str, float], n: int) -> list[Choice]:
    """Take ``n`` photographs at even steps from the largest gain to the largest loss.

    So three are the best, the median and the worst, and the gallery's spread is that of the whole data set. The median
    is among them for every odd ``n``.

    Args:
        per_image_gains: Gain by name; NaN (a photograph without a figure) is left out.
        n: How many; all if there are fewer.

    Returns:
        From the largest gain to the smallest; of equal gains the name that sorts first comes first.

    Raises:
        ValueError: ``n`` is negative.

    >>> [c.name for c in choose({"a": 0.1, "b": 0.5, "c": -0.2, "d": 0.2, "e": 0.0}, 3)]
    ['b', 'a', 'c']
    """
    ranked = [(-gain, name) for name, gain in _ranked(per_image_gains, n)]
    last = len(ranked) - 1
    count = min(n, len(ranked))
    # One photograph stands for all: the median, not the best.
    places = [last // 2] if count == 1 else [round(i * last / (count - 1)) for i in range(count)]
    return [Choice(ranked[place][1], -ranked[place][0], _words(place, last, -ranked[place][0])) for place in places]


def highest(figures: Mapping[str, float], n: int) -> list[str]:
    """The ``n`` names with the highest figures, highest first.

    Args:
        figures: By name; NaN is left out.
        n: How many; all if there are fewer.

    Returns:
        Names; of equal figures the one that sorts first comes first.

    Raises:
        ValueError: ``n`` is negative.

    >>> highest({"a": 0.1, "b": 0.5, "c": float("nan"), "d": 0.5}, 2)
    ['b', 'd']
    """
    return [name for name, _ in _ranked(figures, n)[:n]]


def lowest(figures: Mapping[str, float], n: int) -> list[str]:
    """The ``n`` names with the lowest figures, lowest first; otherwise as :func:`highest`."""
    return highest({name: -value for name, value in figures.items()}, n)


def _ranked(figures: Mapping[str, float], n: int) -> list[tuple[str, float]]:
    if n < 0:
        raise ValueError(f"expected a number of photographs of at least 0, got {n}")
    known = [(name, value) for name, value in figures.items() if not math.isnan(value)]
    return sorted(known, key=lambda item: (-item[1], item[0]))


def _words(place: int, last: int, gain: float) -> str:
    if 2 * place in (last - 1, last, last + 1) and last > 1:
        return "median"
    if place == 0:
        return "largest gain" if gain > 0 else "smallest loss"
    if place == last:
        return "largest loss" if gain < 0 else "smallest gain"
    return f"larger gain than {100 * (last - place) / last:.0f} % of the images"
