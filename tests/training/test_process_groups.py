"""Trainings by several processes: equal to one process, ended together, and gone on with by torchrun. Three launches in all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

import process_cases
from attnbn.cli.main import main
from attnbn.experiments.evaluate import evaluate_run
from attnbn.training.checkpoint import CheckpointFolder
from attnbn.training.devices import make_fabric

TESTS = Path(__file__).parents[1]
STEPS, IMAGES, PATIENCE = 24, 11, 280
IN_PARTS = ("bridge", "masks")


def settings(output: Path) -> list[str]:
    """Of a run that is scored on eleven photographs, by two processes, while it is trained."""
    return [
        "--config", "demo-attnbn", "--data.source", "scenes:source?count=14", "--data.target", f"scenes:target?count={IMAGES}",
        "--data.size", "64", "--training.batch_size", "4", "--training.steps", str(STEPS), "--training.log_every", "1",
        "--training.checkpoint_every", "4", "--training.checkpoint_share", "1", "--training.validate_every", "10",
        "--device", "cpu", "--devices", "2",
        "--workers", "0", "--output", str(output),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}


def until(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Group:
    """Processes that train every case and then go on without end."""

    def __init__(self, folder: Path, processes: int, *more: str) -> None:
        self.folder = folder
        command = [sys.executable, str(TESTS / "process_cases.py"), str(folder), str(processes), *more]
        self.process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            until((folder / "done").exists, self.process)
        except BaseException:
            self.process.kill()  # the launcher ends the others
            raise
        self.ids = [int((folder / f"pid-{rank}").read_text()) for rank in range(processes)]

    def kill(self, rank: int) -> tuple[list[str], int]:
        """End one; what the others say, and the first one's exit status, once all have ended."""
        time.sleep(0.5)  # somewhere in mid-training
        os.kill(self.ids[rank], signal.SIGKILL)
        _, said = self.process.communicate(timeout=60)  # stderr is closed by the last that ends
        deadline = time.monotonic() + 5  # a process closes its files a moment before it is gone
        while any(alive(number) for number in self.ids):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return [line for line in said.splitlines() if line.startswith("attnbn:")], self.process.returncode

    def ended(self, case: str, parts: int) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.folder / f"{case}-{parts}.safetensors")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process ends with."""
    fabric = make_fabric(device="cpu", precision="64-true")
    fabric.join()
    folder = tmp_path_factory.mktemp("alone")
    return {case: process_cases.train(fabric, case, folder / case) for case in process_cases.CASES}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder = tmp_path_factory.mktemp("pair")
    group = Group(folder, 2, "\n".join(settings(folder / "run")))
    yield group
    for number in filter(alive, group.ids):
        os.kill(number, signal.SIGKILL)


def assert_equal(group: Group, alone: dict[str, dict[str, Tensor]]) -> None:
    for case, expected in alone.items():
        for parts in (1, 2) if case in IN_PARTS else (1,):
            ended = group.ended(case, parts)
            assert ended.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(
                    ended[name], value, rtol=0, atol=1e-9, msg=lambda t, n=f"{case} in {parts}: {name}": f"{n}: {t}"
                )


def test_the_cases_say_something(alone: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    fabric = make_fabric(device="cpu", precision="64-true")
    for case, ended in alone.items():
        begun = process_cases.train(fabric, case, tmp_path / case, steps=1)
        for name, value in ended.items():
            if name.startswith("modules."):
                assert not torch.equal(value, begun[name]) or value.dtype == torch.int64, f"{case}: {name}"
    assert all(value != 0 for ended in alone.values() for name, value in ended.items() if name.startswith("terms."))


@pytest.mark.parametrize("case", IN_PARTS)
def test_a_batch_in_parts_is_the_batch(case: str, alone: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    fabric = make_fabric(device="cpu", precision="64-true")
    for parts in (2, 4):
        ended = process_cases.train(fabric, case, tmp_path / str(parts), parts)
        for name, value in alone[case].items():
            torch.testing.assert_close(ended[name], value, rtol=0, atol=1e-9)


def test_two_processes_equal_one_and_end_with_the_first(pair: Group, alone: dict[str, dict[str, Tensor]]) -> None:
    assert_equal(pair, alone)
    said, status = pair.kill(0)
    assert said == ["attnbn: the first process was killed or ended before its time; the others were ended too; "
                    "run the command again (a training with --resume)"]  # fmt: skip
    assert status == -signal.SIGKILL


def test_three_processes_equal_one_and_end_with_one_of_them(
    alone: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    group = Group(tmp_path, 3)
    assert_equal(group, alone)
    said, status = group.kill(2)
    assert said == ["attnbn: process 3 of 3 was killed by SIGKILL; the others were ended too; run the command again "
                    "(a training with --resume)"]  # fmt: skip
    assert status == 1


def test_torchrun_goes_on_after_a_kill_bit_for_bit(pair: Group, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "attnbn", "train", *settings(run)],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: len(list((run / "checkpoints").glob("step-*"))) > 1, process)
    os.kill(of_rank(1, run), signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "continuing after step" in said
    ends = [CheckpointFolder(folder / "checkpoints").named("last").tensors for folder in (run, pair.folder / "run")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert metrics(run) == metrics(pair.folder / "run") and len(metrics(run)) == STEPS + STEPS // 10
    figures = [json.loads((folder / "results.json").read_text())["selection"] for folder in (run, pair.folder / "run")]
    assert figures[0] == figures[1] and figures[0]["images"] == IMAGES
    one = evaluate_run(run, f"scenes:target?count={IMAGES}", "dev", device="cpu", workers=0)
    assert {key: figures[0][key] for key in ("miou", "iou", "mean_ap", "curve", "threshold")} == {
        key: one[key] for key in ("miou", "iou", "mean_ap", "curve", "threshold")
    }


def of_rank(rank: int, run: Path) -> int:
    """The process of a training that torchrun gave that rank."""
    for folder in Path("/proc").iterdir():
        try:
            words, given = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(run).encode() in words and f"RANK={rank}".encode() in given.split(b"\0"):
            return int(folder.name)
    raise AssertionError("no such process")


def metrics(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "images_per_second")} for line in lines]


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", *settings(tmp_path / "run"), "--training.batch_size", "9"]
    assert main([*words, "--training.accumulate", "3"]) == 2
    assert "divisible by 2 processes times 3 parts (training.accumulate), got 9" in capsys.readouterr().err
    assert main(words) == 2
    assert "expected training.batch_size divisible by 2 processes, got 9" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
