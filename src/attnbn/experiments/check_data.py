"""All data sets of a run checked in one pass, before anything is trained on them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attnbn.data.check.duplicates import Pair, duplicate_pairs
from attnbn.data.check.findings import SEVERITIES, Finding, Part, Problem, from_error
from attnbn.data.check.labels import Splits, agreement_findings, class_findings, cooccurrence
from attnbn.data.check.mask_classes import mask_findings
from attnbn.data.check.open import Wanted, nowhere, open_parts
from attnbn.data.check.photographs import Look, findings_of, look_at
from attnbn.data.check.taken import SOURCES, Taken, capped, is_source, table_findings, taken
from attnbn.data.class_maps import ClassMap, classes_of_map, resolve_class_map
from attnbn.data.classes import parse_classes
from attnbn.io.errors import InputError
from attnbn.io.pictures import list_pictures, open_picture
from attnbn.report.contact_sheet import Row, Tile, draw_sheet, read_tile
from attnbn.saliency.files import SaliencyFolder, is_constant, read_saliency

SHOWN = 12
"""Photographs of a split on the contact sheet, and pairs of duplicates."""


@dataclass(frozen=True)
class Checked:
    """What the check found.

    Attributes:
        parts: The splits that could be read.
        looks: Their photographs, one entry a file.
        pairs: Duplicates, errors first.
        findings: All that was found, errors first.
        maps: Saliency folder of each data set that has one.
        seconds: It took.
        taken: Images of each class and folder of the simple data sets, and how many of them a run takes.
        table: The table of classes, by its name, or None.
        classes: Those wanted, in order; None: each data set's own.
    """

    parts: list[Part]
    looks: list[Look]
    pairs: list[Pair]
    findings: list[Finding]
    maps: Mapping[str, SaliencyMaps]
    seconds: float
    taken: Sequence[Taken] = ()
    table: str | None = None
    classes: tuple[str, ...] | None = None

    def count(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "images": len(self.looks),
            "seconds": round(self.seconds, 2),
            "counts": {f"{severity}s": self.count(severity) for severity in SEVERITIES},
            "datasets": [_part_json(part, self.maps.get(part.dataset)) for part in self.parts],
            "classes": None if self.classes is None else list(self.classes),
            "table": self.table,
            "taken": [asdict(row) for row in self.taken],
            "findings": [asdict(finding) | {"line": finding.line()} for finding in self.findings],
        }


class SaliencyMaps:
    """The maps of a folder, looked at one by one.

    Args:
        path: The folder.

    Raises:
        InputError: It is missing or holds no picture.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = SaliencyFolder(path, required=False)
        self.path = self.folder.path
        self.files: dict[str, list[str]] = {}
        for file in list_pictures(self.path):
            self.files.setdefault(os.path.splitext(file)[0], []).append(file)
        self.usable: set[str] = set()

    def __call__(self, name: str, size: tuple[int, int]) -> Problem | None:
        """What is wrong with the map of a photograph of ``(H, W)``, or None; such maps are counted as usable."""
        files = self.files.get(name, [])
        if len(files) != 1:
            kind = "saliency-missing" if not files else "saliency-twice"
            return Problem(kind, f"{self.path / name}.png", "one saliency map for every photograph",
                           " and ".join(files) or "none", "make it, or take the photograph out")  # fmt: skip
        path = self.path / files[0]
        try:
            saliency = read_saliency(path, size)
        except InputError as error:
            return from_error(_kind(path), error, path)
        if is_constant(saliency):
            got = f"a constant one (every pixel {saliency.mean():.2f})"
            return Problem("saliency-constant", str(path), "a saliency map that marks an object", got,
                           "make it anew, or take its photograph out")  # fmt: skip
        self.usable.add(name)
        return None

    def foreign(self, spec: str, names: Sequence[str]) -> list[Finding]:
        """One error where no photograph has a map, instead of one for each."""
        if not names or any(name in self.files for name in names):
            return []
        first = min(self.files)
        return [Finding("error", "saliency-missing", spec, None, str(self.path), "",
                        f"none of the {len(names):,} photographs has a map, the folder has {len(self.files):,} of other names "
                        f"(e.g. {self.files[first][0]}, not {names[0]}.png)",
                        "it belongs to other photographs", len(names))]  # fmt: skip

    def unused(self, spec: str, names: Sequence[str]) -> list[Finding]:
        """A note on maps that belong to no photograph."""
        lone = sorted(set(self.files) - set(names))
        if not lone or len(lone) == len(self.files):
            return []  # all of them: the folder is of other photographs, which is said once
        return [Finding("note", "saliency-unused", spec, None, str(self.path / self.files[lone[0]][0]),
                        "a photograph for every saliency map", f"{len(lone):,} without", "a name may be mistyped",
                        len(lone))]  # fmt: skip


def _kind(path: Path) -> str:
    """Why a map was refused: it is readable at its own size exactly if only its shape is wrong."""
    try:
        picture = open_picture(path, "saliency map")
        read_saliency(path, (picture.height, picture.width))
    except InputError:
        return "saliency-unreadable"
    return "saliency-shape"


def check_data(
    specs: Sequence[str],
    *,
    saliency: Sequence[str] = (),
    splits: Sequence[str] = (),
    classes: str | Sequence[str] | None = None,
    class_map: ClassMap = None,
    source_cap: int | None = None,
    seed: int = 0,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Find all that is wrong with the data sets, each file read once.

    Args:
        specs: ``KIND:PATH`` of each.
        saliency: Folders of maps: the first of the first data set of simple images, and so on.
        splits: Of data sets with splits; empty: all.
        classes: The classes; None: each data set's own, which must then agree.
        class_map: Names in the data sets -> names of the classes, or the name of a table, which names the classes too.
        source_cap: Look at no more images of each class than a run with this ``data.source_cap`` takes of its source, for which
            the data sets of simple images stand, in the order that does not matter; None: at all.
        seed: The run's.
        workers: Threads that read.
        progress: Called with the photographs done and all of them.

    Raises:
        InputError: A data set that is not there or in another layout, or one named twice; saliency without a data set; an
            unknown table.
    """
    begun = time.monotonic()
    twice = next((spec for i, spec in enumerate(specs) if spec in specs[:i]), None)
    if twice is not None:
        raise InputError(f"expected each data set once, got one twice; name it once: {twice}")
    table = class_map if isinstance(class_map, str) else None
    wanted = Wanted(
        parse_classes(classes) or classes_of_map(class_map),
        resolve_class_map(class_map) or {},
        splits,
        together=sum(map(is_source, specs)) > 1,
        table=table if classes is None else None,
    )
    maps = _assign(specs, saliency)
    parts: list[Part] = []
    findings: list[Finding] = []
    for spec in specs:
        opened, found = open_parts(spec, wanted, maps.get(spec))
        parts += opened
        findings += found
    for spec, folder in maps.items():
        strangers = folder.foreign(spec, [name for part in parts if part.dataset == spec for name in part.names])
        findings += strangers
        if strangers:
            parts = [replace(part, saliency=None) if part.dataset == spec else part for part in parts]
    whole, parts = parts, capped(parts, source_cap, seed)
    findings += nowhere(whole, wanted) + ([] if table is None else table_findings(table, whole))
    looks = look_at(parts, workers=workers, progress=progress)
    findings += findings_of(parts, looks) + mask_findings(parts, looks)
    findings += class_findings(whole, wanted.table) + Splits(parts).findings()
    findings += agreement_findings(parts) if wanted.classes is None else []
    for spec, folder in maps.items():
        findings += folder.unused(spec, [name for part in whole if part.dataset == spec for name in part.names])
    pairs = duplicate_pairs(parts, looks)
    findings += [pair.finding for pair in pairs]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    seconds = time.monotonic() - begun
    return Checked(parts, looks, pairs, findings, maps, seconds, taken(whole, parts), table, wanted.classes)


def _assign(specs: Sequence[str], folders: Sequence[str]) -> dict[str, SaliencyMaps]:
    """Saliency folders to the data sets that may have them, in the order of both."""
    takers = [spec for spec in specs if is_source(spec)]
    if len(folders) > len(takers):
        raise InputError(
            f"expected a data set of simple images ({', '.join(SOURCES)}) for each --saliency, got {len(takers)} of them; "
            f"name the data set that the maps belong to: {folders[len(takers)]}"
        )
    return {spec: SaliencyMaps(folder) for spec, folder in zip(takers, folders, strict=False)}


def _part_json(part: Part, maps: SaliencyMaps | None) -> dict[str, Any]:
    together = cooccurrence(part.labels)
    names = part.selection.classes
    return {
        "dataset": part.dataset,
        "split": part.split,
        "images": len(part.names),
        "left_out": part.left_out,
        "masks": part.num_masks,
        "labels_from": part.labels_from or None,
        "saliency": None if maps is None else str(maps.path),
        "saliency_maps": None if maps is None else len(maps.usable),
        "classes": dict(zip(names, together.diagonal().tolist(), strict=True)),
        "difficult": dict(zip(names, part.labels.isnan().sum(0).tolist(), strict=True)),
        "cooccurrence": together.tolist(),
    }


def write_sheet(path: str | os.PathLike[str], checked: Checked) -> None:
    """Draw what was read: photographs of every class and split with masks and saliency, then the worst duplicates.

    Args:
        path: A PNG.
        checked: The check.

    Raises:
        RunError: It cannot be written.
    """
    healthy = {(look.part, look.index) for look in checked.looks if look.fingerprint is not None and not look.problems}
    rows = []
    for number, part in enumerate(checked.parts):
        good = [index for index in range(len(part.names)) if (number, index) in healthy]
        maps = checked.maps.get(part.dataset)
        tiles = [_tile(part, index, maps) for index in spread(part, good, SHOWN)]
        rows.append(Row(f"{part.title}: {len(tiles):,} of {len(part.names):,} images", part.selection.classes, tiles))
    twins = []
    # the near ones are for a person to judge
    pairs = sorted(checked.pairs, key=lambda pair: (pair.finding.severity != "error", pair.finding.kind == "duplicate"))
    bad = any(pair.finding.severity == "error" for pair in pairs[:SHOWN])
    for pair in pairs[:SHOWN]:
        sides = [(checked.parts[look.part], look.index) for look in (pair.second, pair.first)]
        pictures = [read_tile(part, index).image for part, index in sides]
        names = [part.names[index] for part, index in sides]
        twins.append(
            Tile(pictures[0], twin=pictures[1], caption=" and ".join(names), warn=pair.finding.severity == "error")
        )
    if twins:
        red = "; in red: errors, on both sides of a split on which figures are computed" if bad else ""
        rows.append(Row(f"duplicates: {len(twins)} of {len(checked.pairs):,} pairs{red}", (), twins))
    draw_sheet(path, rows)


def spread(part: Part, indices: Sequence[int], most: int) -> list[int]:
    """Photographs that show the whole split: its classes in turn, each from even steps of its list; with masks first."""
    masked = [i for i in indices if part.masks and part.masks[i] is not None]
    pool = masked if len(masked) >= most else indices
    queues = []
    for label in range(len(part.selection.classes)):
        members = [i for i in pool if part.labels[i, label] == 1]
        queues.append([members[k * len(members) // most] for k in range(min(most, len(members)))])
    chosen: dict[int, None] = {}
    for turn in range(most):
        for queue in queues:
            if turn < len(queue) and len(chosen) < most:
                chosen[queue[turn]] = None
    for index in pool:
        if len(chosen) < most:
            chosen[index] = None
    return sorted(chosen)


def _tile(part: Part, index: int, maps: SaliencyMaps | None) -> Tile:
    tile = read_tile(part, index)
    if maps is None or part.names[index] not in maps.usable:
        return tile
    size = tile.image.shape[0], tile.image.shape[1]
    saliency = maps.folder(part.names[index], size)
    return tile if saliency is None else tile._replace(saliency=saliency[0].numpy())
