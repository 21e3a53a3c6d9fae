"""``folders:PATH``: a folder per class, every photograph below it an example of that one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attnbn.data.class_folders import open_class_folders
from attnbn.data.photos import PhotoDataset, SaliencySource
from attnbn.io.errors import InputError
from attnbn.io.pictures import is_picture

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
    loose = sum(is_picture(entry.name) for entry in entries if entry.is_file())
    return open_class_folders(
        root,
        {name: name for name in own},
        classes=classes,
        class_map=class_map,
        saliency=saliency,
        labels=labels,
        title=title,
        notes=[f"left out {loose:,} photograph{'s' * (loose != 1)} in no class folder"] if loose else [],
        check=_refuse_empty,
    )


def _refuse_empty(folder: Path, name: str) -> None:
    raise InputError(
        f"expected photographs of class {name!r}, found none; "
        f"add some or leave the class out with --data.classes: {folder}"
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
