"""What a folder's saliency maps are like, and which of them a person should look at before they teach anything.

Each map's file carries its own figures, so that whichever of several processes ends last sums up all of them from the files'
heads. Each process leaves a list of the photographs that it could not read, for the same purpose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from attnbn.inference.claim import read_manifest
from attnbn.inference.shards import Shard
from attnbn.io.atomic import explained, write_json

SUMMARY = "summary.json"
"""Written when all photographs have their maps."""

DIGEST_KEY, FIGURES_KEY = "attnbn", "attnbn-figures"
"""Of the texts in each map's file: what made it, and its figures."""

Doubt = Literal["nothing", "everything", "borders", "undecided"]
"""Why a map is doubtful; :func:`doubt` says which means what."""

LITTLE, MUCH, ALONG, GREY = 0.005, 0.8, 0.25, 0.4
"""Shares of pixels. An object covers more than the first and less than the second of its photograph; what covers more than
the third of each of the four borders is rather the ground; and a map that is neither black nor white over more than the
fourth has not found anything in particular. Of 1,000 web photographs of one animal, U²-Net-p's maps pass all four."""


class MapFigures(NamedTuple):
    """A map in figures.

    Attributes:
        mean: Of its values, in [0, 1].
        above: Share of pixels of at least one half.
        borders: The same along each of the four borders, the smallest of the four.
        grey: Share of pixels between 0.2 and 0.8.
        spread: Largest value less the smallest.
    """

    mean: float
    above: float
    borders: float
    grey: float
    spread: float


@dataclass(frozen=True)
class Summary:
    """All maps of a folder.

    Attributes:
        figures: By name, in the photographs' order.
        left_out: A line for each photograph that could not be read.
    """

    figures: Mapping[str, MapFigures]
    left_out: Sequence[str]

    def doubtful(self) -> dict[Doubt, list[str]]:
        """Names by reason; in each the most doubtful first."""
        found: dict[Doubt, list[str]] = {reason: [] for reason in get_args(Doubt)}
        for name, one in self.figures.items():
            if reason := doubt(one):
                found[reason].append(name)
        found["nothing"].sort(key=lambda name: self.figures[name].mean)
        found["everything"].sort(key=lambda name: -self.figures[name].above)
        found["borders"].sort(key=lambda name: -self.figures[name].borders)
        found["undecided"].sort(key=lambda name: -self.figures[name].grey)
        return found

    def as_json(self) -> dict[str, Any]:
        """For :data:`SUMMARY`: counts, means over the maps, names of the doubtful ones, lines on the photographs left out."""
        values = np.array(list(self.figures.values()), dtype=np.float64)
        mean, above, *_ = values.mean(0).tolist()
        return {
            "maps": len(self.figures),
            "mean": mean,
            "above": above,
            "doubtful": self.doubtful(),
            "left_out": list(self.left_out),
        }


def doubt(figures: MapFigures) -> Doubt | None:
    """Why a map is doubtful, by :data:`LITTLE` and the other shares.

    ``nothing`` stands out, nearly ``everything`` does, what does runs along all ``borders``, or the map is ``undecided``.

    >>> doubt(MapFigures(mean=0.1, above=0.0, borders=0.0, grey=0.0, spread=0.4))
    'nothing'
    """
    if figures.above < LITTLE:
        return "nothing"
    if figures.above > MUCH:
        return "everything"
    if figures.borders > ALONG:
        return "borders"
    return "undecided" if figures.grey > GREY else None


def figures_of(pixels: NDArray[np.uint8]) -> MapFigures:
    """The figures of a map as it stands in its file, uint8 ``H×W``."""
    high = pixels >= 128
    borders = min(float(line.mean()) for line in (high[0], high[-1], high[:, 0], high[:, -1]))
    spread = int(pixels.max()) - int(pixels.min())
    # rounded as they are stored: what sums them up must not depend on which process made the map, and when
    grey = float(((pixels > 51) & (pixels < 204)).mean())
    values = (float(pixels.mean()) / 255, float(high.mean()), borders, grey, spread / 255)
    return MapFigures(*(round(value, 6) for value in values))


def figures_text(figures: MapFigures) -> str:
    """The figures as they stand in a map's file."""
    return json.dumps(figures)


def read_figures(path: Path, digest: str) -> MapFigures | None:
    """The figures of a map, from its file's head; None where it is missing, broken or made by something else.

    Args:
        path: The file.
        digest: Of what is to have made it.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.info.get(DIGEST_KEY) != digest:
                return None
            try:
                return MapFigures(*json.loads(picture.info[FIGURES_KEY]))
            except (KeyError, TypeError, ValueError, RecursionError):  # written before maps had any, or by another hand
                return figures_of(np.asarray(picture.convert("L")))
    except (OSError, UnidentifiedImageError):
        return None


def write_left_out(folder: Path, shard: Shard, digest: str, lines: Mapping[str, str]) -> None:
    """Leave word for the process that sums up.

    Args:
        folder: Of the maps.
        shard: This process; the only one needs no such files, and removes those of several, and what a killed one had begun to
            write of the files that sum up.
        digest: Of what makes the maps.
        lines: By name, why a photograph could not be read.
    """
    path = folder / f".left-out.{shard.rank}-of-{shard.world}.json"
    if shard.world > 1 and (lines or path.exists()):
        write_json(path, {"digest": digest, "left_out": dict(lines)})
    elif shard.world == 1:
        for stale in chain(folder.glob(".left-out.*.json"), folder.glob(".*.part")):
            with explained(stale):
                stale.unlink(missing_ok=True)


def read_left_out(folder: Path, digest: str) -> dict[str, str]:
    """What all processes left word of, by name."""
    lines: dict[str, str] = {}
    for path in sorted(folder.glob(".left-out.*.json")):
        word = read_manifest(path) or {}
        if word.get("digest") == digest and isinstance(word.get("left_out"), dict):
            lines |= word["left_out"]
    return lines
