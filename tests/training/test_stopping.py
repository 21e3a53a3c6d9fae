"""Requests to stop, to one process or to its whole group: a checkpoint is written, and one line says so."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attnbn.cli.main import main
from attnbn.io.stopping import cause_of, stop_cleanly
from attnbn.training.checkpoint import CheckpointFolder
from attnbn.training.devices import make_fabric
from segment_runs import classifier_run

TRAIN = [
    "train", "--config", "demo-attnbn", "--data.source", "scenes:source?count=20", "--data.target", "scenes:target?count=22",
    "--data.selection_split", "null", "--training.batch_size", "4", "--training.steps", "4000", "--training.log_every", "1",
    "--training.checkpoint_every", "0", "--data.size", "64", "--device", "cpu",
]  # fmt: skip


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "attnbn", *arguments], env=dict(os.environ, OMP_NUM_THREADS="1"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> list[str]:
    """What it said of its end, once nobody of its group holds its stderr."""
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said and "Warning" not in said, said
    return [line for line in said.splitlines() if line.startswith("attnbn:")]


def lines(metrics: Path) -> int:
    return metrics.read_text().count("\n") if metrics.is_file() else 0


@pytest.mark.parametrize(
    ("signum", "workers", "group"),
    [
        (signal.SIGTERM, 0, True),  # as timeout and schedulers send it
        (signal.SIGTERM, 2, True),
        (signal.SIGUSR1, 2, True),
        (signal.SIGHUP, 0, False),
    ],
)
def test_a_training_writes_a_checkpoint(signum: signal.Signals, workers: int, group: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(*TRAIN, "--workers", str(workers), "--output", str(run))
    until(lambda: lines(run / "metrics.jsonl") >= 3, process)
    (os.killpg if group else os.kill)(process.pid, signum)
    said = ended(process)
    assert process.returncode == 128 + signum
    assert len(said) == 1 and "a checkpoint was written, continue with --resume" in said[0]
    step = CheckpointFolder(run / "checkpoints").named("last").step
    assert step == lines(run / "metrics.jsonl") and f"after step {step};" in said[0]


def test_trainings_side_by_side_write_theirs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = ["--rows", "source", "source-attention", "--directions", "S-D", "--processes", "2"]
    steps = ["--training.steps", "4000", "--training.log_every", "1", "--data.size", "64"]
    process = started("adapt", "--config", "demo-adapt", *rows, *steps, "--output", str(out))
    until(lambda: sum(lines(file) >= 3 for file in out.glob("runs/*/*/metrics.jsonl")) == 2, process)
    os.kill(process.pid, signal.SIGTERM)  # to the first alone
    assert len(ended(process)) == 1 and process.returncode == 143
    assert len(list(out.glob("runs/*/*/checkpoints/step-*"))) == 2


@pytest.mark.parametrize("command", ["saliency", "attend"])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_outside_the_loop_nothing_half_written_stays(command: str, group: bool, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(300):
        Image.new("RGB", (96, 64), (number % 256, 90, 30)).save(photographs / f"{number:03d}.png")
    what = {
        "saliency": [str(photographs), "--detector", "unsupervised"],
        "attend": [
            str(classifier_run(tmp_path / "run", ["cat", "dog"])),
            str(photographs),
            "--batch-size",
            "2",
        ],
    }[command]
    process = started(command, *what, "--workers", "2", "--output", str(tmp_path / "maps"))
    until(lambda: len(list((tmp_path / "maps").rglob("*.png"))) >= 3, process)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    said = ended(process)
    assert process.returncode == 143 and len(said) == 1 and "stopped by SIGTERM; the same command goes on" in said[0]
    maps = tmp_path / "maps"
    assert not list(maps.rglob("*.part")) and not list(maps.rglob(".lock"))


def test_an_error_does_not_wait_for_the_processes_that_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(40):
        Image.new("RGB", (96, 64), (number, 90, 30)).save(photographs / f"{number:03d}.png")
    (photographs / "017.png").write_bytes(b"no picture")
    run = classifier_run(tmp_path / "run", ["cat", "dog"])
    what = ["attend", str(run), str(photographs), "--batch-size", "2", "--workers", "2"]
    assert main([*what, "--output", str(tmp_path / "maps")]) == 2
    assert "017.png" in capfd.readouterr().err
    assert not multiprocessing.active_children()


def test_while_the_last_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = CheckpointFolder.save

    def asked(*words: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*words)

    monkeypatch.setattr(CheckpointFolder, "save", asked)
    run = tmp_path / "run"
    assert main([*TRAIN, "--training.steps", "2", "--workers", "0", "--output", str(run)]) == 143
    assert "stopped after step 2; a checkpoint was written" in capsys.readouterr().err
    assert not (run / "results.json").exists()
    monkeypatch.undo()
    assert main(["train", "--resume", str(run)]) == 0 and (run / "results.json").exists()


def test_at_the_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    target = ["--data.target", "scenes:target?count=600", "--data.selection_split", "dev", "--training.steps", "6"]
    process = started(*TRAIN, *target, "--workers", "0", "--output", str(run))
    until(lambda: any((run / "checkpoints").glob("*00000006*")), process)
    process.send_signal(signal.SIGTERM)
    assert len(ended(process)) == 1 and process.returncode == 143 and not (run / "results.json").exists()
    process = started("train", "--resume", str(run))
    until((run / "results.json").exists, process)
    process.send_signal(signal.SIGTERM)
    said = ended(process)
    assert (process.returncode, len(said)) in {(0, 0), (143, 1)}  # it was on its way out


def test_two_processes_in_a_validation_end_together_and_make_up_for_it(tmp_path: Path) -> None:
    """One of them alone is asked; whether the validation of that step is left to the run that goes on is the moment's to say."""
    words = [*TRAIN, "--workers", "0", "--devices", "2", "--data.selection_split", "dev"]
    steps = 20  # far more than are done between a look at the metrics and the stop
    words += ["--training.validate_every", "1", "--training.steps", str(steps)]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert ended(started(*words, "--output", str(whole))) == []
    process = started(*words, "--output", str(run))
    until(lambda: lines(run / "metrics.jsonl") >= 3, process)  # two steps and the first one's validation
    os.kill(process.pid, signal.SIGTERM)
    said = ended(process)
    assert process.returncode == 143 and len(said) == 1 and "a checkpoint was written" in said[0]
    assert ended(started("train", "--resume", str(run))) == []
    kept = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    every = [(step, validation) for step in range(1, steps + 1) for validation in (False, True)]
    assert [(line["step"], "validation" in line) for line in kept] == every[:-1]  # the last one's is the run's result
    for name in ("best", f"step-{steps:08}"):
        for file in (run / "checkpoints" / name).iterdir():
            assert file.read_bytes() == (whole / "checkpoints" / name / file.name).read_bytes()


@pytest.mark.parametrize("after", [0.1, 1.5])
def test_processes_that_have_not_met_yet(after: float, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(*TRAIN, "--workers", "0", "--devices", "2", "--output", str(run))
    until((run / ".lock").exists, process)
    time.sleep(after)  # the second process is just being begun
    os.killpg(process.pid, signal.SIGTERM)
    began = time.monotonic()
    assert len(ended(process)) == 1 and process.returncode == 143
    assert time.monotonic() - began < 12  # not the time for a process to end by an error


LEFT = """
import multiprocessing, pathlib, signal, sys, time
from attnbn.data.readers import read_ahead

def of_the_caller(told):
    signal.signal(signal.SIGTERM, lambda *_: (told.touch(), sys.exit()))
    told.with_name("begun").touch()
    time.sleep(60)

told = pathlib.Path(sys.argv[1])
multiprocessing.get_context("fork").Process(target=of_the_caller, args=(told,), daemon=True).start()
while not told.with_name("begun").exists():
    time.sleep(0.01)
kept = read_ahead(range(100), 2)
assert next(kept) is not None and len(multiprocessing.active_children()) == 3
"""


def test_readers_left_alone_do_not_hold_the_end_up_and_others_end_their_own_way(tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text(LEFT)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "left.py"), str(tmp_path / "told")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - began < 30
    assert (tmp_path / "told").exists()  # by SIGTERM, as the system ends a process of the caller's


def test_all_checkpoints_damaged_is_no_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    few = ["--training.steps", "4", "--training.checkpoint_every", "2", "--training.checkpoint_share", "1"]
    assert main([*TRAIN, *few, "--output", str(run)]) == 0
    (run / "results.json").unlink()
    for folder in CheckpointFolder(run / "checkpoints"):
        (folder / "tensors.safetensors").write_bytes(b"cut")
    assert main(["train", "--resume", str(run)]) == 2
    assert "all are damaged; bring one back from a copy" in capsys.readouterr().err
    assert len(list(CheckpointFolder(run / "checkpoints"))) == 2


def test_several_machines_need_torchrun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--nodes", "2", "--output", str(tmp_path / "run")]) == 2
    assert "--nodes 2 needs torchrun" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_slurm_tells_of_more_tasks_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "NTASKS": "4",
        "PROCID": "0",
        "LOCALID": "0",
        "NODEID": "0",
        "JOB_ID": "7",
        "JOB_NAME": "x",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    fabric = make_fabric(device="cpu")
    fabric.join()
    assert fabric.world_size == 1 and fabric.global_rank == 0


class Careless:
    """A library whose cleaning up fails where a request to stop comes amid its work."""

    def __enter__(self) -> None:
        signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_: object) -> None:
        raise AssertionError("never entered")


def careless(*_: object, **__: object) -> None:
    try:
        with Careless():
            pass
    finally:
        raise ValueError("Can't close the file while there is an open writing handle on it.")


def test_a_library_that_fails_while_it_is_stopped_does_not_hide_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = classifier_run(tmp_path / "run", ["cat", "dog"])
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr("attnbn.inference.attend.np.savez_compressed", careless)
    before = {
        signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    }
    try:
        stop_cleanly()
        assert main(["attend", str(run), str(tmp_path / "a.png"), "--output", str(tmp_path / "maps")]) == 143
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert "attnbn: stopped by SIGTERM; the same command goes on" in capsys.readouterr().err
    assert cause_of(ValueError("alone"), KeyboardInterrupt) is None
