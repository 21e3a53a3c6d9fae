"""Processes that read for this one: they end when it wants them to, not when a signal reaches them; and their deaths.

A terminal and a scheduler send their request to stop to a whole group of processes. Readers that ended by it would take the
checkpoint along that this process is about to write: so they leave such requests to it, and it ends them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import FrameType, TracebackType
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset

from attnbn.io.errors import RunError
from attnbn.io.stopping import STOPPING, held

DEATH = (
    "a process that reads photographs died, perhaps for lack of memory: run the command again (a training with --resume) with "
    "fewer --workers"
)


def read_ahead(dataset: Dataset[Any], workers: int, **options: Any) -> Iterator[Any]:
    """What a data loader makes of a data set, read by this process or by others, which end when the iterator is closed.

    Args:
        dataset: Items by index; an exception of an item would come wrapped in its process's traceback.
        workers: Reading processes; 0: this one.
        options: Further arguments of :class:`torch.utils.data.DataLoader`.

    Raises:
        RunError: One of the processes died.
    """
    # an own generator: the loader would otherwise draw a seed from the global one
    options.setdefault("generator", torch.Generator().manual_seed(0))
    loader: DataLoader[Any] = DataLoader(dataset, num_workers=workers, worker_init_fn=_begin, **options)
    if not workers:
        yield from loader
        return
    _kill_readers_at_the_end()
    others = set(multiprocessing.active_children())
    try:
        with held():  # until those begun here have decided to pass over them
            batches = iter(loader)
        _readers.update(set(multiprocessing.active_children()) - others)
        yield from batches
    except (RuntimeError, OSError, EOFError) as error:
        if not is_death(error):
            raise
        say_no_more()
        raise RunError(DEATH) from error


def _begin(_worker: int) -> None:
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    sys.excepthook = _unless_the_reader_is_gone


def _unless_the_reader_is_gone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # of the thread that hands tensors over: this process's reader stopped in the middle of taking one
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _kill_readers_at_the_end() -> None:
    """At this process's end its children would be sent SIGTERM, and waited for."""
    global _ending
    if _ending != os.getpid():  # a copy of this process has an end of its own
        _ending = os.getpid()
        Finalize(None, _kill_readers, exitpriority=100)  # before anything else is tidied up


_ending = 0
_readers: WeakSet[BaseProcess] = WeakSet()


def _kill_readers() -> None:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would make an error of their end
    for process in multiprocessing.active_children():
        if process in _readers:
            process.kill()


def is_death(error: BaseException) -> bool:
    """Of what iterating over a data loader with worker processes raises, what their death alone does.

    PyTorch raises a ``RuntimeError`` that names their numbers; where the death comes while a tensor is being handed over, what
    one sees is that connection's end. Errors inside a worker say "Caught ...", and are none of these.

    >>> is_death(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    True
    >>> is_death(RuntimeError("Caught RuntimeError in DataLoader worker process 0."))
    False
    """
    if isinstance(error, ConnectionError | EOFError | FileNotFoundError):
        return "Caught " not in str(error)
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


def say_no_more() -> None:
    """Keep PyTorch from saying it again, with a traceback: of the same reader, or of each other that ends with this process."""
    _pass_over_deaths()
    before = sys.unraisablehook

    def hook(what: sys.UnraisableHookArgs) -> None:
        if what.exc_value is None or not is_death(what.exc_value):
            before(what)

    sys.unraisablehook = hook


def _pass_over_deaths() -> None:
    """PyTorch raises an error wherever this process is when it hears of a death: in the line that tells of it, too.

    Loaders that are begun later find a death out by looking, every few seconds.
    """
    before = signal.getsignal(signal.SIGCHLD)
    if not callable(before):
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        try:
            before(signum, frame)
        except RuntimeError as error:
            if not is_death(error):
                raise

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGCHLD, handler)
