"""Recipes: a YAML file per row of the paper's tables, and generic ones. The header comment of each says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path

from attnbn.io.errors import InputError

ROWS = ("grad-cam", "source-target", "source-attention", "finetune", "joint", "attnbn")
"""Rows of Table 1 in the paper's order."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's header.

    Attributes:
        name: As in ``--config NAME``.
        title: What it reproduces.
        details: Further header entries such as ``hardware``, ``paper`` and ``ours``, by key.
    """

    name: str
    title: str
    details: dict[str, str]


def names() -> list[str]:
    """All recipes' names: the generic ones, then table by table, rows in the paper's order."""
    found = [p.name.removesuffix(".yaml") for p in files(__name__).iterdir() if p.name.endswith(".yaml")]
    return sorted(found, key=_order)


def _order(name: str) -> tuple[bool, str, int, str]:
    table, _, row = name.partition("-")
    generic = not row or name in ROWS
    place = ROWS.index(row) if row in ROWS else (int(row) if row.isdigit() else len(ROWS))
    return not generic, "" if generic else table, place, name


def path_of(name: str) -> Path:
    """The file of a recipe by name, or the path itself if it is a file.

    Raises:
        InputError: if it is neither.
    """
    if Path(name).is_file():
        return Path(name)
    if name not in names():
        close = get_close_matches(name, names(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "see attnbn recipes"
        raise InputError(f"expected a recipe or a YAML file, found neither: {name} ({hint})")
    with as_file(files(__name__) / f"{name}.yaml") as path:
        return path


def describe(name: str) -> Recipe:
    """A recipe's header: the comment lines at its top, the first a title, the others ``key: text``."""
    details: dict[str, str] = {}
    title, key = "", ""
    for line in path_of(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if not title:
            title = text
        elif text.split(":")[0].isidentifier() and ":" in text:
            key, _, rest = text.partition(":")
            details[key] = rest.strip()
        elif key:
            details[key] += " " + text
    return Recipe(name, title, details)
