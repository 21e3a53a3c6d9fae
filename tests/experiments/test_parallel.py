"""Several jobs at a time: every end is told, in the process that gave the jobs. (Real processes: the demonstration.)"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attnbn.experiments import parallel
from attnbn.experiments.parallel import Job, run_jobs


def test_every_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", lambda processes, *_, **__: ThreadPoolExecutor(processes))
    told: dict[int, str] = {}
    jobs = [Job(lambda name: {"name": name}, (name,), tmp_path / "metrics.jsonl", 1, print) for name in "abc"]
    results = run_jobs(jobs, 2, lambda place, result: told.update({place: result["name"]}))
    assert [result["name"] for result in results] == ["a", "b", "c"]
    assert told == {0: "a", 1: "b", 2: "c"}


def test_in_this_process_too(tmp_path: Path) -> None:
    told: list[int] = []
    jobs = [Job(lambda name, watch: {"name": name}, (name,), tmp_path / "metrics.jsonl", 1, print) for name in "ab"]
    assert run_jobs(jobs, 1, lambda place, result: told.append(place)) == [{"name": "a"}, {"name": "b"}]
    assert told == [0, 1]
