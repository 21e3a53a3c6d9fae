"""What a run would take of its simple images: per class and folder, what a table of classes wants in vain and leaves out."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from attnbn.data.cap import take_at_most
from attnbn.data.check.findings import Finding, Part
from attnbn.data.class_maps import left_out, names_of
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.open import place_of
from attnbn.io.atomic import write_text
from attnbn.io.errors import InputError

SOURCES = ("folders", "csv", "caltech101", "caltech256", "imagenet")
"""Kinds of images of one label each, of which a run's source is made; the others are looked at whole."""
TABLED = {"caltech101": "Caltech-101", "caltech256": "Caltech-256", "imagenet": "ImageNet CLS-LOC"}
"""Kind -> what a table calls the data set, where it is known which of its names that data set has."""
_NUMBER = re.compile(r"\d{3}\.(?=.)")


@dataclass(frozen=True)
class Taken:
    """Images of one class in one folder.

    Attributes:
        dataset: The data set as it was named.
        label: The class.
        folder: First part of the images' names; "" where they have none.
        found: How many there are.
        taken: How many a run takes.
    """

    dataset: str
    label: str
    folder: str
    found: int
    taken: int


def is_source(spec: str) -> bool:
    """Whether a data set is one of simple images."""
    return spec.partition(":")[0] in SOURCES


def capped(parts: Sequence[Part], most: int | None, seed: int) -> list[Part]:
    """The parts as a run with ``data.source_cap`` would take them, all simple ones together as its source.

    Args:
        parts: All; those that are no sources stay whole.
        most: Images of each class, or None for all.
        seed: The run's.

    Raises:
        InputError: ``most`` is below 1.
    """
    sources = [part for part in parts if is_source(part.dataset)]
    if most is None or not sources:
        return list(parts)
    classes = tuple(dict.fromkeys(name for part in sources for name in part.selection.classes))
    places = [place_of(part.dataset)[1] for part in sources]
    chosen = iter(take_at_most([_as_dataset(part, classes) for part in sources], places, most, seed))
    return [_chosen(part, next(chosen)) if is_source(part.dataset) else part for part in parts]


def _as_dataset(part: Part, classes: tuple[str, ...]) -> ImageDataset:
    """A part's names and labels, with columns for the classes that only other parts have."""
    labels = torch.zeros(len(part.names), len(classes))
    labels[:, [classes.index(name) for name in part.selection.classes]] = part.labels
    return ImageDataset(classes, part.names, labels)


def _chosen(part: Part, dataset: ImageDataset) -> Part:
    if not isinstance(dataset, Subset):
        return part
    indices = dataset.indices.tolist()
    return replace(
        part, names=dataset.names, labels=part.labels[dataset.indices], images=[part.images[index] for index in indices]
    )


def taken(before: Sequence[Part], after: Sequence[Part]) -> list[Taken]:
    """Images of each class and folder of the sources, before a cap and after it, in the order of the classes."""
    rows = []
    for whole, part in zip(before, after, strict=True):
        if is_source(whole.dataset):
            found, kept = _counts(whole), _counts(part)
            order = {name: i for i, name in enumerate(whole.selection.classes)}
            rows += [
                Taken(whole.dataset, label, folder, found[label, folder], kept[label, folder])
                for label, folder in sorted(found, key=lambda key: (order[key[0]], key[1]))
            ]
    return rows


def _counts(part: Part) -> Counter[tuple[str, str]]:
    """Images of each class and folder, an image counted for each class that it shows."""
    counts: Counter[tuple[str, str]] = Counter()
    for index, label in (part.labels == 1).nonzero().tolist():
        folder, slash, _ = part.names[index].partition("/")
        counts[part.selection.classes[label], folder if slash else ""] += 1
    return counts


def write_list(path: str | os.PathLike[str], parts: Sequence[Part]) -> None:
    """Write the simple images as rows ``path,label``, to be used as ``csv:FILE``.

    Args:
        path: The list. Files are named relative to it where they lie below its folder, else in full.
        parts: All, after a cap.

    Raises:
        InputError: There are no simple images among them.
        RunError: The list cannot be written.
    """
    file = Path(path).expanduser().resolve()
    sources = [part for part in parts if is_source(part.dataset)]
    if not sources:
        raise InputError(f"expected data sets of simple images ({', '.join(SOURCES)}) to list, got none: {path}")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "label"])
    for part in sources:
        for image, labels in zip(part.images, part.labels.tolist(), strict=True):
            place = image.resolve()
            shown = place.relative_to(file.parent) if place.is_relative_to(file.parent) else place
            rows.writerow(
                [str(shown), *(name for name, there in zip(part.selection.classes, labels, strict=True) if there)]
            )
    write_text(file, text.getvalue())


def table_findings(name: str, parts: Sequence[Part]) -> list[Finding]:
    """What a table of classes says of the sources.

    Args:
        name: Of the table.
        parts: As they are before a cap.

    Returns:
        A warning for each folder that the table wants of a data set and that it lacks; a note for each that is there and
        left out, with the table's reason.
    """
    found = []
    for part in parts:
        data = TABLED.get(part.dataset.partition(":")[0])
        if data is None or not part.images:
            continue
        root = part.images[0].parents[part.names[0].count("/")]
        folders = {_NUMBER.sub("", entry.name): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
        wanted, unwanted = names_of(name, data), left_out(name, data)
        for own, (label, shown) in wanted.items():
            if own not in folders and label in part.selection.classes:
                found.append(Finding("warning", "table-lacks", part.dataset, None, str(root), f"a folder of {own} ({shown})",
                                     "none", f"fetch it, or go without: {label} of the table {name}"))  # fmt: skip
        for own in folders.keys() & unwanted.keys():
            found.append(Finding("note", "table-leaves-out", part.dataset, None, str(folders[own]), "",
                                 f"no class of the table {name}: {unwanted[own]}", ""))  # fmt: skip
    return found
