"""A report that sets rows of an ablation side by side: tables, charts, and photographs as in Figures 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbn.io.atomic import write_bytes
from attnbn.io.run_folder import METRICS
from attnbn.report.bars import Bar, bar_chart
from attnbn.report.curves import loss_chart, read_terms, threshold_series
from attnbn.report.figures import gallery_png, line_chart
from attnbn.report.galleries import BESIDE, Compared
from attnbn.report.html import Page, percent
from attnbn.report.tables import ReportRow, class_table, gain, main_table, spread
from attnbn.report.views import Views

FACTS = 3
"""Rows up to which each has its mIoU set large; of more only the first and the last."""

CLASSES, FAILURES, BACKGROUNDS = 5, 5, 5
"""Photographs of the further galleries."""


@dataclass(frozen=True)
class AblationReport:
    """Everything a page needs.

    Attributes:
        title: Its heading.
        lead: A paragraph under it.
        command: What made it.
        rows: In the table's order; the first is the baseline, the last the method.
        views: What the runs see, for the galleries.
        split: What was scored.
        ceiling: ``miou`` and ``seconds`` of a model trained on masks, or None.
        photographs: Of the first gallery.
        picture: Also write the first gallery as ``gallery.png`` beside the page.
        further: Also show the classes that gain, the failures, and background taken for objects.
        published: What the paper's values are, e.g. ``paper: VGG16, VOC 2012 val``.
        caveat: What to mind when ours and the paper's values stand side by side.
        versions: Of the packages that it was made with.
    """

    title: str
    lead: str
    command: str
    rows: Sequence[ReportRow]
    views: Views
    split: str
    ceiling: Mapping[str, Any] | None = None
    photographs: int = 9
    picture: bool = False
    further: bool = False
    published: str = ""
    caveat: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the page, which appears whole or not at all."""
        page = Page(self.title, self.lead)
        page.facts(self._facts())
        self._figures(page)
        names = [row.name for row in self.rows]
        compared = Compared(names, [row.folder for row in self.rows], self.views)
        page.heading("What each model looks at")
        page.paragraph(_reading(len(names)) + self._seed())
        rows = compared.even_steps(self.photographs)
        compared.add(
            page,
            rows,
            "Chosen by rule: at even steps from the photograph with the largest gain to the one with the largest loss, the "
            "median among them.",
        )
        if self.further:
            self._further(page, compared)
        page.heading("Losses over time")
        page.charts([(loss_chart(read_terms(row.folder / METRICS)), row.name) for row in self.rows])
        page.made_by(self.command, self.versions)
        page.write(path)
        if self.picture:
            write_bytes(path.with_name("gallery.png"), gallery_png(compared.headings, rows))

    def _facts(self) -> dict[str, str]:
        first, last = self.rows[0], self.rows[-1]
        large = self.rows if len(self.rows) <= FACTS else (first, last)
        facts = {f"mIoU {row.name}": f"{spread(row.values('miou'))} %" for row in large}
        if first is not last:
            facts["gain"] = f"{gain(last, first)} points"
        if self.ceiling is not None:
            facts["ceiling, trained on masks"] = f"{percent(self.ceiling['miou'])} %"
        return facts

    def _figures(self, page: Page) -> None:
        page.heading("Attention maps as segmentations")
        page.paragraph(
            "A class is predicted where the sigmoid of its score exceeds one half; where none does, the class of the highest "
            "score. Its map, divided by its own maximum, is foreground from the threshold on. "
            f"{self._threshold()} Mean AP is that of the image-level scores: a model can recognise well and still look in the "
            "wrong place."
        )
        if any(row.published is not None for row in self.rows):
            bars = [Bar(row.name, row.values("miou"), row.published) for row in self.rows]
            page.figure(
                bar_chart(bars, x_label=f"mIoU on {self.split}", published=self.published),
                "Bars are means over the seeds, whiskers one standard deviation, dots single seeds." + self.caveat,
            )
        main_table(page, self.rows, self.ceiling, self.split, self.published)
        class_table(page, self.rows)
        curves = [threshold_series(row.name, row.figures[0]) for row in self.rows if row.figures[0]["curve"]]
        page.figure(
            line_chart(curves, x_label="threshold", y_label="mIoU", percent=True),
            "mIoU over all thresholds, not only the chosen one (marked, its mIoU named): what the maps are worth wherever one "
            "cuts them." + self._seed(),
        )

    def _threshold(self) -> str:
        figures = self.rows[0].figures[0]
        if figures["cross_fitted"]:
            return (
                f"The thresholds are chosen on {self.split} itself, so its figures are cross-fitted: each half of it is scored "
                "at the threshold that is best on the other half."
            )
        if figures.get("threshold_split") == self.split:
            return f"The thresholds are chosen on {self.split} itself, too small to be cross-fitted."
        return f"Each row's threshold was chosen on another split than {self.split}."

    def _seed(self) -> str:
        """Which of several seeds curves and pictures are from."""
        several = max(len(row.runs) for row in self.rows) > 1
        return f" Seed {self.rows[0].runs[0]['seed']}." if several else ""

    def _further(self, page: Page, compared: Compared) -> None:
        first, last = self.rows[0], self.rows[-1]
        if first is not last:
            before, after = (
                {name: row.class_iou(name) for name in self.views.dataset.classes} for row in (first, last)
            )
            gains = {name: b - a for name, a in before.items() if a is not None and (b := after[name]) is not None}
            if rows := compared.gaining(gains, CLASSES):
                text = (
                    f"The photograph in which a class gains most from {first.name} to {last.name}. The line over a row has the "
                    "IoU of that class alone, the line under a mask the mean IoU over all classes of the photograph."
                )
                compared.add(page.heading("Classes that gain most"), rows, text)
            text = f"Where {first.name} gives the largest share of the photograph to an object that is not there."
            page.heading("Background that comes with an object")
            compared.add(page, compared.background(BACKGROUNDS), text)
        page.heading("Failures")
        text = f"The photographs with the lowest mean IoU of {last.name}."
        compared.add(page, compared.failures(FAILURES), text)


def _reading(models: int) -> str:
    """How a gallery's pictures are to be read."""
    place = "beside it" if models <= BESIDE else "under it"
    return (
        "The attention shown is the highest over the predicted classes, which stand below it with their probabilities; the "
        f"mask cut from it {place}, with its mean IoU over the classes of this photograph. Background is grey, void white."
    )
