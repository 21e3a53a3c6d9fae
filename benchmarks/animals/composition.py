"""What the bench consists of: the names of its images and, for each, what is known without seeing it."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attnbn.data.voc_labels import read_lines
from attnbn.io.errors import InputError

ANIMALS = ("cat", "cow", "dog", "horse", "sheep")
SPLITS = ("train", "dev")
MASKED = "dev"
"""The one split that has masks."""
LISTS = Path(__file__).parent / "lists"


@dataclass(frozen=True)
class Facts:
    """What an image of the bench must be.

    Attributes:
        size: ``(width, height)`` in pixels.
        labels: Its classes, of VOC's twenty (of the five animals for the source).
        mask: Ids in its mask other than 0; empty where it has none.
    """

    size: tuple[int, int]
    labels: frozenset[str]
    mask: frozenset[int]


@dataclass(frozen=True)
class Composition:
    """The bench.

    Attributes:
        splits: Split -> VOC ids, in order.
        source: ``class/name`` of each source image, in order.
        facts: Name -> facts, for all of them.
    """

    splits: dict[str, tuple[str, ...]]
    source: tuple[str, ...]
    facts: dict[str, Facts]

    @property
    def targets(self) -> tuple[str, ...]:
        """The VOC ids of all splits."""
        return tuple(name for names in self.splits.values() for name in names)


def read_composition(folder: Path = LISTS) -> Composition:
    """Read ``train.txt``, ``dev.txt``, ``source.txt`` and ``facts.csv``.

    Raises:
        InputError: A list that is missing or names an image twice, or an image without facts.
    """
    splits = {split: _names(folder / f"{split}.txt") for split in SPLITS}
    composition = Composition(splits, _names(folder / "source.txt"), _facts(folder / "facts.csv"))
    names = composition.targets + composition.source
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"expected each image once, got {twice!r} twice; take one out of the lists: {folder}")
    unknown = next((name for name in names if name not in composition.facts), None)
    if unknown is not None:
        raise InputError(f"expected size and labels of every image, found none of {unknown!r}: {folder / 'facts.csv'}")
    return composition


def _names(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        raise InputError(f"expected a list of image names, found no file; check --lists: {file}")
    return tuple(line for line in read_lines(file) if line)


def _facts(file: Path) -> dict[str, Facts]:
    if not file.is_file():
        raise InputError(f"expected sizes and labels of the images, found no file; check --lists: {file}")
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    try:
        return {
            row["name"]: Facts(
                (int(row["width"]), int(row["height"])),
                frozenset(row["labels"].split()),
                frozenset(map(int, row["mask"].split())),
            )
            for row in rows
        }
    except (KeyError, ValueError, AttributeError):
        raise InputError(f"expected rows name,width,height,labels,mask, got others: {file}") from None
