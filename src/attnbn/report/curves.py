"""The lines of an ablation's report: each loss over the steps, and mIoU over the thresholds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbn.io.errors import InputError
from attnbn.io.reading import lines_of
from attnbn.report.figures import Series, line_chart

Terms = dict[str, list[tuple[int, float]]]
"""Each loss as (step, value)."""

LOSS_NAMES = {
    "source_cl": "L_s-cl",
    "attention": "L_ac",
    "target_cl": "L_t-cl",
    "adversarial": "L_adv",
    "domain": "L_d",
    "dann": "DANN",
    "coral": "CORAL",
}
"""The terms of Eq. 5 and 7 as the paper writes them, and the peers'."""

DOMAIN_ACCURACY = "domain_accuracy"
"""Logged among the terms, but no loss: the share of places whose domain the discriminator names right."""


def read_terms(metrics: Path) -> Terms:
    """Each loss over the steps, from a run's ``metrics.jsonl``.

    Raises:
        InputError: A line is none that a run writes.
    """
    terms: Terms = {}
    for number, text in enumerate(lines_of(metrics, "file of metrics"), start=1):
        try:
            line = json.loads(text)
            for name, value in line.get("terms", {}).items():
                terms.setdefault(name, []).append((int(line["step"]), float(value)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"expected a step and its losses, got line {number} ({error!r}): {metrics}") from None
    return terms


def loss_chart(terms: Terms, most: int = 300) -> bytes:
    """Each loss over the steps on a logarithmic axis, as an SVG file.

    Args:
        terms: From :func:`read_terms`.
        most: Points of a line; of more, each drawn one is the mean of its neighbours.
    """
    series = []
    for name, points in terms.items():
        if name == DOMAIN_ACCURACY:
            continue
        drawn = thinned(points, most)
        series.append(Series(LOSS_NAMES.get(name, name), [step for step, _ in drawn], [value for _, value in drawn]))
    return line_chart(series, x_label="step", y_label="loss, unweighted", log=True, size=(4.8, 3.2))


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points: the means of values over equal stretches, each at its last step.

    >>> thinned([(1, 1.0), (2, 3.0), (3, 5.0), (4, 7.0), (5, 9.0)], 3)
    [(2, 2.0), (4, 6.0), (5, 9.0)]
    """
    stretch = math.ceil(len(points) / most)
    blocks = [points[start : start + stretch] for start in range(0, len(points), stretch or 1)]
    return [(block[-1][0], statistics.mean(value for _, value in block)) for block in blocks]


def threshold_series(name: str, figures: Mapping[str, Any]) -> Series:
    """The mIoU over the thresholds, the run's own threshold marked.

    Args:
        name: Of the line.
        figures: As :func:`attnbn.inference.evaluate.summary` gives them.
    """
    points = figures["curve"]
    mark = None if figures["miou"] is None else (figures["threshold"], figures["miou"])
    return Series(
        name,
        [point["threshold"] for point in points],
        [math.nan if point["miou"] is None else point["miou"] for point in points],
        mark,
    )
