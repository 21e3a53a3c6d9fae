"""Phases on steps, and rates against the paper's own schedule."""

from __future__ import annotations

import pytest

from attnbn.config import Phase, TrainingConfig
from attnbn.io.errors import InputError
from attnbn.training.schedules import learning_rate_factor, place


def rates(training: TrainingConfig, epoch: int) -> list[float]:
    return [
        stretch.lr * learning_rate_factor(training, stretch, step)
        for stretch in place(training, epoch)
        for step in range(stretch.start, stretch.stop)
    ]


def test_the_papers_schedule() -> None:
    got = rates(TrainingConfig(), epoch=661)
    assert len(got) == 30 * 661
    assert got[: 20 * 661] == [1e-4] * (20 * 661)
    assert got[20 * 661 :] == pytest.approx([1e-5] * (10 * 661))


def test_fine_tuning_takes_the_same_steps_and_each_phase_its_own_schedule() -> None:
    phases = [Phase(0.5, ["source_cl", "attention"]), Phase(0.5, ["target_cl"], lr=1e-3)]
    first, second = place(TrainingConfig(phases=phases), epoch=661)
    assert (first.start, first.stop, second.start, second.stop) == (0, 9915, 9915, 19830)
    got = rates(TrainingConfig(phases=phases), epoch=661)
    assert got[6609] == pytest.approx(1e-4) and got[6611] == pytest.approx(1e-5) and got[9915] == pytest.approx(1e-3)


def test_max_steps_cuts_off_and_leaves_the_schedule() -> None:
    whole = rates(TrainingConfig(epochs=4, schedule="cosine"), epoch=10)
    cut = rates(TrainingConfig(epochs=4, schedule="cosine", max_steps=15), epoch=10)
    assert cut == whole[:15]
    phases = [Phase(0.5), Phase(0.5)]
    assert len(place(TrainingConfig(steps=10, phases=phases, max_steps=5), epoch=1)) == 1


def test_poly_cosine_and_warmup() -> None:
    poly = rates(TrainingConfig(steps=10, lr=1, schedule="poly"), epoch=1)
    assert poly == pytest.approx([(1 - k / 10) ** 0.9 for k in range(10)])
    cosine = rates(TrainingConfig(steps=10, lr=1, schedule="cosine"), epoch=1)
    assert cosine[0] == 1 and cosine[5] == pytest.approx(0.5)
    warm = rates(TrainingConfig(steps=10, lr=1, drop_at=[], warmup=4), epoch=1)
    assert warm == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_nothing_to_train() -> None:
    with pytest.raises(InputError, match="at least one training step"):
        place(TrainingConfig(epochs=0.01), epoch=1)
