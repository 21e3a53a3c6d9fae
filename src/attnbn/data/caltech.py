"""``caltech101:PATH`` and ``caltech256:PATH``: Caltech's object categories, a folder for each, as distributed.

torchvision's classes of them want a folder of their own name above, number the pictures instead of listing them (so a
stray file shifts what is opened), and give no file names, by which saliency maps are found; so the folders are read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbn.data.class_folders import folders_in, open_class_folders
from attnbn.data.photos import PhotoDataset, SaliencySource
from attnbn.io.errors import InputError


@dataclass(frozen=True)
class _Layout:
    """One of the two data sets.

    Attributes:
        title: What people call it.
        kind: Of a data set's specification.
        folder: The folder of class folders as it is distributed.
        above: Where it may lie below the folder that is named.
        archive: What the folder is unpacked from.
        pattern: Names of class folders; the group is the class.
        known: Folders by which it is known under another name.
        background: The folder of pictures of no class.
    """

    title: str
    kind: str
    folder: str
    above: tuple[str, ...]
    archive: str
    pattern: re.Pattern[str]
    known: tuple[str, ...]
    background: str


_101 = _Layout(
    "Caltech-101",
    "caltech101",
    "101_ObjectCategories",
    ("", "caltech-101", "caltech101", "caltech101/caltech-101"),
    "101_ObjectCategories.tar.gz",
    re.compile(r"([^._].*)"),
    ("BACKGROUND_Google", "Faces_easy", "accordion"),
    "BACKGROUND_Google",
)
_256 = _Layout(
    "Caltech-256",
    "caltech256",
    "256_ObjectCategories",
    ("", "caltech256", "caltech-256"),
    "256_ObjectCategories.tar",
    re.compile(r"\d{3}\.(.+)"),
    ("257.clutter", "001.ak47", "056.dog"),
    "257.clutter",
)


def find_caltech(path: Path, kind: str) -> Path:
    """The folder that holds the class folders.

    Args:
        path: It, or a folder above.
        kind: ``caltech101`` or ``caltech256``.

    Raises:
        InputError: There is none.
    """
    layout = _layout(kind)
    if path.name == layout.folder or any((path / name).is_dir() for name in layout.known):
        return path
    places = [path / above for above in layout.above]
    for place in places:
        if (place / layout.folder).is_dir():
            return place / layout.folder
    packed = next((place / layout.archive for place in places if (place / layout.archive).is_file()), None)
    if packed is not None:
        raise InputError(
            f"expected {layout.title}'s folder {layout.folder}, found it packed; unpack it there with tar -xf: {packed}"
        )
    raise InputError(
        f"expected {layout.title}'s folder {layout.folder} in it, in {', in '.join(layout.above[1:])}, or as it, found none; "
        f"name the folder of class folders (other class folders are folders:{path}): {path}"
    )


def _layout(kind: str) -> _Layout:
    return {_101.kind: _101, _256.kind: _256}[kind]


def open_caltech101(path: Path, **options: object) -> PhotoDataset:
    """Open Caltech-101; the arguments are :func:`open_caltech`'s."""
    return open_caltech(path, _101.kind, **options)  # type: ignore[arg-type]


def open_caltech256(path: Path, **options: object) -> PhotoDataset:
    """Open Caltech-256; the arguments are :func:`open_caltech`'s."""
    return open_caltech(path, _256.kind, **options)  # type: ignore[arg-type]


def open_caltech(
    path: Path,
    kind: str,
    *,
    classes: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    saliency: SaliencySource | None = None,
    labels: bool = True,
) -> PhotoDataset:
    """Open one of the two data sets.

    Args:
        path: The folder of class folders, or one above.
        kind: ``caltech101`` or ``caltech256``.
        classes: The classes to use, in order; None: all, sorted by their folders.
        class_map: Names of classes (of Caltech-256 without their number) -> names of the run.
        saliency: Where saliency maps come from.
        labels: Whether to give labels.

    Raises:
        InputError: Another layout, or a wanted class that it does not have or that holds no photograph.
    """
    layout = _layout(kind)
    root = find_caltech(path, kind)
    folders = folders_in(root)
    found = {folder: match[1] for folder in folders if (match := layout.pattern.fullmatch(folder))}
    notes = []
    if found.pop(layout.background, None):
        notes.append(f"left out {layout.background}, pictures of no class")
    odd = [folder for folder in folders if folder[0] != "." and not layout.pattern.fullmatch(folder)]
    if odd:
        these = f"{len(odd):,} folders that are no classes" if len(odd) > 1 else "1 folder that is no class"
        notes.append(f"left out {these} ({', '.join(odd[:5])})")
    if not found:
        raise InputError(f"expected {layout.title}'s class folders, found none; unpack it again: {root}")

    def refuse(folder: Path, name: str) -> None:
        raise InputError(f"expected photographs of class {name!r}, found none; unpack {layout.archive} again: {folder}")

    return open_class_folders(
        root,
        found,
        classes=classes,
        class_map=class_map,
        saliency=saliency,
        labels=labels,
        title=f"{kind}:{root}",
        notes=notes,
        flat=True,
        check=refuse,
    )
