"""A study of two rows and two seeds: what it writes, that it goes on where it stopped, and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnbn.cli.train import parse
from attnbn.config import RunConfig
from attnbn.experiments import rows as rows_module
from attnbn.experiments.evaluate import evaluate_run
from attnbn.experiments.reproduce import FIGURES, Reproduction, summarize
from attnbn.experiments.rows import Display
from attnbn.experiments.studies import Study, StudyRow
from attnbn.io.errors import InputError, RunError
from attnbn.report.ablation import AblationReport
from attnbn.training.loop import Progress

STUDY = Study(
    "tiny",
    "Two rows",
    "Scenes.",
    [
        StudyRow("grad-cam", "demo-grad-cam", "Grad-CAM (L_t-cl)", "table1-grad-cam"),
        StudyRow("attnbn", "demo-attnbn", "AttnBN", "table1-attnbn"),
    ],
    (),
)
WRITE = AblationReport.write
TARGET = "scenes:target?count=24"


def settings(*extra: str) -> dict[str, RunConfig]:
    words = [
        "--data.source", "scenes:source?count=24", "--data.target", TARGET, "--data.size", "48", "--training.steps", "3",
        "--training.batch_size", "2", "--training.log_every", "1", "--device", "cpu", "--workers", "0", *extra,
    ]  # fmt: skip
    return {row.name: parse(["--config", row.recipe, *words]).config for row in STUDY.rows}


def study(output: Path, *extra: str, **options: object) -> Reproduction:
    options = {"seeds": (0, 1), "command": "attnbn reproduce tiny"} | options
    return Reproduction(STUDY, STUDY.rows, settings(*extra), output, **options)


@pytest.fixture(scope="module")
def pages() -> Iterator[list[AblationReport]]:
    """The pages that would be written; drawing each of them would take most of the time."""
    written: list[AblationReport] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AblationReport, "write", lambda page, path: written.append(page))
        yield written


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pages: list[AblationReport]) -> tuple[Path, list[dict]]:
    """The study's folder, and its results as they stood after each run."""
    folder = tmp_path_factory.mktemp("study") / "out"
    seen: list[dict] = []
    display = Display(say=lambda line: seen.append(json.loads((folder / "results.json").read_text()) | {"said": line}))
    results = study(folder, display=display).run()
    assert results == {key: value for key, value in seen[-1].items() if key != "said"}
    return folder, seen


@pytest.fixture
def copy(finished: tuple[Path, list[dict]], tmp_path: Path) -> Path:
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the run folders that are trained or continued."""
    names: list[str] = []
    train, resume = rows_module.train, rows_module.resume

    def spy_train(config: RunConfig, **options: object) -> dict:
        names.append(f"train {Path(config.output).name}")
        return train(config, **options)

    def spy_resume(run: str, *arguments: object, **options: object) -> dict:
        names.append(f"resume {Path(run).name}")
        return resume(run, *arguments, **options)

    monkeypatch.setattr(rows_module, "train", spy_train)
    monkeypatch.setattr(rows_module, "resume", spy_resume)
    return names


def test_results(finished: tuple[Path, list[dict]]) -> None:
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    assert set(results) == {"study", "complete", "split", "rows", "summary", "paper", "settings", "versions", "command"}
    assert (results["study"], results["complete"], results["split"]) == ("tiny", True, "dev")
    assert [(row["row"], row["seed"]) for row in results["rows"]] == [
        ("grad-cam", 0), ("attnbn", 0), ("grad-cam", 1), ("attnbn", 1),
    ]  # fmt: skip
    for row in results["rows"]:
        assert set(row) == {"row", "recipe", "label", "seed", "run", "split", "seconds", "steps", *FIGURES}
        own = json.loads((folder / row["run"] / "results.json").read_text())
        assert (row["miou"], row["iou"], row["steps"]) == (own["selection"]["miou"], own["selection"]["iou"], 3)
        assert row["cross_fitted"] and row["threshold_split"] == "dev"
    assert results["paper"]["attnbn"]["miou"] == 0.509
    assert results["settings"]["shared"]["training.steps"] == 3
    assert results["settings"]["rows"]["grad-cam"]["loss.attention"] == 0
    assert "loss.attention" not in results["settings"]["shared"]
    assert results["command"] == "attnbn reproduce tiny"


def test_the_results_can_be_looked_at_meanwhile(finished: tuple[Path, list[dict]]) -> None:
    _, seen = finished
    assert [len(one["rows"]) for one in seen] == [1, 2, 3, 4]
    assert [one["complete"] for one in seen] == [False, False, False, True]
    assert seen[1]["said"].startswith("attnbn seed 0: ") and seen[1]["said"].endswith("2 of 4 runs are finished")


def test_statistics_are_those_of_numpy(finished: tuple[Path, list[dict]]) -> None:
    results = finished[1][-1]
    for line in results["summary"]:
        own = [row for row in results["rows"] if row["row"] == line["row"]]
        assert line["n"] == 2
        for key in ("miou", "mean_ap"):
            values = np.array([row[key] for row in own])
            assert line[key]["mean"] == pytest.approx(values.mean())
            assert line[key]["sd"] == pytest.approx(values.std(ddof=1))
        assert line["iou"]["background"] == pytest.approx(np.mean([row["iou"]["background"] for row in own]))
    first, last = results["summary"]
    assert first["gain"] is None
    assert last["gain"] == pytest.approx(last["miou"]["mean"] - first["miou"]["mean"])


def test_statistics_without_figures() -> None:
    lines = summarize([("a", "A", {"miou": None, "mean_ap": 0.5, "iou": None}), ("b", "B", {"miou": 0.4, "mean_ap": None, "iou": {"cat": None}})], "a")  # fmt: skip # noqa: E501
    assert lines[0]["miou"] == {"mean": None, "sd": None}
    assert lines[0]["mean_ap"] == {"mean": 0.5, "sd": None}
    assert lines[0]["given_labels"] == {"mean": None, "sd": None}
    assert (lines[1]["gain"], lines[1]["iou"]) == (None, {"cat": None})


def test_the_report_shows_every_row(finished: tuple[Path, list[dict]], pages: list[AblationReport], copy: Path) -> None:
    assert ["So far" in page.lead for page in pages[:4]] == [True, True, True, False]
    assert [[len(row.runs) for row in page.rows] for page in pages[:4]] == [[1], [1, 1], [2, 1], [2, 2]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AblationReport, "write", WRITE)
        study(copy).run()
    page = (copy / "report.html").read_text()
    for text in ("Grad-CAM (L_t-cl)", "AttnBN", "paper: VGG16, VOC 2012 val", "50.9", "Losses over time", "Failures",
                 "Background that comes with an object", "over 2 seeds", "Seed 0.", "attnbn reproduce tiny"):  # fmt: skip
        assert text in page, text
    assert page.count("<svg") == 4  # bars, curves, and the losses of two rows
    assert 'src="http' not in page


def test_a_finished_run_is_not_run_again(copy: Path, trained: list[str]) -> None:
    before = json.loads((copy / "results.json").read_text())
    assert study(copy).run() == before
    assert trained == []
    (copy / "tiny-attnbn-1/results.json").unlink()
    again = study(copy).run()
    assert trained == ["resume tiny-attnbn-1"]
    assert [row["miou"] for row in again["rows"]] == [row["miou"] for row in before["rows"]]
    assert again["rows"][-1]["seconds_since_resume_at_step"] == 3


def test_a_further_seed_is_trained_alone(copy: Path, trained: list[str]) -> None:
    results = study(copy, seeds=(0, 1, 2)).run()
    assert trained == ["train tiny-grad-cam-2", "train tiny-attnbn-2"]
    assert [line["n"] for line in results["summary"]] == [3, 3]
    trained.clear()
    study(copy, seeds=(1,), overwrite=True).run()
    assert trained == ["train tiny-grad-cam-1", "train tiny-attnbn-1"]


def test_other_settings_are_refused_by_name(copy: Path, trained: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"other settings \(training.steps 3, now 4\); choose another --output.*tiny-grad-cam-0"
    ):
        study(copy, "--training.steps", "4").run()
    with pytest.raises(
        InputError, match=r"data.size 48, now 40; loss.over_classes mean, now sum; training.lr .* and 1 more"
    ):
        study(
            copy, "--data.size", "40", "--loss.over_classes", "sum", "--training.lr", "0.5", "--training.warmup", "9"
        ).run()
    with pytest.raises(
        InputError, match=r"training.steps 3, now 4\); .*tiny-grad-cam-0"
    ):  # rows are compared over all seeds
        study(copy, "--training.steps", "4", seeds=(7,)).run()
    study(copy, "--workers", "1").run()  # where it computes may differ
    assert trained == []


def test_another_split_is_scored_at_the_stored_threshold(copy: Path, trained: list[str]) -> None:
    results = study(copy, split="test").run()
    assert (results["split"], trained) == ("test", [])
    row = results["rows"][1]
    figures = evaluate_run(copy / row["run"], TARGET, "test", device="cpu")
    assert (row["miou"], row["threshold"], row["cross_fitted"]) == (figures["miou"], figures["threshold"], False)
    assert row["threshold_split"] == "dev"


def test_what_cannot_be_used_is_found_before_training(tmp_path: Path, trained: list[str], copy: Path) -> None:
    with pytest.raises(InputError, match="give --data.selection_split or --split"):
        study(tmp_path / "a", "--data.selection_split", "null").run()
    with pytest.raises(InputError, match="nonsense"):
        study(tmp_path / "a", split="nonsense").run()
    with pytest.raises(InputError, match="no-such-folder"):  # only the second row needs the source
        study(tmp_path / "a", "--data.source", "folders:no-such-folder").run()
    with pytest.raises(InputError, match="it holds a single run; choose another --output"):
        study(copy / "tiny-attnbn-0").run()
    (tmp_path / "b").mkdir()
    for text, what in (
        ('{"study": "animals"}', "the study animals"),
        ('{"rows": []}', "other results"),
        ("[", "other"),
    ):
        (tmp_path / "b/results.json").write_text(text)
        with pytest.raises(InputError, match=f"the folder holds {what}.*, not tiny; choose another --output"):
            study(tmp_path / "b").run()
    assert trained == []
    assert not (tmp_path / "a").exists()


def test_a_failure_names_the_run_and_keeps_the_others(tmp_path: Path) -> None:
    broken = study(tmp_path / "out", seeds=(0,))
    config = broken.configs["attnbn"]
    broken.configs["attnbn"] = replace(config, training=replace(config.training, lr=1e30))
    with pytest.raises(RunError, match="is not finite at step .*tiny-attnbn-0"):
        broken.run()
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert (len(results["rows"]), results["complete"]) == (1, False)


def test_a_stopped_study_goes_on_with_the_same_command(tmp_path: Path, trained: list[str]) -> None:
    halted = study(tmp_path / "out", seeds=(0,))

    def stop_in_the_second_row(progress: Progress) -> None:
        if "source_cl" in progress.terms and progress.step == 2:
            signal.raise_signal(signal.SIGINT)

    halted.display = Display(watch=lambda title: stop_in_the_second_row)
    with pytest.raises(KeyboardInterrupt, match="stopped after step .*the same command goes on from there"):
        halted.run()
    assert [row["row"] for row in json.loads((tmp_path / "out/results.json").read_text())["rows"]] == ["grad-cam"]
    trained.clear()
    results = study(tmp_path / "out", seeds=(0,)).run()
    assert (trained, results["complete"]) == (["resume tiny-attnbn-0"], True)
    assert results["rows"][1]["seconds_since_resume_at_step"] in (2, 3)


def test_no_gain_is_shown_before_the_baseline_is_in() -> None:
    figures = [
        (name, name, {"miou": miou, "mean_ap": 0.5, "iou": None}) for name, miou in (("joint", 0.3), ("attnbn", 0.4))
    ]
    assert [line["gain"] for line in summarize(figures, "grad-cam")] == [None, None]
    first = ("grad-cam", "grad-cam", {"miou": 0.2, "mean_ap": 0.5, "iou": None})
    gains = [line["gain"] for line in summarize([first, *figures], "grad-cam")]
    assert gains[1:] == [pytest.approx(0.1), pytest.approx(0.2)]
