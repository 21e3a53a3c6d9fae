"""A report on segmentation from cues: what each classifier's attention became, and photographs as in the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.report.bars import Bar, bar_chart
from attnbn.report.figures import Cell, Row, mask_cell
from attnbn.report.gallery import choose, lowest
from attnbn.report.html import Page, percent
from attnbn.report.tables import spread

GALLERY, FAILURES = 9, 4
"""Photographs of the two galleries."""


@dataclass(frozen=True)
class MaskRow:
    """A classifier and what became of its attention.

    Attributes:
        name: As the tables show it.
        attention: Figures of its attention maps as masks on the same split, one per seed; see
            :func:`attnbn.inference.evaluate.summary`.
        masks: Figures of the segmentation, one per seed; see :func:`attnbn.experiments.segmentation.masks.carry_out`.
        published: The paper's mIoU as a fraction, or None.
    """

    name: str
    attention: Sequence[Mapping[str, Any]]
    masks: Sequence[Mapping[str, Any]]
    published: float | None = None

    def cues(self, figure: str) -> list[float | None]:
        """A figure of the cues for each seed, mean over the classes, background included; None where there is none."""
        values = []
        for one in self.masks:
            found = [row.get(figure) for row in one["cues"]["classes"].values()]
            known = [value for value in found if value is not None]
            values.append(sum(known) / len(known) if known else None)
        return values


@dataclass(frozen=True)
class MaskReport:
    """Everything a page needs.

    Attributes:
        title: Its heading.
        lead: A paragraph under it.
        command: What made it.
        rows: The first is the baseline, the last the method.
        dataset: The photographs that were scored, with masks.
        counts: Confusion matrices of single photographs of the first and of the last row (of the first seed), each int64
            ``S×(N+1)×(N+1)``.
        mask_of: ``(row's place, name) -> mask`` uint8 ``H×W`` of the first seed.
        split: What was scored.
        versions: Of the packages that it was made with.
    """

    title: str
    lead: str
    command: str
    rows: Sequence[MaskRow]
    dataset: ImageDataset
    counts: tuple[Tensor, Tensor]
    mask_of: Callable[[int, str], Tensor]
    split: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: str | Path) -> None:
        """Write the page."""
        page = Page(self.title, self.lead)
        page.facts({row.name: f"{spread(one['miou'] for one in row.masks)} %" for row in self.rows})
        self._table(page)
        bars = [Bar(row.name, [one["miou"] for one in row.masks], row.published) for row in self.rows]
        page.figure(bar_chart(bars, x_label=f"mIoU on {self.split} after the CRF"), "Masks of each row")
        self._classes(page)
        self._galleries(page)
        page.made_by(self.command, self.versions)
        page.write(path)

    def _table(self, page: Page) -> None:
        header = [
            "row",
            "attention",
            "seeds' precision",
            "seeds' recall",
            "coverage",
            "before CRF",
            "after CRF",
            "paper",
        ]
        table = []
        for row in self.rows:
            line = [row.name, spread(one["miou"] for one in row.attention)]
            line += [spread(row.cues(key)) for key in ("precision", "recall", "coverage")]
            line += [spread(one["before_crf"]["miou"] for one in row.masks), spread(one["miou"] for one in row.masks)]
            table.append([*line, percent(row.published)])
        page.table(
            header,
            table,
            f"In per cent on {self.split}: mIoU of the classifier's own maps as masks; of cues made of these photographs as "
            "those learned from, precision, recall and share of the photograph, means over the classes and the background; "
            "mIoU of the segmentation before and after the CRF.",
        )

    def _classes(self, page: Page) -> None:
        names = list(self.rows[0].masks[0]["iou"])
        lines = []
        for row in self.rows:
            for title, figures in (("attention", row.attention), ("masks", row.masks)):
                values = [spread((one["iou"] or {}).get(name) for one in figures) for name in names]
                lines.append([f"{row.name}: {title}", *values])
        page.table(["IoU of each class", *names], lines)

    def _galleries(self, page: Page) -> None:
        first, last = (mean_iou(counts) for counts in self.counts)
        names = self.dataset.names
        gains = dict(zip(names, (last - first).tolist(), strict=True))
        chosen = {c.name: f"{c.name}: {100 * c.gain:+.1f} points, {c.why}" for c in choose(gains, GALLERY)}
        headings = ["Photograph", "Ground truth", *(row.name for row in self.rows)]
        page.heading("Photographs")
        page.gallery(
            headings,
            self._rows(chosen),
            f"At even steps from the largest gain in mean IoU of {self.rows[-1].name} over {self.rows[0].name} to the largest "
            "loss. Background is grey, void white.",
            classes=self.dataset.classes,
        )
        worst = dict(zip(names, last.tolist(), strict=True))
        titles = {name: f"{name}: {percent(worst[name])} % mIoU" for name in lowest(worst, FAILURES)}
        page.heading("Failures")
        text = f"The photographs with the lowest mean IoU of {self.rows[-1].name}."
        page.gallery(headings, self._rows(titles), text, classes=self.dataset.classes)

    def _rows(self, titles: Mapping[str, str]) -> list[Row]:
        rows = []
        for name, title in titles.items():
            sample = self.dataset[self.dataset.names.index(name)]
            image = sample.image.as_subclass(Tensor)
            assert sample.mask is not None
            photograph = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
            cells = [Cell(photograph), mask_cell(image, sample.mask.as_subclass(Tensor))]
            cells += [self._cell(image, sample.mask, self.mask_of(place, name)) for place in range(len(self.rows))]
            rows.append(Row(title, cells))
        return rows

    def _cell(self, image: Tensor, truth: Tensor, mask: Tensor) -> Cell:
        """A mask over its photograph, with its mean IoU there."""
        counts = confusion_matrix(mask, truth.as_subclass(Tensor), len(self.dataset.classes) + 1)
        return mask_cell(image, mask, f"{percent(float(mean_iou(counts)))} % mIoU")
