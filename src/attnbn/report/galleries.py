"""The galleries of an ablation, as the paper's Figures 3 and 4: which photographs, under which titles, in which views.

Every photograph is chosen by a rule from the figures of the first row (the baseline) and the last (the method): at even
steps from the largest gain to the largest loss; for each class that gains; the failures; the background taken for objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from attnbn.report.comparison import comparison_headings, comparison_row, stacked_headings, stacked_rows
from attnbn.report.figures import Row
from attnbn.report.gallery import choose, highest, lowest
from attnbn.report.html import Page, percent
from attnbn.report.views import Views, class_ious, image_mious, spill

_Figure = Callable[[Tensor], Tensor]

BESIDE = 2
"""Models up to which attention and mask stand side by side; of more they stand one above the other."""


@dataclass(frozen=True)
class Compared:
    """Models on the photographs of one data set.

    Attributes:
        models: Their names; the first is the baseline, the last the method.
        runs: A finished run's folder for each.
        views: What the runs see.
    """

    models: Sequence[str]
    runs: Sequence[Path]
    views: Views

    @property
    def headings(self) -> list[str]:
        """Of the galleries' columns."""
        return (comparison_headings if len(self.models) <= BESIDE else stacked_headings)(self.models)

    @property
    def side(self) -> int:
        """Pixels of a picture's longer side on the page: the more columns, the smaller."""
        return 320 if len(self.models) <= BESIDE else 240

    def add(self, page: Page, rows: Sequence[Row], caption: str) -> None:
        """Add rows of the next four to a page, with the colours of the masks' classes."""
        page.gallery(self.headings, rows, caption, self.side, self.views.dataset.classes)

    def even_steps(self, count: int) -> list[Row]:
        """Photographs at even steps from the largest gain in mean IoU to the largest loss."""
        chosen = choose(self.views.named(self._last(image_mious) - self._first(image_mious)), count)
        return self._rows({c.name: f"{c.name}: {100 * c.gain:+.1f} points, {c.why}" for c in chosen})

    def gaining(self, gains: Mapping[str, float], count: int) -> list[Row]:
        """For each class that gains most, the photograph in which it gains most.

        Args:
            gains: Gain in IoU over all photographs, as a fraction, by class name; classes that lose are left out.
            count: Classes at most.
        """
        titles: dict[str, str] = {}
        for name in highest({name: gain for name, gain in gains.items() if gain > 0}, count):
            index = self.views.dataset.classes.index(name) + 1
            before, after = (class_ious(self.views.counts(run), index) for run in (self.runs[0], self.runs[-1]))
            for best in highest(self.views.named(after - before), 1):
                place = self.views.dataset.names.index(best)
                here = f"{percent(float(before[place]))} to {percent(float(after[place]))} % here"
                title = f"{name}: {100 * gains[name]:+.1f} points of IoU over all photographs; {best}: {here}"
                titles[best] = f"{titles[best]}. {title}" if best in titles else title
        return self._rows(titles)

    def failures(self, count: int) -> list[Row]:
        """The photographs with the method's lowest mean IoU."""
        figures = self.views.named(self._last(image_mious))
        return self._rows({name: f"{name}: {percent(figures[name])} % mIoU" for name in lowest(figures, count)})

    def background(self, count: int) -> list[Row]:
        """The photographs of which the baseline gives the most background to a class."""
        before, after = (self.views.named(of(spill)) for of in (self._first, self._last))
        first, last = self.models[0], self.models[-1]
        return self._rows(
            {
                name: f"{name}: background taken for an object, of all pixels: {first} {percent(before[name])} %, "
                f"{last} {percent(after[name])} %"
                for name in highest(before, count)
            }
        )

    def _first(self, figure: _Figure) -> Tensor:
        return figure(self.views.counts(self.runs[0]))

    def _last(self, figure: _Figure) -> Tensor:
        return figure(self.views.counts(self.runs[-1]))

    def _rows(self, titles: Mapping[str, str]) -> list[Row]:
        """The pictures of some photographs, by name, with their titles."""
        dataset = self.views.dataset
        indices = [dataset.names.index(name) for name in titles]
        seen = [self.views.predictions(run, indices) for run in self.runs]
        thresholds = [self.views.threshold(run) for run in self.runs]
        rows = []
        for index, title, predictions in zip(indices, titles.values(), zip(*seen, strict=True), strict=True):
            row = comparison_row(title, dataset[index].image, predictions, thresholds, dataset.classes)
            rows += [row] if len(self.models) <= BESIDE else stacked_rows(row)
        return rows
