"""From settings to results: selection, best checkpoint, cross-fitting, the demonstration."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from attnbn.cli.main import main
from attnbn.config import RunConfig, config_from_dict
from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.experiments.evaluate import evaluate_run
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.predict import predict
from attnbn.io.errors import InputError, RunError
from attnbn.training.checkpoint import CheckpointFolder

TARGET = "scenes:target?count=24"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training with validations on the way."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [
        "--config", "demo-attnbn", "--data.source", "scenes:source?count=24", "--data.target", TARGET,
        "--training.steps", "12", "--training.validate_every", "4", "--training.batch_size", "4", "--data.size", "64",
        "--workers", "0", "--device", "cpu", "--output", str(folder),
    ]  # fmt: skip
    assert main(["train", *arguments]) == 0
    return folder


def test_the_threshold_is_chosen_on_the_selection_split_and_stored(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    assert results["threshold_split"] == "dev"
    curve = results["selection"]["curve"]
    best = max(point["miou"] for point in curve)
    assert {p["threshold"] for p in curve if p["miou"] == best} >= {results["threshold"]}
    trained = load(run)
    assert (trained.threshold, trained.threshold_split) == (results["threshold"], "dev")
    assert trained.classes == tuple(results["classes"])


def test_evaluate_never_chooses_again(run: Path) -> None:
    stored = load(run).threshold
    figures = evaluate_run(run, TARGET, "test")
    assert (figures["threshold"], figures["threshold_split"], figures["cross_fitted"]) == (stored, "dev", False)
    # the figure is that of the masks which attend would write
    trained = load(run)
    from attnbn.data.open import open_dataset

    dataset = open_dataset(TARGET, split="test", classes=trained.classes, masks=True)
    size = len(trained.classes) + 1
    matrix = torch.zeros(size, size, dtype=torch.int64)
    for prediction in predict(trained.network, dataset, size=64):
        matrix += confusion_matrix(segment(prediction, stored), prediction.mask, size)
    assert figures["miou"] == pytest.approx(float(mean_iou(matrix)), abs=1e-12)
    given = evaluate_run(run, TARGET, "test", threshold=0.35)
    assert (given["threshold"], given["threshold_given"]) == (0.35, True)


def test_on_the_selection_split_itself_the_figure_is_cross_fitted(run: Path) -> None:
    figures = evaluate_run(run, TARGET, "dev")
    assert figures["cross_fitted"]
    assert len(figures["thresholds"]) == 2
    assert figures["miou"] == json.loads((run / "results.json").read_text())["selection"]["miou"]
    assert figures["miou"] <= max(point["miou"] for point in figures["curve"]) + 1e-12
    assert not evaluate_run(run, TARGET, "dev", threshold=0.5)["cross_fitted"]


def test_validations_keep_the_best_checkpoint_with_its_threshold(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validations = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert set(validations) == {4, 8}
    best = CheckpointFolder(run / "checkpoints").named("best")
    assert validations[best.step]["miou"] == max(v["miou"] for v in validations.values())
    assert load(run, checkpoint="best").threshold == validations[best.step]["threshold"]
    assert load(run, checkpoint="best").identity["step"] == best.step


def test_settings_survive_the_run_folder(run: Path) -> None:
    stored = yaml.safe_load((run / "config.yaml").read_text())
    config: RunConfig = config_from_dict(RunConfig, stored)
    assert config.training.steps == 12
    assert config.data.scale == (0.5, 1.0)
    with pytest.raises(InputError, match="unknown setting 'sede'"):
        config_from_dict(RunConfig, {"sede": 1})


def test_a_checkpoint_of_another_architecture(run: Path, tmp_path: Path) -> None:
    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored["model"]["backbone"] = "resnet18"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(InputError, match="another architecture than .*config.yaml says"):
        load(tmp_path)
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        load(run, checkpoint="nonsense")


def test_a_damaged_last_checkpoint_is_not_passed_over_in_silence(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    last = sorted((copy / "checkpoints").glob("step-*"))[-1]
    (last / "tensors.safetensors").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"all are damaged \(step-00000012: the checksum of tensors.safetensors differs\)"
    ):
        load(copy)


def test_the_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    arguments = ["demo", "--output", str(output), "--steps", "6", "--device", "cpu"]
    assert main([*arguments, "--processes", "2"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert [row["recipe"] for row in results["rows"]] == ["demo-grad-cam", "demo-attnbn"]
    assert set(results["rows"][0]) == {"recipe", "seed", "miou", "threshold", "mean_ap", "seconds"}
    assert 0 < results["ceiling"]["miou"] < 1
    page = (output / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert 'src="http' not in page
    assert (output / "gallery.png").stat().st_size > 10_000
    before = (output / "demo-attnbn-0/results.json").read_bytes()
    assert main(arguments) == 0  # finished runs are taken as they are
    assert (output / "demo-attnbn-0/results.json").read_bytes() == before
    capsys.readouterr()
    assert main(["demo", "--output", str(output), "--steps", "7", "--device", "cpu"]) == 2
    assert "a run with other settings" in capsys.readouterr().err


def test_an_error_in_another_process_comes_home(tmp_path: Path) -> None:
    from attnbn.cli.train import parse
    from attnbn.experiments.demo import demo

    config = parse(["--config", "demo-grad-cam", "--training.steps", "30", "--device", "cpu", "--workers", "0"]).config
    diverging = replace(config, training=replace(config.training, lr=1e30))
    with pytest.raises(RunError, match="is not finite at step"):
        demo({"demo-grad-cam": diverging, "demo-attnbn": config}, tmp_path, processes=2, ceiling=False)
