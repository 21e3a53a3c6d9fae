"""VOC's layout, list by list: photographs, masks and labels that are missing, one finding each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbn.data.check.findings import Finding, Part, Problem, Severity, from_error
from attnbn.data.check.voc_lists import is_augmentable, names_of, splits_of, with_endings
from attnbn.data.classes import Selection
from attnbn.data.images import read_mask
from attnbn.data.voc_augmented import augmented_lists, augmented_notes, is_augmented
from attnbn.data.voc_labels import class_lists, from_annotations, from_lists, from_masks, read_lines
from attnbn.data.voc_layout import bare, find_root, index_pictures, mask_index, own_classes, split_lists
from attnbn.io.errors import InputError

Rows = dict[str, Tensor]
"""Name -> labels of the data set's own classes."""
_LISTS, _ANNOTATIONS, _MASKS = "ImageSets/Main", "Annotations", "the masks"
"""Where labels come from, as the reader calls it."""


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
            splits: Those wanted; empty: all that it lists, or ``all`` where it has no list. ``train_aug`` may also be made of VOC
                and SBD, but then only by name: most of it is in ``val`` of ``Main``, on which nobody measures beside it.

        Raises:
            InputError: Another layout, or a split that it does not have.
        """
        root = find_root(path)
        have = splits_of(root)
        for split in splits:
            if split in (*have, "all"):
                continue
            if not is_augmented(split):
                formed = ["train_aug"] if not any(map(is_augmented, have)) and is_augmentable(root) else []
                names = ", ".join([*have, *formed, "all"])
                raise InputError(f"no split {split!r}; splits here: {names}: {root / 'ImageSets'}")
            augmented_lists(root)  # says what it is made of, where that is not there
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
        """Whether a split has a list of ``Segmentation``, whose photographs are to have masks; of train_aug none is read."""
        return not is_augmented(split) and (self.root / "ImageSets" / "Segmentation" / f"{split}.txt").is_file()

    def part(self, split: str, selection: Selection) -> tuple[Part, list[Finding]]:
        """A split with every photograph that any of its lists names.

        Args:
            split: One of ``splits``.
            selection: Of its own classes.

        Returns:
            The split without the names that have no file, and what is missing from it.
        """
        problems: list[Problem] = []
        with_masks, others = names_of(self.root, split, self.photos)
        if with_masks and not self.complete and any(map(is_augmented, self.splits)):
            others = []  # beside train_aug one measures on lists of Segmentation: those of Main share photographs with it
        listed = list(dict.fromkeys([*others, *with_masks]))
        if is_augmented(split):
            lists = split_lists(self.root, split, with_masks=False)
            notes = augmented_notes(self.root, lists, listed)
            problems += [Problem("train-aug", str(lists[-1]), "", note, "", "note") for note in notes]
        self._listed.update(listed, (bare(name, self.photos) for name in listed))
        names = [name for name in listed if name in self.photos]
        ended = list(with_endings(self.root, split, self.own, listed, self.photos))
        problems += ended
        problems += [
            self._no_photograph(name) for name in listed if name not in self.photos and not bare(name, self.photos)
        ]
        if not listed:
            place = str(self.root / "ImageSets")
            problems.append(
                Problem("split-empty", place, f"photographs in the split {split!r}", "an empty list", "fill it")
            )
        problems += self._missing_masks([name for name in with_masks if name in self.photos])
        rows, origins, unlabelled = self._labels(split, names, selection, damaged=bool(ended))
        problems += unlabelled
        # lists of unused classes are not read: without any of the wanted ones a photograph is not used either
        kept = [name for name in names if name not in rows or bool((rows[name] != 0).any())]
        table = torch.full((len(kept), len(selection.classes)), torch.nan)
        for i, name in enumerate(kept):
            if name in rows:
                table[i] = rows[name]
        images = [self.root / "JPEGImages" / self.photos[name] for name in kept]
        masks = [self.root / self.masks[name] if name in self.masks else None for name in kept]
        part = Part(
            self.spec, split, selection, kept, table, images, masks, labels_from=_counted(origins),
            left_out=len(names) - len(kept),
        )  # fmt: skip
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

    def _labels(
        self, split: str, names: list[str], selection: Selection, *, damaged: bool
    ) -> tuple[Rows, Counter[str], list[Problem]]:
        """Labels from the first place that has a photograph's: the lists of classes, its annotation, its mask.

        Args:
            split: The split.
            names: Its photographs.
            selection: Of its own classes.
            damaged: Something is wrong with its lists.

        Returns:
            The rows, of how many photographs each place gave them, and what is wrong.
        """
        problems: list[Problem] = []
        rows, lacking = self._from_lists(split, names, selection, problems)
        origins = Counter({_LISTS: len(rows)})
        damaged = damaged or bool(problems)  # then what the lists would have said is not known, and not missing
        problems += self._without_any(split, [name for name, row in rows.items() if not bool((row != 0).any())])
        without = []
        for name in names:
            if name not in rows:
                row, origin = self._of_file(split, name, problems)
                if row is not None:
                    rows[name] = row
                    origins[origin] += 1
                elif not origin and not damaged:
                    without.append(name)
        problems += self._unlabelled(split, without, lacking, everything=len(without) == len(names))
        return {name: _to_run(row, selection) for name, row in rows.items()}, +origins, problems

    def _unlabelled(self, split: str, names: list[str], lacking: str, *, everything: bool) -> Iterator[Problem]:
        """Photographs without a label: one by one, or all together where the reason is a list that is missing."""
        others = any((self.root / "ImageSets" / "Main" / f"{label}_{split}.txt").is_file() for label in self.own)
        if names and lacking and (others or (everything and len(names) > 1)):
            reasons = [lacking, *(self._lacks(split, names[0]))]
            many = f" ({len(names):,} photographs without)" if len(names) > 1 else ""
            yield Problem("label-missing", str(self.root), "a label for every photograph", "; ".join(reasons) + many,
                          "add the list or label them" if others else "label them", files=len(names))  # fmt: skip
            return
        yield from map(self._no_label, names)

    def _no_label(self, name: str, severity: Severity = "error") -> Problem:
        file = str(self.root / "JPEGImages" / self.photos[name])
        return Problem("label-missing", file, "at least one class", "none in lists, annotation or mask",
                       "label it or take it out of the split", severity)  # fmt: skip

    def _without_any(self, split: str, names: list[str]) -> Iterator[Problem]:
        """Warnings for photographs with none of the wanted classes that have none of the data set's others either.

        A training leaves them out like those of other classes. Where nothing tells of the others, nothing is said.
        """
        elsewhere: list[Problem] = []  # wrong with what a training does not read
        rows, _ = self._list_rows(split, names, self.own, elsewhere)
        for name in names:
            told = name in rows or (self.root / "Annotations" / f"{name}.xml").is_file()
            if not told or (name in rows and bool((rows[name] != 0).any())):
                continue
            row, origin = self._of_file(split, name, elsewhere)
            if row is None and not origin:
                yield self._no_label(name, "warning")

    def _lacks(self, split: str, name: str) -> Iterator[str]:
        """Why neither annotation nor mask labels a photograph, in the readers' words."""
        for origin, read in self._readers(split, name).items():
            row = read()
            yield row if isinstance(row, str) else f"no object for {name} in {origin}"

    def _from_lists(
        self, split: str, names: list[str], selection: Selection, problems: list[Problem]
    ) -> tuple[Rows, str]:
        """Rows of the photographs that every wanted class's list names; with all classes wanted, only those with a class.

        Returns:
            The rows, and in the reader's words the list that is missing.
        """
        needed = [label for label, place in zip(self.own, selection.index, strict=True) if place is not None]
        rows, lacking = self._list_rows(split, names, needed, problems)
        return {name: row for name, row in rows.items() if selection.is_subset or bool((row != 0).any())}, lacking

    def _list_rows(
        self, split: str, names: list[str], needed: Sequence[str], problems: list[Problem]
    ) -> tuple[Rows, str]:
        """Rows of the photographs that the lists of all needed classes name, and the list that is missing."""
        folder = self.root / "ImageSets" / "Main"
        # as the reader: VOC's lists have other splits' names
        split = "all" if is_augmented(split) else split
        covered = set(names)
        try:
            for label in needed:
                files = class_lists(folder, label) if split == "all" else [folder / f"{label}_{split}.txt"]
                if not files or not all(file.is_file() for file in files):
                    missing = from_lists(self.root, split, [], self.own, [label])
                    return {}, missing if isinstance(missing, str) else ""
                covered &= {line.rsplit(maxsplit=1)[0] for file in files for line in read_lines(file) if line}
            chosen = [name for name in names if name in covered]
            table = from_lists(self.root, split, chosen, self.own, needed) if chosen else ""
        except InputError as error:
            problems.append(from_error("label-file", error, folder))
            return {}, ""
        return ({} if isinstance(table, str) else dict(zip(chosen, table, strict=True))), ""

    def _of_file(self, split: str, name: str, problems: list[Problem]) -> tuple[Tensor | None, str]:
        """The row from a photograph's annotation or mask, and which; no row but a text where one of them is damaged."""
        for origin, read in self._readers(split, name).items():
            try:
                row = read()
            except InputError as error:
                if origin == _ANNOTATIONS:  # a damaged mask is found when it is looked at
                    file = self.root / "Annotations" / f"{name}.xml"
                    problems.append(from_error("label-file", error, file))
                return None, str(error)
            if isinstance(row, Tensor) and bool((row != 0).any()):
                return row[0], origin
        return None, ""

    def _readers(self, split: str, name: str) -> dict[str, Callable[[], Tensor | str]]:
        """What labels one photograph, besides lists; of train_aug no mask does."""

        def mask(name: str) -> NDArray[np.uint8] | None:
            if name not in self.masks:
                return None
            pixels: NDArray[np.uint8] = read_mask(self.root / self.masks[name], len(self.own)).numpy()
            return pixels

        readers: dict[str, Callable[[], Tensor | str]] = {
            _ANNOTATIONS: lambda: from_annotations(self.root, [name], self.own)
        }
        if not is_augmented(split):
            readers[_MASKS] = lambda: from_masks([name], len(self.own), mask)
        return readers


def _counted(origins: Counter[str]) -> str:
    """Where labels come from, with counts where that is more than one place."""
    if len(origins) < 2:
        return "".join(origins)
    return ", ".join(f"{origin} ({number:,})" for origin, number in origins.items())


def _to_run(own: Tensor, selection: Selection) -> Tensor:
    """A row of the data set's classes as one of the run's; 1 wins over unknown, unknown over 0."""
    row = torch.zeros(len(selection.classes))
    for value, place in zip(own, selection.index, strict=True):
        if place is not None:
            row[place] = 1.0 if value == 1 or row[place] == 1 else row[place] + value
    return row
