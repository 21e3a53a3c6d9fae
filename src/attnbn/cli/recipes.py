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
    width = max(map(len, names()))
    for name in names():
        recipe = describe(name)
        print(f"{name:<{width}}  {recipe.title}")
        facts = (f"{key}: {recipe.details[key]}" for key in ("cost", "paper", "ours") if key in recipe.details)
        print(f"{'':<{width}}  {'; '.join(facts)}")
    print("\nattnbn recipes NAME prints a recipe, its command line runs it. mIoU in per cent.")
