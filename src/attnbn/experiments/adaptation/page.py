"""The comparison's page: which runs and images of each direction are looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbn.adapt_config import Comparison
from attnbn.experiments.adaptation.directions import Direction
from attnbn.experiments.adaptation.plan import Case
from attnbn.experiments.adaptation.transfer import Tests
from attnbn.report.adaptation import AdaptationReport, DirectionView
from attnbn.training.devices import check_device

Look = tuple[Direction, Mapping[str, Case], Tests]
"""A direction, its chosen case of the first seed for each row, and the images those were tested with."""


def write_page(path: Path, results: Mapping[str, Any], compare: Comparison, looks: Sequence[Look], device: str) -> None:
    """Write ``report.html``."""
    views = [
        DirectionView(
            direction.source,
            direction.target.name,
            {row: case.run.folder for row, case in cases.items()},
            {row: case.folder for row, case in cases.items()},
            tests.source,
            tests.target,
        )
        for direction, cases, tests in looks
    ]
    AdaptationReport(results, views, compare.lead, compare.paper, check_device(device)).write(path)
