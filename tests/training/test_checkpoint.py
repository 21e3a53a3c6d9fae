"""Checkpoints: exact, whole or absent, and a damaged one is passed over."""

from __future__ import annotations

import errno
import importlib.util
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from attnbn.io.errors import InputError, RunError
from attnbn.training import checkpoint as module
from attnbn.training.checkpoint import (
    Budget,
    Checkpoint,
    CheckpointFolder,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    read_checkpoint,
)


def saved(step: int) -> Checkpoint:
    return Checkpoint(step, {"modules.net.weight": torch.full((2, 3), float(step))}, {"phase": 0, "x": 0.1 + 0.2})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(5))
    back, damaged = folder.newest()
    assert back is not None and not damaged
    assert back.step == 5 and back.state == saved(5).state
    assert torch.equal(back.module("net")["weight"], torch.full((2, 3), 5.0))


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_checkpoints_keep_to_their_share_of_the_time(share: float) -> None:
    now, saves, slowest = 0.0, 0, 7.0
    budget = Budget(share, lambda: now)
    for step in range(1, 5001):  # a second each; a checkpoint, which takes up to 7, is due at every tenth
        now += 1
        if step % 10 == 0 and budget.allows():
            saves += 1
            with budget.spending():
                now += slowest * (1 if step % 20 else 0.5)
        assert budget.spent <= share * now + slowest
    assert saves == 500 if share == 1 else saves >= share * 5000 / slowest  # and none is left out without need


def test_keeps_the_newest_two_and_the_best(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(1), name="best")
    for step in (1, 2, 10, 30):
        folder.save(saved(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "step-00000010", "step-00000030"]
    folder.save(saved(7), name="best")
    assert folder.named("best").step == 7 and folder.named("last").step == 30


@pytest.mark.parametrize("damage", ["cut", "flip", "no tensors", "no state", "empty state", "other format"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(1))
    folder.save(saved(2))
    tensors, state = tmp_path / "step-00000002/tensors.safetensors", tmp_path / "step-00000002/state.json"
    data = tensors.read_bytes()
    match damage:
        case "cut":
            tensors.write_bytes(data[:-5])
        case "flip":
            tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "no tensors":
            tensors.unlink()
        case "no state":
            state.unlink()
        case "empty state":
            state.write_text("")
        case "other format":
            state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
    back, damaged = folder.newest()
    assert back is not None and back.step == 1
    assert len(damaged) == 1 and "step-00000002" in damaged[0]
    with pytest.raises(InputError, match="step-00000002"):
        read_checkpoint(tmp_path / "step-00000002")
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(
        InputError, match=r"all are damaged \(step-00000002: [^():]*( \([^():]*\))?\); bring one"
    ) as error:
        folder.named("last")
    assert str(error.value).count("expected") == 1 and "\n" not in str(error.value)


def test_a_full_disk_leaves_the_one_before_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(1))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(RunError, match="no space left"):
        folder.save(saved(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_the_older_ones_go_once_the_new_name_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(1))
    folder.save(saved(2))
    done: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        module, "sync_folder", lambda path: done.append((path.name, (tmp_path / "step-00000001").exists()))
    )
    folder.save(saved(3))
    assert done == [(".step-00000003.part", True), (tmp_path.name, True)]
    assert not (tmp_path / "step-00000001").exists()


def test_its_files_are_on_the_disk_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: dict[int, int] = {}
    fsync, rename = module.os.fsync, module.os.rename
    appeared: list[str] = []

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        stat = module.os.fstat(descriptor)
        synced[stat.st_ino] = stat.st_size

    def renaming(source: Path, final: Path) -> None:
        for file in Path(source).iterdir():
            assert synced.get(file.stat().st_ino) == file.stat().st_size > 0
            appeared.append(file.name)
        rename(source, final)

    monkeypatch.setattr(module.os, "fsync", syncing)
    monkeypatch.setattr(module.os, "rename", renaming)
    CheckpointFolder(tmp_path).save(saved(1))
    assert sorted(appeared) == ["state.json", "tensors.safetensors"]


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_their_share_of_the_time_is_of_a_clock_that_does_not_jump(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, now = time.time(), [0.0]
    with monkeypatch.context() as patch:  # read anew, the module would keep this clock
        patch.setattr(time, "time", lambda: begun + now[0])
        spec = importlib.util.find_spec(module.__name__)
        assert spec is not None and spec.loader is not None
        copy = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(copy)
    budget = copy.Budget(0.5)
    with budget.spending():
        now[0] = jump
    time.sleep(0.01)
    assert 0 <= budget.spent < 1 and budget.allows()


def test_a_new_one_stays_beside_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(20))
    folder.save(saved(30))
    for step in (20, 30):
        (tmp_path / f"step-{step:08d}/state.json").write_text("")
    folder.save(saved(10))
    back, damaged = folder.newest()
    assert back is not None
    assert (back.step, len(damaged)) == (10, 2)


def test_what_a_kill_left_behind_is_tidied(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(saved(5), name="best")
    (tmp_path / "best").rename(tmp_path / ".best.old")  # killed between the two renames
    (tmp_path / ".step-00000007.part").mkdir()
    folder.recover()
    assert folder.named("best").step == 5
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_without_any_checkpoint(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).newest() == (None, [])
    with pytest.raises(InputError, match="none was written yet"):
        CheckpointFolder(tmp_path).named("last")


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimiser_goes_on_bit_identically(tmp_path: Path, kind: str) -> None:
    def make(net: nn.Module) -> torch.optim.Optimizer:
        if kind == "sgd":
            return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        return torch.optim.Adam(net.parameters(), lr=0.1, betas=(0.9, 0.99))

    def step(net: nn.Module, optimizer: torch.optim.Optimizer, k: int) -> None:
        optimizer.zero_grad()
        net(torch.full((1, 3), float(k))).square().sum().backward()
        optimizer.step()

    net = nn.Linear(3, 2)
    optimizer = make(net)
    for k in range(3):
        step(net, optimizer, k)
    tensors, plain = optimizer_tensors("net", optimizer)
    CheckpointFolder(tmp_path).save(Checkpoint(3, module_tensors("net", net) | tensors, {"optimizers": plain}))
    step(net, optimizer, 3)

    other = nn.Linear(3, 2)
    back = CheckpointFolder(tmp_path).named("last")
    other.load_state_dict(back.module("net"))
    fresh = make(other)
    load_optimizer("net", fresh, back)
    step(other, fresh, 3)
    assert torch.equal(net.weight, other.weight) and torch.equal(net.bias, other.bias)
