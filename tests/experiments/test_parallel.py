"""Several jobs at a time: every end is told, in the process that gave the jobs, a violent one in a line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attnbn.cli.main import main
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


ADAPT = [
    "adapt", "--config", "demo-adapt", "--rows", "source", "source-attention", "--directions", "S-D", "--training.steps", "30",
    "--training.log_every", "1", "--data.size", "32", "--device", "cpu",
]  # fmt: skip


def steps(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    return [json.loads(line)["step"] for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")
def test_a_training_that_is_killed_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [out / "runs" / "S" / name for name in ("source-0-0", "source-attention-0-0")]
    process = subprocess.Popen(
        [sys.executable, "-m", "attnbn", *ADAPT, "--processes", "2", "--output", str(out)],
        env=dict(os.environ, OMP_NUM_THREADS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not all(len(steps(run)) >= 2 for run in runs):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    trainings = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(trainings) == 2
    os.kill(trainings[1], signal.SIGKILL)  # a pool may not watch any but the first
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in said and "Warning" not in said
    (line,) = [line for line in said.splitlines() if not re.match(r"S source", line)]  # the others show progress
    assert line == (
        "attnbn: a process that trains was killed by SIGKILL, probably for lack of memory; the same command, with fewer "
        f"--processes, goes on with what was under way: {runs[0]}, {runs[1]}"
    )
    assert not any(map(alive, trainings))
    assert [any((run / "checkpoints").iterdir()) for run in runs].count(True) == 1  # of the one that was not killed
    assert main([*ADAPT, "--processes", "1", "--output", str(out)]) == 0
    for run in runs:
        assert steps(run) == list(range(1, 31)) and (run / "results.json").is_file()


DIES = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
from attnbn.cli.main import main
from attnbn.experiments import parallel
from attnbn.experiments.parallel import Job, run_jobs

def work(folder):
    if multiprocessing.current_process().name.endswith("-1"):  # as one that waits for a lock that a dead one held
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(120)
    while not (folder / "pid").is_file():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGSEGV)

if __name__ == "__main__":
    start = multiprocessing.process.BaseProcess.start
    multiprocessing.process.BaseProcess.start = lambda self: (time.sleep(0.2), start(self))  # a pool may not know of it yet
    parallel.GRACE_SECONDS = 0.5
    folder = Path(sys.argv[1])
    try:
        run_jobs([Job(work, (folder,), folder / name / "metrics.jsonl", 1, print) for name in "abc"], 2)
    except parallel.RunError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_any_death_is_told_by_its_signal_and_nobody_is_waited_for_without_end(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "dies.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == "" and "a process that trains died by SIGSEGV; the same command" in done.stdout
    assert done.stdout.endswith(f"under way: {tmp_path / 'a'}, {tmp_path / 'b'}\n")  # c had not begun
    assert not alive(int((tmp_path / "pid").read_text()))


def test_deaths_in_words() -> None:
    term = -signal.SIGTERM  # of those that were asked to end for it
    assert parallel._death({0, term, -signal.SIGKILL}) == "was killed by SIGKILL, probably for lack of memory"
    assert parallel._death({0, term, -signal.SIGABRT}) == "died by SIGABRT"
    assert parallel._death({0, term, 3}) == "died"
