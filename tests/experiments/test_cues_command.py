"""A run's cues of a small data set in VOC's layout: what they are, that no mask touches them, and that work goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnbn.cli.cues import cue_table
from attnbn.cli.cues import main as command
from attnbn.cli.main import main
from attnbn.data.cue_files import ARCHIVE, CueFolder
from attnbn.data.images import read_image, write_mask
from attnbn.data.open import open_dataset
from attnbn.data.scenes.compose import NAMES
from attnbn.experiments.segmentation import cues as experiment
from attnbn.experiments.segmentation.cues import CueSettings, CuesMade, write_cues
from attnbn.inference.load import load
from attnbn.inference.predict import predict
from attnbn.inference.shards import Shard
from attnbn.io.errors import InputError
from attnbn.saliency.files import read_saliency
from attnbn.saliency.onnx import OnnxDetector
from attnbn.segmentation.cues import make_cues

COUNT, MASKS = 6, 4
"""Photographs of the split, and those of them that have masks."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [
        "--config", "demo-attnbn", "--data.source", "scenes:source?count=16", "--data.target", "scenes:target?count=16",
        "--training.steps", "40", "--training.batch_size", "4", "--data.size", "64", "--workers", "0",
        "--device", "cpu", "--output", str(folder),
    ]  # fmt: skip
    assert main(["train", *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes as files: photographs ``p0`` … with lists of labels, some with masks, and saliency maps of half their size."""
    root = tmp_path_factory.mktemp("voc")
    scenes = open_dataset("scenes:target?count=6", split="train", masks=True)
    assert scenes.labels is not None and scenes.classes == NAMES and len(scenes) == COUNT
    names = [f"p{i}" for i in range(COUNT)]
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(NAMES))
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))
    for index, label in enumerate(NAMES):
        rows = [f"{name} {1 if present else -1}" for name, present in zip(names, scenes.labels[:, index], strict=True)]
        (root / "ImageSets" / "Main" / f"{label}_train.txt").write_text("\n".join(rows))
    for folder in ("JPEGImages", "saliency"):
        (root / folder).mkdir()
    for i, name in enumerate(names):
        sample = scenes[i]
        assert sample.mask is not None
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(root / "JPEGImages" / f"{name}.jpg")
        if i < MASKS:
            write_mask(root / "SegmentationClass" / f"{name}.png", sample.mask.as_subclass(Tensor))
        object_ = ((sample.mask > 0) & (sample.mask < 255)).numpy()[::2, ::2]
        Image.fromarray((object_ * 255).astype(np.uint8)).save(root / "saliency" / f"{name}.png")
    return root


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(drawn, tmp_path / "voc"))


def make(run: Path, root: Path, output: Path, **settings: Any) -> CuesMade:
    saliency = settings.pop("saliency", str(root / "saliency"))
    options = {"settings": CueSettings(grid=(9, 11)), "device": "cpu", "batch_size": 3} | settings
    return write_cues(run, f"voc:{root}", "train", output, saliency=saliency, **options)


def files(folder: Path, *rooms: str) -> dict[str, bytes]:
    found = [p for room in rooms or (".",) for p in (folder / room).rglob("*")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(found) if p.is_file()}


def expected(run: Path, root: Path, name: str, saliency: bool = True) -> Tensor:
    trained = load(run)
    dataset = open_dataset(f"voc:{root}", split="train", classes=trained.classes)
    one = next(iter(predict(trained.network, dataset, size=64, indices=[dataset.names.index(name)], attend="labels")))
    found = read_saliency(root / "saliency" / f"{name}.png", one.size) if saliency else None
    return make_cues(one.maps, one.classes, len(NAMES), found, grid=(9, 11))


@pytest.mark.parametrize("saliency", [True, False])
def test_the_cues_are_those_of_attention_and_saliency(run: Path, root: Path, tmp_path: Path, saliency: bool) -> None:
    out = tmp_path / "cues"
    made = make(run, root, out, **({} if saliency else {"saliency": None}))
    assert (made.written, made.skipped, made.missing, made.broken) == (COUNT, 0, 0, [])
    cues = CueFolder(out)
    assert (cues.classes, cues.grid, cues.names) == (NAMES, (9, 11), [f"p{i}" for i in range(COUNT)])
    assert cues.settings["foreground"] == 0.2 and cues.left_out == []
    with np.load(out / ARCHIVE, allow_pickle=False) as archive:
        for name in cues.names:
            wanted = expected(run, root, name, saliency)
            assert wanted.any()
            assert torch.equal(cues.read(name), wanted)
            np.testing.assert_array_equal(archive[f"{name}_cues"], wanted.nonzero().T.numpy())
            single = wanted.sum(0) == 1
            with Image.open(out / "png" / f"{name}.png") as picture:
                assert picture.mode == "P" and picture.size == (11, 9)
                ids = torch.from_numpy(np.array(picture))
            assert torch.equal(ids, torch.where(single, wanted.int().argmax(0), 255).to(torch.uint8))
    assert {p.name for p in out.iterdir()} == {
        "cues.json", "localization_cues.npz", "png", "report.html", "report.json", "seeds"
    }  # fmt: skip


def test_no_mask_touches_a_cue(run: Path, root: Path, tmp_path: Path) -> None:
    report = make(run, root, tmp_path / "with").report
    assert report is not None and report["masks"] == MASKS and report["miou"] is not None
    rng = np.random.default_rng(0)
    for i, file in enumerate(sorted((root / "SegmentationClass").iterdir())):
        with Image.open(file) as picture:
            height, width = picture.height, picture.width
        write_mask(file, torch.from_numpy(rng.integers(0, len(NAMES) + 1, (height, width))))
        if i == 0:  # of another size, and so unreadable
            write_mask(file, torch.zeros(3, 3, dtype=torch.uint8))
    other = make(run, root, tmp_path / "altered").report
    assert other is not None and other["masks"] == MASKS - 1 and other["miou"] != report["miou"]
    assert len(other["masks_left_out"]) == 1 and "p0.png" in other["masks_left_out"][0]
    shutil.rmtree(root / "SegmentationClass")
    none = make(run, root, tmp_path / "without").report
    assert none is not None and none["masks"] == 0 and none["miou"] is None and none["coverage"] == report["coverage"]
    rooms = ("seeds", "png")
    assert len(files(tmp_path / "with", *rooms)) == 2 * COUNT
    assert (
        files(tmp_path / "with", *rooms) == files(tmp_path / "altered", *rooms) == files(tmp_path / "without", *rooms)
    )
    archives = {(tmp_path / name / ARCHIVE).read_bytes() for name in ("with", "altered", "without")}
    assert len(archives) == 1


def test_the_report(run: Path, root: Path, tmp_path: Path) -> None:
    report = make(run, root, tmp_path / "cues").report
    assert report == json.loads((tmp_path / "cues" / "report.json").read_text())
    assert report["images"] == COUNT and list(report["classes"]) == ["background", *NAMES]
    labels = open_dataset(f"voc:{root}", split="train", classes=NAMES).labels
    assert labels is not None
    assert [row["images"] for row in report["classes"].values()] == [COUNT, *labels.sum(0).int().tolist()]
    page = (tmp_path / "cues" / "report.html").read_text()
    assert page.count("<img") == 4 * COUNT and "Ground truth" in page
    lines = cue_table(report)
    assert lines[0].split() == ["class", "images", "seeded", "coverage", "prec.", "recall"]
    assert len(lines[1].split()) == 9 and lines[1].startswith("background")
    assert any(line.startswith("mIoU ") and f"{MASKS} photographs with masks" in line for line in lines)


class Stopped(Exception):
    pass


def test_work_that_was_stopped_goes_on(run: Path, root: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "cues"
    make(run, root, whole)

    def stop(done: int, total: int) -> None:
        assert total == COUNT
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        make(run, root, out, progress=stop)
    with pytest.raises(InputError, match="not finished: run attnbn cues again"):
        CueFolder(out)
    seeds = sorted((out / "seeds").iterdir())
    assert len(seeds) == 3
    stamp = seeds[1].stat().st_mtime_ns
    seeds[0].write_bytes(seeds[0].read_bytes()[:-1])
    made = make(run, root, out)
    assert (made.written, made.skipped) == (COUNT - 2, 2)
    assert seeds[1].stat().st_mtime_ns == stamp
    assert files(out) == files(whole)
    again = make(run, root, out)
    assert (again.written, again.skipped, again.report) == (0, COUNT, made.report)


def test_a_lost_file_is_made_anew(run: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "cues"
    make(run, root, out)
    whole = files(out)
    for name in ("png/p1.png", ARCHIVE, "cues.json"):
        (out / name).unlink()
        if name == "cues.json":  # without it nothing says whose the folder is
            with pytest.raises(InputError, match="new or empty folder, or one that attnbn cues made"):
                make(run, root, out)
        else:
            make(run, root, out)
            assert files(out) == whole, name


def test_processes_share_the_work(run: Path, root: Path, tmp_path: Path) -> None:
    make(run, root, tmp_path / "one")
    out = tmp_path / "two"
    parts = [make(run, root, out, shard=Shard(rank, 2)) for rank in range(2)]
    assert all(part.written for part in parts) and sum(part.written for part in parts) == COUNT
    assert parts[0].report is None and parts[0].missing == parts[1].written
    assert parts[1].report is not None and parts[1].missing == 0
    assert files(out) == files(tmp_path / "one")


def test_a_folder_of_other_cues(run: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "cues"
    make(run, root, out)
    with pytest.raises(InputError, match=r"got others \(foreground differ\): .*--overwrite: .*cues$"):
        make(run, root, out, settings=CueSettings((9, 11), foreground=0.5))
    with pytest.raises(InputError, match=r"\(saliency differ\)"):
        make(run, root, out, saliency=None)
    with pytest.raises(InputError, match=r"\(grid differ\)"):
        make(run, root, out, settings=CueSettings((9, 9)))
    # a split of fewer photographs, made otherwise: nothing of the earlier cues stays
    for file in (root / "ImageSets" / "Main").iterdir():
        file.write_text("\n".join(file.read_text().splitlines()[:3]))
    other = CueSettings((9, 11), foreground=0.5)

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        make(run, root, out, settings=other, overwrite=True, progress=stop)
    with pytest.raises(InputError, match="not finished"):
        CueFolder(out)
    with pytest.raises(InputError, match=r"\(foreground differ\)"):
        make(run, root, out)
    assert make(run, root, out, settings=other).skipped == 1  # it is this run's by now
    make(run, root, tmp_path / "fresh", settings=other)
    assert files(out) == files(tmp_path / "fresh")


def test_a_folder_of_other_things_is_never_taken(run: Path, root: Path, tmp_path: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"new or empty folder, or one that attnbn cues made; .*JPEGImages$"):
            make(run, root, root / "JPEGImages", overwrite=overwrite)
    with pytest.raises(InputError, match="to be a folder, got a file"):
        make(run, root, root / "classes.txt")


def test_saliency_that_is_missing_is_found_before_any_work(run: Path, root: Path, tmp_path: Path) -> None:
    for name in ("p2", "p4"):
        (root / "saliency" / f"{name}.png").unlink()
    with pytest.raises(
        InputError, match=r"saliency map of the photograph 'p2', found none \(2 photographs have none\)"
    ):
        make(run, root, tmp_path / "cues")
    assert not (tmp_path / "cues").exists()


def test_saliency_of_another_shape(run: Path, root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 20), np.uint8)).save(root / "saliency" / "p0.png")
    with pytest.raises(InputError, match=r"in the shape of its image 96×96, got 40×20.*p0\.png"):
        make(run, root, tmp_path / "cues")


def test_a_blank_saliency_map_is_an_answer(run: Path, root: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(root / "saliency" / "p0.png")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(root / "saliency" / "p1.png")
    report = make(run, root, tmp_path / "cues").report
    assert report is not None and report["without_background"] == ["p0"]
    cues = CueFolder(tmp_path / "cues")
    assert not cues.read("p0")[0].any() and cues.read("p0").any()
    assert not cues.read("p1")[1:].any()  # all of it is claimed by the background too
    assert "p1" in [one["name"] for one in report["without_seed"]]


class Detector(OnnxDetector):
    """Takes what is bright for salient, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: dict[str, Tensor] = {}

    def identity(self) -> dict[str, Any]:
        return {"model": "bright.onnx", "sha256": "0"}

    def of(self, image: Tensor, name: str) -> Tensor:
        self.shown[name] = image
        return image.float().mean(0, keepdim=True) / 255


def test_a_detector_sees_the_photographs(
    run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector()
    monkeypatch.setattr(experiment, "open_saliency", lambda spec: detector)
    make(run, root, tmp_path / "cues", saliency="onnx:bright.onnx")
    assert set(detector.shown) == {f"p{i}" for i in range(COUNT)}
    for name, image in detector.shown.items():
        assert torch.equal(image, read_image(root / "JPEGImages" / f"{name}.jpg"))
    assert CueFolder(tmp_path / "cues").settings["saliency"] == {"model": "bright.onnx", "sha256": "0"}


def relabel(root: Path, name: str, value: int) -> None:
    for file in (root / "ImageSets" / "Main").glob("*_train.txt"):
        lines = [f"{name} {value}" if line.split()[0] == name else line for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines))


def test_a_photograph_with_no_label(run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(f"voc:{root}", split="train", classes=NAMES)
    assert dataset.labels is not None
    dataset.labels[3] = 0
    monkeypatch.setattr(experiment, "open_dataset", lambda *args, **kwargs: dataset)
    with pytest.raises(InputError, match=r"a photograph with no label; label it or take it out: p3 in voc:.* train$"):
        make(run, root, tmp_path / "cues")


def test_photographs_whose_classes_are_all_difficult_are_left_out(run: Path, root: Path, tmp_path: Path) -> None:
    relabel(root, "p3", 0)
    made = make(run, root, tmp_path / "cues")
    assert made.written == COUNT - 1 and made.missing == 0
    assert any("left out 1 photograph whose classes are all marked difficult, the first p3" in n for n in made.notes)
    cues = CueFolder(tmp_path / "cues")
    assert cues.left_out == ["p3"] and "p3" not in cues


def test_a_broken_photograph(run: Path, root: Path, tmp_path: Path) -> None:
    (root / "JPEGImages" / "p5.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"p5\.jpg"):
        make(run, root, tmp_path / "cues")
    made = make(run, root, tmp_path / "cues", skip_broken=True)
    assert made.report is not None and len(made.broken) == 1 and made.report["left_out"] == made.broken
    assert CueFolder(tmp_path / "cues").left_out == ["p5"]
    assert make(run, root, tmp_path / "cues", skip_broken=True).written == 0


def test_runs_that_give_no_cues(run: Path, root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "results.json").unlink()
    with pytest.raises(InputError, match=r"a finished run, got an unfinished one; .*train --resume .*copy$"):
        make(copy, root, tmp_path / "cues")
    (copy / "config.yaml").write_text("kind: segment\nclasses: [a]\n")
    with pytest.raises(
        InputError,
        match=r"expected a classifier's run \(of attnbn train\), got a segmentation's; .*copy$",
    ):
        make(copy, root, tmp_path / "cues")
    (root / "classes.txt").write_text("\n".join(["zebra", *NAMES[1:]]))
    shutil.rmtree(root / "SegmentationClass")
    with pytest.raises(InputError, match=NAMES[0]):
        make(run, root, tmp_path / "cues")


def test_scenes_have_masks_of_their_own(run: Path, tmp_path: Path) -> None:
    made = write_cues(
        run, "scenes:target?count=6", "dev", tmp_path / "cues", settings=CueSettings((9, 9)), device="cpu"
    )
    assert made.report is not None and made.report["masks"] == made.report["images"] == made.written > 0
    assert CueFolder(tmp_path / "cues").read(CueFolder(tmp_path / "cues").names[0]).shape == (len(NAMES) + 1, 9, 9)


def test_the_command(run: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [str(run), "--target", f"voc:{root}", "--output", str(tmp_path / "cues"), "--device", "cpu"]
    command([*where, "--saliency", str(root / "saliency"), "--grid", "9", "11", "--flip", "--conflict", "both"])
    lines = capsys.readouterr().out.splitlines()
    assert f"cues of {COUNT} photographs written to {tmp_path / 'cues'}" in lines
    assert any(line.startswith("background ") for line in lines)
    settings = CueFolder(tmp_path / "cues").settings
    assert (settings["grid"], settings["flip"], settings["conflict"]) == ([9, 11], True, "both")
    for options, message in (
        (["--grid", "3", "4", "5"], "expected --grid as one number or as rows and columns, got 3 4 5"),
        (["--foreground", "1"], r"expected --foreground in \[0, 1\), got 1"),
        (["--background", "-0.1"], r"expected --background in \[0, 1\], got -0.1"),
        (["--conflict", "larger"], "invalid choice: 'larger'"),
        (["--grid", "5000"], "from 1 to 1024 cells a side, got 5000×5000"),
    ):
        with pytest.raises(InputError, match=message):
            command([*where, *options])
