"""Real processes share a folder's photographs: what they leave together is what one process leaves, byte for byte."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.inference.shards import shard_of
from attnbn.training.devices import own_device
from segment_runs import classifier_run, segmentation_run
from tiny_onnx import write_model

CLASSES = ("cat", "dog")
COUNT = 10
NAMES = [f"p{i:02d}" for i in range(COUNT)]
IMPORTED = (
    "attnbn.experiments.segmentation.cues", "attnbn.inference.attend", "attnbn.inference.saliency", "attnbn.report.saliency",
    "attnbn.inference.load_segmenter", "attnbn.inference.segment_files",
)  # fmt: skip
"""What the commands import; done once, before processes are forked."""
COMMANDS = ("attend", "saliency", "cues", "segment")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``voc`` (photographs with labels, some with masks), runs of both kinds and a saliency model."""
    pytest.importorskip("onnxruntime")
    for module in IMPORTED:
        importlib.import_module(module)
    folder = tmp_path_factory.mktemp("many")
    voc, rng = folder / "voc", np.random.default_rng(0)
    for room in ("JPEGImages", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (voc / room).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        size = (40, 50 + number)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(voc / f"JPEGImages/{name}.jpg")
        if number % 3 == 0:
            Image.fromarray(rng.choice(np.array([0, 1, 2, 255], dtype=np.uint8), size)).save(
                voc / f"SegmentationClass/{name}.png"
            )
    (voc / "classes.txt").write_text("\n".join(CLASSES))
    (voc / "ImageSets/Main/train.txt").write_text("\n".join(NAMES))
    for label, every in zip(CLASSES, (1, 2), strict=True):
        rows = [f"{name} {1 if number % every == 0 else -1}" for number, name in enumerate(NAMES)]
        (voc / f"ImageSets/Main/{label}_train.txt").write_text("\n".join(rows))
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n".join(NAMES[::3]))
    classifier_run(folder / "run", CLASSES, threshold=0.3)
    segmentation_run(folder / "seg", CLASSES)
    write_model(folder / "model.onnx", weights=[(0.1, 0.2, 0.3)], biases=[-0.1])
    return folder


def words(root: Path, out: Path, command: str, *more: str) -> list[str]:
    """A command line that writes to ``out/COMMAND``."""
    photographs, output = str(root / "voc" / "JPEGImages"), ["--output", str(out / command), *more]
    options = {
        "attend": ["attend", str(root / "run"), photographs, "--masks", "--device", "cpu"],
        "saliency": ["saliency", photographs, "--detector", f"onnx:{root / 'model.onnx'}", "--device", "cpu"],
        "cues": ["cues", str(root / "run"), "--target", f"voc:{root / 'voc'}", "--grid", "7", "--device", "cpu"],
        "segment": [
            "segment",
            "predict",
            str(root / "seg"),
            photographs,
            "--probabilities",
            "--no-crf",
            "--device",
            "cpu",
        ],
    }
    # one at a time: a photograph's last digits may depend on those that pass the network with it
    return options[command] + output + ["--batch-size", "1"]


def child(commands: Sequence[Sequence[str]], rank: int, world: int, dies_at: int | None) -> None:
    """What a process does: all commands, or all until it is killed at the ``dies_at``-th file that it writes."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world))
    written, replace = 0, os.replace

    def counting(*paths: str) -> None:
        nonlocal written
        written += 1
        if written == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = counting  # type: ignore[assignment]
    sys.exit(max(main(command) for command in commands))


def start(commands: Sequence[Sequence[str]], world: int, dying: dict[int, int] | None = None) -> list[int | None]:
    """Exit statuses of ``world`` processes started at once; ``dying``: which is killed at which file."""
    # forked: each would need seconds to import torch
    context = multiprocessing.get_context("fork")
    processes: list[BaseProcess] = [
        context.Process(target=child, args=(commands, rank, world, (dying or {}).get(rank))) for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def files(folder: Path) -> dict[str, bytes]:
    """All that is no hidden word from process to process; a half-written file counts."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".left-out"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def single(root: Path) -> dict[str, bytes]:
    """What one process leaves."""
    assert start([words(root, root / "single", command) for command in COMMANDS], 1) == [0]
    found = files(root / "single")
    assert {"attend/attend.json", "saliency/summary.json", "cues/report.json", "segment/segment.json"} <= found.keys()
    assert sum(name.startswith("attend/maps/") for name in found) == COUNT
    return found


def test_three_processes_at_once_leave_what_one_leaves(root: Path, single: dict[str, bytes]) -> None:
    out = root / "three"
    assert start([words(root, out, command) for command in COMMANDS], 3) == [0, 0, 0]
    assert files(out) == single


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_killed_process_has_left_is_done_by_another_number(
    root: Path, single: dict[str, bytes], command: str
) -> None:
    out = root / f"killed-{command}"
    wanted = {name: data for name, data in single.items() if name.startswith(f"{command}/")}
    assert start([words(root, out, command)], 3, {1: 3}) == [0, -signal.SIGKILL, 0]
    left = files(out)
    assert any(name.endswith(".part") for name in left)
    # nobody sums up what is not there
    assert not {"saliency/summary.json", "cues/cues.json", "cues/report.json"} & left.keys()
    assert start([words(root, out, command)], 2) == [0, 0]
    assert files(out) == wanted


def test_photographs_that_cannot_be_read_are_known_to_whoever_ends_last(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = [next(name for name in NAMES if shard_of(name, 2) == rank) for rank in range(2)]
    kept = {name: (root / f"voc/JPEGImages/{name}.jpg").read_bytes() for name in broken}
    try:
        for name in broken:
            (root / f"voc/JPEGImages/{name}.jpg").write_bytes(b"rubbish")
        commands = {place: [words(root, tmp_path / place, one, "--skip-broken") for one in COMMANDS] for place in "ab"}
        assert start(commands["a"], 1) == [0]
        capfd.readouterr()
        assert start(commands["b"], 2) == [0, 0]
        assert files(tmp_path / "b") == files(tmp_path / "a")
        said = capfd.readouterr()
        for rank, name in enumerate(broken):
            assert f"rank {rank} of 2: left out 1 photograph that cannot be read:" in said.err
            assert f"{name}.jpg" in said.err
        assert said.out.count("nothing is left to others") >= len(COMMANDS)
        # without --skip-broken whoever meets it says so, and says who it is
        for name, data in kept.items():
            if name != broken[1]:
                (root / f"voc/JPEGImages/{name}.jpg").write_bytes(data)
        assert start([words(root, tmp_path / "c", "attend")], 2) == [0, 2]
        assert "attnbn: rank 1 of 2: expected a photograph" in capfd.readouterr().err
    finally:
        for name, data in kept.items():
            (root / f"voc/JPEGImages/{name}.jpg").write_bytes(data)


def test_a_process_without_a_share_ends_well(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = next(rank for rank in range(100) if rank not in {shard_of(name, 100) for name in NAMES})
    monkeypatch.setenv("RANK", str(empty))
    monkeypatch.setenv("WORLD_SIZE", "100")
    for command in COMMANDS:
        assert main(words(root, tmp_path, command)) == 0
        assert f"written to {tmp_path / command}; {COUNT} are left to others" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_torchrun_starts_them(root: Path, single: dict[str, bytes], tmp_path: Path) -> None:
    command = ["--nproc-per-node", "2", "-m", "attnbn", *words(root, tmp_path, "cues")]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *command],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {name: data for name, data in single.items() if name.startswith("cues/")}
    assert done.stdout.count("photographs written to") == 2 and "rank 1 of 2: cues of " in done.stdout


def test_each_of_torchruns_processes_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("auto") == "cuda"
    for place, device in enumerate(("cuda:0", "cuda:1", "cuda:0")):
        monkeypatch.setenv("LOCAL_RANK", str(place))
        assert (own_device("auto"), own_device("cuda"), own_device("cpu")) == (device, device, "cpu")


def test_a_command_whose_processes_must_meet_refuses_those_that_do_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for command in (["evaluate", "run"], ["segment", "evaluate", "seg"]):
        assert main([*command, "--target", "voc:x"]) == 2
        assert "expected one process, or torchrun's, got 2 (WORLD_SIZE)" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "two")
    assert main(words(root, root / "none", "attend")) == 2
    assert "rank two of 2" in capsys.readouterr().err
