"""The errors a person sees: one clear line with what was expected, what came, and the remedy.

The command line prints the message of an :class:`AttnbnError` on stderr without a traceback and ends with
its ``exit_status``. Everything else that is raised is a bug of ours and shows its traceback.
"""

from __future__ import annotations

from attnbn.io.text import one_line


class AttnbnError(Exception):
    """Base of every error whose message is meant for the person at the keyboard: one line, whatever a file is called."""

    exit_status = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class InputError(AttnbnError, ValueError):
    """Bad usage or bad input: a wrong argument, a missing, broken or inconsistent file. Exit status 2."""

    exit_status = 2


class RunError(AttnbnError, RuntimeError):
    """Something failed while running: a loss became NaN, the disk is full, a worker died. Exit status 1."""

    exit_status = 1


class DivergedError(RunError):
    """A loss or a weight is not finite any more: these settings do not train, though others may."""
