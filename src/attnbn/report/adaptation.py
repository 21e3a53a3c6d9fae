"""The report of ``attnbn adapt``: what attention does for a classifier in another domain, in figures and in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbn.data.dataset import ImageDataset
from attnbn.evaluation.classification import class_confusion
from attnbn.evaluation.domain_gap import domain_gap
from attnbn.io.run_folder import METRICS
from attnbn.report.bars import bar_chart
from attnbn.report.confusion import confusion_chart
from attnbn.report.curves import DOMAIN_ACCURACY, read_terms, thinned
from attnbn.report.embedding import Panel, embedding_chart
from attnbn.report.figures import Series, line_chart
from attnbn.report.html import Page, percent
from attnbn.report.transfer import Transfer, read_transfer
from attnbn.report.transfer_galleries import Galleries, Model
from attnbn.report.transfer_tables import (
    Results,
    arrow,
    main_table,
    oracle_table,
    trials_table,
    with_deviation,
)


@dataclass(frozen=True)
class DirectionView:
    """A direction's runs of the first seed, to be looked into.

    Attributes:
        source: Name of the source, as ``results.json`` has it.
        target: Name of the target.
        runs: Folder of each row's run, by the row's short name.
        seen: Folder that holds the row's ``transfer.json``, where it is not the run's own.
        source_dataset: The images held out of the source, with labels; None: no gallery of them.
        target_dataset: The target's test images, with labels; None: no gallery of them.
    """

    source: str
    target: str
    runs: Mapping[str, Path]
    seen: Mapping[str, Path] = field(default_factory=dict)
    source_dataset: ImageDataset | None = None
    target_dataset: ImageDataset | None = None


@dataclass(frozen=True)
class AdaptationReport:
    """Everything a page needs.

    Attributes:
        results: The content of ``results.json``.
        directions: What is looked into.
        lead: A paragraph under the title.
        published: What the paper's figures are.
        device: Where the networks compute.
    """

    results: Mapping[str, Any]
    directions: Sequence[DirectionView]
    lead: str = ""
    published: str = "paper"
    device: str = "cpu"

    def write(self, path: Path) -> None:
        """Write the page, which appears whole or not at all.

        Raises:
            InputError: A run's files are missing or damaged.
            RunError: The page cannot be written.
        """
        results = Results(self.results)
        page = Page(self.results["title"], self.lead)
        page.facts(_facts(results))
        self._figures(page, results)
        _choice(page, results)
        for place, direction in enumerate(self.directions):
            title = arrow((direction.source, direction.target))
            if place == 0:
                page.heading("A look inside")
                page.paragraph(
                    "Runs of the first seed; what is shown of the target takes no part in training or choosing."
                )
            with page.folded(title, unfolded=place == 0):
                _look(page, results, direction, self.device)
        page.made_by(self.results["command"], self.results["versions"])
        page.write(path)

    def _figures(self, page: Page, results: Results) -> None:
        page.heading(f"{results.title} in the other domain")
        page.paragraph(
            "Generalization knows the source alone; adaptation and its peers also see unlabelled images of the target. No label "
            "of the target is read in training, nor for choosing a setting."
        )
        whole = results.columns[-1]
        over = ", mean over the directions" if len(results.columns) > 1 else ""
        chart = bar_chart(
            results.bars(whole), x_label=f"{results.metric} on the target{over}", published=self.published
        )
        page.figure(chart, "Bars are means over the seeds, whiskers one standard deviation, dots single seeds.")
        main_table(page, results)
        if len(results.directions) > 1:
            with page.folded("Each direction as a chart"):
                for direction in results.directions:
                    label = f"{results.metric}, {arrow(direction)}"
                    page.figure(bar_chart(results.bars(direction), x_label=label, published=self.published))


def _facts(results: Results) -> dict[str, str]:
    """The baseline and the method, large."""
    facts = {}
    for row in dict.fromkeys((results.baseline, results.method)):
        value = with_deviation(results.line(row, results.columns[-1]))
        facts[f"{results.metric}, {results.rows[row]}"] = f"{value} %"
    if results.method != results.baseline:
        facts["gain"] = f"{results.gain(results.method)} points"
    return facts


def _choice(page: Page, results: Results) -> None:
    """How the settings were chosen, and what a choice on the target would have given."""
    page.heading("How the settings were chosen")
    if not results.content["trials"]:
        page.paragraph("They were not: every row has the settings of the recipe, and nothing was tried.")
        return
    page.paragraph(
        "Every row has as many trials. Each is trained with the first seed, and the one with the lowest classification loss on "
        "images held out of the source serves for all seeds."
    )
    first, *others = results.directions
    trials_table(page, results, first)
    if others:
        with page.folded("The other directions"):
            for direction in others:
                trials_table(page, results, direction)
    oracle_table(page, results)


def _look(page: Page, results: Results, direction: DirectionView, device: str) -> None:
    """One direction: attention, features, confusions, discriminators."""
    seen = {
        row: read_transfer(direction.seen.get(row, direction.runs[row]))
        for row in results.rows
        if row in direction.runs
    }
    pair = [row for row in dict.fromkeys((results.baseline, results.method)) if row in seen]
    if len(pair) == 2:
        _galleries(page, results, direction, seen, pair, device)
    _features(page, results, direction, seen)
    _confusions(page, results, direction, {row: seen[row] for row in pair})
    _discriminators(page, results, direction)


def _galleries(
    page: Page,
    results: Results,
    direction: DirectionView,
    seen: Mapping[str, Transfer],
    pair: Sequence[str],
    device: str,
) -> None:
    models = [Model(results.rows[row], direction.runs[row], seen[row]) for row in pair]
    galleries = Galleries(models[0], models[1], results.content["classes"], device)
    reading = (
        "The attention shown is that of the true class, divided by its maximum (of several classes the highest at each place); "
        "under it stands the class with the highest score."
    )
    if direction.target_dataset is not None:
        page.subheading(f"Attention in the {_domain('target', direction.target)}").paragraph(reading)
        galleries.add_target(page, direction.target_dataset)
    if direction.source_dataset is not None:
        page.subheading(f"Attention in the {_domain('source', direction.source)}")
        galleries.add_source(page, direction.source_dataset)


def _features(page: Page, results: Results, direction: DirectionView, seen: Mapping[str, Transfer]) -> None:
    page.subheading("Features of both domains")
    page.paragraph(
        "Do the domains lie in one another? Told apart: how often a linear classifier (ridge regression, cross-fitted over five "
        "folds, on images of one class, the classes balanced) says from an image's features which domain it is of; 50 % is "
        "chance, so lower is better aligned."
    )
    panels, table = [], []
    metric = results.content["metric"]
    for row, one in seen.items():
        source, target = one.source, one.target
        gap = domain_gap(source.features, source.labels, target.features, target.labels)
        title = f"{results.rows[row]}\ntold apart {percent(gap, 0)} %"
        panels.append(Panel(title, source.features, source.labels, target.features, target.labels))
        table.append(
            [results.rows[row], percent(gap), percent(source.figures[metric]), percent(target.figures[metric])]
        )
    header = ["row", "domains told apart", f"{results.metric} in the source", f"{results.metric} in the target"]
    page.table(header, table, "Per cent, on images that were not trained on.")
    page.figure(
        embedding_chart(
            panels,
            results.content["classes"],
            (_domain("source", direction.source), _domain("target", direction.target)),
        ),
        "F averaged over its places, projected on the two principal axes of both domains together, each row by itself. A dot "
        "is an image held out of the source, a ring one of the target's test images, the colour its class.",
    )


def _confusions(page: Page, results: Results, direction: DirectionView, seen: Mapping[str, Transfer]) -> None:
    charts = []
    for row, one in seen.items():
        counts = class_confusion(one.target.scores, one.target.labels)
        if int(counts.sum()):
            charts.append((confusion_chart(counts, results.content["classes"]), results.rows[row]))
    if charts:
        page.subheading("What is taken for what")
        page.paragraph(
            f"Test images of the {_domain('target', direction.target)} that show exactly one class: rows are that class, "
            "columns the class with the highest score; right is blue, wrong red. The deeper the colour, the larger the share of "
            "the row."
        )
        page.charts(charts)


def _discriminators(page: Page, results: Results, direction: DirectionView) -> None:
    series = []
    for place, (row, label) in enumerate(results.rows.items()):
        if row in direction.runs:
            points = thinned(read_terms(direction.runs[row] / METRICS).get(DOMAIN_ACCURACY, []), 200)
            if points:
                series.append(Series(label, [step for step, _ in points], [value for _, value in points], colour=place))
    if series:
        page.subheading("The discriminator over time")
        page.figure(
            line_chart(series, x_label="step", y_label="domains named right", percent=True, level=0.5),
            "Share of the places that the row's own discriminator or domain classifier names right in training, smoothed. At "
            "50 % (dotted) it cannot tell; near 100 % it wins, and its gradient moves the features against it.",
        )


def _domain(role: str, name: str) -> str:
    """``target M``; a domain that is called by its role has no other name."""
    return role if name == role else f"{role} {name}"
