"""The commands on a folder of everything odd: what can be read is done, the rest is named in a line each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.images import voc_palette
from fuzz.corpus import bombs, encoded, photographs, pixels
from fuzz.guards import within
from segment_runs import classifier_run
from tiny_onnx import write_model

CASES = [case for case in (*photographs(), *bombs()) if "20000" not in case.name]
GOOD = [case.name for case in CASES if not case.refusal]
BAD = [case.name for case in CASES if case.refusal]


def command(*words: object) -> int:
    with within(55):
        return main([str(word) for word in words])


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "cat"
    for case in CASES:
        case.write(folder)
    os.mkfifo(folder / "pipe.jpg")
    os.symlink("..", folder / "up")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return classifier_run(tmp_path / "run", ["cat", "dog"], threshold=0.3)


def names_in(text: str) -> set[str]:
    """The files that lines of a message end with."""
    return {
        line.rpartition("/")[2]
        for line in text.splitlines()
        if line.endswith((".jpg", ".png", ".tif", ".bmp", ".gif", ".ppm"))
    }


def test_attend(odd: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("attend", run, odd, "--output", tmp_path / "maps", "--masks", "--device", "cpu")
    assert command(*words) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and output.err.startswith("attnbn: expected a photograph")
    assert command(*words, "--skip-broken") == 0
    output = capsys.readouterr()
    assert "left out" in output.err and len(names_in(output.err)) == 10
    written = {file.name for file in (tmp_path / "maps" / "masks").iterdir()}
    assert len(written) == len(GOOD)


def test_all_left_out_is_no_result(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / "photos" / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"no picture")
    made = ("--output", tmp_path / "made", "--skip-broken")
    assert command("attend", run, tmp_path / "photos", *made, "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert "left out 2 photographs" in said
    assert said.splitlines()[-1].startswith("attnbn: expected at least one photograph that can be read, got none")
    assert command("saliency", tmp_path / "photos", "--detector", "unsupervised", *made) == 2
    assert not list((tmp_path / "made").rglob("*.png"))


def test_attend_on_the_longest(run: Path, tmp_path: Path) -> None:
    for height, width in ((20, 20_000), (20_000, 20), (1, 3), (1, 1)):
        file = tmp_path / "photos" / f"{height}x{width}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encoded(pixels(1, height, width), "PNG"))
    assert command("attend", run, tmp_path / "photos", "--output", tmp_path / "maps", "--masks", "--device", "cpu") == 0
    for file in (tmp_path / "maps" / "masks").iterdir():
        with Image.open(file) as mask:
            assert f"{mask.height}x{mask.width}.png" == file.name


def test_saliency(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    model = write_model(tmp_path / "model.onnx")
    words = ("saliency", odd, "--detector", f"onnx:{model}", "--output", tmp_path / "maps")
    assert command(*words) == 2
    assert capsys.readouterr().err.count("\n") >= 1
    assert command(*words, "--skip-broken") == 0
    assert len(list((tmp_path / "maps").rglob("*.png"))) >= len(GOOD)


def test_check_data(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command("check-data", f"folders:{odd.parent}", "--json", tmp_path / "c.json", "--sheet", tmp_path / "s.png")
        == 1
    )
    assert (tmp_path / "s.png").is_file()
    found = (tmp_path / "c.json").read_text(encoding="utf-8")
    for name in (*BAD, "pipe.jpg"):
        assert f"/cat/{name}" in found
    assert (
        f"image-unreadable: {len(BAD)}" in capsys.readouterr().out
    )  # with the pipe, without the empty file, a kind of its own


def test_evaluate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "VOC"
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("cat\ndog\n")
    mask = pixels()[..., 0] % 3
    picture = Image.fromarray(mask)
    picture.putpalette(voc_palette().ravel().tolist())
    for name in ("a", "b", "c", "d"):
        (root / f"JPEGImages/{name}.jpg").write_bytes(encoded(pixels(), "JPEG"))
        picture.save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\nd\n")
    for name in "abcd":  # labels, so that the masks stay unread until they are scored
        (root / f"Annotations/{name}.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (root / "JPEGImages/b.jpg").write_bytes(b"<html>")
    (root / "SegmentationClass/c.png").write_bytes(encoded(mask, "JPEG"))
    (root / "SegmentationClass/d.png").write_bytes(encoded(mask[:5], "PNG"))
    words = ("evaluate", run, "--target", f"voc:{root}", "--split", "val", "--device", "cpu")
    assert command(*words) == 2
    assert "b.jpg" in capsys.readouterr().err
    assert command(*words, "--skip-broken") == 0
    output = capsys.readouterr()
    assert "left out 3" in output.err
    assert all(part in output.err for part in ("a web page", "lossless mask, got JPEG", "expected a mask of 24×32"))


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\x08\x07" + bytes(200), b"\xff" * 500], ids=["empty", "page", "cut", "bytes"]
)  # fmt: skip
def test_a_detector_that_is_no_model(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    (tmp_path / "model.onnx").write_bytes(content)
    assert (
        command("saliency", tmp_path / "a.jpg", "--detector", f"onnx:{tmp_path}/model.onnx", "--output", tmp_path / "m")
        == 2
    )
    assert "attnbn: expected an ONNX model" in capfd.readouterr().err
    assert not (tmp_path / "m").exists()
