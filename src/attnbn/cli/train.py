"""``attnbn train``: settings from a recipe and the command line, to a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnbn.config import RunConfig
from attnbn.io.errors import InputError
from attnbn.recipes import path_of

EPILOG = """\
A recipe (attnbn recipes) or YAML file given as --config sets what the options leave open; options win wherever they
stand. --print_config shows everything resolved.

  attnbn train --config attnbn --data.source folders:SIMPLE --data.saliency MAPS --data.target voc:VOC2012 --output RUN
  attnbn train --resume RUN
"""


@dataclass(frozen=True)
class TrainCommand:
    """What the command line asked for."""

    config: RunConfig
    resume: bool
    overwrite: bool


def parse(arguments: Sequence[str]) -> TrainCommand:
    """The command line as settings.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="attnbn train",
        description="Train AttnBN or any row of the paper's ablation on your images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="a recipe's name or a YAML file")
    parser.add_argument(
        "--resume", type=str | None, default=None, metavar="RUN", help="continue the run in this folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --output holds")
    parser.add_class_arguments(RunConfig, None)
    argv = _recipe_first(list(arguments))
    try:
        parsed = parser.parse_args(argv)
        values = parser.instantiate(parsed)
    except argparse.ArgumentError as error:
        raise InputError(f"{' '.join(str(error).split())} (see attnbn train --help)") from error
    config = RunConfig(**{name: getattr(values, name) for name in RunConfig.__dataclass_fields__})
    if values.resume is not None:
        config = _resume(config, values.resume, argv)
    return TrainCommand(config, values.resume is not None, bool(values.overwrite))


def _recipe_first(argv: list[str]) -> list[str]:
    """The recipe's name as a path and moved to the front, so that options win wherever they stand."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        key, equals, value = word.partition("=")
        if key != "--config":
            rest.append(word)
            continue
        name = value if equals else next(words, None)
        if name is None:
            raise InputError("expected a recipe or a YAML file after --config (see attnbn recipes)")
        front += ["--config", str(path_of(name))]
    return front + rest


def _resume(config: RunConfig, run: str, argv: list[str]) -> RunConfig:
    from dataclasses import replace

    allowed = ("--resume", "--device", "--devices", "--nodes", "--precision", "--workers")
    others = [w.split("=")[0] for w in argv if w.startswith("--") and w.split("=")[0] not in allowed]
    if others:
        raise InputError(f"--resume goes on with the run's own settings; leave out {', '.join(others)}")
    return replace(config, output=run)


def main(arguments: Sequence[str]) -> None:
    """Parse, train, print."""
    command = parse(arguments)
    from attnbn.cli.progress import TrainingDisplay, per_cent
    from attnbn.experiments.train import train

    with TrainingDisplay(sys.stderr) as display:
        results: dict[str, Any] = train(
            command.config, resume=command.resume, overwrite=command.overwrite, say=display.say, watch=display.step
        )
    if not results:
        return
    print(f"run: {command.config.output}")
    if results["selection"] is None:
        print("threshold: 0.2, the default: no data.selection_split was given to choose it on")
        return
    figures = results["selection"]
    print(f"threshold: {results['threshold']:.2f}, chosen on {results['threshold_split']} ({figures['images']} images)")
    print(f"mIoU {per_cent(figures['miou'])} (cross-fitted: each half scored at the other's threshold)", end="")
    print(f", mean AP {per_cent(figures['mean_ap'])}")
