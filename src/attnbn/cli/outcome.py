"""What a command that writes a folder of results says in the end: how much there is, and what was left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol


class Done(Protocol):
    """What was written now, what was there already, and a line for each photograph that could not be read."""

    written: int
    skipped: int
    broken: list[str]


def say_done(done: Done, what: str, output: str, *, first: str = "", last: str = "") -> None:
    """Print one line on what was written, and on stderr what was left out.

    Args:
        done: What was done.
        what: What is counted, in the singular.
        output: The folder.
        first: Said before the number.
        last: Said after all else.
    """
    say_broken(done.broken)
    already = f", {done.skipped:,} were there already" if done.skipped else ""
    print(f"{first}{done.written:,} {what}{'' if done.written == 1 else 's'} written to {output}{already}{last}")


def say_broken(broken: Sequence[str], shown: int = 10) -> None:
    """Name photographs that were left out, on stderr."""
    if not broken:
        return
    print(
        f"left out {len(broken)} photograph{'' if len(broken) == 1 else 's'} that cannot be read:",
        *(f"  {line}" for line in broken[:shown]),
        *([f"  ... and {len(broken) - shown} more"] if len(broken) > shown else []),
        sep="\n",
        file=sys.stderr,
    )


def say_unfinished(line: str | None) -> None:
    """Say on stderr that a run is still being trained, or was stopped; it is used all the same."""
    if line is not None:
        print(f"attnbn: {line}", file=sys.stderr)
