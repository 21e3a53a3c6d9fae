"""Features of two domains in two dimensions: do they lie in one another, or apart?

A principal component analysis of both domains' features together, each with the same weight. It is linear, has no setting and
no randomness, and says how much it leaves out; a picture that bends space to separate clusters would flatter.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import scipy.linalg
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from attnbn.evaluation.classification import single_labels
from attnbn.report.figures import INK, STYLE, class_hex, plain

POINTS = 250
"""Of a domain in a panel, at most; of more, at even steps."""

OTHER = "#8a8f98"
"""Of images that show none or several of the classes."""

Points = NDArray[np.float64]


class Panel(NamedTuple):
    """One model's features.

    Attributes:
        title: Over the panel; a second line may follow.
        source: Features ``S×C``.
        source_labels: ``S×N`` in {0, 1}; NaN = unknown.
        target: Features ``T×C``.
        target_labels: ``T×N``.
    """

    title: str
    source: Tensor
    source_labels: Tensor
    target: Tensor
    target_labels: Tensor


def principal_plane(source: Tensor, target: Tensor) -> tuple[Points, Points, float]:
    """The two directions of largest variance of both domains together, each domain with half of the weight.

    Args:
        source: Features ``S×C``, S ≥ 1, C ≥ 2.
        target: Features ``T×C``, T ≥ 1.

    Returns:
        ``S×2`` and ``T×2``, and the share of the variance that lies in the plane, in [0, 1]. The sign of each axis is that of
        its largest part.
    """
    parts = [np.asarray(part.double().cpu()) for part in (source, target)]
    centre = sum(part.mean(0) for part in parts) / 2
    parts = [part - centre for part in parts]
    covariance = sum(part.T @ part / len(part) for part in parts) / 2
    last = len(covariance) - 1
    values, axes = scipy.linalg.eigh(covariance, subset_by_index=(last - 1, last))
    axes = axes[:, ::-1]  # the largest first
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(2)])
    total = float(np.trace(covariance))
    return parts[0] @ axes, parts[1] @ axes, float(values.sum()) / total if total > 0 else 1.0


def embedding_chart(panels: Sequence[Panel], classes: Sequence[str], domains: tuple[str, str]) -> bytes:
    """A panel for each model: the colour is the class, a dot is a source image, a ring a target image.

    Args:
        panels: The models; each is projected by itself.
        classes: Names of the N classes.
        domains: Names of source and target.

    Returns:
        The bytes of an SVG file on a transparent ground, the same for the same input.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    keys = _keys(panels, classes, domains)
    lines = math.ceil(len(keys) / 6)
    size = (3.2 * columns if columns > 1 else 4.4, 3.5 * rows + 0.3 * lines + (1.0 if columns == 1 else 0.2))
    style: dict[str, Any] = {**STYLE, "axes.grid": False, "font.size": 11}
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, place + 1)
            _draw(axes, panel)
        figure.legend(handles=keys, loc="outside lower center", ncols=min(6, 2 * columns), handletextpad=0.3)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None}, bbox_inches="tight")
    return buffer.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    source, target, share = principal_plane(panel.source, panel.target)
    for points, labels, hollow in ((source, panel.source_labels, False), (target, panel.target_labels, True)):
        kept = _even(len(points))
        true = single_labels(labels)[kept].numpy()
        for index in np.unique(true):
            x, y = points[kept][true == index].T
            colour = _colour(int(index))
            style = {"mfc": "none", "mew": 0.9, "ms": 4.6} if hollow else {"mew": 0, "ms": 4.2, "alpha": 0.6}
            axes.plot(x, y, "o", color=colour, **style)
    axes.set_title(plain(panel.title), fontsize=11)
    axes.set_xlabel(f"{100 * share:.0f} % of the variance", fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.06)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.35)


def _even(count: int) -> list[int]:
    """Places of at most :data:`POINTS` items at even steps."""
    kept = min(count, POINTS)
    return [place * count // kept for place in range(kept)]


def _colour(index: int) -> str:
    return OTHER if index < 0 else class_hex(index)


def _keys(panels: Sequence[Panel], classes: Sequence[str], domains: tuple[str, str]) -> list[Line2D]:
    """The legend: the two domains, then the classes."""
    dot = {"linestyle": "none", "marker": "o"}
    keys = [
        Line2D([], [], color=INK, mew=0, ms=5, alpha=0.7, label=plain(domains[0]), **dot),  # type: ignore[arg-type]
        Line2D([], [], color=INK, mfc="none", mew=1, ms=5, label=plain(domains[1]), **dot),  # type: ignore[arg-type]
    ]
    labels = [labels for panel in panels for labels in (panel.source_labels, panel.target_labels)]
    found = sorted({index for part in labels for index in single_labels(part).tolist()}, key=lambda i: (i < 0, i))
    for index in found:
        name = "none or several" if index < 0 else plain(classes[index])
        keys.append(Line2D([], [], color=_colour(index), ms=5, mew=0, label=name, **dot))  # type: ignore[arg-type]
    return keys
