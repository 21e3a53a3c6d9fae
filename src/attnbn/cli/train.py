"""``attnbn train``: settings from a recipe and the command line, to a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbn.cli.messages import plain
from attnbn.config import RunConfig
from attnbn.io.errors import InputError
from attnbn.recipes import path_of

EPILOG = """\
A recipe (attnbn recipes) or YAML file given as --config sets what the options leave open; options win wherever they
stand. --print_config shows everything resolved.

  attnbn train --config attnbn --data.source folders:SIMPLE --data.saliency MAPS --data.target voc:VOC2012 --output RUN
  attnbn train --resume RUN
"""


PLACES = ("device", "devices", "nodes", "precision", "workers")
"""Settings that a resumed run may change: where it computes, not what."""


def _readable(path: Path) -> Path:
    """The file itself, if it is YAML; the parser's own message would not name it."""
    import yaml

    try:
        if not isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict):
            raise InputError(f"expected settings by name in a YAML file, found none: {path}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"expected YAML, could not read it ({' '.join(str(error).split())[:120]}): {path}") from error
    return path


@dataclass(frozen=True)
class TrainCommand:
    """What the command line asked for.

    Attributes:
        config: The settings of a new run.
        resume: Folder of the run to continue, or None.
        places: Of :data:`PLACES`, those given with ``--resume``.
        overwrite: Replace a run that is there.
    """

    config: RunConfig
    resume: str | None
    places: dict[str, Any]
    overwrite: bool


def parse(arguments: Sequence[str]) -> TrainCommand:
    """The command line as settings.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Shows defaults, and leaves the examples as they are."""

    parser = ArgumentParser(
        prog="attnbn train",
        description="Train AttnBN or any row of the paper's ablation on your images.",
        epilog=EPILOG,
        formatter_class=Formatter,
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
        known = [action.dest for action in parser._actions if action.dest]
        raise InputError(f"{plain(str(error), known)} (see attnbn train --help)") from error
    config = RunConfig(**{name: getattr(values, name) for name in RunConfig.__dataclass_fields__})
    given = {word.split("=")[0].removeprefix("--") for word in argv if word.startswith("--")}
    if values.resume is not None and (others := sorted(given - {"resume", *PLACES})):
        raise InputError(
            f"--resume goes on with the run's own settings; leave out {', '.join(f'--{name}' for name in others)}"
        )
    places = {name: getattr(config, name) for name in PLACES if name in given}
    return TrainCommand(config, values.resume, places, bool(values.overwrite))


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
        front += ["--config", str(_readable(path_of(name)))]
    return front + rest


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
                command.config, overwrite=command.overwrite, say=display.say, watch=display.titled("training")
            )
    if not results:  # not the first of several processes
        return
    print(f"run: {command.resume or command.config.output}")
    if results["selection"] is None:
        print("threshold: 0.2, the default: no data.selection_split was given to choose it on")
        return
    figures = results["selection"]
    print(f"threshold: {results['threshold']:.2f}, chosen on {results['threshold_split']} ({figures['images']} images)")
    print(f"mIoU {per_cent(figures['miou'])} (cross-fitted: each half scored at the other's threshold)", end="")
    print(f", mean AP {per_cent(figures['mean_ap'])}")
