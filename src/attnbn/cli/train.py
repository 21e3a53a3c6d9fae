"""``attnbn train``: settings from a recipe and the command line, to a finished run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from attnbn.cli.outcome import say_unseen
from attnbn.cli.settings import Command, parse_settings
from attnbn.config import RunConfig

EPILOG = """\
A recipe (attnbn recipes) or YAML file given as --config sets what the options leave open; options win wherever they
stand. --print_config shows everything resolved.

  attnbn train --config attnbn --data.source folders:SIMPLE --data.saliency MAPS --data.target voc:VOC2012 --output RUN
  attnbn train --resume RUN
"""


def parse(arguments: Sequence[str]) -> Command[RunConfig]:
    """The command line as settings.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    description = "Train AttnBN or any row of the paper's ablation on your images."
    return parse_settings(RunConfig, arguments, command="train", description=description, epilog=EPILOG)


def main(arguments: Sequence[str]) -> None:
    """Parse, train, print."""
    command = parse(arguments)
    from attnbn.cli.progress import TrainingDisplay, per_cent
    from attnbn.experiments.train import resume, train

    results: dict[str, Any]
    with TrainingDisplay(sys.stderr) as display:
        if command.resume is not None:
            results = resume(command.resume, command.places, say=display.say, watch=display.titled("training"))
        else:
            results = train(
                command.config,
                overwrite=command.overwrite,
                auto_resume=command.auto_resume,
                say=display.say,
                watch=display.titled("training"),
            )
    if not results:  # not the first of several processes
        return
    print(f"run: {command.resume or command.config.output}")
    if results["selection"] is None:
        print("threshold: 0.2, the default: no data.selection_split was given to choose it on")
        return
    figures = results["selection"]
    say_unseen(figures.get("unseen", ()), results["threshold_split"])  # results of an earlier version lack it
    print(f"threshold: {results['threshold']:.2f}, chosen on {results['threshold_split']} ({figures['images']} images)")
    print(f"mIoU {per_cent(figures['miou'])} (cross-fitted: each half scored at the other's threshold)", end="")
    print(f", mean AP {per_cent(figures['mean_ap'])}")
