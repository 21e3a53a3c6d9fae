"""A run goes on under the settings that its checkpoint was trained under, whatever has happened to its ``config.yaml``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from attnbn.cli.main import main
from attnbn.experiments.settings import check_remembered
from attnbn.io.errors import InputError

TRAIN = [
    "train", "--config", "demo-grad-cam", "--data.target", "scenes:target?count=20", "--data.selection_split", "null",
    "--data.size", "32", "--training.steps", "4", "--training.batch_size", "2", "--training.max_steps", "2",
    "--device", "cpu", "--workers", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after two of its four steps, as if it had been killed then."""
    run = tmp_path_factory.mktemp("settings") / "run"
    assert main([*TRAIN, "--output", str(run)]) == 0
    (run / "results.json").unlink()
    return run


@pytest.fixture
def run(half: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(half, tmp_path / "run"))


def test_an_edited_file_is_refused_by_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "config.yaml"
    before = file.read_text()
    settings = yaml.safe_load(before)
    settings["training"]["batch_size"] = 4
    settings["loss"]["over_classes"] = "sum"
    file.write_text(yaml.safe_dump(settings, sort_keys=False))
    assert main(["train", "--resume", str(run)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert (
        "trained under so far, got others (loss.over_classes mean, now sum; training.batch_size 2, now 4); put them back"
        in said
    )
    assert str(file) in said and [folder.name for folder in (run / "checkpoints").iterdir()] == ["step-00000002"]
    file.write_text(before)
    assert main(["train", "--resume", str(run)]) == 0


def test_a_file_that_was_cut_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run / "config.yaml"
    text = file.read_text()
    file.write_text(text[: text.index("  momentum:")])  # still YAML; what is missing has default values
    assert main(["train", "--resume", str(run)]) == 2
    assert "got others (training.momentum 0.9, now nothing; " in capsys.readouterr().err


def test_what_changes_nothing_may_differ(run: Path) -> None:
    file = run / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["training"] |= {"max_steps": None, "log_every": 1, "checkpoint_every": 1, "checkpoint_share": 1.0}
    file.write_text(yaml.safe_dump(settings))
    assert main(["train", "--resume", str(run), "--device", "cpu", "--workers", "1"]) == 0
    assert '"steps": 4' in (run / "results.json").read_text()


def test_one_command_begins_and_goes_on(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = [*TRAIN, "--training.max_steps", "null", "--auto-resume", "--output"]
    assert main([*again, str(tmp_path / "new")]) == 0  # begins
    capsys.readouterr()
    assert main([*again, str(run)]) == 0  # goes on
    said = capsys.readouterr()
    assert "continuing after step 2" in said.err
    assert main([*again, str(run)]) == 0  # is done
    assert "the run is finished already" in (once_more := capsys.readouterr()).err and once_more.out == said.out
    ends = [(one / "checkpoints/step-00000004/tensors.safetensors").read_bytes() for one in (run, tmp_path / "new")]
    assert ends[0] == ends[1]
    assert main([*again, str(run), "--seed", "1"]) == 2
    assert "a run with other settings (seed 0, now 1); choose another --output" in capsys.readouterr().err
    elsewhere = ["--data.target", "scenes:target?count=21"]
    assert main([*again, str(run), *elsewhere]) == 2  # of the same kind, and yet other data
    assert "other settings (data.target scenes:target?count=20, now scenes:target?count=21)" in capsys.readouterr().err
    assert main([*again, str(run), "--overwrite"]) == 2
    assert "expected one of --overwrite and --auto-resume" in capsys.readouterr().err


def test_data_may_lie_elsewhere_but_be_no_other() -> None:
    then = {"data.target": "voc", "data.source": ["folders", None], "data.cache": False, "data.class_map": {"a": "b"}}
    now = {"target": "voc:/new", "source": ["folders:/new", None], "cache": None, "class_map": {"a": "b"}}
    check_remembered(then, {"data": now}, Path("config.yaml"))
    check_remembered(None, {"data": now}, Path("config.yaml"))
    for other in ({"target": "folders:/new"}, {"cache": "/kept"}, {"class_map": {"a": "c"}}, {"class_map": None}):
        with pytest.raises(InputError, match=rf"got others \(data.{next(iter(other))} "):
            check_remembered(then, {"data": now | other}, Path("config.yaml"))
    with pytest.raises(InputError, match="data.target scenes:target.count=8, now scenes:target.count=9"):
        check_remembered(
            {"data.target": "scenes:target?count=8"}, {"data": {"target": "scenes:target?count=9"}}, Path()
        )
