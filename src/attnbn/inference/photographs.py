"""Photographs from files and folders, each with a name for its results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from attnbn.data.dataset import ImageDataset
from attnbn.data.images import read_image
from attnbn.data.packed import Packed
from attnbn.data.sample import Sample
from attnbn.io.errors import InputError
from attnbn.io.pictures import EXTENSIONS, is_picture
from attnbn.io.reading import check_file, refusal


class Photograph(NamedTuple):
    """A file and the name of its results.

    Attributes:
        path: The file.
        name: Unique, ``/`` between its parts; relative to the folder that was named, without the file's ending.
    """

    path: str
    name: str


class Photographs(ImageDataset):
    """Photographs without labels, as a data set.

    Args:
        photographs: From :func:`list_photographs`.
        classes: The classes that the network knows.
    """

    def __init__(self, photographs: Sequence[Photograph], classes: Sequence[str]) -> None:
        super().__init__(classes, [photograph.name for photograph in photographs], None, title="photographs")
        # both are what reading processes look at; see attnbn.data.packed
        self.paths = Packed(photograph.path for photograph in photographs)
        self._names = Packed(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self.paths[index]), None, None, None, self._names[index])


def list_photographs(paths: Sequence[str | os.PathLike[str]], leave_out: Path | None = None) -> list[Photograph]:
    """Find the photographs among files and folders.

    Folders are searched with their sub-folders, in sorted order; hidden files and files that are no images are passed
    over. A file named twice counts once. Where names collide, the ending is kept (``a.jpg``, ``a.png``), then the
    folder's own name comes before them.

    Args:
        paths: Files and folders. A file that is named is taken whatever its ending.
        leave_out: A folder not searched: that of the results.

    Returns:
        The photographs in the order of ``paths``.

    Raises:
        InputError: A path is missing, a pipe or a device, a folder cannot be read, nothing was found, or names collide
            still.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for path in map(Path, paths):
        if path.is_dir():
            for file in _walk(path, leave_out):
                found.setdefault(os.path.realpath(file), (path, file))
        elif os.path.lexists(path):
            check_file(path, "photograph")
            found.setdefault(os.path.realpath(path), (path.parent, path))
        else:
            raise InputError(f"expected a photograph or a folder of photographs, found nothing: {path}")
    if not found:
        listed = ", ".join(map(str, paths)) or "no path given"
        raise InputError(f"expected photographs ({', '.join(sorted(e[1:] for e in EXTENSIONS))}), found none: {listed}")
    roots_and_files = list(found.values())
    names = _unique_names(roots_and_files)
    return [Photograph(str(file), name) for (_, file), name in zip(roots_and_files, names, strict=True)]


def check_name(name: str) -> str:
    """The name, if a file of that name stays inside the folder that it is written to.

    Raises:
        InputError: It is empty, absolute, or leads out by ``..``.
    """
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in name:
        raise InputError(f"expected a name that stays inside the output folder, got {name!r}: rename the photograph")
    return name


def _walk(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    excluded = None if leave_out is None else os.path.realpath(leave_out)
    if os.path.realpath(folder) == excluded:
        raise InputError(f"expected an output folder other than the photographs' own: {folder}")
    seen: set[str] = set()

    def unreadable(error: OSError) -> None:
        raise refusal(error, "folder of photographs", error.filename or folder)

    for at, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(at)
        if real in seen or real == excluded:  # seen: links may lead in circles
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_picture(name):
                yield Path(at, name)


def _unique_names(files: Sequence[tuple[Path, Path]]) -> list[str]:
    """The shortest form of each name that no other file shares."""
    forms = [_forms(root, file) for root, file in files]
    levels = [0] * len(forms)
    while True:
        names = [form[level] for form, level in zip(forms, levels, strict=True)]
        counts = Counter(names)
        clashing = [i for i, name in enumerate(names) if counts[name] > 1]
        if not clashing:
            return [check_name(name) for name in names]
        longer = [i for i in clashing if levels[i] + 1 < len(forms[i])]
        if not longer:
            pair = [str(files[i][1]) for i in clashing if names[i] == names[clashing[0]]]
            raise InputError(f"expected photographs of different names, got {pair[0]} and {pair[1]}: rename one")
        for i in longer:
            levels[i] += 1


def _forms(root: Path, file: Path) -> list[str]:
    relative = file.relative_to(root)
    folder = root.resolve().name
    short = relative.with_suffix("").as_posix()
    long = relative.as_posix()
    return [short, long, f"{folder}/{short}", f"{folder}/{long}"] if folder else [short, long]
