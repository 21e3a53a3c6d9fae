"""The fault campaign's quick tier: every command is killed and goes on, by fixed dice; and what judges it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMMANDS = ("train", "segment train", "adapt", "attend", "saliency", "cues", "segment predict")
FAULTS = ("NaN in the weights",)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A small campaign in a process of its own: it forks, which one with threads must not."""
    output = tmp_path_factory.mktemp("campaign")
    words = ["--kills", "7", "--seed", "3", "--real", "0", "--once", "--faults", *FAULTS, "--output", str(output)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "faults.py"), *words],
        env=dict(os.environ, OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (output / "results.json").is_file(), done.stdout + done.stderr
    results: dict[str, object] = json.loads((output / "results.json").read_text())
    assert done.returncode == 0, results
    return results


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_gone_on_it_ends_with_the_same_bytes(command: str, campaign: dict[str, object]) -> None:
    (trial,) = [line for line in campaign["trials"] if line["job"] == command]
    assert trial["kills"] and not trial["faults"]


@pytest.mark.parametrize("fault", FAULTS)
def test_other_faults_are_said_and_the_work_goes_on(fault: str, campaign: dict[str, object]) -> None:
    found = [line for line in campaign["others"] if line["fault"] == fault]
    assert found and all(line["good"] for line in found), found


def test_the_judge_sees_every_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from harm.same import contents, differences

    def write(step: int = 2, **more: str) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True, exist_ok=True)
        lines = [{"step": s, "terms": {"x": 0.5}, "time": os.times().elapsed} for s in (1, step, 3)]
        files = {
            "metrics.jsonl": "".join(json.dumps(line) + "\n" for line in lines),
            "results.json": '{"seconds": 1, "x": 2}',
        }
        for name, text in {**files, "a/b/map": "map", **more}.items():
            (tmp_path / name).write_text(text)

    write()
    reference = contents(tmp_path)
    write()
    assert differences(reference, tmp_path) == []  # times differ, and may
    for change in (
        {"a/b/map": "mop"},
        {"results.json": '{"seconds": 1, "x": 3}'},
        {"metrics.jsonl": '{"step": 1, "ter'},
    ):
        write(**change)
        assert differences(reference, tmp_path) != []
    write(step=1)
    assert differences(contents(tmp_path), tmp_path) == ["steps are [1, 1, 3]: metrics.jsonl"]
    write(**{"a/.map.x.part": "m"})
    assert differences(reference, tmp_path) == ["left over: a/.map.x.part"]
    (tmp_path / "a/.map.x.part").unlink()
    (tmp_path / "a/b/map").unlink()
    assert differences(reference, tmp_path) == ["missing: a/b/map", "left over: a/b/"]
