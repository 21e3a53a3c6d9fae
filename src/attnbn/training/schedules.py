"""Phases placed on a run's steps, and the learning rate's factor at each of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from attnbn.config import Phase, TrainingConfig
from attnbn.io.errors import InputError

POLY_POWER = 0.9


@dataclass(frozen=True)
class Stretch:
    """A phase placed on the run's steps.

    Attributes:
        phase: What it trains.
        start: Its first step.
        stop: The step after its last.
        length: Steps of its schedule; more than ``stop - start`` where ``max_steps`` cuts it off.
        lr: Learning rate at factor 1.
    """

    phase: Phase
    start: int
    stop: int
    length: int
    lr: float


def learning_rate_factor(training: TrainingConfig, stretch: Stretch, step: int) -> float:
    """What the phase's learning rates are multiplied by at ``step``."""
    done = step - stretch.start
    through = done / stretch.length
    if training.schedule == "poly":
        factor = (1 - through) ** POLY_POWER
    elif training.schedule == "cosine":
        factor = (1 + math.cos(math.pi * through)) / 2
    else:
        factor = training.drop ** sum(done >= round(point * stretch.length) for point in training.drop_at)
    return float(factor * min(1.0, (done + 1) / (training.warmup + 1)))


def place(training: TrainingConfig, epoch: int) -> list[Stretch]:
    """The phases one after the other, given the steps of an epoch; cut off at ``max_steps``.

    Raises:
        InputError: if nothing is to be trained.
    """
    total = training.steps if training.steps is not None else round(training.epochs * epoch)
    end = total if training.max_steps is None else min(total, training.max_steps)
    phases = training.phases or [Phase()]
    shares = sum(phase.share for phase in phases)
    stretches, through, start = [], 0.0, 0
    for phase in phases:
        through += phase.share
        stop = round(total * through / shares)
        if start < min(stop, end):
            lr = training.lr if phase.lr is None else phase.lr
            stretches.append(Stretch(phase, start, min(stop, end), stop - start, lr))
        start = stop
    if not stretches:
        raise InputError(
            "expected at least one training step: check training.epochs, training.steps and training.max_steps"
        )
    return stretches
