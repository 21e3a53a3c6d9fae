"""At most so many images of each class, nested, shared out among data sets, whatever their order."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import pytest
import torch

from attnbn.data.cap import take_at_most
from attnbn.data.dataset import ImageDataset, Subset, take_share
from attnbn.io.errors import InputError


def images(counts: list[int], start: int = 0) -> ImageDataset:
    """A data set with so many images of each class."""
    labels = torch.eye(len(counts)).repeat_interleave(torch.tensor(counts), dim=0)
    names = [f"{start + i:04d}" for i in range(len(labels))]
    return ImageDataset([f"class{i}" for i in range(len(counts))], names, labels)


def counts_of(parts: list[ImageDataset]) -> list[list[int]]:
    assert all(part.labels is not None for part in parts)
    return [part.labels.sum(0).int().tolist() for part in parts if part.labels is not None]


@pytest.mark.parametrize("seed", range(3))
def test_caps_are_nested(seed: int) -> None:
    sources = [images([10, 25, 100, 1]), images([0, 7, 40, 3])]
    chosen = [take_at_most(sources, ["A", "B"], most, seed) for most in (1, 2, 5, 20, 50, 1000)]
    for small, large in pairwise(chosen):
        for few, many in zip(small, large, strict=True):
            assert set(few.names) <= set(many.names)
    assert [list(part.names) for part in chosen[-1]] == [source.names for source in sources]
    assert chosen[-1] == sources  # as they are, no part of them


def test_data_sets_give_alike_as_long_as_they_have_images() -> None:
    sources = [images([3, 50, 0, 9]), images([100, 50, 30, 9]), images([100, 2, 4, 0])]
    assert counts_of(take_at_most(sources, "ABC", 10, 0)) != counts_of(take_at_most(sources, "ABC", 9, 0))
    three = counts_of(take_at_most(sources, "ABC", 12, 0))
    assert [sum(column) for column in zip(*three, strict=True)] == [12, 12, 12, 12]
    assert [row[1] for row in three] == [5, 5, 2] and [row[2] for row in three] == [0, 8, 4]
    assert [row[3] for row in three] == [6, 6, 0]
    first = [row[0] for row in three]
    assert first[0] == 3 and sorted(first[1:]) == [4, 5]  # an odd one, by the hash


def test_the_choice_is_that_of_plain_loops() -> None:
    sources = {"A": images([6, 2]), "B": images([9, 9], 100)}
    wanted = []
    for label in range(2):
        queue = []
        for place, source in sources.items():
            assert source.labels is not None
            own = [name for name, row in zip(source.names, source.labels.tolist(), strict=True) if row[label]]
            keys = {n: hashlib.blake2b(f"4\0{place}/{n}".encode(), digest_size=16).digest() for n in own}
            queue += [(rank, keys[n], place, n) for rank, n in enumerate(sorted(own, key=keys.__getitem__))]
        wanted += [(place, name) for _, _, place, name in sorted(queue)[:5]]
    parts = take_at_most(list(sources.values()), list(sources), 5, 4)
    assert sorted(wanted) == [(place, n) for place, part in zip(sources, parts, strict=True) for n in part.names]
    assert parts[0].notes == [f"{len(parts[0])} of 8 images: at most 5 of each class, seed 4"]


def test_the_order_makes_no_difference() -> None:
    a, b = images([30, 30]), images([20, 40])
    backwards = Subset(b, range(len(b) - 1, -1, -1))
    one, two = take_at_most([a, b], ["A", "B"], 11, 3), take_at_most([backwards, a], ["B", "A"], 11, 3)
    assert one[0].names == two[1].names and sorted(one[1].names) == sorted(two[0].names)
    assert take_at_most([a, b], ["A", "B"], 11, 4)[0].names != one[0].names


def test_of_one_data_set_a_share_of_what_is_left_is_a_smaller_cap() -> None:
    whole = images([40, 60])
    (left,) = take_at_most([whole], ["A"], 20, 7)
    assert take_share(left, 0.5, 7).names == take_at_most([whole], ["A"], 10, 7)[0].names
    for small, large in pairwise(take_share(left, share, 7) for share in (0.1, 0.5, 1.0)):
        assert set(small.names) < set(large.names)


def test_images_of_several_classes_count_for_the_rarest_in_all_data_sets() -> None:
    # every image shows class 0, every tenth also class 1, in both: four of each stratum
    labels = torch.ones(100, 2)
    labels[:, 1] = (torch.arange(100) % 10 == 0).float()
    sources = [ImageDataset(["a", "b"], [str(i) for i in range(100)], labels) for _ in range(2)]
    assert counts_of(take_at_most(sources, ["A", "B"], 4, 0)) == [[4, 2], [4, 2]]


def test_an_empty_part_and_unknown_labels() -> None:
    parts = take_at_most([images([3]), images([3])], ["A", "B"], 1, 0)
    assert sorted(map(len, parts)) == [0, 1] and parts[0].classes == ("class0",)
    unknown = ImageDataset(["a"], ["x", "y", "z"], torch.tensor([[math.nan], [1.0], [0.0]]))
    assert len(take_at_most([unknown], ["A"], 1, 0)[0]) == 2  # one of the class, one of none
    blind = ImageDataset(["a"], ["x", "y", "z"], None)
    assert len(take_at_most([blind], ["A"], 2, 0)[0]) == 2


@pytest.mark.parametrize("most", [0, -3])
def test_no_images_at_all(most: int) -> None:
    with pytest.raises(InputError, match=f"at least 1, got {most}: data.source_cap"):
        take_at_most([images([2])], ["A"], most, 0)
