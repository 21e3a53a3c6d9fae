"""What every odd file is read under: a time limit, and for bombs a process of its own whose memory is watched."""

from __future__ import annotations

import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import pytest

from attnbn.io.errors import InputError
from attnbn.io.text import printable

T = TypeVar("T")


class TooSlow(BaseException):
    """Not an ``Exception``: what is read must not be able to swallow it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise :class:`TooSlow` in a block that takes longer, also in one that waits for a pipe."""

    def ring(_: int, __: FrameType | None) -> None:
        raise TooSlow(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(read: Callable[[], object], path: str | Path | None, match: str = "") -> str:
    """The message of a refusal, after a look at its form: one line, what was expected, and the file."""
    with within(20), pytest.raises(InputError, match=match) as caught:
        read()
    message = str(caught.value)
    assert message.isprintable(), f"not one line of text: {message!r}"
    assert message.startswith(("expected ", "unknown ", "no ")), message
    if path is not None:
        assert printable(os.path.basename(path))[:50] in message
    return message


def read_or_refused(read: Callable[[], T], path: Path) -> T | None:
    """What a spoilt file was read as, or None where it was refused in one line that names it."""
    try:
        return read()
    except InputError as error:
        message = str(error)
    assert message.isprintable() and path.name in message, message
    return None


class Alone(NamedTuple):
    """What came of a call in a process of its own.

    Attributes:
        value: What it returned, or None.
        error: The message of an ``InputError``, or None.
        seconds: Of the processor.
        megabytes: By which its memory grew.
    """

    value: Any
    error: str | None
    seconds: float
    megabytes: float


def alone(read: Callable[[], Any], *, limit: int = 2 << 30) -> Alone:
    """Call in a forked process with ``limit`` bytes of address space more than now; any end but these two fails the test."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        _answer(read, limit, into)
    os.close(into)
    try:
        with within(30), os.fdopen(out, "rb") as file:
            answer = file.read()
    except TooSlow:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    assert status == 0 and answer, f"the reader's process ended by {os.waitstatus_to_exitcode(status)}"
    kind, value, seconds, megabytes = pickle.loads(answer)
    assert kind != "crash", value
    return Alone(value if kind == "value" else None, value if kind == "refused" else None, seconds, megabytes)


def _answer(read: Callable[[], Any], limit: int, into: int) -> None:
    status = 1
    try:
        signal.alarm(30)
        now = _virtual() + limit
        resource.setrlimit(resource.RLIMIT_AS, (now, now))
        before = resource.getrusage(resource.RUSAGE_SELF)
        try:
            kind, value = "value", read()
        except InputError as error:
            kind, value = "refused", str(error)
        except BaseException as error:
            kind, value = "crash", repr(error)
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with os.fdopen(into, "wb") as file:
            pickle.dump((kind, value, seconds, (after.ru_maxrss - before.ru_maxrss) / 1024), file)
        status = 0
    finally:
        os._exit(status)


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def small_and_fast(read: Callable[[], Any], path: Path, match: str) -> None:
    """Refuse a bomb in under a second and 100 MB; another machine may take twice as long."""
    came = alone(read)
    assert came.error is not None, f"read as {came.value!r}"
    refused(lambda: (_ for _ in ()).throw(InputError(came.error)), path, match)
    assert came.seconds < 2 and came.megabytes < 100, came
