"""The same seed gives the same bits: for any number of loader processes, after resuming, and under the setting for GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

import process_cases
from attnbn.cli.main import main
from attnbn.experiments.runner import other_versions, versions
from attnbn.io.errors import RunError
from attnbn.models.backbones import _PooledTo7
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder
from attnbn.training.determinism import WORKSPACE, deterministic
from attnbn.training.devices import make_fabric
from attnbn.training.loop import Loop

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(("case", "precision", "dropout", "accumulate", "workers"), [
    ("bridge", "32-true", 0.5, 1, (1, 3)),
    ("bridge", "bf16-mixed", 0.5, 2, ()),
    ("norm", "32-true", 0.0, 1, ()),
    ("dsrg", "32-true", 0.0, 1, (1,)),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_neither_loader_processes_nor_resuming_nor_the_setting_change_a_bit(
    case: str, precision: str, dropout: float, accumulate: int, workers: tuple[int, ...], tmp_path: Path
) -> None:
    def train(name: str, **how: object) -> dict[str, Tensor]:
        torch.manual_seed(len(name))  # what ran before must not matter
        fabric = make_fabric(device="cpu", precision=precision)
        return process_cases.train(fabric, case, tmp_path / name, accumulate, dropout=dropout, **how)  # type: ignore[arg-type]

    whole = train("whole")
    for number in workers:
        assert_same(train(f"{number}", workers=number), whole)
    train("begun", steps=2)
    begun = CheckpointFolder(tmp_path / "begun").named("last")
    assert begun.step == 2
    assert_same(train("gone on", resume=begun), whole)
    with deterministic(True):
        assert_same(train("deterministic"), whole)


def test_the_setting_is_within_its_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE[0], raising=False)
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    before = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    with deterministic(False):
        assert (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark) == before
        assert WORKSPACE[0] not in os.environ
    with pytest.raises(ValueError, match="inside"), deterministic(True):
        assert (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark) == (
            True,
            True,
            False,
        )
        assert os.environ[WORKSPACE[0]] == ":4096:8"
        raise ValueError("inside")
    assert (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark) == before


def test_what_has_no_deterministic_algorithm_is_named() -> None:
    said = (
        "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'."
    )
    named = pytest.raises(RunError, match="no deterministic adaptive_avg_pool2d_backward_cuda on this device")
    with named, deterministic(True):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="^another$"), deterministic(True):
        raise RuntimeError("another")


@GPU
@pytest.mark.parametrize("case", process_cases.CASES)
def test_a_gpu_repeats_itself_under_the_setting(case: str, tmp_path: Path) -> None:
    with deterministic(True):
        runs = [process_cases.train(make_fabric(device="cuda"), case, tmp_path / name) for name in ("one", "two")]
    assert_same(*runs)


def test_a_run_says_its_versions_and_warns_under_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = ["train", "--config", "demo-grad-cam", "--data.source", "scenes:source?count=14", "--data.target",
             "scenes:target?count=11", "--data.selection_split", "null", "--data.size", "64", "--training.batch_size", "2",
             "--training.steps", "2", "--device", "cpu", "--workers", "0", "--deterministic", "true",
             "--output", str(run)]  # fmt: skip
    seen: list[bool] = []
    run_it = Loop.run

    def watched(loop: Loop, resume: Checkpoint | None = None) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())
        run_it(loop, resume)

    monkeypatch.setattr(Loop, "run", watched)
    assert main(words) == 0
    assert seen == [True] and not torch.are_deterministic_algorithms_enabled()
    stored = yaml.safe_load((run / "config.yaml").read_text())
    assert stored["versions"] == versions() and stored["deterministic"] is True
    (run / "results.json").unlink()
    assert main(["train", "--resume", str(run)]) == 0
    assert "the run was begun with" not in capsys.readouterr().err
    (run / "results.json").unlink()
    stored["versions"]["torch"] = "1.13.0"
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    assert main(["train", "--resume", str(run)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"the run was begun with torch 1.13.0, now {versions()['torch']}: the rest may not be bit for bit" in said


def test_versions_that_differ_are_all_named() -> None:
    assert other_versions(None) is None
    assert other_versions({**versions(), "numpy": "1.0", "gone": "2"}) == (
        f"the run was begun with numpy 1.0, now {versions()['numpy']}; gone 2, now None: the rest may not be bit for bit "
        "what it would have been"
    )


def test_vggs_pooling_is_left_out_where_it_would_change_nothing() -> None:
    pool, plain = _PooledTo7(7), torch.nn.AdaptiveAvgPool2d(7)
    for size in ((7, 7), (9, 12), (3, 7)):
        features = torch.rand(2, 4, *size)
        assert torch.equal(pool(features), plain(features))
    features = torch.rand(2, 4, 7, 7, requires_grad=True)
    assert pool(features) is features  # so that no gradient without a deterministic algorithm is asked for
