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


def test_a_checkpoint_more_is_no_difference_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are kept: of a run that was stopped after step 7 others than of one that was not."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from harm.same import contents, differences

    def write(run: str, step: int, text: str = "weights") -> None:
        folder = tmp_path / run / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tensors.safetensors").write_text(text)

    for run in ("checkpoints", "runs/a/checkpoints"):
        for step in (6, 8):
            write(run, step)
    reference = contents(tmp_path)
    (tmp_path / "runs/a/checkpoints/step-00000006").rename(tmp_path / "runs/a/checkpoints/step-00000007")
    assert len(differences(reference, tmp_path)) == 2
    assert differences(reference, tmp_path, stopped=True) == []
    write("checkpoints", 8, "others")
    assert differences(reference, tmp_path, stopped=True) == ["differs: checkpoints/step-00000008/tensors.safetensors"]


STUBBED = """
import sys
from collections import defaultdict
import faults
from harm import killing

def trial(job, number, seed, reference, folder, real):
    if f"raises at {number}" in sys.argv:
        raise OSError("the campaign's own")
    kill = {"how": "time", "at": 0.5, "group": True}
    return {"job": job.name, "trial": number, "real": real, "kills": [kill], "faults": [], "seconds": 1.0}

killing.trial = trial
faults.Campaign.prepare = lambda self: setattr(self, "references", defaultdict(int))
sys.exit(faults.main([word for word in sys.argv[1:] if not word.startswith("raises")]))
"""


def stubbed(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A campaign whose trials are always as they should be, or raise."""
    return subprocess.run(
        [sys.executable, "-c", STUBBED, "--only", "attend", "--faults", "--output", str(output), *words],
        env=dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(BENCHMARKS)), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_campaign_counts_the_trials_that_were_asked_for(tmp_path: Path) -> None:
    done = stubbed(tmp_path, "--kills", "4", "--processes", "2", "raises at 2")
    assert done.returncode == 1 and "OSError: the campaign's own" in done.stderr
    assert "3 of 4 trials ended with the same bytes" in done.stdout
    again = stubbed(tmp_path, "--kills", "4")
    assert again.returncode == 0 and "4 of 4 trials ended with the same bytes" in again.stdout
    assert again.stdout.count("attend ") == 1 + 1  # the one that was left, and the table's row


def test_trials_of_another_seed_are_not_taken_for_these(tmp_path: Path) -> None:
    assert stubbed(tmp_path, "--kills", "1", "--seed", "3").returncode == 0
    for other in (["--seed", "4"], ["--seed", "3", "--real", "0"]):
        done = stubbed(tmp_path, "--kills", "1", *other)
        assert done.returncode == 1
        assert (
            done.stderr == f"expected another --output, for this one holds trials of --seed 3, --real 10: {tmp_path}\n"
        )
    (tmp_path / "given.json").unlink()
    assert "trials of unknown options" in stubbed(tmp_path, "--kills", "1", "--seed", "3").stderr
