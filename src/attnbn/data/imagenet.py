"""``imagenet:PATH``: ImageNet's CLS-LOC (ILSVRC 2012 to 2017), the classes by their WordNet ids.

``Data/CLS-LOC/train/nXXXXXXXX/*.JPEG`` as distributed, or a folder of such folders. The images of ``val`` lie in one folder
and have their labels elsewhere, unless they were moved into class folders (as torchvision does). torchvision's class wants
the archives or a file made of them, and renames the classes; it is not used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from attnbn.data.class_folders import folders_in, open_class_folders
from attnbn.data.classes import select_classes
from attnbn.data.index import list_folders
from attnbn.data.photos import PhotoDataset, SaliencySource, unique_names
from attnbn.data.voc_labels import read_annotation, read_lines
from attnbn.io.errors import InputError

_SYNSET = re.compile(r"n\d{8}")
_BELOW = ("", "Data/CLS-LOC", "CLS-LOC", "ILSVRC/Data/CLS-LOC", "ILSVRC2012", "imagenet")
"""Where the folders of the splits may lie below the one that is named."""
_IMAGE = re.compile(r"ILSVRC\d{4}_\w+_\d{8}\.JPEG")


def find_imagenet(path: Path) -> Path:
    """The folder that holds ``train`` and ``val``, or itself the class folders.

    Raises:
        InputError: There is none.
    """
    if _synsets(path):
        return path
    for below in _BELOW:
        if _splits(path / below):
            return path / below
    raise InputError(
        f"expected ImageNet's CLS-LOC, found no class folders nXXXXXXXX in it, in train, in Data/CLS-LOC/train or in "
        f"ILSVRC/Data/CLS-LOC/train; unpack ILSVRC2012_img_train.tar and the archive of each class in it: {path}"
    )


def open_imagenet(
    path: Path,
    *,
    split: str,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
) -> PhotoDataset:
    """Open a split.

    Args:
        path: ``ILSVRC``, the folder above it, ``Data/CLS-LOC``, or a folder of class folders, which has no splits.
        split: ``train`` (also as ``all``), ``val``, or ``test``, which has no labels.
        classes: The classes to use, in order; None: all, sorted by their ids.
        class_map: WordNet ids -> names of the run.
        saliency: Where saliency maps come from.
        labels: Whether to read labels; the folders still say which photographs belong to the wanted classes.

    Raises:
        InputError: Another layout, an unknown split, labels that are nowhere, or a wanted class without a folder.
    """
    root = find_imagenet(path)
    folder, notes = root, []
    if _synsets(root):
        if split not in ("train", "all", root.name):
            notes.append(f"class folders without splits, so all images stand for {split!r}")
    else:
        there = _splits(root)
        if split == "all" and "train" in there:
            split = "train"
            notes.append("all: the images of train, none of val and test")
        if split not in there:
            raise InputError(f"no split {split!r}; splits here: {', '.join(there)}: {root}")
        folder = root / split
    title = f"imagenet:{root} {split}"
    if own := _synsets(folder):
        return open_class_folders(
            folder,
            {synset: synset for synset in own},
            classes=classes,
            class_map=class_map,
            saliency=saliency,
            labels=labels,
            title=title,
            notes=notes,
            flat=True,
            check=_refuse_empty,
        )
    return _open_flat(root, split, classes, class_map, saliency, labels, title)


def _open_flat(
    root: Path,
    split: str,
    classes: Sequence[str] | None,
    class_map: Mapping[str, str] | None,
    saliency: SaliencySource | None,
    labels: bool,
    title: str,
) -> PhotoDataset:
    """A split whose images lie in one folder, as those of ``val`` and ``test`` are distributed."""
    found, notes = list_folders(root, [split])
    files = [file for file in found[split] if "/" not in file]
    names = unique_names(files)
    table: torch.Tensor | None = None
    if labels:
        synsets = _labels(root, split, names)
        selection = select_classes(sorted(set(synsets)), classes, class_map, title)
        place_of = dict(zip(sorted(set(synsets)), selection.index, strict=True))
        kept = [(index, place) for index, synset in enumerate(synsets) if (place := place_of[synset]) is not None]
        if len(kept) < len(files):
            notes.append(f"left out {len(files) - len(kept):,} of {len(files):,} images with none of the classes")
        files, names = [files[index] for index, _ in kept], [names[index] for index, _ in kept]
        table = torch.zeros(len(kept), len(selection.classes))
        table[torch.arange(len(kept)), torch.tensor([place for _, place in kept], dtype=torch.long)] = 1
    else:
        # the classes are those of the training images, where they lie beside
        selection = select_classes(_synsets(root / "train") or list(classes or ()), classes, class_map, title)
        if selection.is_subset:
            notes.append("labels are not read, so images with none of the classes stay in")
    return PhotoDataset(
        root / split, files, names, selection.classes, table, saliency=saliency, notes=notes, title=title
    )


def _labels(root: Path, split: str, names: Sequence[str]) -> list[str]:
    """The WordNet id of each image, from the table of the Kaggle edition or the annotations of the boxes."""
    top = root.parent.parent
    tables = [folder / f"LOC_{split}_solution.csv" for folder in (root, root.parent, top, top.parent)]
    table = next((file for file in tables if file.is_file()), None)
    boxes = next(
        (folder for above in (top, root) if (folder := above / "Annotations" / "CLS-LOC" / split).is_dir()), None
    )
    if table is not None:
        found = _read_table(table)
        place = str(table)
    elif boxes is not None:
        found = {name: objects[0][0] for name in names if (objects := _objects(boxes / f"{name}.xml"))}
        place = str(boxes)
    else:
        raise InputError(
            f"expected labels of {split}'s images, which lie in one folder, found neither LOC_{split}_solution.csv beside "
            f"ILSVRC nor Annotations/CLS-LOC/{split}; add one, or move the images into class folders: {root / split}"
        )
    unlabelled = next((name for name in names if name not in found), None)
    if unlabelled is not None:
        raise InputError(f"expected a label for every image of {split}, found none for {unlabelled}: {place}")
    return [found[name] for name in names]


def _read_table(file: Path) -> dict[str, str]:
    """Rows ``ImageId,PredictionString``; the latter is a WordNet id and a box, once for each box."""
    found = {}
    for number, line in enumerate(read_lines(file), start=1):
        name, comma, boxes = line.partition(",")
        if not line or name == "ImageId":
            continue
        words = boxes.split()
        if not comma or not words or not _SYNSET.fullmatch(words[0]):
            raise InputError(
                f"expected an image's name and nXXXXXXXX with a box, got {line[:80]!r}: {file}, line {number}"
            )
        found[name] = words[0]
    return found


def _objects(file: Path) -> list[tuple[str, bool]]:
    return read_annotation(file) if file.is_file() else []


def _refuse_empty(folder: Path, name: str) -> None:
    raise InputError(f"expected images of {name}, found none; unpack {name}.tar there: {folder}")


def _synsets(folder: Path) -> list[str]:
    """Class folders in a folder, sorted."""
    return [name for name in folders_in(folder) if _SYNSET.fullmatch(name)] if folder.is_dir() else []


def _splits(folder: Path) -> list[str]:
    """Folders of splits that hold class folders, or images as they are named in this data set."""
    return [split for split in ("train", "val", "test") if _synsets(folder / split) or _is_flat(folder / split)]


def _is_flat(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(_IMAGE.fullmatch(entry.name) for entry in entries)
