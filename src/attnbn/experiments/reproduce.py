"""A study: rows × seeds trained, scored and set beside the paper's values, in a folder that can be looked at meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnbn.config import RunConfig
from attnbn.data.open import open_dataset
from attnbn.experiments.parallel import Job
from attnbn.experiments.rows import (
    Display,
    Run,
    check_earlier,
    check_split,
    check_study_folder,
    job,
    plan,
    preflight,
    run_all,
    score,
)
from attnbn.experiments.runner import versions
from attnbn.experiments.settings import flat
from attnbn.experiments.studies import PAPER, Study, StudyRow
from attnbn.io.atomic import remove_parts_of, write_json
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import alone_in
from attnbn.io.run_folder import RESULTS, RunFolder
from attnbn.report.ablation import AblationReport
from attnbn.report.tables import ReportRow, known
from attnbn.report.views import Views
from attnbn.training.devices import check_device

FIGURES = (
    "miou", "mean_ap", "given_labels", "iou", "ap", "precision", "recall", "threshold", "threshold_split", "cross_fitted",
    "thresholds", "curve", "unseen",
)  # fmt: skip
"""Of a run's figures those that stand in the study's results."""


@dataclass
class Reproduction:
    """A study under way.

    Attributes:
        study: What is compared.
        rows: Those of its rows that are.
        configs: Settings by the row's short name.
        output: Folder for everything.
        seeds: One training of each row per seed.
        split: What is scored; None: the split that the thresholds are chosen on, cross-fitted.
        overwrite: Start anew even if the folder holds runs.
        processes: Trainings at a time, on the CPU.
        command: What made it, for the report.
        display: Where to speak.
        results: The content of ``results.json``, once :meth:`run` has ended.
    """

    study: Study
    rows: Sequence[StudyRow]
    configs: Mapping[str, RunConfig]
    output: Path
    seeds: Sequence[int] = (0,)
    split: str | None = None
    overwrite: bool = False
    processes: int = 1
    command: str = ""
    display: Display = field(default_factory=Display)
    results: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._figures: dict[Run, dict[str, Any]] = {}
        self._views: Views | None = None

    def run(self) -> dict[str, Any]:
        """Train what is not yet trained, and write ``results.json`` and ``report.html`` after every finished run.

        Returns:
            The content of ``results.json``.

        Raises:
            InputError: for data that cannot be used, a folder that holds something else, or runs with other settings;
                nothing is trained then.
            RunError: A training failed; what is finished stays, and the same command goes on with the rest.
            Interrupted: After Ctrl-C, with a checkpoint written; the same.
        """
        check_study_folder(self.output, self.study.name)
        runs = plan(self.configs, self.output, self.study.name, self.seeds)
        jobs = self._jobs(runs)
        with alone_in(self.output):
            self.results = self._carry_out(runs, jobs)
        return self.results

    def _carry_out(self, runs: Sequence[Run], jobs: Mapping[Run, Job]) -> dict[str, Any]:
        """All of it, in a folder that is ours."""
        remove_parts_of(self.output / RESULTS, self.output / "report.html")
        for run in runs:
            if self._finished(run):
                self._figures[run] = score(run, self.scored_split)
        todo = [run for run in runs if run not in self._figures]
        if self._figures:
            self.display.say(f"{len(self._figures)} of {len(runs)} runs are finished already")
        if not todo:
            return self._write(runs)
        results: dict[str, Any] = {}

        def done(place: int, result: dict[str, Any]) -> None:
            nonlocal results
            run = todo[place]
            self._figures[run] = score(run, self.scored_split)
            results = self._write(runs)
            miou, seconds = self._figures[run]["miou"], result["seconds"]
            shown = "no mIoU" if miou is None else f"{100 * miou:.1f} % mIoU"
            count = f"{len(self._figures)} of {len(runs)} runs are finished"
            self.display.say(f"{run.row} seed {run.seed}: {shown}, {seconds:.0f} s; {count}")

        run_all([jobs[run] for run in todo], self.processes, self._any.device, done)
        return results

    @property
    def _any(self) -> RunConfig:
        return next(iter(self.configs.values()))

    @property
    def scored_split(self) -> str:
        """The split that all figures are from."""
        split = self.split or self._any.data.selection_split
        if split is None:
            raise InputError("expected a split with masks to score the rows on: give --data.selection_split or --split")
        return split

    def _finished(self, run: Run) -> bool:
        return RunFolder(run.folder).finished and not self.overwrite

    def _jobs(self, runs: Sequence[Run]) -> dict[Run, Job]:
        """The trainings, after everything that could refuse one of them has been looked at."""
        for run in runs:
            check_earlier(run, self.overwrite)
        check_split(self._any, self.scored_split)
        steps: dict[str, int] = {}
        jobs = {}
        for run in runs:
            if not self._finished(run) and run.row not in steps:
                steps[run.row] = preflight(run)
            watch = self.display.watch(f"{run.row} seed {run.seed}")
            jobs[run] = job(run, self.overwrite, watch, steps.get(run.row, 0))
        return jobs

    def _write(self, runs: Sequence[Run]) -> dict[str, Any]:
        """Results and report of what is finished."""
        results = self._results(runs)
        write_json(self.output / RESULTS, results)
        self._report(results)
        return results

    def _results(self, runs: Sequence[Run]) -> dict[str, Any]:
        finished = [run for run in runs if run in self._figures]
        rows = {row.name: row for row in self.rows}
        return {
            "study": self.study.name,
            "complete": len(finished) == len(runs),
            "split": self.scored_split,
            "rows": [_entry(rows[run.row], run, self.scored_split, self._figures[run]) for run in finished],
            "summary": summarize(
                [(run.row, rows[run.row].label, self._figures[run]) for run in finished], self.rows[0].name
            ),
            "paper": {
                row.name: {"of": PAPER, "miou": row.published, "iou": row.published_iou or None} for row in self.rows
            },
            "settings": _settings(self.configs),
            "versions": versions(),
            "command": self.command,
        }

    def _report(self, results: Mapping[str, Any]) -> None:
        shown = []
        for row in self.rows:
            own = [run for run in self._figures if run.row == row.name]
            own.sort(key=lambda run: list(self.seeds).index(run.seed))
            if own:
                entries = [entry for entry in results["rows"] if entry["row"] == row.name]
                figures = [self._figures[run] for run in own]
                shown.append(
                    ReportRow(
                        row.label,
                        entries,
                        figures,
                        own[0].folder,
                        row.published,
                        row.published_iou,
                        row is self.rows[0],
                    )
                )
        if self._views is None:
            data = self._any.data
            assert data.target is not None
            classes = RunFolder(shown[0].folder).config()["data"]["classes"]
            dataset = open_dataset(
                data.target, split=self.scored_split, classes=classes, class_map=data.class_map, masks=True
            )
            self._views = Views(dataset, check_device(self._any.device))
        planned = len(self.rows) * len(self.seeds)
        waiting = "" if results["complete"] else f" So far {len(results['rows'])} of {planned} runs are finished."
        AblationReport(
            title=self.study.title,
            lead=f"{self.study.lead}{waiting}",
            command=self.command,
            rows=shown,
            views=self._views,
            split=self.scored_split,
            photographs=7,
            further=True,
            published=PAPER,
            caveat=self.study.caveat,
            versions=results["versions"],
        ).write(self.output / "report.html")


def summarize(figures: Sequence[tuple[str, str, Mapping[str, Any]]], baseline: str) -> list[dict[str, Any]]:
    """Mean, sample standard deviation and count of each row over its seeds.

    Args:
        figures: Short name, label and figures of each finished run, the rows in order.
        baseline: Short name of the row that gains are over.

    Returns:
        For each row ``row``, ``label``, ``n``; ``miou``, ``given_labels`` (the mIoU if the labels are given) and ``mean_ap`` as
        ``mean`` and ``sd`` (None for a single seed);
        ``gain`` in mean mIoU over the baseline (None until that is finished); ``iou``, the mean of each class. All fractions.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    labels = {}
    for row, label, figure in figures:
        rows.setdefault(row, []).append(figure)
        labels[row] = label
    summary: list[dict[str, Any]] = []
    for row, own in rows.items():
        line: dict[str, Any] = {"row": row, "label": labels[row], "n": len(own)}
        line |= {key: _spread([figure[key] for figure in own]) for key in ("miou", "mean_ap")}
        line["given_labels"] = _spread([(figure.get("given_labels") or {}).get("miou") for figure in own])
        first = summary[0]["miou"]["mean"] if summary and summary[0]["row"] == baseline else None
        mean = line["miou"]["mean"]
        line["gain"] = None if first is None or mean is None else mean - first
        names = dict.fromkeys(name for figure in own for name in figure["iou"] or {})
        line["iou"] = {name: _spread([(figure["iou"] or {}).get(name) for figure in own])["mean"] for name in names}
        summary.append(line)
    return summary


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    numbers = known(values)
    return {
        "mean": statistics.mean(numbers) if numbers else None,
        "sd": statistics.stdev(numbers) if len(numbers) > 1 else None,
    }


def _entry(row: StudyRow, run: Run, split: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """A finished run as it stands in the study's results."""
    own = RunFolder(run.folder).results()
    entry: dict[str, Any] = {"row": row.name, "recipe": row.recipe, "label": row.label, "seed": run.seed}
    entry |= {"run": run.folder.name, "split": split}
    entry |= {key: figures.get(key) for key in FIGURES}
    entry |= {key: own[key] for key in ("seconds", "steps")}
    resumed = "seconds_since_resume_at_step"
    return entry | ({resumed: own[resumed]} if resumed in own else {})


def _settings(configs: Mapping[str, RunConfig]) -> dict[str, Any]:
    """What all rows share and what each has of its own, by the names of the command line."""
    skipped = ("seed", "output", "versions")
    every = {
        row: {key: value for key, value in flat(asdict(config)).items() if key not in skipped}
        for row, config in configs.items()
    }
    first = next(iter(every.values()))
    shared = {key: value for key, value in first.items() if all(own[key] == value for own in every.values())}
    own = {row: {key: value for key, value in all_.items() if key not in shared} for row, all_ in every.items()}
    return {"shared": shared, "rows": own}
