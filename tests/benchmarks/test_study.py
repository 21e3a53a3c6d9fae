"""The study: every trial is a run that can be made, the same grid for every row."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from benchmarks.animals import study

OPTIONS = argparse.Namespace(bench="bench", output="out", seed=3, precision="32-true")


def test_every_trial_is_a_run_of_its_own() -> None:
    trials = [*study.grid(), *study.alone()]
    assert len({trial.name for trial in trials}) == len(trials)
    for trial in trials:
        run = study.configure(trial, OPTIONS)
        assert run.folder == Path("out") / f"{trial.name}-3"
        assert (run.seed, run.config.seed) == (3, 3)
        assert run.config.data.source == "folders:bench/animals/source"
        for name, value in trial.settings.items():
            section, _, key = name.rpartition(".")
            assert getattr(getattr(run.config, section) if section else run.config, key) == value


def test_every_row_has_the_same_trials() -> None:
    rows = {row.name: Counter() for row in study.STUDY.rows}
    for trial in study.grid():
        rows[trial.row][trial.shown] += 1
    assert len(rows) == 6
    assert len({tuple(sorted(counts.items())) for counts in rows.values()}) == 1
    assert len(rows["attnbn"]) == len(study.GRID)


def test_the_table_marks_the_best_of_a_row_and_the_change_of_what_was_varied() -> None:
    names = [trial.name for trial in study.grid() if trial.row == "joint"][:2]
    base, other = study.alone()[:2]
    values = {names[0]: 0.3, names[1]: 0.4, base.name: 0.45, other.name: 0.425}
    records = [
        {"trial": name, "miou": value, "given": value + 0.1, "mean_ap": 0.8, "seconds": 61.0}
        for name, value in values.items()
    ]
    text = study.tables(records)
    (line,) = [line for line in text.splitlines() if line.startswith("| L_s-cl + L_ac + L_t-cl |")]
    assert "30.0 / 40.0 / 80.0 | **40.0 / 50.0 / 80.0** | – |" in line
    assert f"| {other.shown} | 42.5 (-2.5) | 52.5 (-2.5) | 80.0 | 61 |" in text
