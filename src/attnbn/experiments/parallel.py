"""Several trainings at once, each in a process of its own on its share of the cores.

Small networks use a second core poorly; two rows on a core each are done sooner than one after the other on both. What a
row computes does not depend on the others. Progress is read from the runs' ``metrics.jsonl``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbn.training.loop import Progress

Watch = Callable[[Progress], None]
POLL_SECONDS = 0.5
GRACE_SECONDS = 30.0
"""Time for a training to finish its step and write a checkpoint, once the process that started it is gone."""


@dataclass(frozen=True)
class Job:
    """A training for :func:`run_jobs`.

    Attributes:
        call: What to do, as a function of a module (it is sent to the process) with its arguments.
        arguments: Those.
        metrics: Its ``metrics.jsonl``.
        steps: How many steps it takes.
        watch: Told of its progress.
    """

    call: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]
    metrics: Path
    steps: int
    watch: Watch


Done = Callable[[int, dict[str, Any]], None]
"""Told a job's place among the jobs and its result."""


def nothing(place: int, result: dict[str, Any]) -> None:
    """Nobody waits for single jobs."""


def run_jobs(jobs: Sequence[Job], processes: int, done: Done = nothing) -> list[dict[str, Any]]:
    """Do the jobs, at most ``processes`` at a time, in the order given; returns their results in that order.

    With one process they run in this one. ``done`` is called in this process, as each job ends.

    Raises:
        AttnbnError: what the first job that fails raises; the others are then not begun, those begun are finished.
        KeyboardInterrupt: on Ctrl-C, which reaches the jobs too: each writes a checkpoint first.
    """
    if processes <= 1 or len(jobs) <= 1:
        results = []
        for place, job in enumerate(jobs):
            results.append(job.call(*job.arguments, job.watch))
            done(place, results[-1])
        return results
    threads = max(1, (os.cpu_count() or 1) // processes)
    # spawned, not forked: a fork would copy PyTorch's thread pools in an unknown state
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(threads,)) as pool:
        return _follow(jobs, pool, processes, done)


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever; one at work writes its checkpoint first."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)


def _follow(jobs: Sequence[Job], pool: ProcessPoolExecutor, processes: int, done: Done) -> list[dict[str, Any]]:
    """Hand out jobs as processes come free, and report progress until all are done or one has failed.

    The pool never holds more than it runs: what it holds cannot be taken back after a failure.
    """
    waiting = list(range(len(jobs)))
    running: dict[Future[dict[str, Any]], int] = {}
    results: dict[int, dict[str, Any]] = {}
    shown = [0] * len(jobs)
    earlier = [_inode(job.metrics) for job in jobs]
    while waiting or running:
        while waiting and len(running) < processes:
            index = waiting.pop(0)
            running[pool.submit(jobs[index].call, *jobs[index].arguments)] = index
        ended, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for index in running.values():
            # the file of an earlier run stands until the new one begins its own
            line = _last_line(jobs[index].metrics) if _inode(jobs[index].metrics) != earlier[index] else None
            if line is not None and line["step"] != shown[index]:
                shown[index] = line["step"]
                jobs[index].watch(Progress(line["step"], jobs[index].steps, line["terms"], line["images_per_second"]))
        for future in ended:
            index = running.pop(future)
            results[index] = future.result()
            done(index, results[index])
    return [results[index] for index in range(len(jobs))]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _last_line(metrics: Path) -> dict[str, Any] | None:
    """The newest whole line of losses."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    for text in reversed(lines):
        try:
            line: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError):
            continue  # cut off at the front by the seek
        if isinstance(line, dict) and "terms" in line:
            return line
    return None
