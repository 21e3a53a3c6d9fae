"""A list of photographs, row by row: every row that its reader would refuse is a finding."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from attnbn.data.check.findings import Finding, Part, SaliencyProbe
from attnbn.data.classes import Selection
from attnbn.data.photos import unique_names
from attnbn.io.errors import InputError

Row = tuple[int, list[str]]
"""Line number and cells."""


def read_csv(
    spec: str,
    path: Path,
    classes: Sequence[str] | None,
    class_map: Mapping[str, str],
    saliency: SaliencyProbe | None,
) -> tuple[Part, list[Finding]]:
    """Read ``path,label[,label...]``.

    Args:
        spec: The data set as it was named.
        path: The file.
        classes: The classes; None: all labels of the file, sorted.
        class_map: Labels -> class names.
        saliency: Looks at the photographs' saliency maps.

    Returns:
        The rows with a path, files that are missing included (their labels are known), and the findings on the rest.
    """
    findings: list[Finding] = []
    rows: dict[str, list[str]] = {}
    first: dict[str, int] = {}

    def note(line: int, kind: str, expected: str, got: str, remedy: str) -> None:
        findings.append(Finding("error", kind, spec, None, f"{path}, line {line}", expected, got, remedy))

    try:
        for line, cells in _rows(path):
            photo = os.path.normpath(path.parent / cells[0])
            labels = [class_map.get(cell, cell) for cell in cells[1:] if cell]
            unknown = [label for label in labels if classes and label not in classes]
            if not cells[0]:
                note(line, "label-file", "path,label[,label...]", "no path", "add it or take the row out")
                continue
            if photo in first:
                note(line, "listed-twice", "each photograph once", f"{cells[0]} again (first in line {first[photo]})",
                     "write all its labels in one row")  # fmt: skip
                continue
            first[photo] = line
            rows[cells[0]] = [label for label in labels if label not in unknown]
            if not labels:
                note(line, "label-missing", "a label", f"none for {cells[0]}", "label it or take the row out")
            for label in unknown:
                note(line, "label-unknown", f"one of the classes {', '.join(classes or ())}", repr(label),
                     "correct it, rename it with --class-map, or add it to --classes")  # fmt: skip
    except (UnicodeDecodeError, csv.Error) as error:
        findings.append(Finding("error", "label-file", spec, None, str(path), "comma-separated rows in UTF-8",
                                f"a damaged file ({error})", "save it anew"))  # fmt: skip
    return _part(spec, path, rows, classes, saliency), findings


def _part(
    spec: str, path: Path, rows: Mapping[str, list[str]], classes: Sequence[str] | None, saliency: SaliencyProbe | None
) -> Part:
    chosen = tuple(classes or sorted({label for labels in rows.values() for label in labels}))
    table = torch.full((len(rows), len(chosen)), torch.nan)
    for row, labels in zip(table, rows.values(), strict=True):
        if labels:
            row[:] = torch.tensor([float(name in labels) for name in chosen])
    images = [Path(os.path.normpath(path.parent / file)) for file in rows]
    # names that leave the folder are the reader's affair; here they need only differ
    names = unique_names([os.path.normpath(file) for file in rows])
    return Part(spec, None, Selection(chosen, tuple(range(len(chosen)))), names, table, images, saliency=saliency)


def _rows(path: Path) -> Iterator[Row]:
    """Rows that hold something, without the header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            first = True
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells) and not (first and cells[0].lower() == "path"):
                    yield reader.line_num, cells
                first = first and not any(cells)
    except OSError as error:
        raise InputError(f"expected a list of photographs, could not read it ({error.strerror}): {path}") from error
