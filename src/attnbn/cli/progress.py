"""What a person sees while it works: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

    from attnbn.training.loop import Progress

PLAIN_SECONDS = 20.0
"""Between two lines where the output is no terminal."""


def per_cent(value: float | None) -> str:
    """A fraction as per cent with one decimal; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as ``1:23:45`` or ``12:34``."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextmanager
def bar(unit: str = "photographs", title: str = "reading") -> Iterator[Callable[[int, int], None] | None]:
    """Progress on stderr: a bar with the speed and the time left on a terminal, elsewhere a line now and then.

    Args:
        unit: What is counted, in the plural.
        title: What is done to them.

    Yields:
        What to call with the number done and of all; None in all but the first of several processes.
    """
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        yield None
        return
    if not sys.stderr.isatty():
        yield _Lines(unit, title).step
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    begun: list[tuple[float, int]] = []
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as shown:
        task = shown.add_task(title, total=None, speed="")

        def step(done: int, total: int) -> None:
            if not begun:
                begun.append((time.monotonic(), done))
            shown.update(task, completed=done, total=total, speed=_speed(begun[0], done, unit))

        yield step


def _speed(begun: tuple[float, int], done: int, unit: str) -> str:
    """How many a second since the first was done; nothing as long as only that one is."""
    seconds = time.monotonic() - begun[0]
    return f"{(done - begun[1]) / seconds:.1f} {unit}/s" if seconds > 0 and done > begun[1] else ""


class _Lines:
    """A line every :data:`PLAIN_SECONDS` where there is no terminal."""

    def __init__(self, unit: str, title: str) -> None:
        self.unit, self.title = unit, title
        self.begun: tuple[float, int] | None = None
        self.shown = time.monotonic()

    def step(self, done: int, total: int) -> None:
        now = time.monotonic()
        self.begun = self.begun or (now, done)
        if now - self.shown < PLAIN_SECONDS or done == self.begun[1]:
            return
        self.shown = now
        left = (now - self.begun[0]) / (done - self.begun[1]) * (total - done)
        speed = _speed(self.begun, done, self.unit)
        print(f"{self.title} {done:,}/{total:,}  {speed}  {duration(left)} left", file=sys.stderr, flush=True)


class TrainingDisplay:
    """Steps, each loss, images a second and the time left; a bar for each training that is under way.

    Args:
        stream: Where to show it; live bars if it is a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console(file=stream, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[terms]}"),
            TextColumn("{task.fields[speed]:.0f} images/s"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.live = self.console.is_terminal

    def __enter__(self) -> Self:
        if self.live:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(line, markup=False, soft_wrap=True)

    def titled(self, title: str) -> Callable[[Progress], None]:
        """What to call after each step of a training of that title."""
        return (_LiveBar if self.live else _PlainLines)(self, title).step


def _terms(progress: Progress) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in progress.terms.items())


class _LiveBar:
    """A training's bar, there from its first step to its last."""

    def __init__(self, display: TrainingDisplay, title: str) -> None:
        self.display, self.title = display, title
        self.task: TaskID | None = None

    def step(self, progress: Progress) -> None:
        bar = self.display.bar
        fields: dict[str, Any] = {"terms": _terms(progress), "speed": progress.images_per_second}
        if self.task is None:
            self.task = bar.add_task(self.title, total=progress.steps, **fields)
        bar.update(self.task, completed=progress.step, **fields)
        if progress.step == progress.steps:
            bar.remove_task(self.task)
            self.task = None


class _PlainLines:
    """A training's lines where there is no terminal."""

    def __init__(self, display: TrainingDisplay, title: str) -> None:
        self.display, self.title = display, title
        self.begun = self.shown = time.monotonic()
        self.first: int | None = None

    def step(self, progress: Progress) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.begun = progress.step, now
        if now - self.shown >= PLAIN_SECONDS or progress.step == progress.steps:
            self.shown = now
            parts = [f"{self.title} {progress.step}/{progress.steps}", _terms(progress)]
            parts.append(f"{progress.images_per_second:.0f} images/s" if progress.images_per_second else "")
            if done := progress.step - self.first:  # one report alone does not say how long the next takes
                left = (now - self.begun) / done * (progress.steps - progress.step)
                parts.append(f"{duration(left)} left")
            self.display.say("  ".join(part for part in parts if part))
