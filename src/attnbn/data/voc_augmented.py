"""VOC's ``train_aug``: the 10,582 photographs on which segmentation networks are commonly trained.

They are the 1,464 of VOC 2012's segmentation ``train`` and those of SBD (Semantic Boundaries Data set, Hariharan et al.,
ICCV 2011: 8,498 of ``train``, 2,857 of ``val``) that lie in neither VOC's ``train`` nor its ``val`` (1,449):
1,464 + 6,820 + 2,298. SBD's own ``train`` holds images of VOC's ``val``, so it is no list to train on.

Only the list is of interest here. SBD's masks train fully supervised networks; image-level methods take the labels of the
same photographs from VOC's lists and annotations, and no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbn.data.voc_labels import read_lines
from attnbn.io.errors import InputError

COMMON = 10_582
"""Photographs in the list that papers speak of."""
_NAMES = ("train_aug", "trainaug")
_SBD = ("benchmark_RELEASE/dataset", "SBD", "sbd", "SBD/benchmark_RELEASE/dataset", "sbd/benchmark_RELEASE/dataset")
"""What SBD's folder of lists is called beside VOC: as its archive unpacks, and as torchvision lays it out."""


def is_augmented(split: str) -> bool:
    """Whether a split is the one of VOC and SBD together, by either of its names.

    >>> is_augmented("trainaug")
    True
    """
    return split in _NAMES


def augmented_lists(root: Path) -> list[Path]:
    """The files that together list ``train_aug``.

    The list of ``ImageSets/Segmentation`` under its other name; else its ``train`` and ``aug``, as one field's toolbox parts
    it; else VOC's ``train`` and SBD's two, where SBD lies beside VOC's folder, beside ``VOCdevkit``, or in one of them.

    Args:
        root: The folder that holds ``JPEGImages``.

    Raises:
        InputError: There are none.
    """
    folder = root / "ImageSets" / "Segmentation"
    train = folder / "train.txt"
    sbd = _find_sbd(root)
    ways = [[folder / f"{name}.txt"] for name in _NAMES] + [[train, folder / "aug.txt"]]
    if sbd is not None:
        ways.append([train, sbd / "train.txt", sbd / "val.txt"])
    for files in ways:
        if all(file.is_file() for file in files):
            return files
    raise InputError(
        "no split 'train_aug', for which VOC 2012 alone is not enough; put the list trainaug.txt of 10,582 names there, or "
        f"SBD's folder benchmark_RELEASE beside VOCdevkit (attnbn download sbd): {folder}"
    )


def without_val(root: Path, lists: Sequence[Path], names: list[str]) -> list[str]:
    """Names without those of VOC's ``val``, where the names are SBD's; a finished list is taken as it is.

    Raises:
        InputError: VOC's ``val`` is not there to be left out.
    """
    if not _is_merged(lists):
        return names
    val = root / "ImageSets" / "Segmentation" / "val.txt"
    if not val.is_file():
        raise InputError(f"expected VOC's val, whose images are left out of SBD's, found none; unpack VOC again: {val}")
    apart = set(read_lines(val))
    return [name for name in names if name not in apart]


def augmented_notes(root: Path, lists: Sequence[Path], names: Sequence[str]) -> list[str]:
    """What a person should know of the list.

    Args:
        root: The folder that holds ``JPEGImages``.
        lists: The files it was made of.
        names: Its names.
    """
    made = f"VOC's train and SBD's train and val without VOC's val ({lists[-1].parent})" if _is_merged(lists) else ""
    made = made or " and ".join(file.name for file in lists)
    count = "" if len(names) == COMMON else f"; the common list has {COMMON:,}"
    lines = [
        f"train_aug is {made}: {len(names):,} names{count}",
        "no training reads the masks of train_aug (SBD's, SegmentationClassAug): its labels are of whole images",
    ]
    val = root / "ImageSets" / "Segmentation" / "val.txt"
    shared = len(set(names) & set(read_lines(val))) if val.is_file() else 0
    if shared:
        lines.append(f"{shared:,} of its names are in VOC's val too: figures on val would be of images trained on")
    return lines


def _is_merged(lists: Sequence[Path]) -> bool:
    """Whether the last of the lists is SBD's."""
    return len(lists) == 3


def _find_sbd(root: Path) -> Path | None:
    root = root.resolve()
    places = (above / name for above in (root, root.parent, root.parent.parent) for name in _SBD)
    return next((place for place in places if (place / "train.txt").is_file() and (place / "val.txt").is_file()), None)
