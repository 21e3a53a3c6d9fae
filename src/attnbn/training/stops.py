"""Requests to stop, as a training answers them: all its processes after the same step, or out of a validation."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from attnbn.io.stopping import SAME_REQUEST_SECONDS, STOP_STATUS, STOPPING, Stopped, cause_of

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """Stopped by Ctrl-C, or by what a scheduler sends, after a checkpoint was written."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped after step {step}; a checkpoint was written, continue with --resume")
        self.signum, self.step = signum, step
        self.exit_status = STOP_STATUS + signum

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, int]]:
        return Interrupted, (self.signum, self.step)  # so that it comes home from another process


class _Left(BaseException):
    """A request that came in work which may be left at any place."""


class Stops:
    """Notes the first request; a second one, of a person who does not want to wait, ends the process at once.

    Args:
        fabric: Launched.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.signum, self._when, self._leaving = 0, 0.0, False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within the block requests are noted, where nobody has decided otherwise (``nohup`` has SIGHUP ignored)."""

        def note(signum: int, _frame: FrameType | None) -> None:
            if self.signum and time.monotonic() - self._when > SAME_REQUEST_SECONDS:
                raise Stopped(signum)
            first = not self.signum
            self.signum, self._when = self.signum or signum, time.monotonic()
            if first and self._leaving:
                raise _Left

        try:
            heard = [signum for signum in STOPPING if signal.getsignal(signum) != signal.SIG_IGN]
            handlers = {signum: signal.signal(signum, note) for signum in heard}
        except ValueError:  # not in the main thread: whoever runs the thread handles signals
            handlers = {}
        try:
            yield
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def asked(self) -> bool:
        """Whether any process was asked to stop; all of them must ask, and hear the same."""
        if self.fabric.world_size > 1:
            asked = torch.tensor(float(self.signum), device=self.fabric.device)
            self.signum = int(cast(Tensor, self.fabric.all_reduce(asked, reduce_op="max")))
        return bool(self.signum)

    def unless_asked(self, work: Callable[[], T]) -> T | None:
        """What the work gives; None if a request came before it was done.

        A single process leaves it at once. Several finish it, once begun: those that were not asked would wait for the others.

        Args:
            work: May be left at any place, and be done again from the beginning.
        """
        if self.asked():
            return None
        try:
            try:
                self._leaving = self.fabric.world_size == 1
                return None if self.signum and self._leaving else work()
            finally:
                self._leaving = False
        except BaseException as error:
            if isinstance(error, Stopped) or cause_of(error, _Left) is None:
                raise
            return None
