"""``attnbn recipes``: what there is to reproduce, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from attnbn.cli.options import parser
from attnbn.recipes import describe, names, path_of


def main(arguments: Sequence[str]) -> None:
    """List the recipes, or print one."""
    options = parser("recipes", "List the recipes for attnbn train --config NAME, or print one of them.")
    options.add_argument("name", nargs="?", help="print this recipe's file")
    chosen = options.parse_args(arguments).name
    if chosen is not None:
        print(path_of(chosen).read_text(encoding="utf-8"), end="")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    for column in ("what it reproduces", "cost", "paper", "ours"):
        table.add_column(column)
    for name in names():
        recipe = describe(name)
        table.add_row(name, recipe.title, *(recipe.details.get(key, "") for key in ("cost", "paper", "ours")))
    Console().print(table)
    print("\nattnbn recipes NAME prints one; attnbn train --config NAME runs it.")
