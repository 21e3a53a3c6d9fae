"""What VOC's evaluation server is sent, whatever the task: results of every photograph of a list, packed as an archive.

The results are collected in a folder beside the archive, whose name carries a digest of the run and its settings: a command
that was stopped goes on there. When all photographs are done the archive is written in one go and the folder removed.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import torch
from torch import Tensor

from attnbn.data.class_maps import ClassMap, resolve_class_map
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.open import open_dataset, place_of
from attnbn.data.voc_labels import read_lines
from attnbn.inference.claim import digest_of
from attnbn.io.atomic import atomic_file
from attnbn.io.errors import InputError, RunError

Result = TypeVar("Result")

ENDINGS = (".tar", ".tar.gz", ".tgz")

Lists = Literal["Main", "Segmentation"]
"""Folders of ``ImageSets``: each task has lists of its own."""


@dataclass(frozen=True)
class Submitted:
    """What was packed.

    Attributes:
        path: The archive.
        folder: Where the results lie in it.
        images: How many photographs they are of.
        resumed: How many of these an earlier, stopped command had done.
        notes: What a person should know of it.
    """

    path: Path
    folder: str
    images: int
    resumed: int
    notes: list[str]


def archive_path(output: str | os.PathLike[str]) -> Path:
    """Where the archive will be.

    Raises:
        InputError: Another ending, or a folder.
    """
    path = Path(output)
    if not path.name.endswith(ENDINGS) or path.name in ENDINGS:
        raise InputError(f"expected --output ending in {', '.join(ENDINGS)}, got {path.name!r}: {path}")
    if path.is_dir():
        raise InputError(f"expected --output to be a file, got a folder: {path}")
    return path


def listed(target: str, split: str, lists: Lists) -> ImageDataset:
    """The photographs of ``ImageSets/LISTS/SPLIT.txt``, without labels and masks.

    Raises:
        InputError: Data that are not VOC's, no such list, or a name without a photograph.
    """
    kind, place = place_of(target)
    if kind != "voc":
        raise InputError(f"expected VOC's own photographs, voc:PATH, got {kind}: {target}")
    file = Path(place, "ImageSets", lists, f"{split}.txt")
    if Path(split).name != split or not file.is_file():
        # Main also holds a list for each class, cat_train and so on
        known = {one.stem for one in file.parent.glob("*.txt") if one.stem.partition("_")[0] not in VOC_CLASSES}
        there = ", ".join(sorted(known)) or "none"
        raise InputError(f"expected the list of the split {split!r}, found none; splits there: {there}: {file}")
    everything = open_dataset(target, split="all", labels=False)
    if everything.classes != VOC_CLASSES:
        raise InputError(f"expected VOC's own 20 classes, which the server scores, got those of {place}/classes.txt")
    index = {name: number for number, name in enumerate(everything.names)}
    names = [name for name in dict.fromkeys(read_lines(file)) if name]
    if not names:
        raise InputError(f"expected photographs in the split {split!r}, got an empty list: {file}")
    for name in names:
        if name not in index:
            raise InputError(
                f"expected a photograph for every name of {file.name}, found none for {name!r}; the server wants them all: "
                f"{place}/JPEGImages/{name}.jpg"
            )
    return Subset(everything, [index[name] for name in names])


def voc_ids(classes: Sequence[str], class_map: ClassMap, run: str | os.PathLike[str]) -> tuple[Tensor, list[str]]:
    """From a run's mask ids to VOC's.

    Args:
        classes: The run's.
        class_map: VOC's names -> names of the run, as in its settings.
        run: For messages.

    Returns:
        uint8 ``N+1``, VOC's id of each of the run's, background first; and VOC's classes that the run does not know.

    Raises:
        InputError: A class is none of VOC's, or several of them in one.
    """
    names = resolve_class_map(class_map) or {}
    ids = [0]
    for name in classes:
        meant = [own for own in VOC_CLASSES if names.get(own, own) == name]
        if len(meant) != 1:
            came = f"{name!r}, which is {' and '.join(meant)} in one" if meant else f"{name!r}"
            raise InputError(
                f"expected a run on VOC's own classes, which the server scores, got the class {came}: {run}"
            )
        ids.append(VOC_CLASSES.index(meant[0]) + 1)
    return torch.tensor(ids, dtype=torch.uint8), [own for i, own in enumerate(VOC_CLASSES, start=1) if i not in ids]


class Work:
    """Results of single photographs, a file each, beside the archive that they will be packed in.

    Args:
        path: The archive.
        made_by: The run, its settings and the list.
        names: The photographs.
        ending: Of a file, with its dot.

    Attributes:
        folder: Where they are.
        files: By photograph.
        missing: Indices of the photographs that are still to do.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any], names: Sequence[str], ending: str) -> None:
        self.folder = path.with_name(f"{path.name}.{digest_of(made_by)[:12]}.work")
        self.files = {name: self.folder / f"{name}{ending}" for name in names}
        self.missing = [index for index, name in enumerate(names) if not self.files[name].is_file()]

    @property
    def resumed(self) -> int:
        """How many were there already."""
        return len(self.files) - len(self.missing)

    def fill(
        self,
        results: Iterable[tuple[str, Result]],
        write: Callable[[Path, Result], None],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Write what is missing.

        Raises:
            RunError: A photograph's result did not come.
        """
        for number, (name, result) in enumerate(results, start=1):
            write(self.files[name], result)
            if progress is not None:
                progress(number, len(self.missing))
        absent = [name for name, file in self.files.items() if not file.is_file()]
        if absent:
            raise RunError(
                f"expected results of every photograph, {absent[0]!r} has none; run the command again: {self.folder}"
            )

    def remove(self) -> None:
        """When all is packed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def pack(path: Path, folder: str, files: Mapping[str, Path]) -> None:
    """Write the archive whole or not at all; equal results make equal bytes.

    Args:
        path: The archive; gzip unless it ends in ``.tar``.
        folder: Where the files lie in it.
        files: By their names in it.
    """
    with atomic_file(path) as file:
        if path.name.endswith(".tar"):
            _write_tar(file, folder, files)
            return
        # neither name nor time in its header
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            _write_tar(packed, folder, files)


def _write_tar(file: IO[bytes] | gzip.GzipFile, folder: str, files: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in _folders(folder):
            archive.addfile(_entry(entry, tarfile.DIRTYPE, 0o755))
        for name in sorted(files):
            data = files[name].read_bytes()
            archive.addfile(_entry(f"{folder}/{name}", tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))


def _folders(folder: str) -> Iterator[str]:
    return accumulate(folder.split("/"), lambda above, name: f"{above}/{name}")


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, size, 0
    return info
