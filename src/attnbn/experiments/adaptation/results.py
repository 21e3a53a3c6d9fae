"""What a comparison found, as ``results.json`` holds it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from attnbn.adapt_config import ROWS, Comparison
from attnbn.experiments.adaptation.plan import Case
from attnbn.io.errors import DivergedError
from attnbn.io.run_folder import RunFolder

MEAN = "mean"
"""Source and target of a mean over directions."""

Figures = Mapping[str, Any]


def entry(case: Case, figures: Figures, metric: str) -> dict[str, Any]:
    """A finished run as a line of ``rows``."""
    own = RunFolder(case.run.folder).results()
    return {
        "row": case.row,
        "setting": ROWS[case.row].setting,
        "source": case.direction.source,
        "target": case.direction.target.name,
        "seed": case.seed,
        "metric": metric,
        "value": figures[metric],
        "source_value": figures["validation"][metric],
        "mean_ap": figures["mean_ap"],
        "mean_ap_relative": figures["mean_ap_relative"],
        "images": figures["images"],
        "trial": dict(case.settings),
        "seconds": own["seconds"],
        "folder": str(case.folder.name),
    }


def trial_line(case: Case, figures: Figures, metric: str, chosen: bool) -> dict[str, Any]:
    """A trial as a line of ``trials``; ``value`` is of the target and took no part in the choice."""
    return {
        "row": case.row,
        "source": case.direction.source,
        "target": case.direction.target.name,
        "seed": case.seed,
        "trial": dict(case.settings),
        "source_loss": figures["validation"]["loss"],
        "source_value": figures["validation"][metric],
        "value": figures[metric],
        "chosen": chosen,
        "diverged": bool(figures.get("diverged")),
    }


def diverged(metric: str) -> dict[str, Any]:
    """What is known of a trial that diverged, in the place of figures."""
    return {metric: None, "validation": {metric: None, "loss": None}, "diverged": True}


def best_on_source(cases: Sequence[Case], figures: Sequence[Figures]) -> Case:
    """The case with the lowest L_cl on the source's held-out images; the first of equals.

    Raises:
        DivergedError: None of them stayed finite.
    """
    order = sorted(range(len(cases)), key=lambda place: _loss(figures[place]))
    if math.isinf(_loss(figures[order[0]])):
        case = cases[order[0]]
        raise DivergedError(
            f"expected a trial of {case.row} that stays finite, got {len(cases)} that diverged; give compare.trials with lower "
            f"rates or weights: {case.run.folder.parent}"
        )
    return cases[order[0]]


def _loss(figures: Figures) -> float:
    loss = figures["validation"]["loss"]
    return float(loss) if loss is not None and math.isfinite(loss) else math.inf


def oracle(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each row and direction the best of its trials by the target's own labels: what no fair choice can reach."""
    best: dict[tuple[str, str, str], float] = {}
    for line in trials:
        key = (line["row"], line["source"], line["target"])
        if line["value"] is not None:
            best[key] = max(best.get(key, 0.0), line["value"])
    return [dict(zip(("row", "source", "target", "value"), (*key, value), strict=True)) for key, value in best.items()]


def summarize(entries: Sequence[Mapping[str, Any]], compare: Comparison) -> list[dict[str, Any]]:
    """Mean and sample deviation over seeds of each row in each direction, then of its mean over the directions.

    The mean over directions is taken seed by seed, and only where a row has all directions of the comparison for that seed.
    """
    directions = list(dict.fromkeys((line["source"], line["target"]) for line in entries))
    rows = list(dict.fromkeys(line["row"] for line in entries))
    lines = []
    for row in rows:
        own = [line for line in entries if line["row"] == row]
        for source, target in directions:
            values = [line["value"] for line in own if (line["source"], line["target"]) == (source, target)]
            lines.append(_line(row, source, target, values, _published(compare, row, [(source, target)])))
        if len(directions) > 1:
            seeds = dict.fromkeys(line["seed"] for line in own)
            by_seed = [[line["value"] for line in own if line["seed"] == seed] for seed in seeds]
            whole = [statistics.mean(v) for v in by_seed if len(v) == len(directions) and None not in v]
            lines.append(_line(row, MEAN, MEAN, whole, _published(compare, row, directions)))
    return lines


def _published(compare: Comparison, row: str, directions: Sequence[tuple[str, str]]) -> float | None:
    """The paper's mean over these directions, if it has them all."""
    own = compare.published.get(row, {})
    values = [own.get(f"{source}-{target}") for source, target in directions]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def _line(row: str, source: str, target: str, values: Sequence[float | None], paper: float | None) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "row": row,
        "label": ROWS[row].label,
        "setting": ROWS[row].setting,
        "peer": ROWS[row].peer,
        "source": source,
        "target": target,
        "mean": statistics.mean(known) if known else None,
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
        "seeds": len(known),
        "paper": paper,
    }
