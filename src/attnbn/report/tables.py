"""The tables of an ablation: a line per row with its means and spreads over seeds, and the IoU of each class."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbn.report.html import Page, percent


@dataclass(frozen=True)
class ReportRow:
    """One row of the ablation.

    Attributes:
        name: As the tables show it.
        runs: One per seed, with ``seed``, ``miou``, ``threshold``, ``mean_ap`` and ``seconds``.
        figures: One per seed, as :func:`attnbn.inference.evaluate.summary` gives them.
        folder: The run of the first seed, for its losses and its pictures.
        published: The paper's mIoU as a fraction, or None.
        published_iou: The paper's IoU by class name, as fractions.
        baseline: Of the first row shown: gains are over it. False while the row that they should be over is not finished.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    figures: Sequence[Mapping[str, Any]]
    folder: Path
    published: float | None = None
    published_iou: Mapping[str, float] = field(default_factory=dict)
    baseline: bool = True

    def values(self, key: str) -> list[float]:
        """A figure of each seed; those that do not exist are left out."""
        return known(run[key] for run in self.runs)

    def class_iou(self, name: str) -> float | None:
        """Mean IoU of a class over the seeds."""
        values = known((figures["iou"] or {}).get(name) for figures in self.figures)
        return statistics.mean(values) if values else None


def known(values: Iterable[float | None]) -> list[float]:
    """The values that are numbers."""
    return [float(value) for value in values if value is not None and not math.isnan(value)]


def spread(values: Iterable[float | None]) -> str:
    """A mean in per cent, with the sample standard deviation where there are several.

    >>> spread([0.5, 0.52, 0.54]), spread([0.5, None]), spread([])
    ('52.0 ± 2.0', '50.0', '–')
    """
    numbers = known(values)
    if not numbers:
        return "–"
    text = percent(statistics.mean(numbers))
    return text if len(numbers) == 1 else f"{text} ± {percent(statistics.stdev(numbers))}"


def gain(row: ReportRow, first: ReportRow) -> str:
    """Points of mIoU over the baseline, signed; a dash where one has none, or the first row shown is not it."""
    ours, theirs = row.values("miou"), first.values("miou")
    if row is first or not first.baseline or not ours or not theirs:
        return "–"
    return f"{100 * (statistics.mean(ours) - statistics.mean(theirs)):+.1f}"


def main_table(
    page: Page, rows: Sequence[ReportRow], ceiling: Mapping[str, Any] | None, split: str, source: str
) -> None:
    """A line per row: mIoU, gain, the paper's, the mIoU if the labels are given, recognition, pixels, threshold, time.

    Args:
        page: To add the table to.
        rows: The first is the baseline.
        ceiling: ``miou`` and ``seconds`` of a model trained on masks, or None.
        split: What was scored.
        source: What the published values are.
    """
    published = any(row.published is not None for row in rows)
    header = ["row", "mIoU", "gain", *["paper"] * published, "labels given"]
    header += ["mean AP", "precision", "recall", "threshold", "seconds"]
    table = []
    for row in rows:
        pixels = [[_mean_of_classes(figures[key]) for figures in row.figures] for key in ("precision", "recall")]
        line = [row.name, spread(row.values("miou")), gain(row, rows[0])]
        line += [percent(row.published)] * published
        line.append(spread((figures.get("given_labels") or {}).get("miou") for figures in row.figures))
        line += [spread(row.values("mean_ap")), *map(spread, pixels)]
        line += [", ".join(f"{value:.2f}" for value in row.values("threshold")) or "–", seconds(row.runs)]
        table.append(line)
    if ceiling is not None:
        filled = ["–"] * (len(header) - 3)
        time = f"{ceiling['seconds']:.0f}"
        table.append(["the same trunk, trained on masks", percent(ceiling["miou"]), *filled, time])
    seeds = max(len(row.runs) for row in rows)
    over = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
    theirs = f"; {source}" if published and source else ""
    given = " “Labels given” is the mIoU of the maps of the classes that are there, as if recognition were perfect."
    page.table(header, table, f"Figures on the {split} split in per cent{over}{theirs}.{given}")


def seconds(runs: Sequence[Mapping[str, Any]]) -> str:
    """Mean seconds of the runs; with a sign where one was resumed, whose seconds are only those since."""
    resumed = any("seconds_since_resume_at_step" in run for run in runs)
    return ("> " if resumed else "") + f"{statistics.mean(float(run['seconds']) for run in runs):.0f}"


def class_table(page: Page, rows: Sequence[ReportRow]) -> None:
    """IoU of each class as in the paper's Table 1, under each row the paper's own where it has such classes."""
    scored = [row for row in rows if row.figures[0]["iou"]]
    if not scored:
        return
    names = list(scored[0].figures[0]["iou"])
    means = {name: [row.class_iou(name) for row in scored] for name in names}
    best = {name: percent(max(known(means[name]), default=None)) for name in names}
    table: list[list[str]] = []
    strong = set()
    for place, row in enumerate(scored):
        for column, name in enumerate(names, start=1):
            # as shown: of two that look the same one alone would be bold for what nobody sees
            if len(scored) > 1 and percent(means[name][place]) == best[name] not in (percent(0), percent(None)):
                strong.add((len(table), column))
        table.append(
            [row.name, *(spread((figures["iou"] or {}).get(name) for figures in row.figures) for name in names)]
        )
        if any(name in row.published_iou for name in names):
            table.append(["paper", *(percent(row.published_iou.get(name)) for name in names)])
    page.table(["IoU of each class", *names], table, "The highest of ours is set bold.", strong)


def _mean_of_classes(by_name: Mapping[str, float | None] | None) -> float | None:
    values = known((by_name or {}).values())
    return statistics.mean(values) if values else None
