"""From cues to a trained segmentation network: the run folder, resuming, the second stage, bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from attnbn.cli.main import main
from attnbn.cli.segment_train import parse
from attnbn.data.cue_files import CueFolder
from attnbn.data.images import read_mask, write_mask
from attnbn.data.open import open_dataset
from attnbn.experiments.segmentation.feeds import Seeded, SeededPhotographs, Squash
from attnbn.experiments.segmentation.train import resume_segmenter, train_segmenter
from attnbn.inference.load_segmenter import load_segmenter, read_segment_config
from attnbn.io.errors import InputError
from attnbn.io.run_folder import RunFolder
from attnbn.segment_config import SegmentConfig
from attnbn.training.loop import Progress

TARGET = "scenes:target?count=12"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has hardly learned anything."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [
        "--config", "demo-grad-cam", "--data.target", TARGET, "--training.steps", "4", "--training.batch_size", "4",
        "--data.size", "64", "--data.selection_split", "null", "--device", "cpu", "--output", str(folder),
    ]  # fmt: skip
    assert main(["train", *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def cues(run: Path) -> Path:
    folder = run.with_name("cues")
    assert main(["cues", str(run), "--target", TARGET, "--split", "train", "--grid", "8", "--output", str(folder)]) == 0
    return folder


def settings(cues: Path | None, output: Path, *more: str) -> SegmentConfig:
    named = [] if cues is None else ["--cues", str(cues)]
    return parse([
        "--config", "demo-dsrg", *named, "--data.target", TARGET, "--data.size", "64", "--training.steps", "6",
        "--training.batch_size", "4",
        "--training.checkpoint_every", "2", "--training.checkpoint_share", "1", "--dsrg.crf.iterations", "2",
        "--device", "cpu", "--output", str(output), *more,
    ]).config  # fmt: skip


@pytest.fixture(scope="module")
def segmentation(cues: Path) -> Path:
    folder = cues.with_name("segment")
    train_segmenter(settings(cues, folder, "--data.selection_split", "dev", "--training.validate_every", "3"))
    return folder


def newest(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(sorted((folder / "checkpoints").glob("step-*"))[-1] / "tensors.safetensors")


def test_the_run_folder_is_the_usual_one(segmentation: Path, cues: Path) -> None:
    results = json.loads((segmentation / "results.json").read_text())
    assert results["steps"] == 6
    assert results["selection_split"] == "dev"
    assert 0 <= results["selection"]["miou"] <= 1
    lines = [json.loads(line) for line in (segmentation / "metrics.jsonl").read_text().splitlines()]
    assert {"seeding", "boundary"} == set(lines[-1]["terms"])
    assert any("validation" in line for line in lines)
    trained = load_segmenter(segmentation)
    assert list(trained.classes) == results["classes"]
    assert trained.config.cues == str(cues.resolve())


def test_losses_fall(cues: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train_segmenter(settings(cues, tmp_path / "long", "--training.steps", "30"), watch=seen.append)
    first, last = (sum(p.terms["seeding"] for p in part) for part in (seen[:5], seen[-5:]))
    assert last < 0.9 * first


def test_a_stopped_run_goes_on_bit_by_bit(segmentation: Path, cues: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise Stop

    folder = tmp_path / "stopped"
    config = settings(cues, folder, "--data.selection_split", "dev", "--training.validate_every", "3")
    with pytest.raises(Stop):
        train_segmenter(config, watch=stop)
    assert (
        load_segmenter(folder).unfinished == f"the run is not finished, its network is that after step 4 of 6: {folder}"
    )
    assert resume_segmenter(folder)["seconds_since_resume_at_step"] == 4
    for name, tensor in newest(segmentation).items():
        assert torch.equal(tensor, newest(folder)[name]), name


def test_a_second_stage_learns_from_masks_of_the_first(segmentation: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    words = ["--target", TARGET, "--split", "train", "--given-labels", "--no-crf", "--output", str(masks)]
    assert main(["segment", "predict", str(segmentation), *words]) == 0
    weights = ["--model.weights", str(segmentation), "--masks", str(masks), "--data.scale", "[0.5, 1]"]
    results = train_segmenter(settings(None, tmp_path / "second", *weights))
    assert results["steps"] == 6
    lines = (tmp_path / "second" / "metrics.jsonl").read_text().splitlines()
    assert set(json.loads(lines[-1])["terms"]) == {"masks"}
    # the ids of the masks mean what their folder says, whatever the data set's own classes are
    note = json.loads((masks / "segment.json").read_text())
    (masks / "segment.json").write_text(json.dumps(note | {"classes": note["classes"][::-1]}))
    results = train_segmenter(settings(None, tmp_path / "turned", "--masks", str(masks), "--training.steps", "1"))
    assert results["classes"] == note["classes"][::-1]
    # one word, as for the other commands
    names = note["classes"][::-1]
    one = ["--masks", str(masks), "--training.steps", "1", "--classes"]
    assert train_segmenter(settings(None, tmp_path / "word", *one, ", ".join(names)))["classes"] == names
    assert read_segment_config(RunFolder(tmp_path / "word").config(), tmp_path)[1] == tuple(names)
    with pytest.raises(InputError, match=r"expected class names as cat,dog or a list, got 'train,,car': --classes"):
        train_segmenter(settings(None, tmp_path / "wrong", *one, "train,,car"))
    wrong = settings(None, tmp_path / "wrong", "--masks", str(masks), "--classes", json.dumps(note["classes"]))
    with pytest.raises(InputError, match="expected the classes of the masks"):
        train_segmenter(wrong)


def test_cues_and_image_are_mirrored_together(cues: Path) -> None:
    folder = CueFolder(cues)
    dataset = open_dataset(TARGET, split="train", classes=folder.classes)
    item = SeededPhotographs(dataset, folder, (8, 8))[0]
    squash = Squash(64, flip=True)
    even, odd = squash(item, 2), squash(item, 3)
    assert torch.equal(odd.sample.image, even.sample.image.flip(-1))
    assert torch.equal(odd.cues, item.cues.flip(-1))
    assert torch.equal(even.cues, item.cues)
    assert torch.equal(Squash(64, flip=False)(Seeded(item.sample, item.cues), 3).cues, item.cues)


def test_cues_come_to_another_grid_by_nearest_places(cues: Path) -> None:
    folder = CueFolder(cues)
    dataset = open_dataset(TARGET, split="train", classes=folder.classes)
    own, double = (SeededPhotographs(dataset, folder, grid)[1].cues for grid in ((8, 8), (16, 16)))
    assert torch.equal(double, own.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_bad_input_is_named_and_leaves_no_folder(cues: Path, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "none"
    cases = [
        (settings(None, output), "expected --cues FOLDER .* or --masks FOLDER .*, got neither"),
        (settings(cues, output, "--masks", "m"), "got both"),
        (settings(cues, output, "--data.scale", "[0.5, 1]"), "with cues, which lie on the whole photograph"),
        (settings(cues, output, "--data.target", "scenes:target?count=20"), "(8 photographs have none)"),
        (settings(cues, output, "--model.network", "unet"), "expected model.network to be one of"),
        (settings(tmp_path, output), str(tmp_path)),
        (settings(cues, output, "--dsrg.crf.gaussian_xy", "0"), "expected dsrg.crf.gaussian_xy above 0, got 0"),
        (settings(cues, output, "--inference.scales", "[]"), "expected inference.scales as one or more"),
        (settings(None, output, "--masks", str(tmp_path / "away")), "expected a folder of masks, found none"),
    ]
    for config, message in cases:
        with pytest.raises(InputError, match=message.replace("(8", r"\(8").replace("none)", r"none\)")):
            train_segmenter(config)
        assert not output.exists()
    with pytest.raises(InputError, match="expected a segmentation's run"):
        resume_segmenter(run)
    assert main(["train", "--resume", str(cues.with_name("segment"))]) == 2


def test_masks_of_other_sizes_or_missing_ones_are_named(tmp_path: Path, cues: Path) -> None:
    masks = tmp_path / "masks"
    dataset = open_dataset(TARGET, split="train")
    for name in dataset.names:
        write_mask(masks / f"{name}.png", torch.zeros(96, 96, dtype=torch.uint8))
    write_mask(masks / f"{dataset.names[3]}.png", torch.zeros(40, 96, dtype=torch.uint8))
    config = settings(None, tmp_path / "out", "--masks", str(masks), "--training.batch_size", "12")
    with pytest.raises(InputError, match=f"expected a mask of .* like its image, got 40×96: .*{dataset.names[3]}.png"):
        train_segmenter(config)
    assert not (tmp_path / "out").exists()
    (masks / f"{dataset.names[5]}.png").unlink()
    with pytest.raises(InputError, match=f"expected a mask of the photograph '{dataset.names[5]}', found none"):
        train_segmenter(config)


def test_weights_come_from_a_trained_classifiers_folder(cues: Path, run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    train_segmenter(
        settings(cues, tmp_path / "out", "--model.weights", str(run), "--training.steps", "1", "--training.lr", "1e-9"),
        say=said.append,
    )
    assert any(line.startswith("weights: ") for line in said)
    own, trained = newest(tmp_path / "out"), newest(run)
    shared = [name for name in trained if name.startswith("modules.network.trunk.")]
    assert shared
    for name in shared:
        assert torch.allclose(own[name], trained[name], atol=1e-5), name


def test_a_mask_folder_is_that_of_predict_or_the_masks_themselves(segmentation: Path, tmp_path: Path) -> None:
    masks = tmp_path / "m"
    words = ["--target", TARGET, "--split", "train", "--no-crf", "--output", str(masks)]
    assert main(["segment", "predict", str(segmentation), *words]) == 0
    shutil.copytree(masks / "masks", tmp_path / "plain")
    name = open_dataset(TARGET, split="train").names[0]
    assert read_mask(tmp_path / "plain" / f"{name}.png", 20).shape == (96, 96)
    for place in (masks, tmp_path / "plain"):
        config = settings(None, tmp_path / f"out-{place.name}", "--masks", str(place), "--training.steps", "1")
        assert train_segmenter(config)["steps"] == 1
