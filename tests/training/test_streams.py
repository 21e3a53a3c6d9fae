"""Sample j of a stream is a pure function of (seed, stream, j)."""

from __future__ import annotations

import random

import pytest
import torch

from attnbn.io.errors import InputError
from attnbn.training.streams import Stream, augmentation_seed, fold, item_of


def transform(item: int, seed: int) -> tuple[int, int]:
    return item, seed


def stream(length: int = 7, batch: int = 4, seed: int = 3) -> Stream:
    return Stream("source", list(range(length)), transform, list, seed=seed, batch_size=batch)


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    epochs = [[item_of(1, "source", e * 50 + i, 50) for i in range(50)] for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [item_of(1, "target", i, 50) for i in range(50)]
    assert epochs[0] != [item_of(2, "source", i, 50) for i in range(50)]


def test_the_same_on_every_machine() -> None:
    assert fold(0, "source", "augment", 5) == 2546805303585828439
    assert [item_of(0, "source", j, 10) for j in range(10)] == [6, 1, 0, 9, 4, 7, 8, 3, 2, 5]


def test_batches_do_not_depend_on_workers_or_the_start() -> None:
    expected = [
        [(item_of(3, "source", j, 7), augmentation_seed(3, "source", j)) for j in range(4 * k, 4 * k + 4)]
        for k in range(6)
    ]
    assert list(stream().batches(0, 6)) == expected
    assert list(stream().batches(2, 6)) == expected[2:]
    assert list(stream().batches(1, 6, workers=2)) == expected[1:]


def test_processes_share_each_batch_in_order() -> None:
    whole = list(stream().batches(0, 5))
    parts = [list(stream().batches(0, 5, rank=rank, world=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_reading_leaves_the_global_random_state_to_others() -> None:
    random.seed(0)
    before = random.getstate()
    list(stream().batches(0, 3))
    assert random.getstate() == before


def test_bad_input() -> None:
    with pytest.raises(InputError, match="at least one image in the source data"):
        stream(length=0)
    with pytest.raises(InputError, match="divisible by 3 processes, got 4"):
        next(stream().batches(0, 1, world=3))


class Torn:
    """Item 3 cannot be read."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, item: int) -> int:
        if item == 3:
            raise InputError("broken: photo.jpg")
        return item


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_item_is_one_line_from_any_process(workers: int) -> None:
    torn = Stream("source", Torn(), transform, list, seed=3, batch_size=7)
    with pytest.raises(InputError) as error:
        list(torn.batches(0, 1, workers=workers))
    assert str(error.value) == "broken: photo.jpg"


def test_a_batch_of_tensors_from_workers() -> None:
    tensors = Stream("t", torch.eye(3), lambda item, seed: item * (seed % 5), torch.stack, seed=0, batch_size=2)
    assert torch.equal(torch.cat(list(tensors.batches(0, 3))), torch.cat(list(tensors.batches(0, 3, workers=1))))


def test_a_name_that_is_no_text_has_a_seed_too() -> None:
    assert fold("view", "cat/a\udcff", 0) != fold("view", "cat/a\udcfe", 0)
