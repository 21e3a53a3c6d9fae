"""``csv:FILE``: rows ``path,label[,label...]``, paths relative to the file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import torch
from torch import Tensor

from attnbn.data.classes import check_names, parse_classes
from attnbn.data.photos import PhotoDataset, SaliencySource, unique_names
from attnbn.io.errors import InputError
from attnbn.io.reading import read_utf8


class _Row(NamedTuple):
    line: int
    file: str
    labels: list[str]


def open_csv(
    path: Path,
    *,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
) -> PhotoDataset:
    """Read a list of photographs.

    A list is written by hand, so a label outside the classes is taken for a mistake, not for a class to leave out.

    Args:
        path: The file; a first row that starts with ``path`` is a header.
        classes: The classes, in order; None: all labels of the file, sorted.
        class_map: Labels -> class names.
        saliency: Where saliency maps come from.
        labels: Whether to read labels; otherwise rows need none, and None for ``classes`` gives no classes.

    Raises:
        InputError: With file and line: a row without label, an unknown class, a missing photograph, one listed twice;
            a file without rows, or one that is no CSV.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(f"expected rows path,label[,label...], got none: {path}")
    _check_files(rows, path)
    chosen = parse_classes(classes) or ()
    table: Tensor | None = None
    if labels:
        named = [[(class_map or {}).get(label, label) for label in row.labels] for row in rows]
        chosen = chosen or tuple(sorted({label for row in named for label in row}))
        check_names(chosen, f"csv:{path}")
        table = _table(rows, named, chosen, path)
    files = [row.file for row in rows]
    return PhotoDataset(path.parent, files, _names(rows, path), chosen, table, saliency=saliency, title=f"csv:{path}")


def _rows(path: Path) -> Iterator[_Row]:
    """Rows with their line numbers; blank lines and the header are passed over."""
    reader = csv.reader(io.StringIO(read_utf8(path, "list of photographs"), newline=""), strict=True)
    first = True
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            header = first and bool(cells) and cells[0].lower() == "path"
            first = first and not any(cells)
            if not any(cells) or header:
                continue
            if not cells[0]:
                raise InputError(f"expected path,label[,label...], got no path: {path}, line {reader.line_num}")
            yield _Row(reader.line_num, cells[0], [cell for cell in cells[1:] if cell])
    except csv.Error as error:
        raise InputError(
            f"expected comma-separated rows, got a damaged one ({error}): {path}, line {reader.line_num}"
        ) from None


def _table(rows: Sequence[_Row], named: Sequence[Sequence[str]], classes: Sequence[str], path: Path) -> Tensor:
    """Labels ``len×N``."""
    place = {name: i for i, name in enumerate(classes)}
    table = torch.zeros(len(rows), len(classes))
    for i, (row, names) in enumerate(zip(rows, named, strict=True)):
        if not names:
            raise InputError(f"expected path,label[,label...], got no label{_hint(row)}: {path}, line {row.line}")
        for label, name in zip(row.labels, names, strict=True):
            if name not in place:
                known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
                raise InputError(
                    f"expected one of the classes {known}, got {label!r}; correct it, rename it with "
                    f"--data.class_map, or add it to --data.classes: {path}, line {row.line}"
                )
            table[i, place[name]] = 1
    return table


def _hint(row: _Row) -> str:
    return " (cells are separated by commas)" if ";" in row.file or "\t" in row.file else ""


def _check_files(rows: Sequence[_Row], path: Path) -> None:
    """Every photograph exists and is listed once."""
    seen: dict[str, int] = {}
    for row in rows:
        photo = os.path.normpath(path.parent / row.file)
        if not os.path.isfile(photo):
            raise InputError(
                f"expected a photograph, found no file {photo}{_hint(row)}; paths are relative to the list: "
                f"{path}, line {row.line}"
            )
        if photo in seen:
            raise InputError(
                f"expected each photograph once, got {row.file} again (first in line {seen[photo]}); "
                f"write all its labels in one row: {path}, line {row.line}"
            )
        seen[photo] = row.line


def _names(rows: Sequence[_Row], path: Path) -> list[str]:
    """Names that stay inside whatever folder results are written to: without drive, root and ``..``."""
    inside = []
    seen: dict[str, _Row] = {}
    for row in rows:
        pure = PurePath(os.path.normpath(row.file))
        parts = [part for part in pure.parts if part not in (pure.anchor, "..")]
        name = "/".join(parts)
        if name in seen:
            raise InputError(
                f"expected names that differ, got {seen[name].file} and {row.file}, both {name!r}; "
                f"move one: {path}, line {row.line}"
            )
        seen[name] = row
        inside.append(name)
    return unique_names(inside)
