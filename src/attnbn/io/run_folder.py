"""The run folder: what a training leaves behind, and who may write to it.

``config.yaml`` (everything resolved), ``checkpoints/``, ``metrics.jsonl`` (a line a log step), ``results.json`` (written last:
its presence means that the run is finished), ``report.html``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from attnbn.io.atomic import explained, remove_parts_of, write_json, write_text
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import LOCK, FolderLock
from attnbn.io.inside import check_inside
from attnbn.io.json_file import read_object
from attnbn.io.reading import read_bytes
from attnbn.io.yaml_file import read_yaml

CONFIG, METRICS, RESULTS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "results.json", "checkpoints"


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
        if not isinstance(config, dict):
            raise InputError(f"expected the settings of a run, got {type(config).__name__}: {path}")
        return config

    def results(self) -> dict[str, Any]:
        """The run's ``results.json``; empty while it is not finished."""
        path = self.path / RESULTS
        if not path.is_file():
            return {}
        return read_object(path, "the results of a run")

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
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = []
        if step > 0 and path.is_file():
            for line in read_bytes(path, "file of metrics").decode("utf-8", "replace").splitlines():
                try:
                    if int(json.loads(line)["step"]) <= step:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    continue
        write_text(path, "".join(kept))
        self.path = path
        with explained(path):
            self._file = path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with explained(self.path):
            self._file.write(json.dumps(dict(line)) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # each line was flushed, or has raised already
            self._file.close()
