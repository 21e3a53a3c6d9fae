"""The study: every trial is a run that can be made, and is set against its own row."""

from __future__ import annotations

import argparse
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from attnbn.config import RunConfig
from attnbn.experiments import rows
from attnbn.io.errors import DivergedError

PLACE = Path(__file__).parents[2] / "benchmarks" / "animals" / "study.py"


def _load() -> ModuleType:
    """The script as a module, wherever pytest was started."""
    spec = spec_from_file_location("animals_study", PLACE)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


study = _load()
OPTIONS = argparse.Namespace(bench="bench", output="out", cache=None, seed=3, precision="32-true")


def test_every_trial_is_a_run_of_its_own() -> None:
    trials = study.trials()
    assert len({trial.name for trial in trials}) == len(trials)
    for trial in trials:
        run = study.configure(trial, OPTIONS)
        assert run.folder == Path("out") / f"{trial.name}-3"
        assert (run.seed, run.config.seed) == (3, 3)
        assert run.config.data.source == "folders:bench/animals/source"
        for name, value in trial.settings.items():
            section, _, key = name.rpartition(".")
            assert getattr(getattr(run.config, section) if section else run.config, key) == value


def test_the_table_shows_the_change_against_the_row_as_it_is() -> None:
    joint, other = study.trials()[:2]
    attnbn = [trial for trial in study.trials() if trial.row == "attnbn"]
    values = {joint.name: 0.45, other.name: 0.425, attnbn[0].name: 0.5, attnbn[1].name: 0.51}
    records = [
        {
            "trial": name,
            "miou": value,
            "given": value + 0.1,
            "mean_ap": 0.8,
            "seconds": 61.0,
            "resumed": name == other.name,
        }
        for name, value in values.items()
    ]
    records.append({"trial": study.trials()[2].name, study.DIVERGED: "a loss is not finite"})
    assert study.table(records).splitlines()[2:] == [
        f"| {joint.shown} | 45.0 | 55.0 | 80.0 | 61 |",
        f"| {other.shown} | 42.5 (-2.5) | 52.5 (-2.5) | 80.0 (+0.0) | > 61 |",
        f"| {study.trials()[2].shown} | diverged | – | – | – |",
        f"| {attnbn[0].shown} | 50.0 | 60.0 | 80.0 | 61 |",
        f"| {attnbn[1].shown} | 51.0 (+1.0) | 61.0 (+1.0) | 80.0 (+0.0) | 61 |",
    ]


def test_a_trial_that_diverges_leaves_a_note_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def train_once(config: RunConfig, overwrite: bool, watch: object) -> dict[str, object]:
        asked.append(str(config.output))
        raise DivergedError("a loss is not finite at step 49")

    monkeypatch.setattr(rows, "train_once", train_once)
    config = RunConfig(output=str(tmp_path / f"{study.trials()[1].name}-0"))
    for overwrite in (False, False, True):
        assert rows.try_once(config, overwrite) == {study.DIVERGED: "a loss is not finite at step 49"}
    assert len(asked) == 2  # once, and once because that was wanted
    (record,) = study.collect(tmp_path)
    assert record["trial"] == study.trials()[1].name


def test_a_bench_that_is_not_there_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.main(["run", "--bench", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("study.py: expected ") and "nowhere" in told and told.count("\n") == 1
