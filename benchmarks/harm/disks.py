"""A disk of one's own: a file system in memory that can be filled up or made read-only while a command writes to it."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

_REMOUNT, _READ_ONLY, _NEW_NAMESPACE = 32, 1, 0x00020000
ROOM = 256 * 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")


class NoMountsError(Exception):
    """This process may not mount anything."""


class Disk:
    """A tmpfs mounted on a folder, seen by this process and those that it starts.

    Args:
        folder: Where; made if it is missing.

    Raises:
        NoMountsError: without the right to do so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._libc = ctypes.CDLL(None, use_errno=True)
        private = ["mount", "--make-rprivate", "/"]
        if self._libc.unshare(_NEW_NAMESPACE) or subprocess.run(private, capture_output=True, check=False).returncode:
            raise NoMountsError("no right to mount a file system")
        self._mount(0, f"size={ROOM}")

    def _mount(self, flags: int, options: str) -> None:
        where = os.fsencode(os.path.abspath(self.folder))
        if self._libc.mount(b"tmpfs", where, b"tmpfs", ctypes.c_ulong(flags), options.encode()):
            raise NoMountsError(f"could not mount: {os.strerror(ctypes.get_errno())}")

    def fill(self, spare: int = 0) -> None:
        """No room from now on but for so many bytes (whole pages)."""
        state = os.statvfs(self.folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        self._mount(_REMOUNT, f"size={max(PAGE, used + spare // PAGE * PAGE)}")

    def free(self) -> None:
        """Room again, and writable."""
        self._mount(_REMOUNT, f"size={ROOM}")

    def protect(self) -> None:
        """Read-only from now on."""
        self._mount(_REMOUNT | _READ_ONLY, f"size={ROOM}")


def on_a_disk(folder: Path, work: Callable[[Disk], dict[str, Any]]) -> dict[str, Any]:
    """Work in a process whose ``folder`` is a disk of its own; returns what it returns, or ``skipped`` with the reason."""
    answer = folder.parent / "answer.json"
    answer.unlink(missing_ok=True)

    def inside() -> None:
        try:
            found = work(Disk(folder))
        except NoMountsError as error:
            found = {"skipped": str(error)}
        answer.write_text(json.dumps(found))

    process = multiprocessing.get_context("fork").Process(target=inside)
    process.start()
    process.join()
    if not answer.is_file():
        return {"wrong": f"the trial itself ended with {process.exitcode}"}
    found: dict[str, Any] = json.loads(answer.read_text())
    return found
