"""Settings are plain values: what is to be parsed is looked through first.

The option parser imports the module of any name it finds where a group of settings is expected (``data: somewhere.Class``,
``class_path: ...``), before it refuses the class. A module that is imported is executed, so such names never reach it; nor
does the name of a further file, of which nothing would be checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import yaml

from attnbn.io.errors import InputError

_CODE = ("class_path", "init_args", "dict_kwargs")


def check_values(kind: type[Any], values: Mapping[Any, Any], place: object) -> None:
    """Refuse settings whose shape is not that of the configuration.

    Args:
        kind: The dataclass.
        values: From a YAML file.
        place: The file, for messages.

    Raises:
        InputError: A class to import, a group of settings that is none, a key that is no text, or another file.
    """
    if "config" in values:
        raise InputError(f"expected settings, got config, another file of settings; put all into this one: {place}")
    for line in (*_code(values), *_misshapen(kind, values, "")):
        raise InputError(f"{line}: {place}")


def check_words(kind: type[Any], words: Sequence[str]) -> None:
    """The same for the words of a command line.

    Args:
        kind: The dataclass.
        words: ``--name value`` or ``--name=value``.

    Raises:
        InputError: As :func:`check_values`.
    """
    for place, word in enumerate(words):
        name, equals, value = word.removeprefix("--").partition("=")
        if any(code in word for code in _CODE):
            raise InputError(f"expected plain settings, got a class to import, which is never done: {word}")
        hint = _hint_of(kind, name.rstrip("+"))
        if not word.startswith("--") or hint is None or not _groups(hint):
            continue
        text = value if equals else "".join(words[place + 1 : place + 2])
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            given = text
        appended = name.endswith("+") and not isinstance(given, list)
        for line in _misshapen_value(hint, [given] if appended else given, name.rstrip("+")):
            raise InputError(f"{line}: --{name}")


def _code(value: Any) -> Iterator[str]:
    """Names of classes anywhere in the values."""
    if isinstance(value, Mapping):
        if found := next((key for key in value if key in _CODE), None):
            yield f"expected plain settings, got {found}, a class to import, which is never done"
        for part in value.values():
            yield from _code(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _code(part)


def _misshapen(kind: type[Any], values: Mapping[Any, Any], prefix: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    for key, value in values.items():
        if not isinstance(key, str):
            yield f"expected the name of a setting, got {key!r}"
        elif key in hints:  # others are named by the parser, with the one that was meant
            yield from _misshapen_value(hints[key], value, f"{prefix}{key}")


def _misshapen_value(hint: Any, value: Any, name: str) -> Iterator[str]:
    groups = _groups(hint)
    if not groups:
        return
    if hint is groups[0]:
        if isinstance(value, Mapping):
            yield from _misshapen(hint, value, f"{name}.")
        else:
            yield f"expected {name} to be settings by name, got {_short(value)}"
        return
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, list):
        yield f"expected {name} to be a list of settings by name, got {_short(value)}"
        return
    for part in parts:
        yield from _misshapen_value(groups[0], part, name)


def _groups(hint: Any) -> list[type[Any]]:
    """Dataclasses in a type: itself, or what a list or a dictionary of it holds."""
    if is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [group for part in get_args(hint) for group in _groups(part)]


def _hint_of(kind: type[Any], name: str) -> Any:
    """The type of a setting by its dotted name, or None where there is none."""
    hint: Any = kind
    for part in name.split("."):
        hint = get_type_hints(hint).get(part) if is_dataclass(hint) else None
    return hint


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
