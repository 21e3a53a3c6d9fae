"""A run's settings from a recipe and the command line, for every command that trains."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from attnbn.cli.messages import plain
from attnbn.cli.plain_settings import check_values, check_words
from attnbn.config import PLACES
from attnbn.io.errors import InputError
from attnbn.io.yaml_file import read_yaml
from attnbn.recipes import path_of

Config = TypeVar("Config")


@dataclass(frozen=True)
class Command(Generic[Config]):
    """What the command line asked for.

    Attributes:
        config: The settings of a new run.
        resume: Folder of the run to continue, or None.
        places: Of :data:`attnbn.config.PLACES`, those given with ``--resume``.
        overwrite: Replace a run that is there.
        auto_resume: Go on with a run that is there.
        given: Names of the settings that stand on the command line or in a file that it names, be it with the default's value.
    """

    config: Config
    resume: str | None
    places: dict[str, Any]
    overwrite: bool
    auto_resume: bool = False
    given: frozenset[str] = frozenset()


def parse_settings(
    kind: type[Config], arguments: Sequence[str], *, command: str, description: str, epilog: str
) -> Command[Config]:
    """The command line as settings.

    Args:
        kind: A frozen dataclass of settings; YAML files say ``kind: segment`` or ``kind: adapt`` for those that have one.
        arguments: The words after the command.
        command: Its name, for messages.
        description: For ``--help``.
        epilog: Examples, for ``--help``.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Shows defaults, and leaves the examples as they are."""

    parser = ArgumentParser(
        prog=f"attnbn {command}",
        description=description,
        epilog=epilog,
        formatter_class=Formatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="a recipe's name or a YAML file")
    parser.add_argument(
        "--resume", type=str | None, default=None, metavar="RUN", help="continue the run in this folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that --output holds")
    parser.add_argument(
        "--auto-resume", action="store_true", help="go on with the run that --output holds, if these settings began it"
    )
    parser.add_class_arguments(kind, None)
    fields: dict[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    argv = _recipe_first(list(arguments), kind, fields["kind"].default if "kind" in fields else "bridge")
    check_words(kind, argv)
    try:
        parsed = parser.parse_args(argv)
        values = parser.instantiate(parsed)
    except argparse.ArgumentError as error:
        known = [action.dest for action in parser._actions if action.dest]
        raise InputError(f"{plain(str(error), known)} (see attnbn {command} --help)") from error
    config = kind(**{name: getattr(values, name) for name in fields})
    given = {word.split("=")[0].removeprefix("--") for word in argv if word.startswith("--")}
    if values.resume is not None and (others := sorted(given - {"resume", *PLACES})):
        raise InputError(
            f"--resume goes on with the run's own settings; leave out {', '.join(f'--{name}' for name in others)}"
        )
    if values.overwrite and values.auto_resume:
        raise InputError("expected one of --overwrite and --auto-resume, got both")
    places = {name: getattr(config, name) for name in PLACES if name in given}
    named = given.union(*(_names(read_yaml(file)) for word, file in pairwise(argv) if word == "--config"))
    return Command(config, values.resume, places, bool(values.overwrite), bool(values.auto_resume), frozenset(named))


def cache_beside(data: Any, freeze: int, given: frozenset[str], output: str) -> Any:
    """The data's settings with the place where rows and seeds share what frozen layers give for fixed views.

    Args:
        data: As they are set.
        freeze: How many layers are frozen.
        given: As :attr:`Command.given`; a place that was named stays, and null asks for none.
        output: Folder of all rows and seeds.
    """
    if data.views and freeze and "data.cache" not in given:
        return replace(data, cache=str(Path(output) / "cache"))
    return data


def _names(values: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings in a file's values."""
    if not isinstance(values, dict):
        yield prefix.removesuffix(".")
        return
    for key, value in values.items():
        yield from _names(value, f"{prefix}{key}.")


def _recipe_first(argv: list[str], settings: type[Any], kind: str) -> list[str]:
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
        front += ["--config", str(_readable(path_of(name), settings, kind))]
    return front + rest


_USED_BY = {"segment": "attnbn segment train", "bridge": "attnbn train", "adapt": "attnbn adapt"}
_TOLD = {"segment": " (a file for it says kind: segment)", "bridge": "", "adapt": " (a file for it says kind: adapt)"}


def _readable(path: Path, settings: type[Any], kind: str) -> Path:
    """The file itself, if it is YAML of the right kind; the parser's own message would not name it."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"expected settings by name in a YAML file, found none: {path}")
    own = values.get("kind", "bridge")
    if own != kind and isinstance(own, str) and own in _USED_BY:
        raise InputError(f"expected settings for {_USED_BY[kind]}, got those for {_USED_BY[own]}{_TOLD[kind]}: {path}")
    check_values(settings, values, path)
    return path
