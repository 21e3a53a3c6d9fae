"""Several trainings at once, each in a process of its own on its share of the cores.

Small networks use a second core poorly; two rows on a core each are done sooner than one after the other on both. What a
row computes does not depend on the others. Progress is read from the runs' ``metrics.jsonl``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbn.training.loop import Progress

Watch = Callable[[Progress], None]
POLL_SECONDS = 0.5


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


def run_jobs(jobs: Sequence[Job], processes: int) -> list[dict[str, Any]]:
    """Do the jobs, at most ``processes`` at a time, in the order given; returns their results in that order.

    With one process they run in this one.

    Raises:
        AttnbnError: what the first job that fails raises; the others are then not begun, those begun are finished.
        KeyboardInterrupt: on Ctrl-C, which reaches the jobs too: each writes a checkpoint first.
    """
    if processes <= 1 or len(jobs) <= 1:
        return [job.call(*job.arguments, job.watch) for job in jobs]
    threads = max(1, (os.cpu_count() or 1) // processes)
    # spawned, not forked: a fork would copy PyTorch's thread pools in an unknown state
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(threads,)) as pool:
        futures = [pool.submit(job.call, *job.arguments) for job in jobs]
        try:
            _follow(jobs, futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _follow(jobs: Sequence[Job], futures: Sequence[Future[dict[str, Any]]]) -> None:
    """Report progress until all are done or one has failed."""
    shown = [0] * len(jobs)
    while True:
        done, pending = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        for index, job in enumerate(jobs):
            line = _last_line(job.metrics) if os.path.exists(job.metrics) else None
            if line is not None and line["step"] != shown[index]:
                shown[index] = line["step"]
                job.watch(Progress(line["step"], job.steps, line["terms"], line["images_per_second"]))
        if not pending:
            return


def _last_line(metrics: Path) -> dict[str, Any] | None:
    """The newest whole line of losses."""
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        lines = file.read().split(b"\n")[:-1]
    for text in reversed(lines):
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:
            continue  # cut off at the front by the seek
        if "terms" in line:
            return line
    return None
