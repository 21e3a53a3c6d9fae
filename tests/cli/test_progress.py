"""What a person sees of work on many photographs: how many, how fast, how long still."""

from __future__ import annotations

import io
import sys

import pytest

from attnbn.cli import progress
from attnbn.training.loop import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("RANK", raising=False)
    return now


def test_lines_without_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar() as step:
        assert step is not None
        for done in range(1, 61):  # one a second, the first after a long start
            clock[0] += 1
            step(done, 1200)
    assert capsys.readouterr().err.splitlines() == [
        "reading 20/1,200  1.0 photographs/s  19:40 left",
        "reading 40/1,200  1.0 photographs/s  19:20 left",
        "reading 60/1,200  1.0 photographs/s  19:00 left",
    ]


def test_what_is_short_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar() as step:
        assert step is not None
        for done in range(1, 11):
            clock[0] += 1.5
            step(done, 10)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar("maps", "detecting") as step:
        assert step is not None
        step(3, 8)
        step(8, 8)
    said = terminal.getvalue()
    assert "detecting" in said and "8/8" in said and "maps/s" in said


def test_one_of_several_processes_shows_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress.bar() as step:
        assert step is None


def test_a_training_tells_the_time_left_once_it_can(clock: list[float]) -> None:
    said = io.StringIO()
    report = progress.TrainingDisplay(said).titled("AttnBN")
    clock[0] += 60  # features are kept before the first step
    for step in (10, 20, 30, 40):
        report(Progress(step, 40, {"source_cl": 0.5}, 100.0))
        clock[0] += 30
    assert said.getvalue().splitlines() == [
        "AttnBN 10/40  source_cl 0.500  100 images/s",
        "AttnBN 20/40  source_cl 0.500  100 images/s  1:00 left",
        "AttnBN 30/40  source_cl 0.500  100 images/s  0:30 left",
        "AttnBN 40/40  source_cl 0.500  100 images/s  0:00 left",
    ]


def test_what_has_neither_losses_nor_a_speed_yet(clock: list[float]) -> None:
    said = io.StringIO()
    report = progress.TrainingDisplay(said).titled("saliency")
    clock[0] += 60
    report(Progress(1, 300, {}, 0.0))
    clock[0] += 20
    report(Progress(41, 300, {}, 2.0))
    assert said.getvalue().splitlines() == ["saliency 1/300", "saliency 41/300  2 images/s  2:09 left"]
