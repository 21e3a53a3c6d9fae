"""The run folder: what a training leaves behind, and who may write to it.

``config.yaml`` (everything resolved), ``checkpoints/``, ``metrics.jsonl`` (a line a log step), ``results.json`` (written last:
its presence means that the run is finished), ``report.html``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from attnbn.io.atomic import atomic_file, explained, remove_parts_of, sync_folder, write_json, write_text
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import LOCK, FolderLock
from attnbn.io.inside import check_inside
from attnbn.io.json_file import read_object
from attnbn.io.reading import lines_of
from attnbn.io.yaml_file import read_yaml

CONFIG, METRICS, RESULTS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "results.json", "checkpoints"

_UNFINISH = "delete the file and give the same command again (a training with --resume), the run goes on from its last checkpoint"
_ODD = 1000
"""Lines of a file of metrics that may be none: a kill leaves one."""


class RunFolder:
    """A run's folder, opened for reading or, by exactly one process, for writing.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = FolderLock(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def finished(self) -> bool:
        return (self.path / RESULTS).is_file()

    def begin(self, config: Mapping[str, Any], *, overwrite: bool) -> None:
        """Take an empty or new folder for a new run, lock it and write its ``config.yaml``.

        Raises:
            InputError: if the folder holds a run (finished or not), is being written, or holds anything else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"expected output to be a folder, got a file: {self.path}")
        if self.path.exists():
            try:
                self._clear(overwrite)
            except InputError:
                self.release()
                raise
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()
        with explained(self.path):
            self.checkpoints.mkdir(exist_ok=True)
        sync_folder(self.path.absolute().parent)
        write_text(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def _clear(self, overwrite: bool) -> None:
        inside = {p.name for p in self.path.iterdir()}
        if not inside - {LOCK}:
            return
        if CONFIG not in inside and self._unbegun(inside):
            self._acquire()
            remove_parts_of(self.path / CONFIG)
            return
        if CONFIG not in inside:
            raise InputError(f"expected an empty or new folder for the run, it holds other files: {self.path}")
        self._acquire()  # refuses a running one, with or without --overwrite
        if not overwrite:
            state = "a finished run" if self.finished else "an unfinished run (continue it with --resume)"
            raise InputError(
                f"the folder already holds {state}; choose another --output or add --overwrite: {self.path}"
            )
        with explained(self.path):
            (self.path / RESULTS).unlink(missing_ok=True)  # first: it says that the run is finished
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            for name in (METRICS, "report.html", CONFIG):  # the last says that this is a run
                (self.path / name).unlink(missing_ok=True)
        self._tidy()

    def _unbegun(self, inside: set[str]) -> bool:
        """Whether nothing but what :meth:`begin` makes before ``config.yaml`` is there: it was killed in between."""
        others = {name for name in inside - {LOCK} if not (name.startswith(f".{CONFIG}.") and name.endswith(".part"))}
        return not others - {CHECKPOINTS} and not (self.checkpoints.is_dir() and any(self.checkpoints.iterdir()))

    def _tidy(self) -> None:
        """Remove what a killed process had begun to write; the folder is locked."""
        remove_parts_of(*(self.path / name for name in (CONFIG, METRICS, RESULTS)))

    def discard_unstarted(self) -> None:
        """Remove what :meth:`begin` made, if the run has no checkpoint yet."""
        if self.checkpoints.is_dir() and any(self.checkpoints.iterdir()):
            return
        for name in (METRICS, CONFIG, LOCK):
            (self.path / name).unlink(missing_ok=True)
        for empty in (self.checkpoints, self.path):
            with contextlib.suppress(OSError):  # someone else's file is in it
                empty.rmdir()

    def reopen(self) -> None:
        """Lock an existing run's folder to continue it.

        Raises:
            InputError: if there is no run, or another process is writing to it.
        """
        self.config()
        self._acquire()
        self._tidy()

    def _acquire(self) -> None:
        check_inside(self.path, self.checkpoints / "any")
        self._lock.take("another process is writing to this run; wait for it or stop it first")

    def release(self) -> None:
        """Let others write."""
        self._lock.release()

    def config(self) -> dict[str, Any]:
        """The run's ``config.yaml``.

        Raises:
            InputError: if the folder holds no run, or its file is broken.
        """
        path = self.path / CONFIG
        if not path.is_file():
            raise InputError(f"expected the folder of a run (with {CONFIG}), found none: {self.path}")
        config = read_yaml(path)
        if config is None:
            raise InputError(
                "expected the settings of a run, got an empty file; bring it back from a copy, or train the run again "
                f"(--overwrite): {path}"
            )
        if not isinstance(config, dict):
            raise InputError(f"expected the settings of a run, got {type(config).__name__}: {path}")
        return config

    def results(self) -> dict[str, Any]:
        """The run's ``results.json``; empty while it is not finished."""
        path = self.path / RESULTS
        if not path.is_file():
            return {}
        return read_object(path, "the results of a run", remedy=_UNFINISH)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write ``results.json``, which marks the run as finished."""
        write_json(self.path / RESULTS, dict(results))


class Metrics:
    """``metrics.jsonl``: a line of JSON a log step, flushed at once.

    Opened at a step, it drops what an interrupted run had written beyond it (its last line may be half a line): those steps
    are run again and give the same numbers.

    Args:
        path: The file.
        step: Steps that are done; later lines are dropped.
        validated: Whether the validation after that step is done, if there is one; else its line is dropped too.

    Attributes:
        path: The file.
        step: Steps that were done when it was opened.
        logged: The last two of them that have a line of losses; 0 for one that is not there.

    Raises:
        InputError: An earlier one is no file of metrics.
        RunError: It cannot be written.
    """

    def __init__(self, path: Path, step: int, validated: bool = True) -> None:
        self.path, self.step = path, step
        self.logged = (0, 0)
        with atomic_file(path) as file:
            for line in self._lasting(validated) if step > 0 and path.is_file() else ():
                file.write(line)
        sync_folder(path.parent)
        with explained(path):
            self._file = path.open("a", encoding="utf-8")

    def _lasting(self, validated: bool) -> Iterator[bytes]:
        """Earlier lines up to the step, whole ones only."""
        odd = 0
        for line in lines_of(self.path, "file of metrics"):
            try:
                said = json.loads(line)
                at = int(said["step"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                odd += 1
                if odd > _ODD:
                    raise InputError(
                        f"expected a file of metrics, got more than {_ODD:,} lines that are none; delete the file, or bring it "
                        f"back from a copy: {self.path}"
                    ) from None
                continue
            if at < self.step or (at == self.step and (validated or "validation" not in said)):
                if "validation" not in said:
                    self.logged = (self.logged[1], at)
                yield line.rstrip() + b"\n"

    def lacking(self, every: int) -> str | None:
        """What its end should have had when it was opened and had not, in one line; None where nothing is missing.

        A crash of the machine may take lines that a training had written after the last :meth:`sync`; somebody may have taken
        the file away.

        Args:
            every: Steps from one line to the next, as they are set now; 0: there is none but at the end.
        """
        before, last = self.logged
        spacing = max(every, last - before if before else 0)
        if not spacing or self.step - last < spacing:
            return None
        return (
            f"{METRICS} lacks the lines from step {last + 1} to {self.step}; the training is not touched, its curves have a gap: "
            f"{self.path}"
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with explained(self.path):
            self._file.write(json.dumps(dict(line)) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Have all lines on the disk before a checkpoint counts on them.

        Raises:
            RunError: The disk is full or gone.
        """
        with explained(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # each line was flushed, or has raised already
            self._file.close()
