"""``data.class_map``: names in the data sets -> names of the classes, given as such or as a table that comes with the program.

A table is a YAML file in ``tables/``: its ``classes``, and ``parts``, each the names that one data set has for one of
them, with the reason. Adding a file adds a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from attnbn.io.errors import InputError

ClassMap = Mapping[str, str] | str | None
"""As in the settings: names to names, the name of a table, or None."""


def resolve_class_map(value: ClassMap) -> dict[str, str] | None:
    """The names in the data sets -> the names of the classes.

    Args:
        value: As in the settings.

    Raises:
        InputError: No table has that name.

    >>> resolve_class_map({"motorcycle": "motorbike"})
    {'motorcycle': 'motorbike'}
    >>> resolve_class_map("five")["dalmatian"]
    'dog'
    """
    if not isinstance(value, str):
        return None if value is None else dict(value)
    return {name: part["class"] for part in table(value)["parts"] for name in part["names"]}


def classes_of_map(value: ClassMap) -> tuple[str, ...] | None:
    """The classes that a table is about; None where the map is no table."""
    return tuple(table(value)["classes"]) if isinstance(value, str) else None


def names_of(name: str, data: str) -> dict[str, tuple[str, str]]:
    """What a table takes of one data set.

    Args:
        name: Of the table.
        data: What the table calls the data set.

    Returns:
        The data set's name -> the class, and what the name shows.

    >>> names_of("five", "Caltech-101")["emu"]
    ('bird', 'a large bird that does not fly')
    """
    parts = [part for part in table(name)["parts"] if part["data"] == data]
    return {own: (part["class"], shown) for part in parts for own, shown in part["names"].items()}


def left_out(name: str, data: str) -> dict[str, str]:
    """What a table does not take of one data set, though it is near to a class: the data set's name -> the reason.

    >>> left_out("voc20", "Caltech-256")["goat"]
    "VOC's sheep is no goat"
    """
    parts = [part for part in table(name).get("left_out", []) if part["data"] == data]
    return {own: why for part in parts for own, why in part["names"].items()}


def table_names() -> list[str]:
    """The tables that there are."""
    found = (files("attnbn.data") / "tables").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml"))


@cache
def table(name: str) -> dict[str, Any]:
    """The content of a table: ``classes``, ``parts`` (``data``, ``class``, ``why``, ``names``) and ``left_out``.

    Raises:
        InputError: There is none of that name.
    """
    import yaml

    known = table_names()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" (closest: {close[0]})" if close else ""
        raise InputError(
            f"expected names of classes as {{old: new}}, or a table out of {', '.join(known)}{hint}, got {name!r}: "
            f"data.class_map"
        )
    text = (files("attnbn.data") / "tables" / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content
