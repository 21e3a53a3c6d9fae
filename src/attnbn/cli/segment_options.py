"""Options common to the commands that segment photographs."""

from __future__ import annotations

import argparse
from typing import Any

from attnbn.cli.options import Parser, count, positive


def add_network(to: Parser, name: str, text: str) -> None:
    """The finished run, and where to compute.

    Args:
        to: The command's parser.
        name: What the run is called: ``SEG``, or ``RUN_OR_SEG``.
        text: What it is.
    """
    to.add_argument("run", metavar=name, help=text)
    to.add_argument(
        "--checkpoint", choices=("last", "best"), default="last", help="which of its weights (default last)"
    )
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    to.add_argument(
        "--workers", type=count, default=0, help="processes that read photographs (default 0: none but this)"
    )
    to.add_argument("--batch-size", type=positive, default=8, help="photographs a forward pass (default 8)")


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
