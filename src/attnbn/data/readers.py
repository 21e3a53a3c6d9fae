"""When a process that reads for this one has died: how one tells, and that it is said once."""

from __future__ import annotations

import sys


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
    """Keep PyTorch from saying it again, with a traceback, for each other reader that ends with this process."""
    before = sys.unraisablehook

    def hook(what: sys.UnraisableHookArgs) -> None:
        if what.exc_value is None or not is_death(what.exc_value):
            before(what)

    sys.unraisablehook = hook
