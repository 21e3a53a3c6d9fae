"""A report that sets rows of an ablation side by side: table, curves, losses, and photographs as in Figures 3 and 4."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbn.data.dataset import ImageDataset
from attnbn.inference.evaluate import image_miou
from attnbn.inference.predict import Prediction
from attnbn.report.comparison import comparison_headings, comparison_row
from attnbn.report.figures import Row, Series, gallery_png, line_chart
from attnbn.report.gallery import choose
from attnbn.report.html import Page, percent

Terms = dict[str, list[tuple[int, float]]]

LOSS_NAMES = {
    "source_cl": "L_s-cl",
    "attention": "L_ac",
    "target_cl": "L_t-cl",
    "adversarial": "L_adv",
    "domain": "L_d",
}
"""The terms of Eq. 5 and 7 as the paper writes them."""


@dataclass(frozen=True)
class ReportRow:
    """One row of the ablation.

    Attributes:
        name: As the table shows it.
        runs: One per seed, with ``seed``, ``miou``, ``threshold``, ``mean_ap`` and ``seconds``.
        figures: One per seed, as :func:`attnbn.inference.evaluate.summary` gives them.
        terms: Each loss over the steps of the first seed.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    figures: Sequence[Mapping[str, Any]]
    terms: Terms


@dataclass(frozen=True)
class Compared:
    """Models on the photographs of one data set, for the gallery.

    Attributes:
        models: Their names; the last is the one whose gain over the first chooses the photographs.
        dataset: With masks.
        predictions: For each model those of all photographs, in order.
        thresholds: One per model.
    """

    models: Sequence[str]
    dataset: ImageDataset
    predictions: Sequence[Sequence[Prediction]]
    thresholds: Sequence[float]

    def rows(self, count: int) -> list[Row]:
        """Photographs at even steps from the largest gain to the largest loss."""
        first, last = self.predictions[0], self.predictions[-1]
        pairs = zip(first, last, strict=True)
        gains = {a.name: image_miou(b, self.thresholds[-1]) - image_miou(a, self.thresholds[0]) for a, b in pairs}
        place = {name: index for index, name in enumerate(self.dataset.names)}
        rows = []
        for choice in choose(gains, count):
            index = place[choice.name]
            title = f"{choice.name}: {100 * choice.gain:+.1f} points, {choice.why}"
            image = self.dataset[index].image
            rows.append(
                comparison_row(
                    title, image, [p[index] for p in self.predictions], self.thresholds, self.dataset.classes
                )
            )
        return rows


def read_terms(metrics: Path) -> Terms:
    """Each loss over the steps, from a run's ``metrics.jsonl``."""
    terms: Terms = {}
    for text in metrics.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        for name, value in line.get("terms", {}).items():
            terms.setdefault(name, []).append((line["step"], value))
    return terms


@dataclass(frozen=True)
class AblationReport:
    """Everything a page needs.

    Attributes:
        title: Its heading.
        lead: A paragraph under it.
        command: What made it.
        rows: In the table's order; the first is the baseline.
        ceiling: ``miou`` of a model trained on masks, or None.
        compared: For the gallery.
        split: What was scored.
        photographs: Rows of the gallery.
    """

    title: str
    lead: str
    command: str
    rows: Sequence[ReportRow]
    ceiling: Mapping[str, Any] | None
    compared: Compared
    split: str
    photographs: int = 9

    def write(self, path: Path) -> None:
        """Write the page, and its gallery as a picture beside it."""
        page = Page(self.title, self.lead)
        page.facts(self._facts())
        page.heading("Attention maps as segmentations")
        page.paragraph(
            "A class is predicted where the sigmoid of its score exceeds one half; its map, divided by its own maximum, is "
            f"foreground from the threshold on. Each row's threshold was chosen on another split than {self.split}. Mean AP "
            "is that of the image-level scores: a model can recognise well and still look in the wrong place."
        )
        self._tables(page)
        curves = [
            Series(row.name, *_curve(row.figures[0]), mark=(row.runs[0]["threshold"], row.runs[0]["miou"]))
            for row in self.rows
        ]
        page.figure(
            line_chart(curves, x_label="threshold", y_label="mIoU", percent=True),
            "mIoU over all thresholds, not only the chosen one (marked): what the maps are worth wherever one cuts them.",
        )
        page.heading("What each model looks at")
        headings, rows = comparison_headings(self.compared.models), self.compared.rows(self.photographs)
        page.gallery(
            headings,
            rows,
            "Chosen by rule: at even steps from the photograph with the largest gain to the one with the largest loss, the "
            "median among them.",
        )
        page.heading("Losses over time")
        for row in self.rows:
            series = [
                Series(LOSS_NAMES.get(name, name), [step for step, _ in points], [value for _, value in points])
                for name, points in row.terms.items()
            ]
            page.figure(line_chart(series, x_label="step", y_label="loss, unweighted", log=True), row.name)
        page.heading("How to make this page")
        page.code(self.command)
        page.write(path)
        from attnbn.io.atomic import write_bytes

        write_bytes(path.with_name("gallery.png"), gallery_png(headings, rows))

    def _facts(self) -> dict[str, str]:
        first, last = self.rows[0], self.rows[-1]
        facts = {f"mIoU {row.name}": f"{_shown(_values(row, 'miou'))} %" for row in self.rows}
        gain = statistics.mean(_values(last, "miou")) - statistics.mean(_values(first, "miou"))
        facts["gain"] = f"{100 * gain:+.1f} points"
        if self.ceiling is not None:
            facts["ceiling, trained on masks"] = f"{percent(self.ceiling['miou'])} %"
        return facts

    def _tables(self, page: Page) -> None:
        header = ["row", "mIoU", "mean AP", "precision", "recall", "threshold", "seconds"]
        table = []
        for row in self.rows:
            means = [
                [statistics.mean(v for v in f[key].values() if v is not None) for f in row.figures]
                for key in ("precision", "recall")
            ]
            thresholds = ", ".join(f"{value:.2f}" for value in _values(row, "threshold"))
            seconds = f"{statistics.mean(_values(row, 'seconds')):.0f}"
            table.append(
                [
                    row.name,
                    _shown(_values(row, "miou")),
                    _shown(_values(row, "mean_ap")),
                    *map(_shown, means),
                    thresholds,
                    seconds,
                ]
            )
        if self.ceiling is not None:
            miou, seconds = percent(self.ceiling["miou"]), f"{self.ceiling['seconds']:.0f}"
            table.append(["the same trunk, trained on masks", miou, "–", "–", "–", "–", seconds])
        seeds = len(self.rows[0].runs)
        spread = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
        page.table(header, table, f"Figures on the {self.split} split in per cent{spread}")
        names = list(self.rows[0].figures[0]["iou"])
        per_class = [
            [row.name, *(_shown([f["iou"][name] for f in row.figures]) for name in names)] for row in self.rows
        ]
        page.table(["IoU of each class", *names], per_class, "")


def _values(row: ReportRow, key: str) -> list[float]:
    return [float(run[key]) for run in row.runs]


def _shown(values: Sequence[float | None]) -> str:
    """A mean in per cent, with the deviation where there are several."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "–"
    text = percent(statistics.mean(known))
    return text if len(known) == 1 else f"{text} ± {percent(statistics.stdev(known))}"


def _curve(figures: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    points = figures["curve"]
    return [p["threshold"] for p in points], [math.nan if p["miou"] is None else p["miou"] for p in points]
