"""A figure per row as bars, with its spread over seeds and the published value beside it."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from attnbn.report.figures import COLOURS, INK, STYLE, plain


class Bar(NamedTuple):
    """A row of the chart.

    Attributes:
        name: Beside the bar.
        values: One fraction per seed; the bar is their mean, the whisker one sample standard deviation to either side.
        published: The value to compare with, a fraction, or None.
    """

    name: str
    values: Sequence[float]
    published: float | None = None


def bar_chart(bars: Sequence[Bar], *, x_label: str, published: str = "paper") -> bytes:
    """Horizontal bars from top to bottom, in per cent, each value in a point of its own.

    Args:
        bars: The rows; one without values keeps its place empty.
        x_label: Under the frame.
        published: What the published values are, for the legend.

    Returns:
        The bytes of an SVG file on a transparent ground, the same for the same input.
    """
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(6.8, 1.1 + 0.44 * len(bars)), layout="constrained")
        axes = figure.add_subplot()
        for place, bar in enumerate(bars):
            _draw(axes, place, bar)
        markers = [(bar.published, place) for place, bar in enumerate(bars) if bar.published is not None]
        if markers:
            x, y = zip(*markers, strict=True)
            axes.plot(
                x, y, "D", color="none", markeredgecolor=INK, markersize=7, markeredgewidth=1.5, label=plain(published)
            )
            axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2 - 0.5 / len(bars)), handletextpad=0.2)
        axes.set_yticks(range(len(bars)), [plain(bar.name) for bar in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(plain(x_label))
        axes.set_xlim(0, 1.35 * max([*(x for x, _ in markers), *(v for bar in bars for v in bar.values), 0.01]))
        # the room for the values goes beyond 100 %, the axis does not
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        buffer = io.BytesIO()
        # tight: the legend stands below the frame
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()


def _draw(axes: Axes, place: int, bar: Bar) -> None:
    if not bar.values:
        return
    mean = statistics.mean(bar.values)
    spread = statistics.stdev(bar.values) if len(bar.values) > 1 else 0.0
    axes.barh(place, mean, height=0.62, color=COLOURS[place % len(COLOURS)], alpha=0.85)
    if len(bar.values) > 1:
        axes.errorbar(mean, place, xerr=spread, color=INK, capsize=4, linewidth=1.4)
        axes.plot(bar.values, [place + 0.2] * len(bar.values), "o", color=INK, markersize=2.5)
    text = f"{100 * mean:.1f}" + (f" ± {100 * spread:.1f}" if len(bar.values) > 1 else "")
    # in a column at the right edge, where neither bar, whisker nor marker comes
    at = axes.get_yaxis_transform()
    axes.text(0.995, place, text, transform=at, ha="right", va="center", weight="bold")
