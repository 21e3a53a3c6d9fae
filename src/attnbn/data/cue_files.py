"""A folder of localisation cues: for each photograph the grid cells that surely belong to a class or to the background.

``cues.json`` says what the folder holds and is written last, so its presence means that the folder is complete.
``seeds/NAME.safetensors`` are the cues of a photograph, ``png/NAME.png`` the same to look at, ``localization_cues.npz``
all of them in the layout of the field's tools. Channel 0 is the background, channel i + 1 class i.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbn.io.atomic import atomic_file, write_bytes
from attnbn.io.errors import InputError
from attnbn.io.inside import check_inside
from attnbn.io.json_file import read_object
from attnbn.io.reading import check_filled
from attnbn.io.text import is_utf8

MANIFEST, SEEDS, PICTURES, ARCHIVE = "cues.json", "seeds", "png", "localization_cues.npz"

FINEST = 1024
"""Rows and columns of a grid at most; a manifest from elsewhere must not ask for terabytes."""

_REMEDY = "write it anew with attnbn cues"
_ENTRY_TIME = (1980, 1, 1, 0, 0, 0)
"""Of the archive's entries, the earliest a zip can hold: the same cues give the same file."""


class Seeds(NamedTuple):
    """The cues of a photograph as they are stored.

    Attributes:
        places: int16 ``3×n``: channel, row and column of each cue.
        labels: int16 ``k``: channels of the classes that the photograph is labelled with, with a cue or without.
        mark: Of the run and the settings that made them.
    """

    places: Tensor
    labels: Tensor
    mark: str


class CueFolder:
    """A complete folder of cues, for reading.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        classes: Names of the N classes.
        grid: Rows and columns h, w.
        names: The photographs that have cues, in the order of their data set.
        left_out: Those of the data set that have none: they could not be read, or no class is surely there.
        settings: How the cues were made.

    Raises:
        InputError: There is no such folder, it is not finished, or its manifest is damaged.
    """

    path: Path
    classes: tuple[str, ...]
    grid: tuple[int, int]
    names: list[str]
    left_out: list[str]
    settings: dict[str, Any]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise InputError(f"expected a folder of cues, found none; make it with attnbn cues: {self.path}")
        manifest = self.path / MANIFEST
        if not manifest.is_file():
            if (self.path / SEEDS).is_dir():
                raise InputError(f"expected finished cues, these are not finished: run attnbn cues again: {self.path}")
            raise InputError(
                f"expected a folder of cues (with {MANIFEST}), found another; make it with attnbn cues: {self.path}"
            )
        stored = read_object(manifest, "a manifest of cues", largest=None, remedy=_REMEDY)
        try:
            self.classes = tuple(str(name) for name in stored["classes"])
            rows, columns = stored["grid"]
            self.grid = (int(rows), int(columns))
            if not 0 < min(self.grid) <= max(self.grid) <= FINEST:
                raise ValueError(f"a grid of {rows}×{columns}")
            self.names = [str(name) for name in stored["names"]]
            self.left_out = [str(name) for name in stored["left_out"]]
            self.settings = dict(stored["settings"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(
                f"expected a manifest of cues, could not read it ({error!r}); {_REMEDY}: {manifest}"
            ) from None
        self._known = frozenset(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def read(self, name: str) -> Tensor:
        """The cues of a photograph, bool ``(N + 1)×h×w``; a cell may carry none, or several in conflict.

        Raises:
            InputError: The folder has none of that name, or the file is missing, damaged or of other classes.
        """
        file = seeds_file(self.path, name)
        if name not in self._known:
            raise InputError(
                f"expected cues of the photograph {name!r}, the folder has none; make them with attnbn cues on the same data "
                f"and split, or take the photograph out: {file}"
            )
        return to_grid(read_seeds(file).places, len(self.classes), self.grid, file)


def seeds_file(folder: str | os.PathLike[str], name: str) -> Path:
    """Where the cues of a photograph are."""
    return Path(folder, SEEDS, f"{name}.safetensors")


def picture_file(folder: str | os.PathLike[str], name: str) -> Path:
    """Where the picture of a photograph's cues is."""
    return Path(folder, PICTURES, f"{name}.png")


def write_seeds(
    folder: str | os.PathLike[str],
    name: str,
    cues: Tensor,
    *,
    labels: Sequence[int] | None = None,
    mark: str = "",
) -> None:
    """Write the cues of a photograph; the file appears whole or not at all.

    Args:
        folder: The folder of cues.
        name: The photograph's, ``/`` between its parts.
        cues: bool ``(N + 1)×h×w``.
        labels: Indices in 0..N-1 of its labelled classes; None: those that have a cue.
        mark: Of the run and the settings that made them.

    Raises:
        ValueError: Not bool, or not of three dimensions.
        RunError: The file cannot be written.
    """
    if cues.ndim != 3 or cues.dtype != torch.bool:
        raise ValueError(f"expected cues bool (N + 1)×h×w, got {cues.dtype} {tuple(cues.shape)}")
    cues = cues.cpu()
    present = cues[1:].flatten(1).any(1).nonzero().flatten().tolist() if labels is None else list(labels)
    tensors = {
        "seeds": cues.nonzero().T.to(torch.int16).contiguous(),
        "labels": torch.tensor([index + 1 for index in present], dtype=torch.int16),
    }
    write_bytes(seeds_file(folder, name), safetensors.torch.save(tensors, {"mark": mark}))


def read_seeds(file: Path) -> Seeds:
    """Read what :func:`write_seeds` has written.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        if file.is_file():
            check_filled(file, "file of cues")
        with file.open("rb") as opened, safetensors.safe_open(_path_of(file, opened), "pt") as stored:
            seeds = Seeds(stored.get_tensor("seeds"), stored.get_tensor("labels"), (stored.metadata() or {})["mark"])
    except FileNotFoundError:
        raise InputError(f"expected the cues of a photograph, found no file; {_REMEDY}: {file}") from None
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"expected the cues of a photograph, got a damaged file ({reason}); {_REMEDY}: {file}"
        ) from None
    if seeds.places.ndim != 2 or len(seeds.places) != 3 or seeds.labels.ndim != 1:
        shapes = f"{tuple(seeds.places.shape)} and {tuple(seeds.labels.shape)}"
        raise InputError(f"expected seeds of 3×n and labels of k, got {shapes}; {_REMEDY}: {file}")
    return seeds


def _path_of(file: Path, opened: IO[bytes]) -> str:
    """What safetensors, which takes paths of UTF-8 alone, can open: of a photograph with another name by its number."""
    return str(file) if is_utf8(str(file)) else f"/dev/fd/{opened.fileno()}"


def to_grid(places: Tensor, num_classes: int, grid: tuple[int, int], file: Path) -> Tensor:
    """Stored places as cues on their grid.

    Args:
        places: Integers ``3×n``: channel, row, column.
        num_classes: N.
        grid: h and w.
        file: For messages.

    Returns:
        bool ``(N + 1)×h×w``.

    Raises:
        InputError: A place lies outside.
    """
    size = (num_classes + 1, *grid)
    channel, row, column = places.long()
    for values, end in zip((channel, row, column), size, strict=True):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < end:
            raise InputError(
                f"expected cues of {num_classes} classes on {grid[0]}×{grid[1]}, got a place outside; {_REMEDY}: {file}"
            )
    cues = torch.zeros(size, dtype=torch.bool)
    cues[channel, row, column] = True
    return cues


def write_archive(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Gather the cues of all photographs in ``localization_cues.npz``, one photograph in memory at a time.

    ``NAME_labels`` (channels of the labelled classes) and ``NAME_cues`` (channels, rows and columns) as the files that SEC
    and DSRG read, but a NumPy archive, which nothing has to be unpickled for, and under the photographs' names.

    Raises:
        InputError: The cues of a photograph are missing or damaged.
        RunError: The file cannot be written.
    """
    with (
        atomic_file(Path(folder, ARCHIVE)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in names:
            seeds = read_seeds(seeds_file(folder, name))
            for key, values in (("labels", seeds.labels), ("cues", seeds.places)):
                # a zip's names are text: odd bytes of a file's name are escaped
                text = name.encode("utf-8", "backslashreplace").decode()
                entry = zipfile.ZipInfo(f"{text}_{key}.npy", _ENTRY_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as into:
                    _write_array(into, values.numpy())


def _write_array(into: IO[bytes], values: NDArray[np.int16]) -> None:
    np.lib.format.write_array(into, np.ascontiguousarray(values), allow_pickle=False)


def remove_others(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove cues and pictures of other photographs, an earlier run's, and half-written files of a process that was killed."""
    check_inside(folder, *(Path(folder, room, "any") for room in (SEEDS, PICTURES)))
    known = list(names)
    for room, suffix, place in ((SEEDS, "safetensors", seeds_file), (PICTURES, "png", picture_file)):
        wanted = {place(folder, name) for name in known}
        for file in Path(folder, room).rglob(f"*.{suffix}"):
            if file not in wanted:
                file.unlink(missing_ok=True)
        for file in Path(folder, room).rglob(".*.part"):
            file.unlink(missing_ok=True)
