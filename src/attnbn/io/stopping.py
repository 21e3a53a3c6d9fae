"""Requests to stop: what a person, a terminal and a scheduler send before they take the machine away."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

E = TypeVar("E", bound=BaseException)

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""SLURM sends SIGTERM, or SIGUSR1 where ``--signal`` says so; a terminal that is closed SIGHUP."""


STOP_STATUS = 128
"""And the signal's number: the exit status of a process that was asked to stop."""


class Stopped(KeyboardInterrupt):
    """A command was asked to stop; it cleans up, and ends with the request's status."""

    def __init__(self, signum: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name}; the same command goes on (train and segment train: with --resume)"
        )
        self.signum = signum
        self.exit_status = STOP_STATUS + signum


def cause_of(error: BaseException | None, kind: type[E]) -> E | None:
    """The error itself, or the one that it was raised after, if it is of this kind.

    A request may come in the middle of a library's work, whose own cleaning up then fails and hides it.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


SAME_REQUEST_SECONDS = 1.0
"""A supervisor may send several at once, to a process and to its group; a person's second Ctrl-C comes later."""


def stop_cleanly() -> None:
    """Let each request end this process the same way, where nobody has decided otherwise (``nohup`` has SIGHUP ignored)."""
    asked = -math.inf

    def stop(signum: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if time.monotonic() - asked > SAME_REQUEST_SECONDS:
            asked = time.monotonic()
            # an object that the request finds half made may complain as it is thrown away: nobody's concern now
            sys.unraisablehook = _unheard
            raise Stopped(signum)

    for signum in STOPPING:
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, stop)


def _unheard(_: object) -> None:
    """Say nothing of an error in a clean-up."""


def stop_no_more() -> None:
    """Pass over further requests: the work is done or given up, and the interpreter's own end takes a second of its own.

    Ctrl-C ends it at once, without a word, should that last longer.
    """
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_DFL if signum == signal.SIGINT else signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Requests wait until the end of the block, and for as long as they like in processes that are begun in it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
