"""Photographs of both domains with the attention of their true class before and after, chosen by a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.inference.load import load
from attnbn.inference.overlay import overlay
from attnbn.inference.predict import full_size, predict
from attnbn.io.errors import InputError
from attnbn.report.figures import Cell, Row
from attnbn.report.gallery import choose, highest
from attnbn.report.html import Page, percent
from attnbn.report.transfer import Seen, Transfer

GAINED, WRONG, SOURCE = 5, 4, 3
"""Photographs of the galleries."""


@dataclass(frozen=True)
class Model:
    """One of the two models compared.

    Attributes:
        label: As tables show it.
        run: Its run's folder, for the network.
        seen: What it said of both domains.
    """

    label: str
    run: Path
    seen: Transfer


@dataclass(frozen=True)
class Galleries:
    """The baseline and the method on the photographs of a direction.

    Attributes:
        before: The baseline.
        after: The method.
        classes: Names of the N classes.
        device: Where the networks compute.
    """

    before: Model
    after: Model
    classes: Sequence[str]
    device: str = "cpu"

    def add_target(self, page: Page, dataset: ImageDataset) -> None:
        """Two galleries: where the method is right and the baseline was not, and where the method is wrong."""
        before, after = self.before.seen.target, self.after.seen.target
        known = before.surety.isfinite()
        gained, lost = (int((known & a.right & ~b.right).sum()) for a, b in ((after, before), (before, after)))
        page.paragraph(
            f"Of {int(known.sum()):,} test images {gained:,} are wrong under {self.before.label} and right under "
            f"{self.after.label}, {lost:,} the other way round. Right: the class with the highest score is there."
        )
        text = f"Right under {self.after.label}, wrong under {self.before.label}: where the true class gained most probability."
        self._add(page, dataset, self._gains(before, after), text)
        text = f"Wrong under {self.after.label}: where it gives the wrong class the highest probability."
        self._add(page, dataset, self._mistakes(after), text)

    def add_source(self, page: Page, dataset: ImageDataset) -> None:
        """A few images held out of the source."""
        before, after = self.before.seen.source, self.after.seen.source
        gains = dict(zip(before.names, (after.surety - before.surety).tolist(), strict=True))
        titles = {c.name: f"{self._title(after, c.name)}: {c.why}" for c in choose(gains, SOURCE)}
        text = "The largest gain in probability of the true class, the median, and the largest loss."
        self._add(page, dataset, titles, text)

    def _gains(self, before: Seen, after: Seen) -> dict[str, str]:
        """Titles by name."""
        better = after.right & ~before.right
        gains = torch.where(better, after.surety - before.surety, torch.nan)
        titles = {}
        for name in highest(dict(zip(after.names, gains.tolist(), strict=True)), GAINED):
            place = after.names.index(name)
            values = " to ".join(percent(float(seen.surety[place]), 0) for seen in (before, after))
            titles[name] = f"{self._title(after, name)}: {values} % for what is there"
        return titles

    def _mistakes(self, after: Seen) -> dict[str, str]:
        wrong = ~after.right & after.surety.isfinite()
        sure = torch.where(wrong, after.scores.gather(1, after.said[:, None]).squeeze(1), torch.nan)
        chosen = highest(dict(zip(after.names, sure.tolist(), strict=True)), WRONG)
        return {name: self._title(after, name) for name in chosen}

    def _title(self, seen: Seen, name: str) -> str:
        labels = seen.labels[seen.names.index(name)]
        there = [class_ for class_, label in zip(self.classes, labels.tolist(), strict=True) if label == 1]
        return f"{name} ({', '.join(there)})"

    def _add(self, page: Page, dataset: ImageDataset, titles: Mapping[str, str], text: str) -> None:
        if not titles:
            page.paragraph(f"{text} There is none.")
            return
        page.paragraph(text)
        places = {name: place for place, name in enumerate(dataset.names)}
        if missing := [name for name in titles if name not in places]:
            raise InputError(
                f"expected the images that the runs were tested on, {missing[0]} is not in {dataset.title}"
            )
        indices = [places[name] for name in titles]
        columns = [self._cells(model, dataset, indices) for model in (self.before, self.after)]
        rows = []
        for index, title, *cells in zip(indices, titles.values(), *columns, strict=True):
            photograph = np.ascontiguousarray(np.asarray(dataset[index].image).transpose(1, 2, 0))
            rows.append(Row(title, [Cell(photograph), *cells]))
        page.gallery(["Photograph", self.before.label, self.after.label], rows, side=320)

    def _cells(self, model: Model, dataset: ImageDataset, indices: Sequence[int]) -> list[Cell]:
        """The attention of the true classes, their highest, over the photograph; under it the class that is said."""
        trained = load(model.run, device=self.device)
        cells = []
        predictions = predict(trained.network, dataset, size=trained.config.data.size, indices=indices, attend="labels")
        for index, seen in zip(indices, predictions, strict=True):
            assert seen.labels is not None
            maps = full_size(seen.maps, seen.size)
            highest_map = maps.amax(0) if len(maps) else torch.zeros(seen.size)
            image = dataset[index].image.as_subclass(Tensor)
            blind = "" if bool(highest_map.any()) else "; no attention"
            cells.append(Cell(overlay(image, highest_map), said(seen.scores, seen.labels, self.classes) + blind))
        return cells


def said(scores: Tensor, labels: Tensor, classes: Sequence[str]) -> str:
    """The class with the highest score and its probability, and whether it is not there: ``dog 97 %, wrong``.

    Args:
        scores: Logits ``N``.
        labels: ``N`` in {0, 1}; NaN = unknown, never said.
        classes: Names of the N classes.
    """
    best = int(scores.masked_fill(labels.isnan(), -torch.inf).argmax())
    text = f"{classes[best]} {100 * float(scores[best].sigmoid()):.0f}\u00a0%"
    return text if labels[best] == 1 else f"{text}, wrong"
