"""``KIND:PATH`` to a data set: the one place that knows the kinds."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnbn.data.class_maps import ClassMap, resolve_class_map
from attnbn.data.classes import parse_classes
from attnbn.data.dataset import ImageDataset
from attnbn.data.photos import SaliencySource
from attnbn.io.errors import InputError

KINDS = {
    "folders": ("attnbn.data.folders", "open_folders"),
    "voc": ("attnbn.data.voc", "open_voc"),
    "csv": ("attnbn.data.csv_list", "open_csv"),
    "caltech101": ("attnbn.data.caltech", "open_caltech101"),
    "caltech256": ("attnbn.data.caltech", "open_caltech256"),
    "imagenet": ("attnbn.data.imagenet", "open_imagenet"),
    "masks": ("attnbn.data.masks_folder", "open_masks"),
    "scenes": ("attnbn.data.scenes", "open_scenes"),
}
"""Kind -> module and function of its reader; a reader is imported when a data set of its kind is opened."""
_LANDMARKS = {
    "101_ObjectCategories": "caltech101",
    "256_ObjectCategories": "caltech256",
    "ILSVRC": "imagenet",
    "CLS-LOC": "imagenet",
    "JPEGImages": "voc",
    "VOCdevkit": "voc",
    "ImageSets": "voc",
    "GroundTruth": "masks",
}
"""Folders that tell the kind of the data set that they are, or lie in."""
_WITH_MASKS = ("voc", "masks")
_WITH_SPLITS = (*_WITH_MASKS, "imagenet")


def open_dataset(
    spec: str,
    *,
    split: str,
    classes: str | Sequence[str] | None = None,
    class_map: ClassMap = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
    masks: bool = False,
) -> ImageDataset:
    """Open a data set.

    Args:
        spec: ``KIND:PATH``, or ``scenes:`` with a domain of the program's own.
        split: For ``voc``, ``masks``, ``imagenet`` and ``scenes``; the others have no splits, all of them is used.
        classes: The classes, in order; None: the data set's own.
        class_map: The data set's names -> names of the run, or a table's name.
        saliency: Where the saliency maps of photographs come from; scenes bring their own.
        labels: Whether to read labels; without, no source of labels is opened.
        masks: Whether samples carry masks.

    Raises:
        InputError: An unknown kind, a path without kind, a missing path, masks of a kind that has none, or what the
            reader finds wrong.
    """
    kind, path = _parse(spec)
    module, function = KINDS[kind]
    options: dict[str, Any] = {"classes": parse_classes(classes), "labels": labels}
    if kind == "scenes":
        return _read(module, function, path, split=split, masks=masks, **options)
    place = Path(path).expanduser()
    _check_path(kind, place)
    options |= {"class_map": resolve_class_map(class_map), "saliency": saliency}
    if kind in _WITH_MASKS:
        return _read(module, function, place, split=split, masks=masks, **options)
    if masks:
        raise InputError(
            f"expected a data set with masks, got {kind}:, which has none; use voc:PATH or masks:PATH: {place}"
        )
    if kind in _WITH_SPLITS:
        return _read(module, function, place, split=split, **options)
    dataset = _read(module, function, place, **options)
    if split not in ("train", "all"):
        dataset.notes.append(f"{kind}: has no splits, so all images stand for {split!r}")
    return dataset


def place_of(spec: str) -> tuple[str, str]:
    """Kind and place of a data set; equal for two ways of naming the same one."""
    kind, path = _parse(spec)
    if kind == "scenes":
        return kind, path
    place = Path(path).expanduser().resolve()
    return kind, str(_root(kind, place).resolve())


def _root(kind: str, place: Path) -> Path:
    """The folder that the reader of a kind finds at or below the one that is named."""
    if kind not in ("folders", "csv", "voc"):
        _check_path(kind, place)
    if kind == "voc":
        from attnbn.data.voc_layout import find_root

        return find_root(place)
    if kind in ("caltech101", "caltech256"):
        from attnbn.data.caltech import find_caltech

        return find_caltech(place, kind)
    if kind == "imagenet":
        from attnbn.data.imagenet import find_imagenet

        return find_imagenet(place)
    if kind == "masks":
        from attnbn.data.masks_folder import find_folders

        return find_folders(place).root
    return place


def has_masks(spec: str) -> bool:
    """Whether a data set of this specification can have masks at all.

    Raises:
        InputError: As :func:`open_dataset`, for the specification.
    """
    kind, path = _parse(spec)
    if kind != "voc":
        return kind in ("scenes", "masks")
    from attnbn.data.voc_layout import find_root, mask_index

    place = Path(path).expanduser()
    _check_path(kind, place)
    return bool(mask_index(find_root(place)))


def _read(module: str, function: str, place: str | Path, **options: Any) -> ImageDataset:
    dataset: ImageDataset = getattr(importlib.import_module(module), function)(place, **options)
    return dataset


def _parse(spec: str) -> tuple[str, str]:
    """Kind and path, or a line that says how to write it."""
    kind, colon, path = spec.partition(":")
    if colon and path and kind in KINDS:
        return kind, path
    kinds = ", ".join(KINDS)
    if colon and kind in KINDS:
        raise InputError(f"expected {kind}:PATH, got no path: {spec}")
    place = Path(spec).expanduser()
    # a path that exists, or looks like one, lacks its kind; anything else names a kind we do not have
    if place.exists() or not colon or "/" in kind or "\\" in kind or len(kind) == 1:
        raise InputError(f"expected KIND:PATH, KIND one of {kinds}; got a path alone; write {_guess(place)}:{spec}")
    raise InputError(
        f"expected KIND:PATH, KIND one of {kinds}; got the kind {kind!r}; "
        f"for a folder per class write folders:{path or 'PATH'}"
    )


def _guess(place: Path) -> str:
    """The kind that a path looks like."""
    if place.suffix.lower() == ".csv":
        return "csv"
    return next((kind for name, kind in _LANDMARKS.items() if place.name == name or (place / name).is_dir()), "folders")


def _check_path(kind: str, place: Path) -> None:
    wanted = "file" if kind == "csv" else "folder"
    if not place.exists():
        raise InputError(f"expected a {wanted} for {kind}:, found nothing; check the path: {place}")
    if place.is_dir() == (kind == "csv"):
        got = "folder" if place.is_dir() else "file"
        raise InputError(f"expected a {wanted} for {kind}:, got a {got}; write {_guess(place)}:{place}: {place}")
