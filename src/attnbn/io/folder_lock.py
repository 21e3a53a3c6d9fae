"""Who may write to a folder: one process, or several that share its work and nobody else."""

from __future__ import annotations

import fcntl
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attnbn.io.atomic import explained
from attnbn.io.errors import InputError

LOCK = ".lock"

_OPEN: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def _close_all() -> None:
    for file in _OPEN:
        file.close()


# A lock lives as long as any copy of its handle: loader processes must not keep it beyond the process that took it.
os.register_at_fork(after_in_child=_close_all)


class FolderLock:
    """The right to write to a folder; the operating system takes it back when the process ends, however it ends.

    Args:
        folder: The folder; the lock is a hidden file in it.
        shared: Any number of processes may hold it together, but none that wants the folder for itself.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self.folder, self.shared = folder, shared
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self, refusal: str) -> None:
        """Take it, unless it is held already.

        Args:
            refusal: What is said where another process holds it.

        Raises:
            InputError: it does, or something else stands in the place of the lock's file.
            RunError: there can be no lock: the folder is read-only, or its file system knows none.
        """
        path = self.folder / LOCK
        while self._file is None:
            if os.path.lexists(path) and not _plain(path):
                raise InputError(f"expected the file of a lock, got a link, a folder or a pipe; remove it: {path}")
            with explained(path):
                file = open(path, "w", opener=_open_own)  # noqa: SIM115 - it is kept
                try:
                    fcntl.flock(file, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except OSError as error:
                    file.close()
                    if isinstance(error, BlockingIOError):
                        raise InputError(f"{refusal}: {self.folder}") from error
                    raise
            if not _is(file, path):  # whoever had it before has just removed it
                file.close()
                continue
            self._file = file
            _OPEN.add(file)

    def release(self, *, remove: bool = False) -> None:
        """Let others write.

        Args:
            remove: The lock's file too, unless others share it.
        """
        if self._file is None:
            return
        try:
            if remove:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (self.folder / LOCK).unlink(missing_ok=True)
            fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError:  # others share it, or the folder has gone
            pass
        self._file.close()
        self._file = None


def _open_own(path: str, flags: int) -> int:
    """Without following a link, whose target would be emptied, and without waiting where a pipe was put in the lock's place."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Several trainings of one command: nobody else starts any in the folder, which is made if it is missing.

    Raises:
        InputError: another process does so already.
        RunError: the folder cannot be made, or there can be no lock in it.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    lock.take("another process is writing to this folder; wait for it or stop it first")
    try:
        yield
    finally:
        lock.release(remove=True)


def _plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:  # just removed, as locks are
        return True


def _is(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
