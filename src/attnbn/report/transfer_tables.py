"""The tables of ``attnbn adapt``: figures as in the paper's Tables 6 and 7, how settings were chosen, the oracle."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnbn.report.bars import Bar
from attnbn.report.html import Page, percent
from attnbn.report.tables import known, spread

MEAN = "mean"
"""Source and target of a mean over directions."""

METRICS = {"accuracy": "accuracy", "mean_ap": "mean AP"}

Line = Mapping[str, Any]
Direction = tuple[str, str]


@dataclass(frozen=True)
class Results:
    """``results.json`` of ``attnbn adapt``, and how its parts are found.

    Attributes:
        content: As it stands in the file.
    """

    content: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """The figure's name, for people."""
        return METRICS[self.content["metric"]]

    @property
    def title(self) -> str:
        """The same at the beginning of a line."""
        return self.metric[0].upper() + self.metric[1:]

    @property
    def directions(self) -> list[Direction]:
        """(source, target), in order."""
        pairs = ((line["source"], line["target"]) for line in self.content["summary"])
        return [pair for pair in dict.fromkeys(pairs) if pair != (MEAN, MEAN)]

    @property
    def columns(self) -> list[Direction]:
        """The directions, and their mean where there are several."""
        return [*self.directions, *[(MEAN, MEAN)] * (len(self.directions) > 1)]

    @property
    def rows(self) -> dict[str, str]:
        """Labels by short name: generalization, adaptation, peers; within these in the order of the file."""
        lines = {line["row"]: line for line in self.content["summary"]}
        order = {"generalization": 0, "adaptation": 1, "peers": 2}
        return {row: lines[row]["label"] for row in sorted(lines, key=lambda row: order[group(lines[row])])}

    @property
    def baseline(self) -> str:
        """The row that gains are over: ``source``, or the first."""
        return "source" if "source" in self.rows else next(iter(self.rows))

    @property
    def method(self) -> str:
        """The paper's method as far as it is there, or the last row."""
        found = [row for row in ("attnbn", "source-attention") if row in self.rows]
        return found[0] if found else list(self.rows)[-1]

    def line(self, row: str, direction: Direction) -> Line | None:
        """A row's summary in a direction; None where it has none."""
        for line in self.content["summary"]:
            if (line["row"], line["source"], line["target"]) == (row, *direction):
                found: Line = line
                return found
        return None

    def group(self, row: str) -> str:
        """``generalization``, ``adaptation`` or ``peers``."""
        return group(next(line for line in self.content["summary"] if line["row"] == row))

    def values(self, row: str, direction: Direction) -> list[float]:
        """The figure of each seed; in the mean over directions, of each seed that has them all."""
        own = [line for line in self.content["rows"] if line["row"] == row and line["value"] is not None]
        if direction != (MEAN, MEAN):
            return [line["value"] for line in own if (line["source"], line["target"]) == direction]
        by_seed: dict[int, list[float]] = {}
        for line in own:
            by_seed.setdefault(line["seed"], []).append(line["value"])
        return [statistics.mean(values) for values in by_seed.values() if len(values) == len(self.directions)]

    def published(self, row: str, direction: Direction) -> float | None:
        """The paper's figure."""
        line = self.line(row, direction)
        return None if line is None else line["paper"]

    def gain(self, row: str) -> str:
        """Points over the baseline in the last column, signed; a dash for the baseline itself."""
        ours, theirs = (self.line(name, self.columns[-1]) for name in (row, self.baseline))
        if row == self.baseline or ours is None or theirs is None or None in (ours["mean"], theirs["mean"]):
            return "–"
        return f"{100 * (ours['mean'] - theirs['mean']):+.1f}"

    def bars(self, direction: Direction) -> list[Bar]:
        """A bar for each row."""
        return [
            Bar(label, self.values(row, direction), self.published(row, direction)) for row, label in self.rows.items()
        ]


def group(line: Line) -> str:
    """Under which heading a row stands: its setting, or ``peers``."""
    return "peers" if line.get("peer") else line["setting"]


def arrow(direction: Direction) -> str:
    """``C → M``, or ``mean``."""
    return MEAN if direction == (MEAN, MEAN) else f"{direction[0]} → {direction[1]}"


def with_deviation(line: Line | None) -> str:
    """``83.1 ± 0.4``; a dash where there is no figure."""
    if line is None or line["mean"] is None:
        return "–"
    deviation = line["deviation"]
    return percent(line["mean"]) + ("" if deviation is None else f" ± {percent(deviation)}")


def main_table(page: Page, results: Results) -> None:
    """Rows by setting; the mean over the directions and its gain, then each direction.

    The paper's figures stand beside ours, or beneath where there are several directions.
    """
    *directions, whole = results.columns
    columns, rows = [whole, *directions], list(results.rows)
    beside = not directions
    published = any(results.published(row, column) is not None for row in rows for column in columns)
    header = ["setting", "row", arrow(whole), *["paper"] * (beside and published), "gain", *map(arrow, directions)]
    table: list[list[str]] = []
    places = {}
    earlier = ""
    for row in rows:
        places[row] = len(table)
        setting = results.group(row)
        mean, *cells = (with_deviation(results.line(row, column)) for column in columns)
        paper, *papers = (percent(results.published(row, column)) for column in columns)
        first = ["" if setting == earlier else setting, results.rows[row], mean]
        table.append([*first, *[paper] * (beside and published), results.gain(row), *cells])
        if not beside and any(results.published(row, column) is not None for column in columns):
            table.append(["", "paper", paper, "–", *papers])
        earlier = setting
    at = {column: place for place, column in enumerate(directions, start=4)} | {whole: 2}
    strong = {(places[row], at[column]) for column in columns for row in best(results, column)}
    count, *counts = (_images(results, column) for column in columns)
    if {count, *counts} != {"–"}:
        table.append(["", "number of test images", count, *["–"] * (beside and published), "–", *counts])
    seeds = max((line["seeds"] for line in results.content["summary"]), default=0)
    over = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
    where = "" if beside else " in the mean over the directions"
    page.table(
        header,
        table,
        f"{results.title} on the target's test images in per cent{over}; the best of ours is bold. Gain: points "
        f"over {results.rows[results.baseline]}{where}.",
        strong,
    )


def _images(results: Results, direction: Direction) -> str:
    """How many of the target's images a direction's rows are tested on; a dash while none is."""
    own = (line for line in results.content["rows"] if (line["source"], line["target"]) == direction)
    return ", ".join(f"{count:,}" for count in dict.fromkeys(line.get("images") for line in own) if count) or "–"


def best(results: Results, column: Direction) -> list[str]:
    """The rows that show the highest mean of a column, if there is anything to be better than."""
    lines = {row: results.line(row, column) for row in results.rows}
    means = {row: line["mean"] for row, line in lines.items() if line is not None and line["mean"] is not None}
    highest = percent(max(means.values(), default=None))
    return [row for row, mean in means.items() if percent(mean) == highest] if len(means) > 1 else []


def trials_table(page: Page, results: Results, direction: Direction) -> None:
    """Each row's trials with their figures on the source's held-out images, the chosen one bold."""
    lines = [line for line in results.content["trials"] if (line["source"], line["target"]) == direction]
    table: list[list[str]] = []
    strong: set[tuple[int, int]] = set()
    earlier = ""
    for row, label in results.rows.items():
        for line in lines:
            if line["row"] != row:
                continue
            if line["chosen"]:
                strong |= {(len(table), column) for column in range(1, 4)}
            loss = "diverged" if line["source_loss"] is None else f"{line['source_loss']:.4f}"
            title = "" if row == earlier else label
            table.append([title, in_words(line["trial"]), loss, percent(line["source_value"])])
            earlier = row
    if table:
        header = ["row", "settings tried", "L_cl on the source", f"{results.metric} on the source"]
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(line["seed"] for line in lines))
        text = f"{arrow(direction)}, seed {seeds}: figures on the source's held-out images; the lowest L_cl is taken."
        page.table(header, table, text, strong)


def oracle_table(page: Page, results: Results) -> None:
    """The best of each row's trials by the target's own labels, apart from everything else."""
    table = []
    for row, label in results.rows.items():
        own = {
            (line["source"], line["target"]): line["value"] for line in results.content["oracle"] if line["row"] == row
        }
        if own:
            values = [own.get(direction) for direction in results.directions]
            whole = values if None not in values else []
            mean = [spread([statistics.mean(known(whole))]) if whole else "–"]
            table.append([label, *(mean if len(results.columns) > 1 else []), *map(percent, values)])
    if table:
        header = ["oracle", *[MEAN] * (len(results.columns) > 1), *map(arrow, results.directions)]
        page.table(
            header,
            table,
            f"ORACLE, {results.metric} in per cent: for each row and direction the best of its trials, chosen by the target's "
            "test labels, one seed. Not to be compared with the figures above or with published ones.",
        )


def in_words(trial: Mapping[str, Any]) -> str:
    """``loss.attention 0.5, training.lr 0.001``."""
    return ", ".join(f"{name} {value}" for name, value in trial.items()) or "as the recipe has them"
