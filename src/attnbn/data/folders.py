"""``folders:PATH``: a folder per class, every photograph below it an example of that one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from attnbn.data.classes import select_classes
from attnbn.data.photos import PhotoDataset, SaliencySource, unique_names
from attnbn.io.errors import InputError
from attnbn.io.pictures import is_picture, list_pictures

_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))


def open_folders(
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
) -> PhotoDataset:
    """List a folder of class folders.

    Args:
        root: Holds a folder per class; sub-folders are part of their class.
        classes: The classes to use, in order; None: all, sorted.
        class_map: Folder names -> class names; several folders may make one class.
        saliency: Where saliency maps come from.
        labels: Whether to give labels; the folders still say which photographs belong to the wanted classes.

    Raises:
        InputError: No class folders, an empty one, folders that look like splits, or a wanted class without a folder.
    """
    title = f"folders:{root}"
    entries = sorted(root.iterdir(), key=lambda entry: entry.name)
    own = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    _check_class_folders(root, own)
    selection = select_classes(own, classes, class_map, title)
    files: list[str] = []
    places: list[int] = []
    for name, place in zip(own, selection.index, strict=True):
        if place is None:
            continue
        found = [f"{name}/{file}" for file in list_pictures(root / name)]
        if not found:
            raise InputError(
                f"expected photographs of class {name!r}, found none; "
                f"add some or leave the class out with --data.classes: {root / name}"
            )
        files += found
        places += [place] * len(found)
    table = torch.zeros(len(files), len(selection.classes))
    table[torch.arange(len(files)), torch.tensor(places, dtype=torch.long)] = 1
    return PhotoDataset(
        root,
        files,
        unique_names(files),
        selection.classes,
        table if labels else None,
        saliency=saliency,
        notes=_notes(own, selection.index, [entry.name for entry in entries if entry.is_file()]),
        title=title,
    )


def _check_class_folders(root: Path, own: list[str]) -> None:
    if not own:
        raise InputError(
            f"expected a folder per class, found no folder; move each class's photographs into one: {root}"
        )
    if len(own) > 1 and _SPLITS.issuperset(own):
        raise InputError(
            f"expected a folder per class, got folders named like splits ({', '.join(own)}); "
            f"name the one wanted, e.g. folders:{root / own[0]}: {root}"
        )


def _notes(own: list[str], index: Sequence[int | None], loose: list[str]) -> list[str]:
    """What was left out."""
    notes = []
    unused = [name for name, place in zip(own, index, strict=True) if place is None]
    if unused:
        shown = ", ".join(unused[:5]) + (", …" if len(unused) > 5 else "")
        notes.append(f"left out {len(unused):,} folder{'s' * (len(unused) != 1)} not among the classes ({shown})")
    photos = sum(map(is_picture, loose))
    if photos:
        notes.append(f"left out {photos:,} photograph{'s' * (photos != 1)} in no class folder")
    return notes
