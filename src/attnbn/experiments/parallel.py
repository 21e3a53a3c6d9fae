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
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from attnbn.io.errors import RunError
from attnbn.io.stopping import Stopped, held
from attnbn.training.loop import Progress

Watch = Callable[[Progress], None]
POLL_SECONDS = 0.5
GRACE_SECONDS = 30.0
"""Time for a training to finish its step and write a checkpoint, once the process that started it or one beside it is gone."""


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
        RunError: One of the processes died; the others have written a checkpoint each and are gone.
        KeyboardInterrupt: on Ctrl-C or another request to stop, which reaches the jobs too: each writes a checkpoint first.
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
    _start_tracker()
    at_work = _AtWork()
    try:
        with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(threads,)) as pool:
            try:
                return _follow(jobs, pool, processes, done, at_work)
            except Stopped:
                for process in multiprocessing.active_children():
                    process.terminate()  # each writes a checkpoint first
                raise
            except BrokenProcessPool:
                at_work.end()  # the pool has asked them to, as above, and would wait for ever
                raise
    except BrokenProcessPool as error:
        folders = ", ".join(str(jobs[place].metrics.parent) for place in sorted(at_work.places))
        raise RunError(
            f"a process that trains {at_work.death}; the same command, with fewer --processes, goes on with what was under "
            f"way: {folders}"
        ) from error


class _AtWork:
    """The pool's processes, how one of them has died, and the places of the jobs that are begun and not done."""

    def __init__(self) -> None:
        self.death = "died"
        self.places: set[int] = set()
        self.processes: set[BaseProcess] = set()
        self._others = set(multiprocessing.active_children())

    def begin(self, place: int, submit: Callable[[], Future[dict[str, Any]]]) -> Future[dict[str, Any]]:
        """Hand out a job, for which the pool may start a process."""
        self.places.add(place)
        self._others |= set(multiprocessing.active_children()) - self.processes
        future = submit()
        self.processes |= set(multiprocessing.active_children()) - self._others
        return future

    @property
    def dead(self) -> bool:
        """Whether one of the processes, which last as long as the pool, is gone."""
        return any(process.exitcode is not None for process in self.processes)

    def end(self) -> None:
        """Wait for the processes' end as long as a training needs: one may wait for a lock that the dead one held."""
        deadline = time.monotonic() + GRACE_SECONDS
        left = {process.sentinel: process for process in self.processes}
        while left and (ended := connection.wait(list(left), max(0.0, deadline - time.monotonic()))):
            left = {sentinel: process for sentinel, process in left.items() if sentinel not in ended}
        self.death = _death({process.exitcode or 0 for process in self.processes})
        for process in left.values():
            process.kill()


def _death(codes: set[int]) -> str:
    """How one of several processes died by their exit codes; the others were then asked to end, by SIGTERM."""
    if -signal.SIGKILL in codes:
        return "was killed by SIGKILL, probably for lack of memory"
    names = sorted(signal.Signals(-code).name for code in codes - {-signal.SIGTERM} if code < 0)
    return f"died by {names[0]}" if names else "died"


def _start_tracker() -> None:
    """Start the process that counts what processes share; of what a killed one had, it clears up without a word."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        with held():  # it passes over Ctrl-C and SIGTERM by itself; the others would end it, with tracebacks
            resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


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


def _follow(
    jobs: Sequence[Job], pool: ProcessPoolExecutor, processes: int, done: Done, at_work: _AtWork
) -> list[dict[str, Any]]:
    """Hand out jobs as processes come free, and report progress until all are done or one has failed.

    The pool never holds more than it runs: what it holds cannot be taken back after a failure.
    """
    waiting = list(range(len(jobs)))
    running: dict[Future[dict[str, Any]], int] = {}
    results: dict[int, dict[str, Any]] = {}
    shown = [0] * len(jobs)
    earlier = [_inode(job.metrics) for job in jobs]

    def hand_out() -> None:
        while waiting and len(running) < processes:
            index = waiting.pop(0)
            job = jobs[index]
            running[at_work.begin(index, partial(pool.submit, job.call, *job.arguments))] = index

    hand_out()
    while running:
        ended, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for index in running.values():
            # the file of an earlier run stands until the new one begins its own
            line = _last_line(jobs[index].metrics) if _inode(jobs[index].metrics) != earlier[index] else None
            if line is not None and line["step"] != shown[index]:
                shown[index] = line["step"]
                jobs[index].watch(Progress(line["step"], jobs[index].steps, line["terms"], line["images_per_second"]))
        if at_work.dead:
            pool.submit(int)  # it looks up: of a process that it began after its last look it would not know
        places = [running.pop(future) for future in ended]
        for place, future in zip(places, ended, strict=True):
            results[place] = future.result()
            at_work.places.remove(place)
        hand_out()  # before the results are looked at, which may take its time
        for place in places:
            done(place, results[place])
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
