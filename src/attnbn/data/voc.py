"""``voc:PATH``: PASCAL VOC's own folder layout.

``JPEGImages/``, ``ImageSets/{Main,Segmentation}/<split>.txt``, labels from ``ImageSets/Main/<class>_<split>.txt``, else
``Annotations/``, else ``SegmentationClass/``. A data set of other classes names them in ``classes.txt``, a line each in
the order of their mask ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from attnbn.data import voc_labels
from attnbn.data.classes import Selection, select_classes
from attnbn.data.images import read_mask
from attnbn.data.photos import PhotoDataset, SaliencySource
from attnbn.data.selected import run_ids, run_labels, with_class
from attnbn.data.voc_augmented import augmented_notes, is_augmented
from attnbn.data.voc_layout import find_root, index_pictures, mask_index, own_classes, split_lists, split_names
from attnbn.io.errors import InputError


def open_voc(
    path: Path,
    *,
    split: str,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
    masks: bool = False,
) -> VocDataset:
    """Open a split of a data set in VOC's layout.

    Args:
        path: The folder that holds ``JPEGImages``, or a parent (``VOCdevkit``).
        split: A list of ``ImageSets/Segmentation`` where masks are wanted, of ``ImageSets/Main`` otherwise, or of the
            other one where the first has none; ``all``: every photograph (with a mask, where masks are wanted);
            ``train_aug``: also made of VOC and SBD (:mod:`attnbn.data.voc_augmented`).
        classes: The classes to use; pixels of others become background, and images with none of them are left out.
        class_map: VOC's names -> names of the run.
        saliency: Where saliency maps come from.
        labels: Whether to read labels.
        masks: Whether samples carry masks.

    Raises:
        InputError: Another layout, an unknown or empty split, a missing photograph or mask, photographs without labels.
    """
    root = find_root(path)
    title = f"voc:{root} {split}"
    own = own_classes(root)
    selection = select_classes(own, classes, class_map, title)
    photos = index_pictures(root / "JPEGImages")
    mask_files = mask_index(root) if labels or masks else {}
    names = split_names(root, split, photos, mask_files, masks)
    notes: list[str] = []
    if is_augmented(split):
        notes += augmented_notes(root, split_lists(root, split, masks), names)
    table: Tensor | None = None
    if labels:
        own_table, note = _labels(root, split, names, own, selection, mask_files)
        notes.append(note)
        table = run_labels(own_table, selection)
        names, table = with_class(names, table, notes, title)
    elif selection.is_subset:
        notes.append("labels are not read, so images with none of the classes stay in")
    return VocDataset(
        root,
        [photos[name] for name in names],
        names,
        selection,
        table,
        masks=[mask_files[name] for name in names] if masks else None,
        saliency=saliency,
        notes=notes,
        title=title,
    )


class VocDataset(PhotoDataset):
    """A split in VOC's layout; built by :func:`open_voc`.

    Args:
        root: The folder that holds ``JPEGImages``.
        files: Photographs in ``JPEGImages``.
        names: Their names.
        selection: The classes used.
        labels: ``len×N``, or None.
        masks: Path of each mask relative to ``root``, or None.
        saliency: Where saliency maps come from.
        notes: See :class:`~attnbn.data.dataset.ImageDataset`.
        title: Likewise.
    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        names: list[str],
        selection: Selection,
        labels: Tensor | None,
        *,
        masks: list[str] | None,
        saliency: SaliencySource | None,
        notes: Sequence[str],
        title: str,
    ) -> None:
        super().__init__(
            root / "JPEGImages",
            files,
            names,
            selection.classes,
            labels,
            saliency=saliency,
            has_masks=masks is not None,
            notes=notes,
            title=title,
        )
        self._data_root = root
        self._masks = masks
        self._num_own = len(selection.index)
        self._ids = run_ids(selection)

    def read_mask(self, index: int, size: tuple[int, int]) -> tv_tensors.Mask:
        if self._masks is None:
            raise ValueError("this data set was opened without masks")
        mask = read_mask(self._data_root / self._masks[index], self._num_own, size)
        return tv_tensors.Mask(self._ids[mask.as_subclass(Tensor).long()])


def _labels(
    root: Path, split: str, names: list[str], own: Sequence[str], selection: Selection, masks: dict[str, str]
) -> tuple[Tensor, str]:
    """Labels of the data set's own classes from the first place that labels every photograph, and a note on it."""
    needed = [label for label, place in zip(own, selection.index, strict=True) if place is not None]

    def mask(name: str) -> NDArray[np.uint8] | None:
        if name not in masks:
            return None
        pixels: NDArray[np.uint8] = read_mask(root / masks[name], len(own)).numpy()
        return pixels

    sources: dict[str, Callable[[], voc_labels.Labels]] = {
        "ImageSets/Main": lambda: voc_labels.from_lists(root, split, names, own, needed),
        "Annotations": lambda: voc_labels.from_annotations(root, names, own),
        "the masks": lambda: voc_labels.from_masks(names, len(own), mask),
    }
    if is_augmented(split):
        # VOC's lists have other splits' names; and a mask, which others train on, shall not even give its labels
        sources["ImageSets/Main"] = lambda: voc_labels.from_lists(root, "all", names, own, needed)
        del sources["the masks"]
    reasons = []
    for source, read in sources.items():
        table = read()
        if isinstance(table, str):
            reasons.append(table)
            continue
        # the lists of unused classes are not read, so a row of zeros may be an image of those
        if source != "ImageSets/Main" or not selection.is_subset:
            _check_labelled(table, names, source, root)
        return table, f"labels from {source}"
    server = "; VOC 2008 to 2012 keep the labels of their test images" if split == "test" else ""
    raise InputError(f"expected a label for every photograph, found {'; '.join(reasons)}{server}: {root}")


def _check_labelled(table: Tensor, names: list[str], source: str, root: Path) -> None:
    unlabelled = (table == 0).all(1).nonzero().flatten().tolist()
    if unlabelled:
        more = f" ({len(unlabelled):,} such photographs)" if len(unlabelled) > 1 else ""
        raise InputError(
            f"expected at least one class, got none in {source}{more}; "
            f"label it or take it out of the split: {root / 'JPEGImages' / names[unlabelled[0]]}.jpg"
        )
