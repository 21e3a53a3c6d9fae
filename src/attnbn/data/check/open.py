"""Data sets opened piece by piece: what their readers would refuse becomes a finding, and the rest is read on.

Only what leaves nothing to check is still an error: an unknown kind, a missing path, a folder in another layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import torch

from attnbn.data.check.csv_list import read_csv
from attnbn.data.check.findings import Finding, Part, Problem, SaliencyProbe, from_error
from attnbn.data.check.labels import absent_of_table
from attnbn.data.check.taken import is_source
from attnbn.data.check.voc import Voc
from attnbn.data.classes import Partial, Selection, select_classes
from attnbn.data.dataset import ImageDataset
from attnbn.data.folders import refuse_other_layout
from attnbn.data.open import KINDS, open_dataset, place_of
from attnbn.data.photos import PhotoDataset
from attnbn.data.scenes.dataset import COUNTS
from attnbn.io.errors import InputError
from attnbn.io.pictures import list_pictures


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every data set.

    Attributes:
        classes: The classes, in order; None: each data set's own.
        class_map: Names in the data sets -> names of the classes.
        splits: The splits; empty: all that a data set has.
        together: There are several data sets of simple images: one may lack a class that another has.
        table: The table that names the classes; None where a person did, or they are each data set's own.
    """

    classes: tuple[str, ...] | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    splits: Sequence[str] = ()
    together: bool = False
    table: str | None = None


_LABELS_FROM = "labels from "
"""How the reader's note on them begins."""

Opener = Callable[[str, Path, Wanted, SaliencyProbe | None], tuple[list[Part], list[Finding]]]


def open_parts(spec: str, wanted: Wanted, saliency: SaliencyProbe | None = None) -> tuple[list[Part], list[Finding]]:
    """Open a data set for checking.

    Args:
        spec: ``KIND:PATH``.
        wanted: Which classes and splits.
        saliency: Looks at its saliency maps (of data sets of simple images).

    Returns:
        Its splits, and what was wrong with its lists and labels. A data set whose reader refuses for a reason that
        is not found here has a finding of the kind ``refused``, with the reader's own words.

    Raises:
        InputError: An unknown kind, a missing path, another layout, or a split that a data set does not have.
    """
    kind, path = _place(spec)
    openers: dict[str, Opener] = {
        "voc": _open_voc, "csv": _open_csv, "folders": _open_folders, "scenes": _open_scenes, "masks": _open_masks
    }  # fmt: skip
    return openers.get(kind, _open_known)(spec, path, wanted, saliency)


def _place(spec: str) -> tuple[str, Path]:
    """Kind and path of a data set that is there; else the reader says what is wrong."""
    kind, _, path = spec.partition(":")
    if kind not in KINDS or not path:
        place_of(spec)
    place = Path(path).expanduser()
    if kind != "scenes" and not (place.is_file() if kind == "csv" else place.is_dir()):
        open_dataset(spec, split="train")
    return kind, place


def choose(own: Sequence[str], wanted: Wanted, spec: str, split: str | None = None) -> tuple[Selection, list[Finding]]:
    """The wanted classes that a data set has, and a finding for each other.

    Raises:
        InputError: It has none of them.
    """
    have = {wanted.class_map.get(name, name) for name in own}
    missing = [name for name in wanted.classes or () if name not in have]
    present = [name for name in wanted.classes or () if name in have]
    selection = select_classes(own, present or wanted.classes, wanted.class_map, spec)
    unused = sorted(have - set(wanted.classes or ()))
    missing = [] if wanted.together and split is None and is_source(spec) else missing
    return selection, absences(missing, present, wanted, spec, split, unused)


def absences(
    missing: Sequence[str],
    there: Sequence[str],
    wanted: Wanted,
    spec: str,
    split: str | None = None,
    unused: Sequence[str] = (),
) -> list[Finding]:
    """The findings for classes without a photograph in what one trains on.

    Args:
        missing: These classes.
        there: The others.
        wanted: What is wanted; where a table names the classes, one finding stands for all that are missing.
        spec: The data set, or several.
        split: Its split.
        unused: Other names there, not wanted.
    """
    if missing and wanted.table is not None:
        return [absent_of_table(wanted.table, missing, there, spec, split)]
    return [absent(name, spec, split, unused) for name in missing]


def absent(name: str, spec: str, split: str | None, unused: Sequence[str] = ()) -> Finding:
    """The finding for a class without a photograph, in what one trains on; a name not wanted may be it, mistyped."""
    close = get_close_matches(name, unused, n=1)
    hint = f" (closest there: {close[0]})" if close else ""
    remedy = f"add some, correct --classes, or leave it out there{hint}"
    return Finding("error", "class-absent", spec, split, spec, f"photographs of class {name!r}", "none", remedy)


def nowhere(parts: Sequence[Part], wanted: Wanted) -> list[Finding]:
    """Classes that none of several data sets of simple images has; of a single one they are found when it is opened."""
    sources = [part for part in parts if is_source(part.dataset)]
    if not wanted.together or wanted.classes is None or not sources:
        return []
    have = {name for part in sources for name in part.selection.classes}
    together = " + ".join(part.dataset for part in sources)
    missing = [name for name in wanted.classes if name not in have]
    return absences(missing, [name for name in wanted.classes if name in have], wanted, together)


def refused(spec: str, split: str | None, error: InputError) -> Finding:
    """The finding for a reader's refusal."""
    return Part(spec, split, Selection((), ()), [], torch.zeros(0, 0)).finding(from_error("refused", error, spec))


def _open_voc(spec: str, path: Path, wanted: Wanted, _: SaliencyProbe | None) -> tuple[list[Part], list[Finding]]:
    voc = Voc.find(spec, path, wanted.splits)
    try:
        voc.index()
        selection, findings = choose(voc.own, wanted, spec)
    except InputError as error:
        return [], [refused(spec, None, error)]
    parts = []
    for split in voc.splits:
        try:
            part, found = voc.part(split, selection)
        except InputError as error:
            findings.append(refused(spec, split, error))
            continue
        # the reader has the last word on what is not looked at here
        if not any(finding.severity == "error" for finding in found):
            refusals, labels_from = _ask_reader(
                spec, split, wanted, selection.classes, masks=part.num_masks > 0 and voc.lists_masks(split)
            )
            found += refusals
            part = replace(part, labels_from=labels_from or part.labels_from)
        findings += found
        if part.names:
            parts.append(part)
    return parts, findings + voc.leftovers()


def _ask_reader(
    spec: str, split: str, wanted: Wanted, classes: tuple[str, ...], *, masks: bool
) -> tuple[list[Finding], str]:
    """What the reader says to a split with labels alone, and with masks where it has some.

    Returns:
        Its refusal, if any, and where it takes the labels from without masks.
    """
    found, labels_from = [], ""
    for with_masks in (False, True)[: 1 + masks]:
        try:
            dataset = open_dataset(
                spec, split=split, classes=wanted.classes and classes, class_map=wanted.class_map, masks=with_masks
            )
        except InputError as error:
            found.append(refused(spec, split, error))
            continue
        said = (note.removeprefix(_LABELS_FROM) for note in dataset.notes if note.startswith(_LABELS_FROM))
        labels_from = labels_from or next(said, "")
    return found[:1], labels_from


def _open_csv(
    spec: str, path: Path, wanted: Wanted, saliency: SaliencyProbe | None
) -> tuple[list[Part], list[Finding]]:
    part, findings = read_csv(spec, path, wanted.classes, wanted.class_map, saliency)
    if not any(finding.severity == "error" for finding in findings):
        try:
            open_dataset(spec, split="train", classes=wanted.classes, class_map=wanted.class_map)
        except InputError as error:
            findings.append(refused(spec, None, error))
    return ([part] if part.names else []), findings


def _open_folders(
    spec: str, path: Path, wanted: Wanted, saliency: SaliencyProbe | None
) -> tuple[list[Part], list[Finding]]:
    own = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))
    refuse_other_layout(path, own, wanted.classes, wanted.class_map)
    filled = [name for name in own if next(list_pictures(path / name), None) is not None]
    if not filled:
        open_dataset(spec, split="train")  # says what is wrong with the layout
        raise InputError(f"expected photographs in the class folders, found none: {path}")
    above = _one_class(spec, path, filled, wanted)
    try:
        selection, findings = choose(filled, wanted, spec)
    except InputError as error:
        return [], [refused(spec, None, error), *above]
    findings += above
    findings += [
        Finding("error", "class-absent", spec, None, str(path / name), f"photographs of class {name!r}", "an empty folder",
                "add some or remove the folder")
        for name in own
        if name not in filled and (wanted.classes is None or name in wanted.classes)
    ]  # fmt: skip
    try:
        dataset = open_dataset(spec, split="train", classes=selection.classes, class_map=wanted.class_map)
    except InputError as error:
        return [], [*findings, refused(spec, None, error)]
    assert isinstance(dataset, PhotoDataset) and dataset.labels is not None
    findings += [
        Finding(
            "note",
            "left-out",
            spec,
            None,
            str(path),
            "photographs of the classes",
            note,
            "give it to --classes if it is one",
        )
        for note in (dataset.notes if wanted.classes else ())
    ]
    images = [dataset.path(i) for i in range(len(dataset))]
    return [Part(spec, None, selection, dataset.names, dataset.labels, images, saliency=saliency)], findings


def _one_class(spec: str, path: Path, filled: Sequence[str], wanted: Wanted) -> list[Finding]:
    """A warning where the only class folder, not asked for by name, holds folders: it may be the folder of the classes."""
    if len(filled) != 1 or wanted.class_map.get(filled[0], filled[0]) in (wanted.classes or ()):
        return []
    only = path / filled[0]
    inside = {PurePosixPath(file).parts[0] for file in list_pictures(only) if "/" in file}
    if not inside:
        return []
    named = ", ".join(sorted(inside)[:3]) + (", …" if len(inside) > 3 else "")
    return [
        Finding("warning", "one-class", spec, None, str(only), "a folder per class",
                f"one alone, with photographs in {len(inside):,} folder{'s' * (len(inside) > 1)} in it ({named})",
                f"if those are the classes, write folders:{only}")
    ]  # fmt: skip


def _open_known(spec: str, _: Path, wanted: Wanted, saliency: SaliencyProbe | None) -> tuple[list[Part], list[Finding]]:
    """Class folders as they are distributed; of ImageNet the images of ``train``."""
    place_of(spec)  # another layout is refused, as for every kind
    classes = None if wanted.classes is None else Partial(wanted.classes)
    try:
        dataset = open_dataset(spec, split="train", classes=classes, class_map=wanted.class_map)
    except InputError as error:
        return [], [refused(spec, None, error)]
    assert isinstance(dataset, PhotoDataset) and dataset.labels is not None
    counts = dataset.labels.sum(0)
    there = [i for i, count in enumerate(counts.tolist()) if count]
    missing = [] if wanted.together else [name for i, name in enumerate(dataset.classes) if i not in there]
    selection = Selection(tuple(dataset.classes[i] for i in there), tuple(range(len(there))))
    images = [dataset.path(i) for i in range(len(dataset))]
    part = Part(spec, None, selection, dataset.names, dataset.labels[:, there], images, saliency=saliency)
    return [part], absences(missing, selection.classes, wanted, spec)


def _open_masks(spec: str, _: Path, wanted: Wanted, __: SaliencyProbe | None) -> tuple[list[Part], list[Finding]]:
    place_of(spec)
    parts, findings = [], []
    for split in wanted.splits or ("all",):
        try:
            everything = open_dataset(spec, split=split, class_map=wanted.class_map, labels=False)
            selection, found = choose(everything.classes, replace(wanted, class_map={}), spec, split)
            dataset = open_dataset(spec, split=split, classes=selection.classes, class_map=wanted.class_map, masks=True)
        except InputError as error:
            findings.append(refused(spec, split, error))
            continue
        assert isinstance(dataset, PhotoDataset) and dataset.labels is not None
        images = [dataset.path(i) for i in range(len(dataset))]
        left_out = len(everything) - len(dataset)
        part = Part(spec, split, selection, dataset.names, dataset.labels, images, reader=dataset, left_out=left_out)
        parts.append(part)
        findings += found + [part.finding(problem) for problem in _without_any(spec, split, everything, left_out)]
    return parts, findings


def _without_any(spec: str, split: str, everything: ImageDataset, left_out: int) -> list[Problem]:
    """Warnings for photographs whose mask shows no class of the data set; a training leaves them out."""
    if not left_out:
        return []
    assert isinstance(everything, PhotoDataset)
    labelled = set(open_dataset(spec, split=split).names)
    return [
        Problem("label-missing", str(everything.path(i)), "at least one class", "none in its mask",
                "correct the mask, or take the photograph out", "warning")
        for i, name in enumerate(everything.names)
        if name not in labelled
    ]  # fmt: skip


def _open_scenes(spec: str, _: Path, wanted: Wanted, __: SaliencyProbe | None) -> tuple[list[Part], list[Finding]]:
    parts, findings = [], []
    for split in wanted.splits or COUNTS:
        own = open_dataset(spec, split=split).classes
        selection, found = choose(own, wanted, spec, split)
        drawn = open_dataset(spec, split=split, classes=selection.classes, masks=True)
        assert drawn.labels is not None
        parts.append(Part(spec, split, selection, drawn.names, drawn.labels, drawn=drawn))
        findings += found
    return parts, findings
