"""``attnbn segment train|predict|evaluate``: from cues to a network that segments, and what it says."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from attnbn.io.errors import InputError

STEPS = {
    "train": "train a segmentation network on cues (or on masks of an earlier stage)",
    "predict": "write masks and overlays for photographs",
    "evaluate": "score a segmentation run on a data set with masks",
}


def main(arguments: Sequence[str]) -> None:
    """Hand the rest to the step's own command."""
    words = list(arguments)
    lines = [f"  {name:<8}  {text}" for name, text in STEPS.items()]
    if words and words[0] in ("-h", "--help"):
        print("\n".join(["usage: attnbn segment STEP [options]", "", "steps:", *lines]))
        raise SystemExit(0)  # as the steps' own parsers do
    if not words or words[0] not in STEPS:
        came = repr(words[0]) if words else "none"
        raise InputError(f"expected a step, one of {', '.join(STEPS)}, got {came} (see attnbn segment --help)")
    importlib.import_module(f"attnbn.cli.segment_{words[0]}").main(words[1:])
