"""Data sets of one folder for each class, of whatever layout: their photographs, names and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch

from attnbn.data.classes import select_classes
from attnbn.data.index import list_folders
from attnbn.data.photos import PhotoDataset, SaliencySource, unique_names
from attnbn.io.reading import refusal


def folders_in(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted; links to folders count, links in a circle do not.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        with os.scandir(path) as entries:
            # only of a link is the disc asked once more
            return sorted(e.name for e in entries if (os.path.isdir(e.path) if e.is_symlink() else e.is_dir()))
    except OSError as error:
        raise refusal(error, "folder of class folders", path) from None


def open_class_folders(
    root: Path,
    own: Mapping[str, str],
    *,
    classes: Sequence[str] | None,
    class_map: Mapping[str, str] | None,
    saliency: SaliencySource | None,
    labels: bool,
    title: str,
    notes: Sequence[str] = (),
    flat: bool = False,
    check: Callable[[Path, str], None] = lambda folder, name: None,
) -> PhotoDataset:
    """List the folders of the wanted classes; those of the others are not looked into.

    Args:
        root: Holds the folders.
        own: Folder -> class name; several folders may be one class.
        classes: The classes to use, in order; None: all, in the order of ``own``.
        class_map: Names of ``own`` -> names of the run.
        saliency: Where saliency maps come from.
        labels: Whether to give labels; the folders still say which photographs belong to the wanted classes.
        title: What the data set is called in messages.
        notes: What was left out already.
        flat: Photographs lie in the folder itself; what lies deeper is left out.
        check: Called with each folder, and its class, that holds no photograph; may raise.

    Raises:
        InputError: A wanted class that the data set does not have.
    """
    own_classes = list(dict.fromkeys(own.values()))
    selection = select_classes(own_classes, classes, class_map, title)
    place_of = dict(zip(own_classes, selection.index, strict=True))
    used = {folder: place for folder, name in own.items() if (place := place_of[name]) is not None}
    found, troubles = list_folders(root, list(used))
    files, places, deeper = Suffixed(), [], 0
    for folder, place in used.items():
        inside = found.pop(folder)
        if flat:
            kept = [file for file in inside if "/" not in file]
            deeper, inside = deeper + len(inside) - len(kept), kept
        if not inside:
            check(root / folder, own[folder])
        files.extend(folder, inside)
        places.append(np.full(len(inside), place))
    table: torch.Tensor | None = None
    if labels:
        table = torch.zeros(len(files), len(selection.classes))
        table[torch.arange(len(files)), torch.from_numpy(np.concatenate(places or [np.zeros(0, int)]))] = 1
    left_out = [own[folder] for folder in own if folder not in used]
    return PhotoDataset(
        root,
        files,
        files.names,
        selection.classes,
        table,
        saliency=saliency,
        notes=[*_notes(left_out, deeper), *notes, *troubles],
        title=title,
    )


def _notes(unused: Sequence[str], deeper: int) -> list[str]:
    lines = []
    if unused:
        shown = ", ".join(unused[:5]) + (", …" if len(unused) > 5 else "")
        lines.append(f"left out {len(unused):,} folder{'s' * (len(unused) != 1)} not among the classes ({shown})")
    if deeper:
        lines.append(f"left out {deeper:,} photograph{'s' * (deeper != 1)} in folders below the class folders")
    return lines


class Suffixed(Sequence[str]):
    """File names kept as the names of photographs and which ending each has: half the memory for a million of them.

    Attributes:
        names: As :func:`~attnbn.data.photos.unique_names` makes them.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._endings = [""]
        self._which = bytearray()

    def extend(self, folder: str, files: Sequence[str]) -> None:
        """Add the pictures of a folder, each once, by their paths in it.

        No name can occur in two folders, so each is made unique by itself.
        """
        if not files:
            return
        ending = files[0][files[0].rindex(".") :]
        if all(file.endswith(ending) for file in files):
            names = [f"{folder}/{file[: -len(ending)]}" for file in files]  # as different as the files are
            self._which += bytes([self._code(ending)]) * len(files)
        else:
            names = [f"{folder}/{name}" for name in unique_names(files)]
            self._which += bytes(
                self._code(file[len(name) - len(folder) - 1 :]) for file, name in zip(files, names, strict=True)
            )
        self.names += names

    def _code(self, ending: str) -> int:
        if ending not in self._endings:
            self._endings.append(ending)
        return self._endings.index(ending)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.names[index] + self._endings[self._which[index]]
