"""Two processes with half the batch each equal one process: the whole of L_ab, second order and discriminator included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

from attnbn.training.checkpoint import CheckpointFolder

STEPS = 50


def run(output: Path, devices: int) -> dict[str, torch.Tensor]:
    arguments = [
        "--config", "demo-attnbn", "--data.source", "scenes:source?count=23", "--data.target", "scenes:target?count=22",
        "--data.selection_split", "null", "--data.size", "64", "--training.batch_size", "6", "--training.steps", str(STEPS),
        "--training.log_every", "1", "--precision", "64-true", "--device", "cpu", "--devices", str(devices), "--workers", "0",
        "--loss.adversarial", "0.1", "--model.discriminator_width", "8", "--output", str(output),
    ]  # fmt: skip
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-m", "attnbn", "train", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return CheckpointFolder(output / "checkpoints").named("last").tensors


def test_two_processes_equal_one(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert one.keys() == two.keys()
    assert any(name.startswith("modules.discriminator") for name in one)
    for name, value in one.items():
        assert value.dtype == torch.float64 or value.ndim == 0, name
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    lines = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("one", "two")]
    assert lines == [STEPS, STEPS]


def test_a_photograph_that_one_process_cannot_read_ends_both_with_one_line(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40, 40), (40 * i, 80, 120)).save(tmp_path / f"photos/{kind}/{i}.png")
    broken = tmp_path / "photos/dog/3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    arguments = [
        "--config", "grad-cam", "--data.target", f"folders:{tmp_path}/photos", "--model.backbone", "small",
        "--model.weights", "null", "--data.size", "64", "--training.batch_size", "2", "--training.steps", "8",
        "--devices", "2", "--device", "cpu", "--workers", "1", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "attnbn", "train", *arguments],
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("attnbn:")]
    assert len(said) == 1
    assert str(broken) in said[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
