"""Options common to the commands, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from attnbn.io.atomic import unwritable
from attnbn.io.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def parser(command: str, description: str) -> Parser:
    """A parser for one command."""
    return Parser(prog=f"attnbn {command}", description=description, allow_abbrev=False)


def add_devices(to: Parser) -> None:
    """Processes that talk with one another, so that each does a share of the work.

    Raises:
        InputError: Several were started by something that does not bring them together.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1" and "LOCAL_RANK" not in os.environ:
        raise InputError(
            f"expected one process, or torchrun's, got {world} (WORLD_SIZE) that do not know of one another: start {to.prog} "
            "once, with --devices, or by torchrun"
        )
    to.add_argument(
        "--devices", type=positive, default=1, help="processes, or GPUs, that share the photographs (default 1)"
    )


def add_run(to: Parser, name: str = "RUN", text: str = "folder of a finished run", *, batch_size: int = 16) -> None:
    """The finished run that a command uses, and where to compute.

    Args:
        to: The command's parser.
        name: What the run is called: ``RUN``, ``SEG``, ``RUN_OR_SEG``.
        text: What it is.
        batch_size: The default.
    """
    to.add_argument("run", metavar=name, help=text)
    to.add_argument(
        "--checkpoint", choices=("last", "best"), default="last", help="which of its weights (default last)"
    )
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    to.add_argument(
        "--workers", type=count, default=0, help="processes that read photographs (default 0: none but this)"
    )
    to.add_argument(
        "--batch-size", type=positive, default=batch_size, help=f"photographs a forward pass (default {batch_size})"
    )


def add_skip_broken(to: Parser) -> None:
    """Whether to stop at a photograph that cannot be read."""
    to.add_argument(
        "--skip-broken", action="store_true", help="leave out photographs that cannot be read, and name them"
    )


def add_output(to: Parser, overwrite: str, name: str = "DIR") -> None:
    """The folder that a command fills, and whether it may take over another's.

    Args:
        to: The command's parser.
        overwrite: What folder ``--overwrite`` takes over.
        name: What the folder is called.
    """
    to.add_argument("--output", required=True, metavar=name, help="where to write; work that was stopped goes on there")
    to.add_argument("--overwrite", action="store_true", help=f"take over {overwrite}")


def add_json(to: Parser, what: str) -> None:
    """A file for what the command finds; refused at once where it cannot be written."""
    to.add_argument("--json", type=new_file, metavar="FILE", help=f"write {what} to this file")


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


def add_look(to: Parser) -> None:
    """How a photograph is segmented; what is not said is as in the run's settings (``inference``)."""
    to.add_argument(
        "--scales", type=float, nargs="+", metavar="FACTOR",
        help="look at it at these sizes, factors on the run's own, and add the logits (default: the run's)",
    )  # fmt: skip
    to.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, default=None, help="look at its mirror image too, or not"
    )
    to.add_argument(
        "--no-crf", action="store_true", help="leave out the dense CRF, which takes most of the time on CPUs"
    )


def look_of(given: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_look` read, as keyword arguments."""
    return {"scales": given.scales, "flip": given.flip, "crf": not given.no_crf}


def count(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        several = "; several are separated by spaces" if "," in text else ""
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}{several}") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"expected a number of at least {least}, got {text}")
    return value


def share(text: str) -> float:
    """A number in (0, 1]."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number in (0, 1], got {text}")
    return value


def new_file(text: str) -> str:
    """A file that can be written, so that hours of work are not begun for one that cannot."""
    if reason := unwritable(text):
        raise argparse.ArgumentTypeError(f"expected a file that can be written, got {reason}: {text}")
    return text


ROWS_OWN = ("rows", "seeds", "output", "processes", "overwrite", "help")
"""Options of every command that trains several rows."""

ROWS_REFUSED = {
    "seed": "give --seeds, one training of each row per seed",
    "resume": "the same command goes on with what was stopped",
}
"""Options of ``attnbn train`` that make no sense for several rows, and what to do instead."""


def separate(arguments: Sequence[str], own: Sequence[str], command: str) -> tuple[list[str], list[list[str]]]:
    """The words of a command that trains several rows: its own, and the settings of the trainings.

    Args:
        arguments: All words.
        own: Names of its own options beside :data:`ROWS_OWN`.
        command: Its name, for messages.

    Returns:
        Its own words, and each setting as ``[--NAME, VALUE]`` or ``[--NAME=VALUE]``: such an option takes exactly one value.

    Raises:
        InputError: for an option that several rows cannot have, or one without a value.
    """
    kept: list[str] = []
    settings: list[list[str]] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in (*own, *ROWS_OWN):
            kept.append(word)
            continue
        if name in ROWS_REFUSED:
            raise InputError(f"unexpected --{name}: {ROWS_REFUSED[name]}")
        settings.append([word])
        if not equals:
            value = next(words, None)
            if value is None or value.startswith("--"):
                raise InputError(f"expected a value after --{name} (see attnbn {command} --help)")
            settings[-1].append(value)
    return kept, settings
