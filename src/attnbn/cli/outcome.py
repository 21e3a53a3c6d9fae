"""What a command that writes a folder of results says in the end: how much there is, and what was left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from attnbn.io.errors import InputError


class Done(Protocol):
    """What was written now, what was there already, and a line for each photograph that could not be read."""

    written: int
    skipped: int
    broken: list[str]
    missing: int


def speaker(environment: Mapping[str, str] | None = None) -> str:
    """Said before what one of several processes says; nothing where there is only one.

    >>> speaker({"RANK": "1", "WORLD_SIZE": "4"})
    'rank 1 of 4: '
    """
    environment = os.environ if environment is None else environment
    world = environment.get("WORLD_SIZE", "1")
    return "" if world == "1" else f"rank {environment.get('RANK', '0')} of {world}: "


def say_done(done: Done, what: str, output: str, *, first: str = "", last: str = "") -> None:
    """Print one line on what was written, and on stderr what was left out.

    Args:
        done: What was done.
        what: What is counted, in the singular.
        output: The folder.
        first: Said before the number.
        last: Said after all else.

    Raises:
        InputError: if all of it was left out, so that a script does not take that for results.
    """
    who = speaker()
    say_broken(done.broken)
    if done.broken and not (who or done.written or done.skipped):
        raise InputError("expected at least one photograph that can be read, got none; nothing was written")
    already = f", {done.skipped:,} were there already" if done.skipped else ""
    number = f"{done.written:,} {what}{'' if done.written == 1 else 's'}"
    left = f"; {done.missing:,} are left to others" if done.missing else "; nothing is left to others" if who else ""
    print(f"{who}{first}{number} written to {output}{already}{last}{left}", flush=True)


def say_broken(broken: Sequence[str], shown: int = 10) -> None:
    """Name photographs that were left out, on stderr."""
    if not broken:
        return
    print(
        f"{speaker()}left out {len(broken)} photograph{'' if len(broken) == 1 else 's'} that cannot be read:",
        *(f"  {line}" for line in broken[:shown]),
        *([f"  ... and {len(broken) - shown} more"] if len(broken) > shown else []),
        sep="\n",
        file=sys.stderr,
    )


def say_unfinished(line: str | None) -> None:
    """Say on stderr that a run is still being trained, or was stopped; it is used all the same."""
    if line is not None:
        print(f"attnbn: {line}", file=sys.stderr)


def say_unseen(classes: Sequence[str], split: str) -> None:
    """Say on stderr which classes photographs of a split are labelled with and none of its masks shows."""
    if classes:
        print(
            f"attnbn: no mask of {split} shows {', '.join(classes)}, though photographs are labelled so: are its masks class "
            "ids? (attnbn check-data)",
            file=sys.stderr,
        )
