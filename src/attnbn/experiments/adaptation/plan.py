"""Which runs a comparison needs: a row, a trial, a seed and the data of a direction.

A run of generalisation knows no target, so all directions from one source share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnbn.adapt_config import ROWS, AdaptConfig, row_config, trials_of
from attnbn.experiments.adaptation.directions import Direction
from attnbn.experiments.rows import Run


@dataclass(frozen=True)
class Case:
    """One training as one direction sees it.

    Attributes:
        row: Short name.
        direction: From where to where.
        trial: Place among the row's trials.
        settings: That trial's.
        run: The training; equal for the directions that share it.
        tested: Settings of the run with its target named: where the images come from that it is looked at with.
        folder: Of its figures in this direction.
    """

    row: str
    direction: Direction
    trial: int
    settings: Mapping[str, Any]
    run: Run
    tested: Any
    folder: Path

    @property
    def seed(self) -> int:
        """The run's."""
        return self.run.seed


class Planner:
    """Makes the cases of a comparison; what is shared is made once.

    Args:
        config: Settings of all.
        classes: The classes, in order.
        output: Folder of everything.
    """

    def __init__(self, config: AdaptConfig, classes: tuple[str, ...], output: Path) -> None:
        self.config, self.classes, self.output = config, classes, output
        self._runs: dict[Path, Run] = {}

    def cases(
        self, row: str, direction: Direction, seeds: Sequence[int], trials: Sequence[int] | None = None
    ) -> list[Case]:
        """A row in a direction with each seed and each trial (None: all)."""
        every = trials_of(self.config.compare, row)
        chosen = range(len(every)) if trials is None else trials
        return [self._case(row, direction, trial, every[trial], seed) for seed in seeds for trial in chosen]

    def _case(self, row: str, direction: Direction, trial: int, settings: Mapping[str, Any], seed: int) -> Case:
        base = replace(self.config, data=replace(self.config.data, classes=list(self.classes), target="named below"))
        own = row_config(base, ROWS[row], settings)
        config = direction.config(own, seed)
        place = direction.source if config.data.target is None else direction.name
        folder = self.output / "runs" / place / f"{row}-{trial}-{seed}"
        run = self._runs.setdefault(folder, Run(f"{place} {row}", seed, replace(config, output=str(folder))))
        tested = replace(config, data=replace(config.data, target=direction.target.spec))
        return Case(row, direction, trial, settings, run, tested, self.output / direction.name / folder.name)
