"""A run that is killed at any step and resumed ends with the very weights and metrics of one that never stopped."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbn.cli.main import main
from attnbn.training import loop
from attnbn.training.checkpoint import CheckpointFolder

STEPS = 24
COMMON = [
    "--data.source", "scenes:source?count=20", "--data.target", "scenes:target?count=22", "--data.selection_split", "null",
    "--training.batch_size", "4", "--training.steps", str(STEPS), "--training.checkpoint_every", "3",
    "--training.checkpoint_share", "1",
    "--training.log_every", "2", "--data.size", "64", "--device", "cpu", "--workers", "1",
]  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "attnbn", "train", *arguments]


def state(run: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    """The final checkpoint's tensors, and the metrics without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("time")
        line.pop("images_per_second", None)
    return CheckpointFolder(run / "checkpoints").named("last").tensors, lines


def assert_same(run: Path, other: Path) -> None:
    (tensors, metrics), (expected, lines) = state(run), state(other)
    assert metrics == lines and metrics[-1]["step"] == STEPS
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    runs = {}
    for recipe in ("demo-attnbn", "demo-finetune"):
        runs[recipe] = tmp_path_factory.mktemp("whole") / recipe
        assert main(["train", "--config", recipe, *COMMON, "--output", str(runs[recipe])]) == 0
    return runs


@pytest.mark.parametrize("recipe", ["demo-attnbn", "demo-finetune"])
@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_a_random_step(recipe: str, attempt: int, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    process = subprocess.Popen(
        command("--config", recipe, *COMMON, "--output", str(run)),
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    kill_at = random.Random(f"{recipe}{attempt}").randrange(2, STEPS - 2)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        metrics = run / "metrics.jsonl"
        if metrics.is_file() and len(metrics.read_text().splitlines()) * 2 >= kill_at:
            break
        time.sleep(0.005)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "results.json").exists()
    assert main(["train", "--resume", str(run), "--workers", "0"]) == 0
    assert_same(run, uninterrupted[recipe])


def test_ctrl_c_writes_a_checkpoint_and_exits_130(
    uninterrupted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command("--config", "demo-attnbn", *COMMON, "--training.checkpoint_every", "0", "--output", str(run)),
        env=dict(os.environ, OMP_NUM_THREADS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").read_text().count("\n") >= 3
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    said = re.search(r"after step (\d+); a checkpoint was written, continue with --resume$", errors.splitlines()[-1])
    assert said is not None and "Traceback" not in errors
    step = int(said[1])
    assert 0 < step < STEPS and CheckpointFolder(run / "checkpoints").named("last").step == step
    trained: list[int] = []
    optimize = loop.optimize

    def counted(*words: Any) -> Any:
        trained.append(words[-1])
        return optimize(*words)

    monkeypatch.setattr(loop, "optimize", counted)
    assert main(["train", "--resume", str(run), "--workers", "0"]) == 0
    assert trained == list(range(step, STEPS))
    assert_same(run, uninterrupted["demo-attnbn"])


def test_checkpoints_left_out_for_time_change_nothing(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [
        "train",
        "--config",
        "demo-attnbn",
        *COMMON,
        "--training.checkpoint_share",
        "1e-9",
        "--output",
        str(run),
    ]
    assert main(arguments) == 0
    assert [folder.name for folder in CheckpointFolder(run / "checkpoints")] == [f"step-{STEPS:08d}", "step-00000003"]
    assert_same(run, uninterrupted["demo-attnbn"])


def test_resume_without_a_checkpoint_starts_at_step_0(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((uninterrupted["demo-attnbn"] / "config.yaml").read_text())
    assert main(["train", "--resume", str(run), "--workers", "0"]) == 0
    assert_same(run, uninterrupted["demo-attnbn"])


def test_a_damaged_newest_checkpoint_is_passed_over(
    uninterrupted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    whole = uninterrupted["demo-attnbn"]
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).write_bytes((whole / name).read_bytes())
    for folder in (whole / "checkpoints").glob("step-*"):
        (run / "checkpoints" / folder.name).mkdir()
        for file in folder.iterdir():
            (run / "checkpoints" / folder.name / file.name).write_bytes(file.read_bytes())
    newest = run / "checkpoints" / f"step-{STEPS:08d}" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main(["train", "--resume", str(run), "--workers", "0"]) == 0
    assert f"step-{STEPS:08d}" in capsys.readouterr().err
    assert_same(run, whole)


def test_workers_do_not_matter(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", "--config", "demo-attnbn", *COMMON[:-1], "0", "--output", str(run)]) == 0
    assert_same(run, uninterrupted["demo-attnbn"])
