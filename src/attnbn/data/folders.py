"""``folders:PATH``: a folder per class, every photograph below it an example of that one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attnbn.data.class_folders import open_class_folders
from attnbn.data.masks_folder import find_folders
from attnbn.data.photos import PhotoDataset, SaliencySource
from attnbn.data.voc_layout import roots_in
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
        InputError: No class folders, an empty one, folders that look like splits or are of another layout, or a wanted class
            without a folder.
    """
    title = f"folders:{root}"
    entries = sorted(root.iterdir(), key=lambda entry: entry.name)
    own = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    refuse_other_layout(root, own, classes, class_map)
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


def refuse_other_layout(
    root: Path, own: Sequence[str], classes: Sequence[str] | None = None, class_map: Mapping[str, str] | None = None
) -> None:
    """Refuse VOC's layout, and photographs with masks: their folders would be taken for classes.

    Args:
        root: The folder.
        own: The folders in it.
        classes: The classes wanted; folders that are named so are class folders, whatever lies beside them.
        class_map: Folder names -> class names.

    Raises:
        InputError: It has another layout; the message says how to name it.
    """
    if set(classes or ()) & {(class_map or {}).get(name, name) for name in own}:
        return
    shown = ", ".join(own[:5]) + (", …" if len(own) > 5 else "")
    if roots_in(root):
        raise InputError(f"expected a folder per class, got VOC's layout ({shown}); write voc:{root}: {root}")
    try:
        folders = find_folders(root)
    except InputError:
        return
    pair = folders.photographs, folders.masks
    if all(next(list_pictures(folder), None) is not None for folder in pair):
        raise InputError(
            f"expected a folder per class, got photographs and masks ({pair[0].name} and {pair[1].name}); "
            f"write masks:{root}: {root}"
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
