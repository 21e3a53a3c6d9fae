"""VOC's layout, list by list: photographs, masks and labels that are missing, one finding each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbn.data.check.findings import Finding, Part, Problem, from_error
from attnbn.data.classes import Selection
from attnbn.data.images import read_mask
from attnbn.data.voc_labels import class_lists, from_annotations, from_lists, from_masks, read_lines
from attnbn.data.voc_layout import find_root, index_pictures, mask_index, own_classes
from attnbn.io.errors import InputError

Rows = dict[str, Tensor]
"""Name -> labels of the data set's own classes."""


@dataclass
class Voc:
    """A data set in VOC's layout, opened by :meth:`find` and :meth:`index`.

    Attributes:
        spec: The data set as it was named.
        root: The folder that holds ``JPEGImages``.
        splits: The splits to check.
        complete: Whether these are all that it has.
        own: Its own classes.
        photos: Name -> file in ``JPEGImages``.
        masks: Name -> mask, relative to the root.
    """

    spec: str
    root: Path
    splits: list[str]
    complete: bool
    own: tuple[str, ...] = ()
    photos: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    _listed: set[str] = field(default_factory=set)

    @classmethod
    def find(cls, spec: str, path: Path, splits: Sequence[str]) -> Voc:
        """Find the data set and its splits.

        Args:
            spec: As it was named.
            path: The folder that holds ``JPEGImages``, or a parent.
            splits: Those wanted; empty: all that it lists, or ``all`` where it has no list.

        Raises:
            InputError: Another layout, or a split that it does not have.
        """
        root = find_root(path)
        have = _splits(root)
        unknown = [split for split in splits if split not in (*have, "all")]
        if unknown:
            raise InputError(f"no split {unknown[0]!r}; splits here: {', '.join([*have, 'all'])}: {root / 'ImageSets'}")
        return cls(spec, root, list(dict.fromkeys(splits)) or have or ["all"], complete=not splits and bool(have))

    def index(self) -> None:
        """List classes, photographs and masks.

        Raises:
            InputError: A damaged ``classes.txt``, or two files of one name.
        """
        self.own = own_classes(self.root)
        self.photos = index_pictures(self.root / "JPEGImages")
        self.masks = mask_index(self.root)

    def lists_masks(self, split: str) -> bool:
        """Whether a split has a list of ``Segmentation``, whose photographs are to have masks."""
        return (self.root / "ImageSets" / "Segmentation" / f"{split}.txt").is_file()

    def part(self, split: str, selection: Selection) -> tuple[Part, list[Finding]]:
        """A split with every photograph that any of its lists names.

        Args:
            split: One of ``splits``.
            selection: Of its own classes.

        Returns:
            The split without the names that have no file, and what is missing from it.
        """
        problems: list[Problem] = []
        with_masks, others = _names_of(self.root, split, self.photos)
        listed = list(dict.fromkeys([*others, *with_masks]))
        self._listed.update(listed)
        names = [name for name in listed if name in self.photos]
        problems += [self._no_photograph(name) for name in listed if name not in self.photos]
        if not listed:
            place = str(self.root / "ImageSets")
            problems.append(
                Problem("split-empty", place, f"photographs in the split {split!r}", "an empty list", "fill it")
            )
        problems += self._missing_masks([name for name in with_masks if name in self.photos])
        rows, unlabelled = self._labels(split, names, selection)
        problems += unlabelled
        # lists of unused classes are not read: without any of the wanted ones a photograph is not used either
        kept = [name for name in names if name not in rows or bool((rows[name] != 0).any())]
        table = torch.full((len(kept), len(selection.classes)), torch.nan)
        for i, name in enumerate(kept):
            if name in rows:
                table[i] = rows[name]
        images = [self.root / "JPEGImages" / self.photos[name] for name in kept]
        masks = [self.root / self.masks[name] if name in self.masks else None for name in kept]
        part = Part(self.spec, split, selection, kept, table, images, masks)
        return part, [part.finding(problem) for problem in problems]

    def leftovers(self) -> list[Finding]:
        """Files that no list names, counted."""
        found = []
        if self.complete and (loose := [name for name in self.photos if name not in self._listed]):
            file = str(self.root / "JPEGImages" / self.photos[loose[0]])
            found.append(Finding("note", "unlisted", self.spec, None, file, "photographs that a split lists",
                                 f"{len(loose):,} in none", "only the split all uses them", len(loose)))  # fmt: skip
        if lone := [name for name in self.masks if name not in self.photos]:
            file = str(self.root / self.masks[lone[0]])
            found.append(Finding("warning", "mask-unused", self.spec, None, file, "a photograph for every mask",
                                 f"{len(lone):,} without", "a name may be mistyped", len(lone)))  # fmt: skip
        return found

    def _no_photograph(self, name: str) -> Problem:
        file = f"{self.root / 'JPEGImages' / name}.jpg"
        return Problem(
            "image-missing", file, "a photograph for every name of a list", "none", "add it or take the name out"
        )

    def _missing_masks(self, names: list[str]) -> Iterator[Problem]:
        """A list of ``Segmentation`` of which no photograph has a mask is taken for one that is to have none."""
        missing = [name for name in names if name not in self.masks]
        if missing and len(missing) == len(names):
            yield Problem("mask-missing", str(self.root / "ImageSets" / "Segmentation"), "masks of a split listed there",
                          f"none for {len(names):,} photographs", "without, no threshold is chosen and no mIoU measured on it",
                          "note")  # fmt: skip
            return
        for name in missing:
            file = f"{self.root / 'SegmentationClass' / name}.png"
            yield Problem("mask-missing", file, "a mask for every name of a list of Segmentation", "none",
                          "add it or take the name out")  # fmt: skip

    def _labels(self, split: str, names: list[str], selection: Selection) -> tuple[Rows, list[Problem]]:
        """Labels from the first place that has a photograph's: the lists of classes, its annotation, its mask."""
        problems: list[Problem] = []
        rows = self._from_lists(split, names, selection, problems)
        damaged = bool(problems)  # then what the lists would have said is not known, and not missing
        for name in names:
            if name not in rows:
                row = self._of_file(name, problems)
                if isinstance(row, Tensor):
                    rows[name] = row
                elif row is None and not damaged:
                    file = str(self.root / "JPEGImages" / self.photos[name])
                    problems.append(Problem("label-missing", file, "at least one class", "none in lists, annotation or mask",
                                            "label it or take it out of the split"))  # fmt: skip
        return {name: _to_run(row, selection) for name, row in rows.items()}, problems

    def _from_lists(self, split: str, names: list[str], selection: Selection, problems: list[Problem]) -> Rows:
        """Rows of the photographs that every class's list names; with all classes wanted, only those with a class."""
        folder = self.root / "ImageSets" / "Main"
        needed = [label for label, place in zip(self.own, selection.index, strict=True) if place is not None]
        covered = set(names)
        try:
            for label in needed:
                files = class_lists(folder, label) if split == "all" else [folder / f"{label}_{split}.txt"]
                if not all(file.is_file() for file in files):
                    return {}
                covered &= {line.rsplit(maxsplit=1)[0] for file in files for line in read_lines(file) if line}
            chosen = [name for name in names if name in covered]
            table = from_lists(self.root, split, chosen, self.own, needed) if chosen else ""
        except InputError as error:
            problems.append(from_error("label-file", error, folder))
            return {}
        if isinstance(table, str):
            return {}
        return {
            name: row for name, row in zip(chosen, table, strict=True) if selection.is_subset or bool((row != 0).any())
        }

    def _of_file(self, name: str, problems: list[Problem]) -> Tensor | str | None:
        """The row from a photograph's annotation or mask; a text where one is damaged, None where there is none."""

        def mask(name: str) -> NDArray[np.uint8] | None:
            if name not in self.masks:
                return None
            pixels: NDArray[np.uint8] = read_mask(self.root / self.masks[name], len(self.own)).numpy()
            return pixels

        readers: list[Callable[[], Tensor | str]] = [
            lambda: from_annotations(self.root, [name], self.own),
            lambda: from_masks([name], len(self.own), mask),
        ]
        for read in readers:
            try:
                row = read()
            except InputError as error:
                if read is readers[0]:  # a damaged mask is found when it is looked at
                    file = self.root / "Annotations" / f"{name}.xml"
                    problems.append(from_error("label-file", error, file))
                return str(error)
            if isinstance(row, Tensor) and bool((row != 0).any()):
                return row[0]
        return None


def _splits(root: Path) -> list[str]:
    """The splits that ``ImageSets`` lists, by any of its lists."""
    sets = root / "ImageSets"
    try:
        own = own_classes(root)
    except InputError:
        own = ()
    per_class = {file for label in own for file in class_lists(sets / "Main", label)}
    named = {file.stem for file in sets.glob("Segmentation/*.txt")}
    named |= {file.stem for file in sets.glob("Main/*.txt") if file not in per_class}
    return sorted(named | {file.stem.rpartition("_")[2] for file in per_class})


def _names_of(root: Path, split: str, photos: dict[str, str]) -> tuple[list[str], list[str]]:
    """Names in the list of ``Segmentation``, and in those of ``Main`` (of the classes, where there is no other)."""
    sets = root / "ImageSets"
    segmentation, main = sets / "Segmentation" / f"{split}.txt", sets / "Main" / f"{split}.txt"
    if split == "all" and not segmentation.is_file() and not main.is_file():
        return [], list(photos)
    labels = own_classes(root)
    files = [main] if main.is_file() else [sets / "Main" / f"{label}_{split}.txt" for label in labels]
    others = [name for file in files if file.is_file() for name in _listed(file, photos)]
    return (list(_listed(segmentation, photos)) if segmentation.is_file() else []), others


def _listed(file: Path, photos: dict[str, str]) -> Iterator[str]:
    """Names in a list: ``name``, ``name -1``, or ``/JPEGImages/name.jpg ...``."""
    for line in read_lines(file):
        if line:
            first = line if line in photos else line.split()[0]
            yield PurePosixPath(first).stem if "/" in first and first not in photos else first


def _to_run(own: Tensor, selection: Selection) -> Tensor:
    """A row of the data set's classes as one of the run's; 1 wins over unknown, unknown over 0."""
    row = torch.zeros(len(selection.classes))
    for value, place in zip(own, selection.index, strict=True):
        if place is not None:
            row[place] = 1.0 if value == 1 or row[place] == 1 else row[place] + value
    return row
