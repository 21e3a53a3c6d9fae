"""Where VOC's layout keeps image-level labels: lists per class, annotations, masks.

Each function gives a table over the data set's own classes, or a reason why it cannot label every photograph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbn.data.images import VOID
from attnbn.io.errors import InputError
from attnbn.io.reading import read_bytes, read_utf8

_VALUES = {"1": 1.0, "+1": 1.0, "-1": 0.0, "0": math.nan}
"""VOC's marks: present, absent, and 0 = only instances marked difficult, which is counted as unknown."""

_LARGEST = 2_000_000
"""Bytes of an annotation; an object takes 300."""
_LONGEST = 50_000_000
"""Bytes of a list; that of ImageNet's 1.3 million photographs would have 40."""

Labels = Tensor | str
"""The table ``len×N``, or the reason why there is none."""


def from_lists(root: Path, split: str, names: Sequence[str], classes: Sequence[str], needed: Collection[str]) -> Labels:
    """Labels from ``ImageSets/Main/<class>_<split>.txt``; split ``all`` joins the lists of every split.

    Args:
        root: The data set.
        split: The split.
        names: Its photographs.
        classes: The data set's own classes.
        needed: Those whose lists are read; the columns of the others stay 0.

    Raises:
        InputError: A line that is not ``name 1``, ``name -1`` or ``name 0``, or two lines that contradict each other.
    """
    folder = root / "ImageSets" / "Main"
    table = torch.zeros(len(names), len(classes))
    for column, label in enumerate(classes):
        if label not in needed:
            continue
        files = class_lists(folder, label) if split == "all" else [folder / f"{label}_{split}.txt"]
        if not files or not files[0].is_file():
            return f"no ImageSets/Main/{label}_{'<split>' if split == 'all' else split}.txt"
        marks: dict[str, float] = {}
        for file in files:
            marks |= _read_marks(file)
        unlisted = next((name for name in names if name not in marks), None)
        if unlisted is not None:
            return f"ImageSets/Main/{files[0].name} does not list {unlisted}"
        table[:, column] = torch.tensor([marks[name] for name in names])
    return table


def class_lists(folder: Path, label: str) -> list[Path]:
    """The lists of one class over all splits, in sorted order."""
    pattern = re.compile(re.escape(label) + r"_[^_]+\.txt")
    return sorted(file for file in folder.glob("*.txt") if pattern.fullmatch(file.name))


def _read_marks(file: Path) -> dict[str, float]:
    marks: dict[str, float] = {}
    for number, line in enumerate(read_lines(file), start=1):
        if not line:
            continue
        name, *mark = line.rsplit(maxsplit=1)
        if not mark or mark[0] not in _VALUES:
            raise InputError(
                f"expected a photograph's name and 1, -1 or 0 (difficult), got {line!r}: {file}, line {number}"
            )
        value = _VALUES[mark[0]]
        if name in marks and not (marks[name] == value or (math.isnan(marks[name]) and math.isnan(value))):
            raise InputError(
                f"expected each photograph once, got {name!r} again with another mark; remove one: {file}, line {number}"
            )
        marks[name] = value
    return marks


def read_lines(file: Path) -> list[str]:
    """Stripped lines of a text file.

    Raises:
        InputError: The file cannot be read, or is no text.
    """
    # not splitlines: a name may hold Unicode's other separators
    lines = re.split(r"\r\n|\r|\n", read_utf8(file, "list", _LONGEST))
    return [line.strip() for line in (lines if lines[-1] else lines[:-1])]


def from_annotations(root: Path, names: Sequence[str], classes: Sequence[str]) -> Labels:
    """Labels from ``Annotations/<name>.xml``: 1 for an object, NaN where all objects of the class are difficult.

    Raises:
        InputError: A file that is no annotation, or an object of an unknown class.
    """
    folder = root / "Annotations"
    table = torch.zeros(len(names), len(classes))
    place = {label: i for i, label in enumerate(classes)}
    for row, name in enumerate(names):
        file = folder / f"{name}.xml"
        if not file.is_file():
            return f"no Annotations/{name}.xml"
        for label, difficult in read_annotation(file):
            column = place.get(label)
            if column is None:
                raise InputError(
                    f"unknown class {label!r}; correct it, or name the data set's own classes, a line each in "
                    f"the order of their mask ids, in {root / 'classes.txt'}: {file}"
                )
            if not difficult:
                table[row, column] = 1
            elif table[row, column] != 1:
                table[row, column] = math.nan
    return table


def read_annotation(file: Path) -> list[tuple[str, bool]]:
    """The objects of an annotation as (class, difficult).

    Raises:
        InputError: Damaged XML, another document, or a document type declaration: entities are never expanded.
    """
    objects: list[tuple[str, bool]] = []
    path: list[str] = []
    texts: dict[str, str] = {}

    def start(tag: str, _: Mapping[str, str]) -> None:
        path.append(tag)
        if len(path) == 1 and tag.lower() in ("html", "svg"):
            raise InputError(
                f"expected an annotation, got <{tag}> (from a download that failed?); fetch it again: {file}"
            )
        if len(path) == 2 and tag == "object":
            texts.clear()

    def text(data: str) -> None:
        # exactly annotation/object/...: the parts of a person (object/part/name) are no objects
        if len(path) == 3 and path[1] == "object":
            texts[path[2]] = texts.get(path[2], "") + data

    def end(_: str) -> None:
        if len(path) == 2 and path[1] == "object":
            objects.append((texts.get("name", "").strip(), texts.get("difficult", "0").strip() == "1"))
        path.pop()

    def doctype(*_: object) -> None:
        raise InputError(
            f"expected an annotation without a document type declaration, got one; remove the DOCTYPE: {file}"
        )

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    parser.StartDoctypeDeclHandler = doctype
    parser.buffer_text = True  # a call for each line of a text would make a long one take for ever
    try:
        parser.Parse(read_bytes(file, "annotation", _LARGEST), True)
    except expat.ExpatError as error:
        raise InputError(f"expected an annotation in XML, got damaged text ({error}); fetch it again: {file}") from None
    except InputError:
        raise
    except (LookupError, ValueError) as error:  # what the declaration says of the encoding
        raise InputError(
            f"expected an annotation in UTF-8, got another encoding ({error}); save it as UTF-8: {file}"
        ) from None
    return objects


def from_masks(names: Sequence[str], num_classes: int, read: Callable[[str], NDArray[np.uint8] | None]) -> Labels:
    """Labels from the masks: 1 for a class with at least one pixel.

    Args:
        names: The photographs.
        num_classes: Of the data set.
        read: Name -> mask of the data set's own ids, or None where there is none.
    """
    table = torch.zeros(len(names), num_classes)
    for row, name in enumerate(names):
        mask = read(name)
        if mask is None:
            return f"no SegmentationClass/{name}.png"
        ids = np.unique(mask)
        table[row, torch.from_numpy(ids[(ids != 0) & (ids != VOID)].astype(np.int64) - 1)] = 1
    return table
