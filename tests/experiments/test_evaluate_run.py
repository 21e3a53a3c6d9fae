"""A run looked at in other ways: the figures say how, and the threshold stays the run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import open_dataset
from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.experiments.evaluate import evaluate_run
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.predict import predict

TARGET = "scenes:target?count=16"
LOOK: dict[str, Any] = {"scales": [0.75, 1.0], "flip": True, "layers": ["trunk.2", "last"], "fuse": "product"}
OPTIONS = ["--scales", "0.75", "1", "--flip", "--layers", "trunk.2", "last", "--fuse", "product"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [
        "--config", "demo-attnbn", "--data.source", "scenes:source?count=24", "--data.target", TARGET,
        "--training.steps", "6", "--training.batch_size", "4", "--data.size", "64", "--workers", "0",
        "--device", "cpu", "--output", str(folder),
    ]  # fmt: skip
    assert main(["train", *arguments]) == 0
    return folder


def test_figures_say_how_the_photographs_were_looked_at(run: Path) -> None:
    usual = evaluate_run(run, TARGET, "test")
    assert {key: usual[key] for key in ("scales", "flip", "layers", "fuse")} == {
        "scales": [1.0], "flip": False, "layers": ["last"], "fuse": "mean"
    }  # fmt: skip
    figures = evaluate_run(run, TARGET, "test", **LOOK)
    assert {key: figures[key] for key in LOOK} == LOOK
    assert (figures["threshold"], figures["threshold_split"]) == (usual["threshold"], "dev")
    json.dumps(figures, allow_nan=False)
    # the figure is that of the masks of these very looks at the stored threshold
    trained = load(run)
    dataset = open_dataset(TARGET, split="test", classes=trained.classes, masks=True)
    size = len(trained.classes) + 1
    for attend, found in (("predicted", figures), ("labels", figures["given_labels"])):
        matrix = torch.zeros(size, size, dtype=torch.int64)
        for prediction in predict(trained.network, dataset, size=64, attend=attend, **LOOK):
            matrix += confusion_matrix(segment(prediction, trained.threshold), prediction.mask, size)
        assert found["miou"] == pytest.approx(float(mean_iou(matrix)), abs=1e-12)


def test_on_the_selection_split_the_looks_own_thresholds_are_cross_fitted(run: Path) -> None:
    usual, figures = evaluate_run(run, TARGET, "dev"), evaluate_run(run, TARGET, "dev", **LOOK)
    assert usual["cross_fitted"] and figures["cross_fitted"]
    assert figures["curve"] != usual["curve"]
    assert set(figures["thresholds"]) <= {point["threshold"] for point in figures["curve"]}


def test_the_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    where = ["evaluate", str(run), "--target", TARGET, "--split", "test", "--json", str(file), "--device", "cpu"]
    assert main(where) == 0
    assert "mean AP" in capsys.readouterr().out.splitlines()[-1]
    assert main([*where, *OPTIONS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "scales 0.75 1, mirrored too, layers trunk.2 last (product), the threshold was chosen without"
    assert any(
        line.startswith("mIoU") and line.endswith("if the labels said which classes are there") for line in lines
    )
    figures = json.loads(file.read_text())
    assert {key: figures[key] for key in LOOK} == LOOK
    for options, message in (
        (["--layers", "trunk.99"], "such as trunk.8, trunk.9, trunk.10), got 'trunk.99'"),
        (["--scales", "0.02"], "that leave the network enough pixels, got 0.02 (1×1 pixels)"),
        (["--scales", "big"], "argument --scales: invalid float value: 'big'"),
    ):
        assert main([*where, *options]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and message in lines[0]


def test_attend_takes_the_same_options(run: Path, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    photo, output = tmp_path / "photo.png", tmp_path / "seen"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(photo)
    assert main(["attend", str(run), str(photo), "--output", str(output), *OPTIONS, "--device", "cpu"]) == 0
    manifest = json.loads((output / "attend.json").read_text())
    assert {key: manifest[key] for key in LOOK} == LOOK
    with np.load(output / "maps" / "photo.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape[1:] == (40, 50)


@pytest.fixture
def binary(tmp_path: Path) -> str:
    """A photograph of each of three animals in VOC's layout, whose masks say object (1) and background alone."""
    root = tmp_path / "voc"
    for place in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / place).mkdir(parents=True)
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:30, 10:30] = VOC_CLASSES.index("cat") + 1
    rng = np.random.default_rng(0)
    for name in ("cat", "cow", "dog"):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        Image.fromarray(mask).save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/dev.txt").write_text("cat\ncow\ndog\n")
    for label in VOC_CLASSES:
        lines = (f"{name} {1 if name == label else -1}\n" for name in ("cat", "cow", "dog"))
        (root / f"ImageSets/Main/{label}_dev.txt").write_text("".join(lines))
    return f"voc:{root}"


def test_masks_that_never_show_a_labelled_class_are_told(
    binary: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "attnbn: no mask of dev shows cow, dog, though photographs are labelled so: are its masks class ids?"
    said += " (attnbn check-data)"
    settings = [
        "--data.target", binary, "--data.target_split", "dev", "--data.selection_split", "dev", "--data.classes", "cat,cow,dog",
        "--data.size", "64", "--data.views", "0", "--model.weights", "null", "--model.freeze", "0", "--training.steps", "2",
        "--training.batch_size", "2", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    run = str(tmp_path / "run")
    assert main(["train", "--config", "animals-grad-cam", *settings, "--output", run]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert main(["evaluate", run, "--target", binary, "--split", "dev", "--device", "cpu"]) == 0
    assert capsys.readouterr().err.splitlines() == [said]
    assert main(["reproduce", "animals", "--rows", "grad-cam", *settings, "--output", str(tmp_path / "study")]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == said
