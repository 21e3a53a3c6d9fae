"""A command in a process of its own: forked from this one, which has imported everything, or started as a person does.

A forked process calls the command line's ``main`` with the same words; what it saves are the seconds of importing. In it the
places where files change can be counted and harmed: Python tells an audit hook of each before it happens.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from harm.jobs import OUT

LOG = "log.txt"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        seconds: How long it ran.
        said: What it printed, both streams.
    """

    status: int
    seconds: float
    said: str

    @property
    def killed(self) -> bool:
        return self.status in (-signal.SIGKILL, -signal.SIGXFSZ)


class Child:
    """A command under way, in a session of its own.

    Args:
        words: Of the command line.
        folder: Its working directory.
        inside: Called in the process before the command starts: where harm is prepared. Forked processes only.
        real: Start Python anew, as a person does.
        modules: File to which the process writes the names of what it has imported.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        inside: Callable[[], None] | None = None,
        real: bool = False,
        modules: Path | None = None,
    ) -> None:
        self.log = folder / LOG
        self.begun = time.monotonic()
        self._popen: subprocess.Popen[bytes] | None = None
        if real:
            with self.log.open("wb") as log:
                self._popen = subprocess.Popen(
                    [sys.executable, "-m", "attnbn", *words],
                    cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.pid = self._popen.pid
            return
        self._process = multiprocessing.get_context("fork").Process(
            target=_work, args=(list(words), folder, self.log, inside, modules)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def ended_within(self, seconds: float | None) -> bool:
        """Wait at most so long for its end."""
        if self._popen is None:
            return bool(connection.wait([self._process.sentinel], timeout=seconds))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is not None

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, limit: float = 300.0) -> Ended:
        """Wait for it; what is still there after the limit is killed, which shows in the status."""
        if not self.ended_within(limit):
            self.signal(signal.SIGKILL, group=True)
            self.ended_within(None)
        seconds = time.monotonic() - self.begun
        if self._popen is not None:
            status = self._popen.wait()
        else:
            self._process.join()
            status = self._process.exitcode or 0
            self._process.close()
        return Ended(status, seconds, self.log.read_text(errors="replace"))

    def sweep(self) -> None:
        """Kill what its process group still holds."""
        self.signal(signal.SIGKILL, group=True)


def run(words: Sequence[str], folder: Path, **more: Any) -> Ended:
    """Carry out a command and wait for it."""
    return Child(words, folder, **more).end()


def _work(words: list[str], folder: Path, log: Path, inside: Callable[[], None] | None, modules: Path | None) -> None:
    """What a forked process does."""
    with contextlib.suppress(PermissionError):
        os.setsid()
    os.chdir(folder)
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(to, stream)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    from attnbn.cli.main import main
    from attnbn.io.stopping import stop_cleanly

    stop_cleanly()
    if inside is not None:
        inside()
    try:
        status = main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 99
    if modules is not None:
        modules.write_text("\n".join(sorted(sys.modules)))
    sys.exit(status)


@dataclass
class At:
    """Something done to the process itself when it comes to its ``number``-th change of a file below ``out``.

    Attributes:
        number: Counted from 0.
        harm: What is done, just before the change; None: nothing, changes are only counted.
        counted: File to which the number so far is written, if any.
    """

    number: int = -1
    harm: Callable[[], None] | None = None
    counted: Path | None = None

    def __call__(self) -> None:
        """Begin to count, in this process."""
        here, own = os.path.abspath(OUT), os.getpid()
        seen = 0

        def ours(path: object) -> bool:
            return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(here)

        def step() -> None:
            nonlocal seen
            place, seen = seen, seen + 1
            if self.counted is not None:
                self.counted.write_text(str(seen))
            if place == self.number and self.harm is not None:
                self.harm()

        def hook(event: str, given: tuple[Any, ...]) -> None:
            if (event != "open" and event not in CHANGES) or os.getpid() != own:
                return
            if event == "open":
                if ours(given[0]) and given[2] & WRITING:
                    step()
            elif ours(given[0]) or (event in ("os.remove", "os.rmdir") and given[1] != -1):
                step()  # below a removed folder names come with its handle

        sys.addaudithook(hook)
        sync = os.fsync

        def fsync(file: Any) -> None:  # no audit event tells of it
            if os.getpid() == own:
                step()
            sync(file)

        os.fsync = fsync


def die(group: bool) -> Callable[[], None]:
    """``SIGKILL`` to the process itself, or to its whole group."""

    def harm() -> None:
        if group:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    return harm


def tear(size: int) -> Callable[[], None]:
    """From now on the system kills the process when a file of it would grow beyond so many bytes; the file keeps those."""

    def harm() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return harm
