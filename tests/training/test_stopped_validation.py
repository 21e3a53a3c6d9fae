"""A request to stop does not wait for a validation: the run that goes on makes up for it, and ends with the same bytes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import attnbn.inference.evaluate as evaluating
import attnbn.training.loop as looping
from attnbn.cli.main import main
from attnbn.io.errors import RunError
from attnbn.training.checkpoint import STATE, TENSORS, CheckpointFolder

RUN = [
    "train", "--config", "demo-finetune", "--data.source", "scenes:source?count=20", "--data.target", "scenes:target?count=22",
    "--data.selection_split", "dev", "--training.batch_size", "4", "--training.steps", "12", "--training.checkpoint_every", "6",
    "--training.checkpoint_share", "1", "--training.validate_every", "3", "--training.log_every", "2", "--data.size", "64",
    "--device", "cpu", "--workers", "0", "--deterministic", "true",
]  # fmt: skip
BORDER = 6
"""Where the first of the recipe's two phases ends."""


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "images_per_second")} for line in lines]


def assert_same(run: Path, other: Path) -> None:
    assert metrics(run) == metrics(other)
    for folder in ("best", "step-00000012"):
        for name in (TENSORS, STATE):
            assert (run / "checkpoints" / folder / name).read_bytes() == (
                other / "checkpoints" / folder / name
            ).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main([*RUN, "--output", str(run)]) == 0
    validated = [line["step"] for line in metrics(run) if "validation" in line]
    assert validated == [3, 6, 9] and BORDER in validated
    phases = {line["step"]: line["phase"] for line in metrics(run) if "phase" in line}
    assert phases[BORDER] == 0 and phases[BORDER + 2] == 1
    return run


def asked_in(what: str, step: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A request in the step before a validation, or in the middle of it; the photographs counted up to then."""
    counted: list[int] = []
    now = 0
    train, count = looping.optimize, evaluating._count

    def trained(*words: Any) -> dict[str, float]:
        nonlocal now
        now = words[-1] + 1
        if what == "the step" and now == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(*words)

    def seen(*words: Any) -> None:
        if now == step:
            counted.append(now)
            if what == "the validation" and len(counted) == 3:
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                finally:
                    if step == BORDER:  # what is at work just then may fail to clean up
                        raise ValueError("an open writing handle")
        count(*words)

    monkeypatch.setattr(looping, "optimize", trained)
    monkeypatch.setattr(evaluating, "_count", seen)
    return counted


@pytest.mark.parametrize("step", [3, BORDER, 9])
@pytest.mark.parametrize("what", ["the step", "the validation"])
def test_it_is_left_and_made_up_for(
    what: str,
    step: int,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    counted = asked_in(what, step, monkeypatch)
    assert main([*RUN, "--output", str(run)]) == 143
    assert f"stopped after step {step}; a checkpoint was written, continue with --resume" in capsys.readouterr().err
    assert len(counted) == (0 if what == "the step" else 3)  # of some twenty
    assert [line["step"] for line in metrics(run) if "validation" in line] == list(range(3, step, 3))
    assert CheckpointFolder(run / "checkpoints").named("last").state["validation_due"] is True
    monkeypatch.undo()
    assert main(["train", "--resume", str(run)]) == 0
    assert_same(run, uninterrupted)


def test_a_fault_after_it_does_not_make_it_count_twice(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    asked_in("the validation", 3, monkeypatch)
    assert main([*RUN, "--output", str(run)]) == 143
    monkeypatch.undo()
    save = CheckpointFolder.save

    def broken(folder: CheckpointFolder, checkpoint: Any, name: str | None = None) -> None:
        if name is None:
            raise RunError("no space left to write")
        save(folder, checkpoint, name)

    monkeypatch.setattr(CheckpointFolder, "save", broken)
    assert main(["train", "--resume", str(run)]) == 1
    assert [line["step"] for line in metrics(run) if "validation" in line] == [3]
    monkeypatch.undo()
    assert main(["train", "--resume", str(run)]) == 0
    assert_same(run, uninterrupted)
