"""What the data check speaks of: a split as it lies on disk, and a finding about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from attnbn.data.classes import Selection
from attnbn.data.dataset import ImageDataset
from attnbn.data.photos import PhotoDataset
from attnbn.io.errors import InputError
from attnbn.io.text import one_line

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From worst to mildest. An error stops a training or falsifies its figures; a warning does neither, but may well be a
mistake; a note is worth knowing."""

_FAILED = (", may ", ", could not ")
"""How a message goes on after what was expected, where nothing came because reading failed."""
_UNIONS = frozenset(("trainval", "all"))
"""Splits that are made of others, by their customary names."""
_EVALUATION = frozenset(("val", "valid", "validation", "dev", "minival", "test", "testing"))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data, or worth knowing.

    Attributes:
        severity: See :data:`SEVERITIES`.
        kind: A short name, the same for all findings of one sort, e.g. ``mask-size``.
        dataset: The data set as it was named, e.g. ``voc:data/VOC2012``.
        split: Its split; None where it has none, or where the finding concerns all of them.
        file: The file, or what stands for it.
        expected: What was expected there.
        got: What came.
        remedy: What to do about it.
        files: How many files it stands for.
        other: The second file of a pair, with its data set.
    """

    severity: Severity
    kind: str
    dataset: str
    split: str | None
    file: str
    expected: str
    got: str
    remedy: str
    files: int = 1
    other: str | None = None

    def line(self) -> str:
        """The finding as one line, written as every message of the program."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        got = "" if f", {self.got}".startswith(_FAILED) else "got "
        expected = f"expected {self.expected}, {got}" if self.expected else ""
        return one_line(f"{expected}{self.got}{remedy}: {self.file}")


class Problem(NamedTuple):
    """Something wrong with one file, before it is known which split asked for it.

    Attributes:
        kind: As :attr:`Finding.kind`.
        file: The file.
        expected: As :attr:`Finding.expected`.
        got: As :attr:`Finding.got`.
        remedy: As :attr:`Finding.remedy`.
        severity: As :attr:`Finding.severity`.
        files: As :attr:`Finding.files`.
    """

    kind: str
    file: str
    expected: str
    got: str
    remedy: str
    severity: Severity = "error"
    files: int = 1


SaliencyProbe = Callable[[str, tuple[int, int]], Problem | None]
"""(name, (H, W) of the upright photograph) -> what is wrong with its saliency map, or None."""


@dataclass(frozen=True)
class Part:
    """A split of a data set as it lies on disk, the broken files included.

    Attributes:
        dataset: The data set as it was named.
        split: Its split; None for kinds without splits.
        selection: The classes looked for, and which of the data set's own they are.
        names: Of the photographs.
        labels: float32 ``len×N`` in {0, 1}, NaN = unknown; a row of NaN where no label was found.
        images: Their files; empty where the pictures are drawn.
        masks: Their masks' files, None where there is none; empty likewise.
        saliency: Looks at their saliency maps, where they should have some.
        drawn: The data set whose pictures are drawn by the program, else None.
        reader: Reads their masks, where those are no files of ids in VOC's manner (``masks`` is empty then), else None.
        labels_from: Where their labels come from, for people; empty where the kind of data set says it.
        left_out: How many photographs with none of the classes were left out.
    """

    dataset: str
    split: str | None
    selection: Selection
    names: list[str]
    labels: Tensor
    images: list[Path] = field(default_factory=list)
    masks: list[Path | None] = field(default_factory=list)
    saliency: SaliencyProbe | None = None
    drawn: ImageDataset | None = None
    reader: PhotoDataset | None = None
    labels_from: str = ""
    left_out: int = 0

    @property
    def title(self) -> str:
        """Data set and split, for people."""
        return f"{self.dataset} {self.split}" if self.split else self.dataset

    @property
    def trained_on(self) -> bool:
        """Whether one trains on it, as far as its name says."""
        return self.split is None or self.split.startswith("train") or self.split == "all"

    @property
    def is_union(self) -> bool:
        """Whether its name says that it is made of other splits."""
        return self.split in _UNIONS

    @property
    def evaluated(self) -> bool:
        """Whether figures are computed on it: it is named so, or has masks and is none to train on."""
        return self.split in _EVALUATION or (not self.trained_on and self.num_masks > 0)

    @property
    def num_masks(self) -> int:
        """How many photographs have a mask."""
        whole = self.drawn or self.reader
        if whole is not None:
            return len(self.names) if whole.has_masks else 0
        return sum(mask is not None for mask in self.masks)

    def key(self, index: int) -> str:
        """What a photograph is known by across splits: its file, or where and as which it is drawn."""
        return f"{self.dataset}/{self.names[index]}" if self.drawn is not None else str(self.images[index])

    def finding(self, problem: Problem) -> Finding:
        """A problem with one of its files as a finding."""
        return Finding(
            problem.severity,
            problem.kind,
            self.dataset,
            self.split,
            problem.file,
            problem.expected,
            problem.got,
            problem.remedy,
            problem.files,
        )


def from_error(kind: str, error: InputError, path: str | Path, remedy: str = "") -> Problem:
    """A reader's one-line refusal, taken apart.

    Args:
        kind: As :attr:`Finding.kind`.
        error: Its message has the form ``expected A, got B; remedy: file``; what is not, counts as what came.
        path: The file that was read, unless the message ends with another.
        remedy: Where the message has none.

    >>> error = InputError("expected a mask of 3×4 like its image, got 4×3: m/a.png")
    >>> from_error("mask-size", error, "m/a.png", "make it anew")[2:5]
    ('a mask of 3×4 like its image', '4×3', 'make it anew')
    >>> error = InputError("expected photographs of class 'ant', found none; unpack it again: d/ant")
    >>> from_error("refused", error, "d/ant")[2:5]
    ("photographs of class 'ant'", 'none', 'unpack it again')
    """
    text, _, file = str(error).rpartition(": ")
    if file != str(path) and "/" not in file:
        text, file = str(error), str(path)
    expected, came, rest = "", "", text
    if text.startswith("expected "):
        # readers write "found" for "got" where nothing came, and "may not be read" or the like, which is no thing that came
        cuts = [(text.find(word), word) for word in (", got ", ", found ", *_FAILED) if word in text]
        if cuts:
            place, word = min(cuts)
            expected, came = text[len("expected ") : place], word[2:] if word in _FAILED else ""
            rest = text[place + len(word) :]
    got, _, said = rest.rpartition("; ") if "; " in rest else (rest, "", "")
    return Problem(kind, file, expected, came + got, said or remedy)
