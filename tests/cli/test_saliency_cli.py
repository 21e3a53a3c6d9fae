"""``attnbn saliency``: options reach the detector and the files, and what is wrong is one line."""

from __future__ import annotations

import json
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
from attnbn.inference.shards import shard_of
from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder
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
    look = f"3 of 3 maps are doubtful; look before you train: {out / 'saliency.html'}\n"
    assert capsys.readouterr().out == f"3 saliency maps written to {out}\n{look}"
    with Image.open(out / "a.png") as picture:
        assert picture.size == (20, 15)
    (out / "b.png").unlink()
    run(photos, "--detector", f"onnx:{model}", "--output", out, "--scale", 0.5)
    assert capsys.readouterr().out == f"1 saliency map written to {out}, 2 were there already\n{look}"
    (out / "saliency.html").unlink()
    run(photos, "--detector", f"onnx:{model}", "--output", out, "--scale", 0.5, "--sheet", 0)
    assert capsys.readouterr().out == f"0 saliency maps written to {out}, 3 were there already\n" + (
        "3 of 3 maps are doubtful; look before you train, summary.json names them\n"
    )
    assert not (out / "saliency.html").exists() and sorted(SaliencyFolder(out)._files) == ["a", "b", "c"]


def test_other_models(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0)]
    model = write_model(tmp_path / "a.onnx", weights=weights, biases=[0.0, 2.0], sigmoid=False, size=("h", "w"))
    run(
        photos, "--detector", f"onnx:{model}", "--output", tmp_path / "out", "--activation", "sigmoid", "--output-index", 1,
        "--mean", 0.5, 0.5, 0.5, "--std", 1000, 1, 1, "--white", 255, "--size", 32, "--batch-size", 2, "--device", "cpu",
    )  # fmt: skip
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert set(np.asarray(picture).ravel()) == {225}  # 255 · sigmoid(2 ± 0.00015)
    said = capsys.readouterr().out
    assert "; nothing stands out in 3 of them" in said
    assert "3 of 3 maps are doubtful; look before you train: " in said


def test_broken(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "b.jpg").write_bytes(b"")
    model = write_model(tmp_path / "tiny.onnx")
    run(photos, "--detector", f"onnx:{model}", "--output", tmp_path / "out", "--skip-broken")
    said = capsys.readouterr()
    assert "left out 1 photograph that cannot be read" in said.err and "2 saliency maps" in said.out


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (["photos"], r"expected a detector, got a folder \(maps that are made already\?\): photos"),
        (["maps"], "got 'maps'; the models are u2netp, "),
        (["foo:bar"], "got the kind 'foo'"),
        (["u2netp.onnx"], "write onnx:u2netp.onnx"),
        (["onnx:no.onnx"], "found no file; check the path: no.onnx"),
        (["isnet"], "got 'isnet'; the models are"),
        (["isnet-general"], "did you mean isnet-general-use"),
        (["u2net"], r"in none of .*models, .*download it from https://.*u2net\.onnx"),
        (["unsupervised", "--size", "64"], "unexpected --size for unsupervised"),
        (["unsupervised", "--output-index", "1"], "unexpected --output-index for unsupervised"),
    ],
)
def test_no_detector(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detector: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "models"))
    with pytest.raises(InputError, match=message):
        run(photos, "--detector", *detector, "--output", tmp_path / "out")


def test_a_known_model_by_name(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings come with its name, and what is said wins."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    write_model(tmp_path / "birefnet-dis.onnx", sigmoid=False, weights=[(0.0, 0.0, 0.0)], biases=[2.0])
    run(photos, "--detector", "birefnet-dis", "--output", tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert set(np.asarray(picture).ravel()) == {225}  # 255 · sigmoid(2)
    made = json.loads((tmp_path / "out" / "saliency.json").read_text())
    assert (made["white"], made["activation"], made["size"]) == ("255", "sigmoid", [16, 16])
    with pytest.raises(InputError, match=r"expected saliency in \[0, 1\], got 2 to 2 .*--activation sigmoid"):
        run(photos, "--detector", "birefnet-dis", "--activation", "none", "--output", tmp_path / "other")


def test_without_a_file(photos: Path, tmp_path: Path) -> None:
    run(photos, "--detector", "unsupervised", "--output", tmp_path / "out", "--batch-size", 2)
    made = json.loads((tmp_path / "out" / "saliency.json").read_text())
    assert "sha256" not in made and made["scale"] == 1
    for name in "abc":
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.size == (40, 30) and picture.mode == "L"


def test_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    model = write_model(tmp_path / "silueta.onnx")
    with pytest.raises(SystemExit) as ended:
        run("--list")
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("silueta ") and f"{model}  [Apache-2.0]" in line for line in lines)
    assert any(line.startswith("bria-rmbg ") and "no commercial use" in line for line in lines)
    assert lines[0].startswith("unsupervised ") and lines[-1].startswith(f"looked for in {tmp_path}, ")


def test_processes_share(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchrun launches them; whichever ends last writes the page, and says what the others could not read."""
    (photos / "b.jpg").write_bytes(b"")
    model, out = write_model(tmp_path / "tiny.onnx"), tmp_path / "out"
    monkeypatch.setenv("WORLD_SIZE", "2")
    ranks = [shard_of("b", 2), 1 - shard_of("b", 2)]  # the one that cannot read its photograph ends first
    left = len([name for name in "abc" if shard_of(name, 2) == ranks[1]])
    for rank, said in zip(ranks, (f"; {left} are left to others", "look before you train"), strict=True):
        monkeypatch.setenv("RANK", str(rank))
        assert left > 0 and not (out / "saliency.html").exists()
        run(photos, "--detector", f"onnx:{model}", "--output", out, "--threads", 1, "--skip-broken")
        assert said in capsys.readouterr().out
    assert sorted(path.stem for path in out.glob("*.png")) == ["a", "c"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["maps"] == 2 and len(summary["left_out"]) == 1 and "b.jpg" in summary["left_out"][0]
    page = (out / "saliency.html").read_text()
    assert "b.jpg" in page and page.count("<img") == 6


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
    assert 0 < len(names) - 1 < 60 and "summary.json" not in names
    assert not [name for name in names if name.startswith(".")]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    run(*arguments)
    assert len(list(out.glob("*.png"))) == 60
