"""``attnbn segment predict`` and ``evaluate`` from the command line, on runs that were never trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.images import read_mask, voc_palette
from attnbn.data.open import open_dataset
from attnbn.evaluation.confusion import confusion_matrix, iou, mean_iou
from attnbn.experiments.segmentation.evaluate import evaluate_segmenter
from attnbn.inference.load_segmenter import load_segmenter
from attnbn.inference.segment import segment_photographs
from segment_runs import classifier_run, segmentation_run

CLASSES = ("dog", "kitty")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three photographs of cats and dogs with labels, masks for two of them."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate("abc"):
        Image.fromarray(rng.integers(0, 256, (40, 50 + number, 3), dtype=np.uint8)).save(
            root / f"JPEGImages/{name}.jpg"
        )
        mask = Image.fromarray(rng.choice(np.array([0, 8, 12, 15, 255], dtype=np.uint8), (40, 50 + number)))
        mask.putpalette(voc_palette().ravel().tolist())
        if name != "c":
            mask.save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("a 1\nb -1\nc 0\n")
    (root / "ImageSets/Main/dog_train.txt").write_text("a -1\nb 1\nc 1\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    (root / "ImageSets/Segmentation/test.txt").write_text("c\n")
    return root


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "seg", CLASSES, class_map={"cat": "kitty"})


def run(*words: object) -> int:
    return main([str(word) for word in words])


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The single line on stderr of a command that is refused."""
    assert run(*words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_predict_photographs(seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["segment", "predict", seg, "--device", "cpu", "--no-crf", "--output", out, voc / "JPEGImages"]
    assert run(*words) == 0
    assert capsys.readouterr().out == f"3 masks written to {out}\n"
    assert run(*words, "--probabilities") == 0
    assert run(*words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"0 masks written to {out}, 3 were there already"
    with np.load(out / "probabilities" / "c.npz", allow_pickle=False) as stored:
        assert stored["probabilities"].shape == (3, 40, 52)
        np.testing.assert_allclose(stored["probabilities"].astype(float).sum(0), 1, atol=2e-3)
        np.testing.assert_array_equal(stored["probabilities"].argmax(0), read_mask(out / "masks" / "c.png", 2).numpy())
    assert "(flip differ)" in fails(capsys, *words, "--flip")
    assert "(crf differ)" in fails(capsys, *[word for word in words if word != "--no-crf"])


def test_predict_with_given_labels(seg: Path, voc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [
        "segment",
        "predict",
        seg,
        "--device",
        "cpu",
        "--target",
        f"voc:{voc}",
        "--split",
        "train",
        "--output",
        out,
    ]
    assert run(*words, "--given-labels", "--scales", "1") == 0
    allowed = {"a": {0, 2}, "b": {0, 1}, "c": {0, 1, 2}}
    found = {name: set(read_mask(out / "masks" / f"{name}.png", 2).unique().tolist()) for name in allowed}
    assert all(found[name] <= allowed[name] for name in allowed)
    assert any(found[name] - {0} for name in allowed)
    manifest = json.loads((out / "segment.json").read_text())
    assert manifest["scales"] == [1.0] and manifest["crf"]["iterations"] == 2
    assert manifest["given_labels"].endswith("train")


def test_evaluate(seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert run("segment", "evaluate", seg, "--target", f"voc:{voc}", "--device", "cpu", "--flip", "--json", file) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads(file.read_text())
    trained = load_segmenter(seg)
    dataset = open_dataset(f"voc:{voc}", split="val", classes=CLASSES, class_map={"cat": "kitty"}, masks=True)
    before, after = torch.zeros(2, 3, 3, dtype=torch.int64)
    for one in segment_photographs(trained.network, dataset, **trained.look(flip=True)):
        before += confusion_matrix(one.before, one.truth, 3)
        after += confusion_matrix(one.mask, one.truth, 3)
    names = ("background", *CLASSES)
    for found, matrix in ((figures, after), (figures["before_crf"], before)):
        assert found["miou"] == pytest.approx(float(mean_iou(matrix)))
        assert found["iou"] == pytest.approx(dict(zip(names, iou(matrix).tolist(), strict=True)), nan_ok=True)
        assert set(found["precision"]) == set(found["recall"]) == set(names)
    assert {k: figures[k] for k in ("images", "left_out", "scales", "flip")} == {
        "images": 2, "left_out": [], "scales": [0.75, 1.0], "flip": True
    }  # fmt: skip
    assert figures["crf"]["iterations"] == 2
    assert lines[0].split() == ["class", "IoU", "prec.", "recall", "before"]
    assert f"mIoU {100 * figures['miou']:.1f} % with the CRF, " in lines[-2]
    assert lines[-1] == "scales 0.75 1, mirrored too"


def test_both_means_are_over_the_same_classes(
    seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":  # no dog in the true masks, though the network sees some
        mask = np.array(Image.open(voc / f"SegmentationClass/{name}.png"))
        mask[mask == 12] = 8
        picture = Image.fromarray(mask)
        picture.putpalette(voc_palette().ravel().tolist())
        picture.save(voc / f"SegmentationClass/{name}.png")
    file = tmp_path / "out.json"
    assert run("segment", "evaluate", seg, "--target", f"voc:{voc}", "--device", "cpu", "--json", file) == 0
    figures = json.loads(file.read_text())
    assert figures["mean_over"] == ["background", "kitty"]
    for one in (figures, figures["before_crf"]):
        assert one["miou"] == pytest.approx((one["iou"]["background"] + one["iou"]["kitty"]) / 2)
    assert figures["before_crf"]["iou"]["dog"] == 0  # predicted, so it would count as 0 there
    assert " before it, over 2 of 3 classes, those in the true masks, 2 images" in capsys.readouterr().out


def test_evaluate_without_crf(seg: Path, voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "evaluate", seg, "--target", f"voc:{voc}", "--device", "cpu", "--no-crf", "--scales", "1"]
    assert run(*words) == 0
    assert ", without CRF, 2 images" in capsys.readouterr().out
    figures = evaluate_segmenter(seg, f"voc:{voc}", "val", crf=False, device="cpu", scales=[1.0])
    assert figures["crf"] is None
    assert {key: figures[key] for key in ("miou", "iou", "precision", "recall")} == figures["before_crf"]


def test_messages(seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = classifier_run(tmp_path / "run", CLASSES)
    predict = ["segment", "predict", seg, "--device", "cpu", "--output", tmp_path / "out"]
    evaluate = ["segment", "evaluate", seg, "--device", "cpu"]
    photo, target = voc / "JPEGImages" / "a.jpg", f"voc:{voc}"
    for words, message in (
        (predict, "expected photographs or --target KIND:PATH, got neither"),
        ([*predict, photo, "--target", target], "expected photographs or --target KIND:PATH, got both"),
        ([*predict, photo, "--given-labels"], "--given-labels belongs to a data set: give --target"),
        ([*predict, photo, "--split", "val"], "--split belongs to a data set: give --target"),
        ([*predict, tmp_path / "none.jpg"], "expected a photograph or a folder of photographs, found nothing"),
        ([*predict, photo, "--scales", "9"], "expected --scales as factors on the run's own size"),
        ([*predict, "--target", target, "--split", "trian"], "no split 'trian'; splits here: test, train, val, all"),
        (["segment", "predict", classifier, photo, "--output", tmp_path / "out"], "got a classifier's; use attnbn attend"),
        (["attend", seg, photo, "--output", tmp_path / "out"], "got a segmentation's; use attnbn segment"),
        (["evaluate", seg, "--target", target], "got a segmentation's; use attnbn segment"),
        ([*evaluate, "--target", f"folders:{voc}"], "expected a data set with masks, to score a segmentation on"),
        ([*evaluate, "--target", target, "--split", "test"], "expected a mask for every name of test.txt, found none for 'c'"),
    ):  # fmt: skip
        assert message in fails(capsys, *words)
    assert not (tmp_path / "out").exists()


def test_a_runs_own_folder_is_no_place_for_results(
    seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(seg, tmp_path / "seg"))
    before = sorted(copy.rglob("*"))
    photo = voc / "JPEGImages" / "a.jpg"
    for more in ([], ["--overwrite"]):
        line = fails(capsys, "segment", "predict", copy, photo, "--output", copy, "--device", "cpu", *more)
        assert "got that of a run, which is kept; choose another --output" in line
    assert sorted(copy.rglob("*")) == before


def test_an_unfinished_run_is_named_and_used(
    seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(seg, tmp_path / "seg"))
    classifier = classifier_run(tmp_path / "run", CLASSES)
    for name, folder, words in (
        ("masks", copy, ["segment", "predict", copy, "--no-crf"]),
        ("overlays", classifier, ["attend", classifier]),
    ):
        words += [voc / "JPEGImages" / "a.jpg", "--device", "cpu", "--output"]
        assert run(*words, tmp_path / f"{name}-finished") == 0
        assert capsys.readouterr().err == ""
        (folder / "results.json").unlink()
        assert run(*words, tmp_path / f"{name}-unfinished") == 0
        line = f"attnbn: the run is not finished, its network is that after step 5: {folder}\n"
        assert capsys.readouterr().err == line
        assert list((tmp_path / f"{name}-unfinished" / name).iterdir())


def test_json_is_refused_before_the_work(
    seg: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("begun")

    monkeypatch.setattr("attnbn.experiments.segmentation.evaluate.evaluate_segmenter", never)
    monkeypatch.setattr("attnbn.experiments.evaluate.evaluate_run", never)
    (tmp_path / "file").write_text("")
    for words in (["segment", "evaluate", seg], ["evaluate", tmp_path / "run"]):
        for place, came in (
            (tmp_path, "a folder"),
            (tmp_path / "file" / "a.json", f"one below a file ({tmp_path / 'file'})"),
        ):
            line = fails(capsys, *words, "--target", f"voc:{voc}", "--json", place)
            assert f"argument --json: expected a file that can be written, got {came}: {place}" in line
