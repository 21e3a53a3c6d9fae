"""VOC's folder layout: where the data set lies, which classes it has, which files belong to a split."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from attnbn.data.classes import VOC_CLASSES, parse_classes
from attnbn.data.images import VOID
from attnbn.data.voc_augmented import augmented_lists, is_augmented, without_val
from attnbn.data.voc_labels import class_lists, read_lines
from attnbn.io.errors import InputError
from attnbn.io.pictures import is_picture
from attnbn.io.reading import refusal

_MASK_FOLDERS = ("SegmentationClass", "SegmentationClassAug")
"""VOC's own masks, then those of SBD as they are commonly added; the first that has a photograph's mask wins."""
_ABOVE = ("VOC*", "VOCdevkit/VOC*", "TrainVal/VOCdevkit/VOC*")
"""Where the data set may lie below the folder that is named; the last is how the archive of 2011 unpacks."""


def roots_in(path: Path) -> list[Path]:
    """The folders at or below a named one that hold ``JPEGImages``."""
    if (path / "JPEGImages").is_dir():
        return [path]
    return sorted({p.parent for pattern in _ABOVE for p in path.glob(f"{pattern}/JPEGImages") if p.is_dir()})


def find_root(path: Path) -> Path:
    """The folder that holds ``JPEGImages``."""
    found = roots_in(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"expected one data set in VOC's layout, got {', '.join(map(str, found))}; "
            f"name the one wanted, e.g. voc:{found[-1]}: {path}"
        )
    raise InputError(
        f"expected VOC's layout, found no JPEGImages in it, in VOC*/ or in VOCdevkit/VOC*/; "
        f"name the folder that holds JPEGImages: {path}"
    )


def own_classes(root: Path) -> tuple[str, ...]:
    """The data set's classes in the order of its mask ids."""
    file = root / "classes.txt"
    if not file.is_file():
        return VOC_CLASSES
    names = [line for line in read_lines(file) if line]
    if not names or len(set(names)) < len(names) or len(names) >= VOID:
        raise InputError(
            f"expected 1 to {VOID - 1} class names, each once in a line of its own, got {len(names)} lines: {file}"
        )
    return parse_classes(names) or ()


def index_pictures(folder: Path) -> dict[str, str]:
    """Name -> file name of the pictures in a folder; empty where it does not exist.

    Raises:
        InputError: Two files of one name, or the folder may not be read.
    """
    files: dict[str, str] = {}
    try:
        found = sorted(os.listdir(folder)) if folder.is_dir() else []
    except OSError as error:
        raise refusal(error, "folder of pictures", folder) from None
    for file in found:
        if is_picture(file):
            name = os.path.splitext(file)[0]
            if name in files:
                raise InputError(f"expected one file per name, got {files[name]} and {file}; remove one: {folder}")
            files[name] = file
    return files


def mask_index(root: Path) -> dict[str, str]:
    """Name -> mask file relative to the root."""
    masks: dict[str, str] = {}
    for folder in _MASK_FOLDERS:
        for name, file in index_pictures(root / folder).items():
            masks.setdefault(name, f"{folder}/{file}")
    return masks


def split_names(root: Path, split: str, photos: dict[str, str], masks: dict[str, str], with_masks: bool) -> list[str]:
    """The photographs of a split, each with its files in place."""
    if split == "all":
        names = [name for name in photos if name in masks] if with_masks else list(photos)
        if not names:
            raise InputError(f"expected photographs{' with masks' if with_masks else ''}, found none: {root}")
        return names
    lists = split_lists(root, split, with_masks)
    names = list(dict.fromkeys(name for file in lists for name in _listed_names(file, photos)))
    if is_augmented(split):
        names = without_val(root, lists, names)
    if not names:
        raise InputError(
            f"expected photographs in the split {split!r}, got an empty list; "
            f"splits here: {_available(root)}: {lists[0]}"
        )
    for name in names:
        if name not in photos:
            stem = bare(name, photos)
            remedy = f"names have no endings (write {stem})" if stem else "add it or take the name out"
            raise InputError(
                f"expected a photograph for every name of {lists[0].name}, found none for {name!r}; "
                f"{remedy}: {root / 'JPEGImages' / name}.jpg"
            )
        if with_masks and name not in masks:
            raise _no_mask(root, split, lists[0].name, name)
    return names


def bare(name: str, photos: Mapping[str, str]) -> str:
    """A name that is a photograph's but for its ending, without it; else nothing.

    >>> bare("a.jpg", {"a": "a.jpg"}), bare("b.jpg", {"a": "a.jpg"})
    ('a', '')
    """
    start = os.path.splitext(name)[0]
    return start if is_picture(name) and name not in photos and start in photos else ""


def _no_mask(root: Path, split: str, listed: str, name: str) -> InputError:
    remedy = "add it or take the name out"
    if split == "test":
        remedy = "VOC 2008 to 2012 keep the masks of their test images: make them with attnbn submit for the server"
    elif is_augmented(split):
        remedy = "add SegmentationClassAug (the .mat files of SBD are not read), or measure on train or val"
    return InputError(
        f"expected a mask for every name of {listed}, found none for {name!r}; "
        f"{remedy}: {root / 'SegmentationClass' / name}.png"
    )


def split_lists(root: Path, split: str, with_masks: bool) -> list[Path]:
    """The files that together list a split.

    Args:
        root: The data set.
        split: Its name.
        with_masks: Whether the list of ``Segmentation`` is looked for first.

    Raises:
        InputError: There are none.
    """
    sets = root / "ImageSets"
    segmentation, main = sets / "Segmentation" / f"{split}.txt", sets / "Main" / f"{split}.txt"
    per_class = [file for label in own_classes(root) if (file := sets / "Main" / f"{label}_{split}.txt").is_file()]
    order = [[segmentation], [main], per_class] if with_masks else [[main], per_class, [segmentation]]
    found = next((files for files in order if files and files[0].is_file()), None)
    if found is None and is_augmented(split):
        return augmented_lists(root)
    # a separator in the name would leave the folder
    if found is None or PurePosixPath(split).name != split:
        raise InputError(f"no split {split!r}; splits here: {_available(root)}: {sets}")
    return found


def _available(root: Path) -> str:
    """The splits of a data set, for messages."""
    sets = root / "ImageSets"
    splits = {file.stem for file in sets.glob("Segmentation/*.txt")}
    per_class = {file for label in own_classes(root) for file in class_lists(sets / "Main", label)}
    splits |= {file.stem for file in sets.glob("Main/*.txt") if file not in per_class}
    splits |= {file.stem.rpartition("_")[2] for file in per_class}
    return ", ".join([*sorted(splits), "all"])


def _listed_names(file: Path, photos: dict[str, str]) -> list[str]:
    """Names in a list, also in lists of a class (``name -1``) and of paths (``/JPEGImages/name.jpg ...``)."""
    names = []
    for line in read_lines(file):
        if not line:
            continue
        token = line if line in photos else line.split()[0]
        names.append(token if token in photos else PurePosixPath(token).stem if "/" in token else token)
    return names
