"""A trial: a command is killed, goes on, is perhaps killed again, ends, and must leave what an uninterrupted one leaves."""

from __future__ import annotations

import contextlib
import importlib
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harm.jobs import OUT, Job
from harm.processes import At, Child, Ended, die, run, tear
from harm.same import contents, differences

BUSY = "another process is writing"
PATIENCE = 90.0
"""Seconds that a process left behind by a kill may hold its run."""
ATTEMPTS = 30
"""Draws of a moment until one is before the command's end."""


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run leaves, and how long it takes.

    Attributes:
        files: From :func:`harm.same.contents`.
        seconds: Of a forked process.
        real_seconds: Of one that was started anew; 0: none was.
        changes: How often it changed a file.
    """

    files: dict[str, bytes]
    seconds: float
    real_seconds: float
    changes: int


@dataclass(frozen=True)
class Kill:
    """When and how a command is killed.

    Attributes:
        how: After some ``time``; just before it changes a ``file``; or in the middle of writing one, which is ``torn``.
        at: Seconds, or which change.
        size: Bytes after which a file is torn.
        group: All its processes are killed, or the one alone that was started.
    """

    how: Literal["time", "file", "torn"]
    at: float
    size: int = 0
    group: bool = True


def draw(dice: random.Random, reference: Reference, real: bool) -> Kill:
    """A random kill: half of them at a moment, half at a file."""
    group = dice.random() < 0.5
    kind = dice.random()
    if real or kind < 0.5:
        return Kill("time", dice.uniform(0, reference.real_seconds if real else reference.seconds), 0, group)
    at = dice.randrange(reference.changes)
    return Kill("file", at, 0, group) if kind < 0.8 else Kill("torn", at, int(2 ** dice.uniform(0, 18)), group)


def strike(words: list[str], folder: Path, kill: Kill, real: bool) -> Ended:
    """Carry out a command and kill it, unless it ends before."""
    if kill.how == "time":
        child = Child(words, folder, real=real)
        if not child.ended_within(kill.at):
            child.signal(9, group=kill.group)
        return child.end()
    return run(words, folder, inside=At(int(kill.at), die(kill.group) if kill.how == "file" else tear(kill.size)))


def refer(job: Job, folder: Path, *, real: bool = False, once: bool = False) -> Reference:
    """Carry out a job without harm, and once more: what differs then is none of a kill's doing.

    Args:
        job: The job.
        folder: To work in.
        real: A third time, started anew.
        once: Only once, which costs less and takes longer than a kill expects.

    Raises:
        SystemExit: It fails, or two runs differ.
    """
    files: dict[str, bytes] = {}
    seconds = {"forked": 0.0, "real": 0.0}
    count, modules = (folder.parent / f"{folder.name}-{what}.txt" for what in ("changes", "modules"))
    for way in ("forked",) if once else ("forked", "forked", "real") if real else ("forked", "forked"):
        first = not files
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with_count = {"inside": At(counted=count), "modules": modules} if first else {}
        ended = run(job.words, folder, real=way == "real", **with_count)
        if ended.status:
            raise SystemExit(f"{job.name} ended with {ended.status} unharmed: {ended.said}")
        if first:
            import_all(modules)
        elif lines := differences(files, folder / OUT):
            raise SystemExit(f"{job.name} differs from itself unharmed: {', '.join(lines)}")
        seconds[way] = ended.seconds
        files = files or contents(folder / OUT)
    return Reference(files, seconds["forked"], seconds["real"], int(count.read_text()))


def import_all(names: Path) -> None:
    """Import what a command has imported, so that processes forked from here need not."""
    for name in names.read_text().splitlines():
        if name not in sys.modules and not name.startswith("_"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def trial(
    job: Job, number: int, seed: int, reference: Reference, folder: Path, *, real: bool = False
) -> dict[str, Any]:
    """Kill a job once or twice, let it go on to its end, and compare.

    Returns:
        ``job``, ``trial``, ``real``, ``kills`` (each as :class:`Kill`), ``faults`` (what is wrong; none as it should be),
        ``seconds``.
    """
    dice, began = random.Random(f"{seed} {job.name} {number}"), time.monotonic()
    kills: list[dict[str, Any]] = []
    twice = dice.random() < 0.35
    for again in (False, True) if twice else (False,):
        kill = _until_killed(job, folder, dice, reference, real, fresh=not again)
        kills += [] if kill is None else [asdict(kill)]
    faults = [] if kills else ["no kill came before the end"]
    faults += _finish(job, folder, real)
    faults += differences(reference.files, folder / OUT) if not faults else []
    return {
        "job": job.name, "trial": number, "real": real, "kills": kills, "faults": faults,
        "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip


def _until_killed(
    job: Job, folder: Path, dice: random.Random, reference: Reference, real: bool, *, fresh: bool
) -> Kill | None:
    """One kill: of a fresh start tried until it comes before the end, of a run that goes on tried once."""
    for _ in range(ATTEMPTS if fresh else 1):
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        kill = draw(dice, reference, real)
        ended = strike(job.again(folder), folder, kill, real)
        if ended.killed:
            return kill
    return None


def _finish(job: Job, folder: Path, real: bool) -> list[str]:
    """Let it go on until it is done; what is wrong with that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        ended = run(job.again(folder), folder, real=real)
        if ended.status == 0:
            return ["a traceback was shown"] if "Traceback" in ended.said else []
        if BUSY not in ended.said or time.monotonic() > deadline:
            return [f"went on to status {ended.status}: {ended.said.strip()[-800:]}"]
        time.sleep(0.2)
