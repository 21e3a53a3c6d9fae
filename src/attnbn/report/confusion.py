"""A confusion matrix as a heat map with its counts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attnbn.report.figures import COLOURS, STYLE, plain

WRITTEN = 25
"""Classes up to which the counts are written into the cells."""


def confusion_chart(counts: Tensor, classes: Sequence[str]) -> bytes:
    """Cells as deep in colour as their share of the row: what is said of a true class.

    Args:
        counts: int64 ``N×N``, rows the truth.
        classes: Names of the N classes.

    Returns:
        The bytes of an SVG file on a transparent ground, the same for the same input.
    """
    size = len(classes)
    side = 1.6 + 0.42 * min(size, 20)
    font = 10 if size <= 10 else 8 if size <= WRITTEN else 6
    totals = counts.sum(1).clamp(min=1)
    style: dict[str, Any] = {**STYLE, "axes.grid": False, "font.size": font}
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(side + 0.4, side), layout="constrained")
        axes = figure.add_subplot()
        for true in range(size):
            for said in range(size):
                count = int(counts[true, said])
                share = count / int(totals[true])
                # hits blue, misses red: the page's ground shows through, so the colours serve it light and dark
                colour = COLOURS[1] if true == said else COLOURS[0]
                axes.add_patch(Rectangle((said - 0.5, true - 0.5), 1, 1, color=colour, alpha=0.8 * share, linewidth=0))
                if size <= WRITTEN and (count or true == said):
                    axes.text(said, true, f"{count:,}", ha="center", va="center")
        names = [plain(name) for name in classes]
        axes.set_xticks(range(size), names, rotation=0 if size <= 6 and max(map(len, names)) <= 8 else 90)
        axes.set_yticks(range(size), names)
        axes.tick_params(length=0)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_aspect("equal")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("said")
        axes.set_ylabel("true")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
