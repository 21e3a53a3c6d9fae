"""The folder of cues while it is written: whose it is, which photographs are complete, and when all of them are.

What is complete is passed over when the work goes on. Each photograph's file carries a mark, a digest of the run, the
photographs and the settings; ``unfinished.json`` says in words what the mark stands for until ``cues.json`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from attnbn.data.cue_files import (
    ARCHIVE,
    MANIFEST,
    picture_file,
    read_seeds,
    remove_others,
    seeds_file,
    to_grid,
    write_seeds,
)
from attnbn.data.images import write_mask
from attnbn.inference.claim import as_stored, check_place, digest_of, hold, in_words, read_manifest
from attnbn.io.atomic import explained, write_json
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import FolderLock
from attnbn.io.inside import check_inside
from attnbn.segmentation.cues import seeds_to_mask

UNFINISHED, REPORT, PAGE = "unfinished.json", "report.json", "report.html"


class CueWork:
    """The folder that is written: whose it is, and which photographs are complete.

    Args:
        path: The folder.
        classes: Names of the N classes.
        grid: Rows and columns.
        made_by: What its cues are made by and of.
        overwrite: Take over a folder of other cues.
        shared: Other processes write to it too, each its share.

    Raises:
        InputError: It holds other cues, or other files, or another process is writing to it.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        grid: tuple[int, int],
        made_by: Mapping[str, Any],
        overwrite: bool,
        shared: bool = False,
    ) -> None:
        self.path, self.classes, self.grid = path, tuple(classes), grid
        self.made_by = as_stored({"classes": list(classes), "grid": list(grid), **made_by})
        self.mark = digest_of(self.made_by)
        self._begun = False
        check_place(path)
        # Looked for before what says whose the folder is, which is the first file that another process of this work leaves;
        # hidden ones are what it is just writing.
        occupied = path.is_dir() and any(file.name[0] != "." for file in path.iterdir())
        begun, ended = read_manifest(path / UNFINISHED), read_manifest(path / MANIFEST)
        earlier = ended if begun is None else begun
        if earlier is None and occupied:
            raise InputError(
                f"expected a new or empty folder, or one that attnbn cues made; choose another --output: {path}"
            )
        different = [] if earlier is None else _differences(earlier, self.made_by)
        if different and not overwrite:
            how = in_words(different, earlier or {}, self.made_by)
            raise InputError(
                f"expected a new folder or cues made alike, got others ({how}): choose another --output or say "
                f"--overwrite: {path}"
            )
        self.lock = FolderLock(path, shared=shared)
        if path.is_dir():
            hold(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release(remove=True)

    def complete(self, name: str) -> bool:
        """Whether the cues of a photograph are there and made by this run and these settings."""
        try:
            return read_seeds(seeds_file(self.path, name)).mark == self.mark and picture_file(self.path, name).is_file()
        except InputError:
            return False

    def write(self, name: str, cues: Tensor, labels: Tensor) -> None:
        """Write the cues of a photograph; the file that stands for it comes last."""
        check_inside(self.path, picture_file(self.path, name), seeds_file(self.path, name))
        self._begin()
        write_mask(picture_file(self.path, name), seeds_to_mask(cues))
        write_seeds(self.path, name, cues, labels=labels.tolist(), mark=self.mark)

    def _begin(self) -> None:
        """Say whose the folder is from now on; what stood for other cues goes."""
        hold(self.lock)
        ended = read_manifest(self.path / MANIFEST)
        if self._begun or (ended is not None and not _differences(ended, self.made_by)):
            return
        write_json(self.path / UNFINISHED, self.made_by)
        with explained(self.path):
            (self.path / MANIFEST).unlink(missing_ok=True)
        self._begun = True

    def read(self, name: str) -> tuple[Tensor, list[int]]:
        """The cues of a photograph and the indices of its labelled classes."""
        file = seeds_file(self.path, name)
        seeds = read_seeds(file)
        return to_grid(seeds.places, len(self.classes), self.grid, file), (seeds.labels - 1).tolist()

    def report(self, names: Sequence[str]) -> dict[str, Any] | None:
        """The report of a folder that is finished for exactly these photographs; else None."""
        ended = read_manifest(self.path / MANIFEST)
        if ended is None or _differences(ended, self.made_by) or ended.get("names") != list(names):
            return None
        if not all((self.path / name).is_file() for name in (PAGE, ARCHIVE)):
            return None
        with explained(self.path):  # a process may have been killed just before it did so
            (self.path / UNFINISHED).unlink(missing_ok=True)
        return read_manifest(self.path / REPORT)

    def end(self, names: Sequence[str], left_out: Sequence[str]) -> None:
        """The last file: the folder is complete; the photographs left out stand in it by name too."""
        remove_others(self.path, names)
        write_json(self.path / MANIFEST, {**self.made_by, "names": list(names), "left_out": list(left_out)})
        with explained(self.path):
            (self.path / UNFINISHED).unlink(missing_ok=True)


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys in which two makings differ; settings by their own names."""
    keys = [key for key in now if earlier.get(key) != now[key]]
    if "settings" not in keys or not isinstance(earlier.get("settings"), dict):
        return keys
    names = [key for key in now["settings"] if earlier["settings"].get(key) != now["settings"][key]]
    return [key for key in keys if key not in ("settings", "grid")] + names
