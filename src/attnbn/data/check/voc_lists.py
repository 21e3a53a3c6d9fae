"""VOC's lists as they are, whatever they name: the splits, their names, and names that are written with an ending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from attnbn.data.check.findings import Problem
from attnbn.data.voc_augmented import augmented_lists, is_augmented, without_val
from attnbn.data.voc_labels import class_lists, read_lines
from attnbn.data.voc_layout import bare, own_classes, split_lists
from attnbn.io.errors import InputError


def is_augmentable(root: Path) -> bool:
    """Whether ``train_aug`` can be made of what is there."""
    try:
        augmented_lists(root)
    except InputError:
        return False
    return True


def splits_of(root: Path) -> list[str]:
    """The splits that ``ImageSets`` lists, by any of its lists."""
    sets = root / "ImageSets"
    try:
        own = own_classes(root)
    except InputError:
        own = ()
    per_class = {file for label in own for file in class_lists(sets / "Main", label)}
    named = {file.stem for file in sets.glob("Segmentation/*.txt")}
    named |= {file.stem for file in sets.glob("Main/*.txt") if file not in per_class}
    return sorted(named | {file.stem.rpartition("_")[2] for file in per_class})


def names_of(root: Path, split: str, photos: dict[str, str]) -> tuple[list[str], list[str]]:
    """Names in the list of ``Segmentation``, and in those of ``Main`` (of the classes, where there is no other)."""
    sets = root / "ImageSets"
    segmentation, main = sets / "Segmentation" / f"{split}.txt", sets / "Main" / f"{split}.txt"
    if split == "all" and not segmentation.is_file() and not main.is_file():
        return [], list(photos)
    if is_augmented(split):
        lists = split_lists(root, split, with_masks=False)
        names = [name for file in lists for name in listed_in(file, photos)]
        return [], without_val(root, lists, names)
    labels = own_classes(root)
    files = [main] if main.is_file() else [sets / "Main" / f"{label}_{split}.txt" for label in labels]
    others = [name for file in files if file.is_file() for name in listed_in(file, photos)]
    return (list(listed_in(segmentation, photos)) if segmentation.is_file() else []), others


def lists_of(root: Path, split: str, own: Sequence[str]) -> list[Path]:
    """All lists of a split that are there: of ``Segmentation``, of ``Main``, and of its classes."""
    sets = root / "ImageSets"
    files = [sets / "Segmentation" / f"{split}.txt", sets / "Main" / f"{split}.txt"]
    files += [sets / "Main" / f"{label}_{split}.txt" for label in own]
    return [file for file in files if file.is_file()]


def listed_in(file: Path, photos: dict[str, str]) -> Iterator[str]:
    """Names in a list: ``name``, ``name -1``, or ``/JPEGImages/name.jpg ...``."""
    for line in read_lines(file):
        if line:
            first = line if line in photos else line.split()[0]
            yield PurePosixPath(first).stem if "/" in first and first not in photos else first


def with_endings(
    root: Path, split: str, own: Sequence[str], listed: Sequence[str], photos: dict[str, str]
) -> Iterator[Problem]:
    """One finding for all lists of a split that name photographs with their endings.

    Args:
        root: The data set.
        split: The split.
        own: Classes that may have lists.
        listed: Its names.
        photos: Name -> file.
    """
    lists: dict[Path, list[str]] = {}
    for file in lists_of(root, split, own):
        try:
            lists[file] = [name for name in listed_in(file, photos) if bare(name, photos)]
        except InputError:  # what is wrong with it is found where it is read
            continue
    files = [file for file, names in lists.items() if names] or [root / "ImageSets"]
    everything = [*listed, *(name for names in lists.values() for name in names)]
    names = list(dict.fromkeys(name for name in everything if bare(name, photos)))
    if names:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        others = f" here and in {len(files) - 1:,} more of the split's lists" if len(files) > 1 else ""
        yield Problem("image-missing", str(files[0]), "names of photographs without endings", f"{names[0]}{more}",
                      f"drop the endings{others} (write {bare(names[0], photos)})", files=len(names))  # fmt: skip
