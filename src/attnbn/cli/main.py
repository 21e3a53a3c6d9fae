"""``attnbn COMMAND``: a static table of commands; each builds its own parser when it is chosen."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from attnbn.cli.outcome import speaker
from attnbn.io.errors import AttnbnError, InputError, RunError
from attnbn.io.stopping import STOP_STATUS, cause_of, stop_cleanly, stop_no_more

COMMANDS = {
    "demo": "train Grad-CAM and AttnBN on scenes drawn by the program, and write a report (about 4 minutes)",
    "reproduce": "train all rows of a table of the paper and set them beside its values (hours)",
    "adapt": "carry a classifier to another domain without its labels, row by row of Tables 6 and 7",
    "recipes": "list the recipes: what each reproduces and what it costs",
    "download": "fetch VOC, SBD or Caltech from its official address, checked and unpacked",
    "check-data": "find all that is wrong with your images, masks and saliency maps before training does",
    "train": "train on your images, or continue a run with --resume",
    "evaluate": "score a run's attention maps and labels on a data set",
    "attend": "write attention maps, overlays and masks for photographs",
    "saliency": "write saliency maps of photographs by a detector",
    "cues": "write localisation cues from a run's attention and saliency",
    "segment": "train on cues a network that segments; predict masks with it; score it",
    "submit": "pack masks or scores for the VOC evaluation server",
    "crf": "refine one photograph's probabilities by a dense CRF",
}


SHARING = (["attend"], ["saliency"], ["cues"], ["segment", "predict"])
"""Commands whose processes share photographs and nothing else: what one of them finds wrong no other can say."""


def usage() -> str:
    """The text of ``attnbn --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: attnbn COMMAND [options]",
            "",
            "Pixel-level attention for multi-label images, learned from image-level labels",
            "and the saliency of simple images (Attention Bridging Network, ICCV 2019).",
            "",
            "commands:",
            *lines,
            "",
            "attnbn COMMAND --help shows a command's options; attnbn --version the version.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status.

    0 done, 1 failed while running, 2 bad usage or input, 130 stopped by Ctrl-C (143 by SIGTERM).
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # names of files need not be text: print their odd bytes as escapes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(usage())
            return 0 if argv else 2
        if argv[0] == "--version":
            from importlib.metadata import version

            print(f"attnbn {version('attnbn')}")
            return 0
        if argv[0] not in COMMANDS:
            close = get_close_matches(argv[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(COMMANDS)}"
            raise InputError(f"unknown command {argv[0]!r}: {hint}")
        command = importlib.import_module(f"attnbn.cli.{argv[0].replace('-', '_')}")
        command.main(argv[1:])
        return 0
    except (Exception, KeyboardInterrupt) as error:
        status = _failed(error, argv)
        if status is None:
            raise
        return status


def _failed(error: BaseException, argv: Sequence[str]) -> int | None:
    """The exit status of what a person is told of in one line; None for a fault of ours, which shows its traceback."""
    stop = cause_of(error, KeyboardInterrupt)  # amid a library's work, say, whose own cleaning up then failed
    if stop is not None:
        return _end(str(stop) or "stopped", getattr(stop, "exit_status", 130), argv)
    if isinstance(error, AttnbnError):
        return _end(str(error), error.exit_status, argv)
    if isinstance(error, BrokenPipeError):
        # the reader of our output (head, less) is gone; leave nothing for the interpreter to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, RuntimeError):
        from attnbn.data.readers import DEATH, is_death, say_no_more

        if is_death(error):  # told by a signal, wherever this process is just then
            say_no_more()
            return _end(DEATH, RunError.exit_status, argv)
    return None


def _end(message: str, status: int, argv: Sequence[str]) -> int:
    """Say why once, on the first of several processes that train together, and give the exit status.

    The others of one machine's launcher end with 0: at any other status it would kill the first before it can speak. A request to
    stop is the exception: the first may not hear it while it waits for them.
    """
    if any(list(argv[: len(name)]) == name for name in SHARING):
        print(f"attnbn: {speaker()}{message}", file=sys.stderr)
        return status
    local, launched = os.environ.get("LOCAL_RANK", "0"), "TORCHELASTIC_RUN_ID" in os.environ
    if int(os.environ.get("RANK", local)) == 0:
        print(f"attnbn: {message}", file=sys.stderr)
        return status
    return status if launched or status > STOP_STATUS else 0


def run() -> None:
    """Entry point of the ``attnbn`` script."""
    stop_cleanly()
    status = main()
    stop_no_more()
    sys.exit(status)
