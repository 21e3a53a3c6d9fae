"""Options common to the commands, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from attnbn.io.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def parser(command: str, description: str) -> Parser:
    """A parser for one command."""
    return Parser(prog=f"attnbn {command}", description=description, allow_abbrev=False)


def add_run(to: Parser) -> None:
    """The finished run that a command uses, and where to compute."""
    to.add_argument("run", metavar="RUN", help="folder of a finished run")
    to.add_argument(
        "--checkpoint", choices=("last", "best"), default="last", help="which of its weights (default last)"
    )
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    to.add_argument(
        "--workers", type=count, default=0, help="processes that read photographs (default 0: none but this)"
    )
    to.add_argument("--batch-size", type=positive, default=16, help="photographs a forward pass (default 16)")
    to.add_argument(
        "--skip-broken", action="store_true", help="leave out photographs that cannot be read, and name them"
    )


def add_passes(to: Parser) -> None:
    """How often and how a photograph is looked at."""
    to.add_argument(
        "--scales", type=float, nargs="+", default=[1.0], metavar="FACTOR",
        help="look at it at several sizes, factors on the run's own (e.g. 0.75 1 1.25; default 1)",
    )  # fmt: skip
    to.add_argument("--flip", action="store_true", help="look at its mirror image too")
    to.add_argument(
        "--layers", nargs="+", default=["last"], metavar="NAME",
        help="take the attention of these layers, by dotted names (e.g. trunk.10) or last (default last)",
    )  # fmt: skip
    to.add_argument("--fuse", choices=("mean", "product"), default="mean", help="how several layers' maps become one")


def passes_of(given: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_passes` read, as keyword arguments."""
    return {key: getattr(given, key) for key in ("scales", "flip", "layers", "fuse")}


def count(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return value


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in (0, 1], got {text}")
    return value


def name_broken(broken: Sequence[str], shown: int = 10) -> list[str]:
    """Lines on photographs that were left out."""
    if not broken:
        return []
    more = [f"  ... and {len(broken) - shown} more"] if len(broken) > shown else []
    return [
        f"left out {len(broken)} photograph{'' if len(broken) == 1 else 's'} that cannot be read:",
        *(f"  {line}" for line in broken[:shown]),
        *more,
    ]
