"""Several jobs at a time: every end is told, in the process that gave the jobs. (Real processes: the demonstration.)"""

from __future__ import annotations

import subprocess
import sys
import time
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


SCRIPT = """
import time
from pathlib import Path
from attnbn.experiments.parallel import Job, run_jobs

def work(folder, place):
    import os
    (Path(folder) / str(place)).write_text(str(os.getpid()))
    time.sleep(120)
    return {}

if __name__ == "__main__":
    import sys
    run_jobs([Job(work, (sys.argv[1], i), Path(sys.argv[1]) / "metrics.jsonl", 1, print) for i in range(2)], 2)
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    try:
        deadline = time.monotonic() + 120
        while not all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in "01"):
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        workers = [int((tmp_path / name).read_text()) for name in "01"]
        assert all(map(alive, workers))
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
