"""``masks:PATH``: a folder of photographs, a folder of their masks, and a table of the classes.

The table is ``classes.txt``, a name a line in the order of the ids in grey or palette masks, or ``label_colors.txt`` where
masks are painted in colours (:mod:`attnbn.data.colour_table`). MSRC v2 is known without one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from torch import Tensor
from torchvision import tv_tensors

from attnbn.data.classes import Selection, select_classes
from attnbn.data.colour_table import msrc_table, read_table
from attnbn.data.images import read_mask
from attnbn.data.photos import PhotoDataset, SaliencySource
from attnbn.data.selected import run_ids, run_labels, with_class
from attnbn.data.voc_labels import from_masks, read_lines
from attnbn.data.voc_layout import index_pictures, own_classes
from attnbn.io.errors import InputError
from attnbn.io.reading import refusal

_PHOTOGRAPHS = ("images", "jpegimages", "photographs", "photos", "img", "image", "701_stillsraw_full")
_MASKS = ("groundtruth", "masks", "segmentationclass", "labels", "annotations", "gt", "mask", "labeledapproved_full")
"""Names of the two folders in lower case: as one would call them, and as MSRC v2 and CamVid do."""
_ENDINGS = ("", "_GT", "_gt", "_L", "_mask", "_label")
"""What masks are called after the names of their photographs."""
_LISTS = ("", "ImageSets", "ImageSets/Segmentation", "splits", "TextonBoostSplits")
_TABLES = ("classes.txt", "label_colors.txt")
_SPLITS = {"val": "validation", "train": "training"}

MaskReader = Callable[[Path, tuple[int, int] | None], tv_tensors.Mask]


class Folders(NamedTuple):
    """Where a data set lies.

    Attributes:
        root: The folder that holds the two.
        photographs: Of the photographs.
        masks: Of the masks.
    """

    root: Path
    photographs: Path
    masks: Path


def find_folders(path: Path) -> Folders:
    """The folders of photographs and masks, in ``path`` or in the only folder in it.

    Raises:
        InputError: There are none, several that may be meant, or a folder may not be read.
    """
    inside = [entry for entry in _entries(path) if entry.is_dir() and not entry.name.startswith((".", "__"))]
    for root, entries in ((path, inside), (inside[0], _entries(inside[0])) if len(inside) == 1 else (path, [])):
        photographs = [entry for entry in entries if entry.name.lower() in _PHOTOGRAPHS and entry.is_dir()]
        masks = [entry for entry in entries if entry.name.lower() in _MASKS and entry.is_dir()]
        if len(photographs) == len(masks) == 1:
            return Folders(root, photographs[0], masks[0])
        if photographs and masks:
            found = ", ".join(sorted(entry.name for entry in (*photographs, *masks)))
            raise InputError(
                f"expected one folder of photographs and one of masks, got {found}; move the others: {root}"
            )
    raise InputError(
        f"expected a folder images and a folder masks (or Images and GroundTruth, as in MSRC v2), found "
        f"{', '.join(entry.name for entry in inside[:5]) or 'no folder'}; name the two so: {path}"
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise refusal(error, "folder of photographs and masks", folder) from None


def open_masks(
    path: Path,
    *,
    split: str,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
    masks: bool = False,
) -> MasksDataset:
    """Open photographs with masks.

    Args:
        path: Holds the folders of photographs and of masks, and the table of classes.
        split: ``all``, or a list ``<split>.txt`` beside them; without any list all photographs stand for every split.
        classes: The classes to use; pixels of others become background, and images with none of them are left out.
        class_map: The table's names -> names of the run.
        saliency: Where saliency maps come from.
        labels: Whether to read labels. They come from the masks, so each is decoded: a class is there with one pixel.
        masks: Whether samples carry masks.

    Raises:
        InputError: Another layout, a damaged table, an unknown split, a photograph without a mask, or a mask that does not
            fit the table.
    """
    folders = find_folders(path)
    title = f"masks:{folders.root} {split}"
    notes: list[str] = []
    own, read = _table(folders, notes)
    selection = select_classes(own, classes, class_map, title)
    photographs, files = index_pictures(folders.photographs), index_pictures(folders.masks)
    names = _names(folders, split, photographs, notes)
    pairs = {name: _mask_of(name, files) for name in names} if labels or masks else {}
    lone = next((name for name, file in pairs.items() if file is None), None)
    if lone is not None:
        raise InputError(
            f"expected a mask for every photograph, found none for {lone!r}; add {lone}.png (or {lone}_GT.png, {lone}_L.png) "
            f"or take the photograph out: {folders.masks}"
        )
    masks_of = {name: file for name, file in pairs.items() if file is not None}
    table: Tensor | None = None
    if labels:
        found = from_masks(names, len(own), lambda name: read(folders.masks / masks_of[name], None).numpy())
        assert isinstance(found, Tensor)  # every photograph has a mask
        notes.append("labels from the masks: a class is there with one pixel")
        names, table = with_class(names, run_labels(found, selection), notes, title)
    elif selection.is_subset:
        notes.append("labels are not read, so images with none of the classes stay in")
    return MasksDataset(
        folders,
        [photographs[name] for name in names],
        names,
        selection,
        table,
        masks=[masks_of[name] for name in names] if masks else None,
        read=read,
        saliency=saliency,
        notes=notes,
        title=title,
    )


class MasksDataset(PhotoDataset):
    """Photographs with masks; built by :func:`open_masks`.

    Args:
        folders: Where they lie.
        files: Photographs.
        names: Their names.
        selection: The classes used.
        labels: ``len×N``, or None.
        masks: Mask of each, or None.
        read: Reads a mask to ids of the table's classes.
        saliency: Where saliency maps come from.
        notes: See :class:`~attnbn.data.dataset.ImageDataset`.
        title: Likewise.
    """

    def __init__(
        self,
        folders: Folders,
        files: list[str],
        names: list[str],
        selection: Selection,
        labels: Tensor | None,
        *,
        masks: list[str] | None,
        read: MaskReader,
        saliency: SaliencySource | None,
        notes: Sequence[str],
        title: str,
    ) -> None:
        super().__init__(
            folders.photographs,
            files,
            names,
            selection.classes,
            labels,
            saliency=saliency,
            has_masks=masks is not None,
            notes=notes,
            title=title,
        )
        self._folder = folders.masks
        self._masks = masks
        self._read = read
        self._ids = run_ids(selection)

    def read_mask(self, index: int, size: tuple[int, int]) -> tv_tensors.Mask:
        if self._masks is None:
            raise ValueError("this data set was opened without masks")
        mask = self._read(self._folder / self._masks[index], size)
        return tv_tensors.Mask(self._ids[mask.as_subclass(Tensor).long()])


def _table(folders: Folders, notes: list[str]) -> tuple[tuple[str, ...], MaskReader]:
    """The classes, and how a mask is read."""
    names, colours = (folders.root / table for table in _TABLES)
    if names.is_file() and colours.is_file():
        raise InputError(
            f"expected one table of classes, got {names.name} and {colours.name}; remove one: {folders.root}"
        )
    if names.is_file():
        own = own_classes(folders.root)
        return own, partial(_read_ids, len(own))
    if colours.is_file():
        table = read_table(colours)
        return table.classes, table.read
    if any(name.endswith("_GT") for name in index_pictures(folders.masks)):
        notes.append("MSRC v2's own colours: 21 classes; horse and mountain count as void, as its authors advise")
        table = msrc_table()
        return table.classes, table.read
    raise InputError(
        f"expected a table of classes, found none; write classes.txt (a name a line, in the order of the ids in the masks) or "
        f"label_colors.txt (a line 'red green blue name' for each colour): {folders.root}"
    )


def _read_ids(num_classes: int, path: Path, size: tuple[int, int] | None) -> tv_tensors.Mask:
    return read_mask(path, num_classes, size)


def _mask_of(name: str, files: Mapping[str, str]) -> str | None:
    return next((files[name + ending] for ending in _ENDINGS if name + ending in files), None)


def _names(folders: Folders, split: str, photographs: Mapping[str, str], notes: list[str]) -> list[str]:
    """The photographs of a split."""
    if not photographs:
        raise InputError(f"expected photographs, found none: {folders.photographs}")
    lists = _lists(folders.root, photographs)
    if split == "all" or not lists:
        if split not in ("train", "all"):
            notes.append(f"no lists of splits, so all images stand for {split!r}")
        return list(photographs)
    file = lists.get(split.lower()) or lists.get(_SPLITS.get(split.lower(), ""))
    if file is None:
        raise InputError(f"no split {split!r}; splits here: {', '.join([*sorted(lists), 'all'])}: {folders.root}")
    names = list(dict.fromkeys(_name(line, photographs) for line in read_lines(file) if line))
    missing = next((name for name in names if name not in photographs), None)
    if missing is not None:
        raise InputError(
            f"expected a photograph for every name of {file.name}, found none for {missing!r}; "
            f"add it or take the name out: {file}"
        )
    return names


def _lists(root: Path, photographs: Mapping[str, str]) -> dict[str, Path]:
    """Split in lower case -> its list: a text file whose first line names a photograph."""
    lists: dict[str, Path] = {}
    for folder in _LISTS:
        for entry in sorted(os.listdir(root / folder)) if (root / folder).is_dir() else ():
            file = root / folder / entry
            if entry.lower().endswith(".txt") and entry not in _TABLES and file.is_file():
                with file.open(encoding="utf-8-sig", errors="replace") as text:
                    first = next((line.strip() for line in text if line.strip()), "")
                if _name(first, photographs) in photographs:
                    lists.setdefault(file.stem.lower(), file)
    return lists


def _name(line: str, photographs: Mapping[str, str]) -> str:
    """``7_19_s``, ``7_19_s.bmp`` and ``Images/7_19_s.bmp masks/7_19_s.png`` to ``7_19_s``."""
    first = line if line in photographs else (line.split() or [""])[0]
    return first if first in photographs else PurePosixPath(first).stem
