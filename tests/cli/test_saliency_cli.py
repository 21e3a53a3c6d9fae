"""``attnbn saliency``: options reach the detector and the files, and what is wrong is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnbn.cli import saliency
from attnbn.io.errors import InputError
from tiny_onnx import write_model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{name}.jpg")
    return tmp_path / "photos"


def run(*arguments: object) -> None:
    saliency.main([str(argument) for argument in arguments])


def test_run_and_again(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = write_model(tmp_path / "tiny.onnx"), tmp_path / "out"
    run(photos, "--detector", f"onnx:{model}", "--output", out, "--threads", 1, "--scale", 0.5)
    assert capsys.readouterr().out == f"3 saliency maps written to {out}\n"
    with Image.open(out / "a.png") as picture:
        assert picture.size == (20, 15)
    (out / "b.png").unlink()
    run(photos, "--detector", f"onnx:{model}", "--output", out, "--scale", 0.5)
    assert capsys.readouterr().out == f"1 saliency map written to {out}, 2 were there already\n"


def test_other_models(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0)]
    model = write_model(tmp_path / "a.onnx", weights=weights, biases=[0.0, 2.0], sigmoid=False, size=("h", "w"))
    run(
        photos, "--detector", f"onnx:{model}", "--output", tmp_path / "out", "--activation", "sigmoid", "--output-index", 1,
        "--mean", 0.5, 0.5, 0.5, "--std", 1000, 1, 1, "--white", 255, "--size", 32, "--batch-size", 2, "--device", "cpu",
    )  # fmt: skip
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert set(np.asarray(picture).ravel()) == {225}  # 255 · sigmoid(2 ± 0.00015)
    assert "; nothing stands out in 3 of them" in capsys.readouterr().out


def test_broken(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "b.jpg").write_bytes(b"")
    model = write_model(tmp_path / "tiny.onnx")
    run(photos, "--detector", f"onnx:{model}", "--output", tmp_path / "out", "--skip-broken")
    said = capsys.readouterr()
    assert "left out 1 photograph that cannot be read" in said.err and "2 saliency maps" in said.out


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ("maps", "expected --detector onnx:FILE, got maps"),
        ("foo:bar", "got the kind 'foo'"),
        ("u2netp.onnx", "write onnx:u2netp.onnx"),
        ("onnx:no.onnx", "found no file; check the path: no.onnx"),
    ],
)
def test_no_detector(photos: Path, tmp_path: Path, detector: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(photos, "--detector", detector, "--output", tmp_path / "out")


@pytest.mark.parametrize("option", [("--scale", 2), ("--workers", 0), ("--batch-size", 0), ("--threads", 0)])
def test_options(photos: Path, tmp_path: Path, option: tuple[str, object]) -> None:
    with pytest.raises(InputError, match=f"argument {option[0]}"):
        run(photos, "--detector", "onnx:x.onnx", "--output", tmp_path / "out", *option)


def test_ctrl_c(tmp_path: Path) -> None:
    """A stop leaves whole maps alone, and the work goes on from them."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for i in range(60):
        Image.effect_noise((120, 80), 50).convert("RGB").save(photos / f"{i}.jpg")
    model = write_model(tmp_path / "tiny.onnx", size=(320, 320))
    command = "import sys; from attnbn.cli.saliency import main; main(sys.argv[1:])"
    arguments = [str(photos), "--detector", f"onnx:{model}", "--output", str(out), "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(out.glob("*.png")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    names = [path.name for path in out.iterdir()]
    assert 0 < len(names) - 1 < 60 and not [name for name in names if name.startswith(".")]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    run(*arguments)
    assert len(list(out.glob("*.png"))) == 60
