"""Faults other than a kill, each once or a few times: what is said, and that the work goes on to the same end."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harm.disks import Disk, on_a_disk
from harm.jobs import OUT, Job
from harm.killing import Reference
from harm.processes import At, Child, Ended, run
from harm.same import contents, differences

DAY = 86400.0
TRAINING = ("train", "segment train", "adapt")
Outcome = dict[str, Any]
"""``outcome`` in words if it is as it should be, else ``wrong``, or ``skipped`` with the reason."""


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def one_line(ended: Ended, status: int, *words: str) -> str | None:
    """What is wrong with how a command ended: its status, a traceback, or words that its last line lacks."""
    last = ended.said.strip().splitlines()[-1] if ended.said.strip() else ""
    if ended.status != status:
        return f"status {ended.status}, expected {status}: {last[-300:]}"
    if "Traceback" in ended.said:
        return f"a traceback: {ended.said[-600:]}"
    missing = [word for word in words if word not in last]
    return f"{missing[0]!r} is not said: {last[-300:]}" if missing else None


def to_the_end(job: Job, folder: Path, files: dict[str, bytes], *, stopped: bool = False) -> str | None:
    """Let it go on; what is wrong with its end. Stopped: on request, see :func:`~harm.same.differences`."""
    ended = run(job.again(folder), folder)
    if wrong := one_line(ended, 0):
        return f"going on: {wrong}"
    found = differences(files, folder / OUT, stopped=stopped)
    return "; ".join(found) if found else None


def said(wrong: str | None, outcome: str) -> Outcome:
    """An outcome."""
    return {"wrong": wrong} if wrong else {"outcome": outcome}


def full_disk(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """No room left just before a random change of a file, in memory's own file system."""

    def work(disk: Disk) -> Outcome:
        for _ in range(20):
            for path in (folder / OUT).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            disk.free()
            number, spare = dice.randrange(reference.changes), int(dice.uniform(0, 30000))
            ended = run(job.words, folder, inside=At(number, lambda spare=spare: disk.fill(spare)))
            disk.free()
            if ended.status == 0:
                continue  # what was left to write found room
            wrong = one_line(ended, 1, "no space left to write")
            parts = [str(path) for path in (folder / OUT).rglob("*.part")]
            wrong = wrong or (f"half-written: {parts[0]}" if parts else None)
            return said(wrong or to_the_end(job, folder, reference.files), f"said so before change {number}, goes on")
        return {"wrong": "always found room"}

    return on_a_disk(fresh(folder) / OUT, work)


def metrics_full(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """``metrics.jsonl`` may not grow any more, in the middle of a line."""
    size = int(dice.uniform(0.2, 0.8) * len(reference.files["metrics.jsonl"]))

    def inside() -> None:
        from attnbn.io import run_folder

        write = run_folder.Metrics.write

        def limited(self: run_folder.Metrics, line: Mapping[str, Any]) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            write(self, line)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        run_folder.Metrics.write = limited  # type: ignore[method-assign]

    ended = run(job.words, fresh(folder), inside=inside)
    wrong = one_line(ended, 1, "could not write", "metrics.jsonl")
    return said(wrong or to_the_end(job, folder, reference.files), "said so, goes on")


def read_only(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """The output folder is on a disk that is mounted read-only."""

    def work(disk: Disk) -> Outcome:
        disk.protect()
        ended = run(job.words, folder)
        disk.free()
        wrong = one_line(ended, 1, "check the folder's permissions")
        return said(wrong or to_the_end(job, folder, reference.files), "said so")

    return on_a_disk(fresh(folder) / OUT, work)


def _on_own_data(job: Job, folder: Path, inputs: Path) -> Job:
    """The job on a copy of its photographs, which harm may be done to; read by the process itself."""
    shutil.copytree(inputs / "photos", fresh(folder).with_name("data"), dirs_exist_ok=True)
    words = [word.replace(str(inputs / "photos"), "../data") for word in job.words]
    if "--workers" in words:
        words[words.index("--workers") + 1] = "1" if "saliency" in words else "0"  # whose one worker is a thread
    return replace(job, words=tuple(words))


class _Opened:
    """In a process: something is done to the photograph that is about to be opened as the ``number``-th."""

    def __init__(
        self, number: int = -1, harm: Callable[[str], None] | None = None, counted: Path | None = None
    ) -> None:
        self.number, self.harm, self.counted = number, harm, counted

    def __call__(self) -> None:
        seen, busy = 0, False

        def hook(event: str, given: tuple[Any, ...]) -> None:
            nonlocal seen, busy
            if event != "open" or busy or not str(given[0]).endswith(".jpg") or "/data/" not in str(given[0]):
                return
            seen += 1
            busy = True
            if self.counted is not None:
                self.counted.write_text(str(seen))
            if self.harm is not None and seen - 1 == self.number:
                self.harm(os.path.abspath(str(given[0])))
            busy = False

        sys.addaudithook(hook)


def spoilt_data(vanish: bool) -> Callable[..., Outcome]:
    """A photograph vanishes, or is cut off, just before it is read once more."""

    def trial(job: Job, reference: Reference, folder: Path, dice: random.Random, inputs: Path) -> Outcome:
        own = _on_own_data(job, folder, inputs)
        data, count = folder.with_name("data"), folder.with_name("count.txt")
        ended = run(own.words, folder, inside=_Opened(counted=count))
        if ended.status:
            return {"wrong": f"unharmed: {ended.said[-300:]}"}
        files = contents(folder / OUT)
        before = {path: path.read_bytes() for path in data.rglob("*.jpg")}

        def harm(path: str) -> None:
            os.rename(path, f"{path}.away") if vanish else os.truncate(path, 200)

        fresh(folder)
        # opened for looking at them first, and then, in training, again and again
        number = dice.randrange(len(before) if job.resumes else len(before) // 2, int(count.read_text()))
        ended = run(own.words, folder, inside=_Opened(number, harm))
        gone = [path for path in before if not path.is_file() or path.stat().st_size == 200]
        if len(gone) != 1:
            return {"wrong": f"{len(gone)} photographs were harmed"}
        wrong = one_line(ended, 2, gone[0].name)
        if not wrong and vanish and own.resumes:
            again = run(own.again(folder), folder)
            wrong = None if again.status == 2 else f"goes on without it: {again.said[-200:]}"
        for path, value in before.items():
            Path(f"{path}.away").unlink(missing_ok=True)
            path.write_bytes(value)
        return said(wrong or to_the_end(own, folder, files), "named; with it back goes on")

    return trial


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def worker_killed(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """A process that reads for the command is killed."""
    for _ in range(20):
        child = Child(job.words, fresh(folder))
        while not (readers := _children(child.pid)) and not child.ended_within(0.002):
            pass
        child.ended_within(dice.uniform(0, reference.seconds / 3))
        if readers := _children(child.pid):
            os.kill(dice.choice(readers), signal.SIGKILL)
            struck = time.monotonic()
            ended = child.end(90)
            if ended.status == 0:
                continue  # it had nothing left to read
            waited = time.monotonic() - struck
            wrong = one_line(ended, 1, "died", "fewer --workers") or (f"after {waited:.0f} s" if waited > 60 else None)
            return said(wrong or to_the_end(job, folder, reference.files), f"said so after {waited:.1f} s, goes on")
        child.end()
    return {"wrong": "no reader was alive"}


@contextmanager
def _begun(job: Job, folder: Path) -> Iterator[Child]:
    """The command once it has written something that lasts, stopped (not ended) as long as one looks."""
    child = Child(job.words, fresh(folder))
    out = folder / OUT
    while not child.ended_within(0.001):
        if out.is_dir() and any(path.is_file() for path in out.rglob("[!.]*")):
            break
    child.signal(signal.SIGSTOP, group=True)
    try:
        yield child
    finally:
        child.signal(signal.SIGCONT, group=True)
        time.sleep(0.05)
        child.signal(signal.SIGCONT, group=True)  # a process that it was just starting may have stopped only now


def two_at_once(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """The same command again, with and without ``--overwrite`` and ``--resume``, while the first is at work."""
    kept = folder.with_name("second")
    with _begun(job, folder) as first:
        kept.mkdir(exist_ok=True)
        (kept / OUT).unlink(missing_ok=True)
        (kept / OUT).symlink_to(folder / OUT)
        tries = [list(job.words), [*job.words, "--overwrite"]]
        tries += [[*job.resumes, "--resume", OUT]] if job.resumes else []
        wrong = None
        for words in tries:
            ended = run(words, kept)
            busy = (
                "holds an unfinished run"
                if words == tries[0] and "is writing" not in ended.said
                else "another process is writing"
            )
            wrong = wrong or one_line(ended, 2, busy)
    ended = first.end()
    wrong = wrong or one_line(ended, 0) or "; ".join(differences(reference.files, folder / OUT)) or None
    return said(wrong, "second refused, first unharmed")


def not_finite(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
    """A weight becomes NaN before a random step."""
    steps = int(next(word for place, word in enumerate(job.words) if job.words[place - 1] == "--training.steps"))
    at = dice.randrange(4, steps)

    def inside() -> None:
        from attnbn.training import loop

        step_of = loop.optimize

        def poisoned(fabric: Any, task: Any, parts: Any, phase: Any, prepared: Any, step: int) -> Any:
            if step == at:
                next(task.modules["network"].parameters()).data[:1] = float("nan")
            return step_of(fabric, task, parts, phase, prepared, step)

        loop.optimize = poisoned

    ended = run(job.words, fresh(folder), inside=inside)
    terms = re.findall(rb'"terms": \{(.*?)\}', reference.files["metrics.jsonl"])[-1].decode()
    named = [term for term in re.findall(r'"(\w+)":', terms) if not term.startswith("domain")]  # whose turn comes later
    wrong = one_line(ended, 1, f"not finite at step {at + 1}", *(f"{term} nan" for term in named))
    saved = sorted(path.name for path in (folder / OUT / "checkpoints").glob("step-*"))
    expected = [f"step-{step:08d}" for step in (at // 3 * 3 - 3, at // 3 * 3) if step > 0]
    wrong = wrong or (None if saved == expected else f"checkpoints {saved}, expected {expected}")
    return said(
        wrong or to_the_end(job, folder, reference.files), f"step {at + 1} and its terms named, checkpoints kept"
    )


def clock(by: float, steady: bool) -> Callable[..., Outcome]:
    """The clock jumps after a while; the steady clocks too, which no system does, where ``steady``."""

    def trial(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
        def inside() -> None:
            began, after = time.monotonic(), dice.uniform(0.2, 0.8) * reference.seconds
            own = time.monotonic
            for name in ("time", "monotonic", "perf_counter") if steady else ("time",):
                true = getattr(time, name)
                setattr(time, name, lambda true=true: true() + (by if own() - began > after else 0.0))

        ended = run(job.words, fresh(folder), inside=inside)
        wrong = one_line(ended, 0) or "; ".join(differences(reference.files, folder / OUT)) or None
        found = re.findall(r'"seconds": (-?[\d.]+)', (folder / OUT / "results.json").read_text()) if job.resumes else []
        odd = [value for value in found if not steady and not 0 <= float(value) < 600]
        return said(wrong or (f"seconds {odd[0]}" if odd else None), "nothing changes")

    return trial


def stopped(number: int, status: int, *, twice: bool = False, group: bool = False) -> Callable[..., Outcome]:
    """A signal after a random time; twice: the second while the first's step is not yet done, and late enough to be meant.

    To the process, or to its group with the processes that read for it.
    """

    def trial(job: Job, reference: Reference, folder: Path, dice: random.Random) -> Outcome:
        def slow() -> None:
            from attnbn.training import loop

            step_of = loop.optimize

            def waiting(fabric: Any, task: Any, parts: Any, phase: Any, prepared: Any, step: int) -> Any:
                if step == 7:
                    (folder / "waits").touch()
                    for _ in range(100):
                        time.sleep(0.1)
                return step_of(fabric, task, parts, phase, prepared, step)

            loop.optimize = waiting

        for _ in range(20):
            if twice:
                child = Child(job.words, fresh(folder), inside=slow)
                while not (folder / "waits").exists() and not child.ended_within(0.01):
                    pass
                child.signal(number)
                child.ended_within(1.3)
            else:
                with _begun(job, folder) as child:
                    pass
                child.ended_within(dice.uniform(0, reference.seconds / 2))
            child.signal(number, group=group)
            ended = child.end(60)
            if ended.status != 0:
                break
        last = ended.said.strip().splitlines()[-1] if ended.said.strip() else ""
        wrong = one_line(ended, status)
        (folder / "waits").unlink(missing_ok=True)
        told = "stopped" if twice or "checkpoint" not in last else "stopped with a checkpoint"
        wrong = wrong or to_the_end(job, folder, reference.files, stopped=True)
        return said(wrong, f"{told}, status {ended.status}, goes on")

    return trial


_TERM, _INT = 143, 130
_LOOKING = ("attend", "saliency", "cues", "segment predict")
_EVERY = ("train", "segment train", "adapt", *_LOOKING)
TRIALS: list[tuple[str, Callable[..., Outcome], tuple[str, ...]]] = [
    ("disk full", full_disk, _EVERY),
    ("metrics cannot grow", metrics_full, ("train", "segment train")),
    ("output read-only", read_only, _EVERY),
    ("photograph vanishes", spoilt_data(vanish=True), ("train, files", "attend", "saliency")),
    ("photograph is cut off", spoilt_data(vanish=False), ("train, files", "attend", "saliency")),
    ("reading process killed", worker_killed, ("train", "attend", "saliency")),
    ("NaN in the weights", not_finite, ("train", "segment train")),
    ("two at once", two_at_once, _EVERY),
    ("clock a day back", clock(-DAY, steady=False), ("train", "attend")),
    ("clock a day forward", clock(DAY, steady=False), ("train", "attend")),
    ("steady clocks a day back", clock(-DAY, steady=True), ("train", "adapt")),
    ("SIGTERM", stopped(signal.SIGTERM, _TERM), _EVERY),
    ("SIGTERM to the group", stopped(signal.SIGTERM, _TERM, group=True), ("train", "segment train", *_LOOKING)),
    ("Ctrl-C", stopped(signal.SIGINT, _INT), ("train", "adapt", *_LOOKING)),
    ("Ctrl-C twice", stopped(signal.SIGINT, _INT, twice=True), ("train",)),
]


def carry_out(
    jobs: Mapping[str, Job],
    references: Mapping[str, Reference],
    lines: Path,
    seed: int,
    faults: Sequence[str],
    done: set[tuple[str, Any]],
) -> None:
    """Faults on every job that they are for and that has a reference; each is kept as a line and printed.

    Args:
        jobs: By name.
        references: Of the jobs.
        lines: File that the outcomes are added to.
        seed: Of the moments.
        faults: Which, of :data:`TRIALS`.
        done: Job and fault of those that need not be done again.
    """
    for name, trial, names in (one for one in TRIALS if one[0] in faults):
        for job in (jobs[one] for one in names if one in references and (one, name) not in done):
            dice = random.Random(f"{seed} {name} {job.name}")
            more = {"inputs": lines.parent / "inputs"} if "photograph" in name else {}
            one = trial(job, references[job.name], lines.parent / "work" / "others" / "trial", dice, **more)
            good = "wrong" not in one
            outcome = one.get("wrong") or one.get("outcome") or f"skipped: {one['skipped']}"
            with lines.open("a") as file:
                file.write(json.dumps({"fault": name, "job": job.name, "good": good, "outcome": outcome}) + "\n")
            print(f"{name}, {job.name}: {'' if good else 'WRONG: '}{outcome}", flush=True)
