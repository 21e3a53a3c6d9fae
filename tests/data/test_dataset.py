"""The base of all data sets, subsets, and shares that nest."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset, Subset, take_share
from attnbn.data.sample import Sample
from attnbn.io.errors import InputError


class Plain(ImageDataset):
    """Images whose first pixel is their index."""

    def __getitem__(self, index: int) -> Sample:
        image = tv_tensors.Image(torch.full((3, 2, 2), index, dtype=torch.uint8))
        return Sample(image, None if self.labels is None else self.labels[index], None, None, self.names[index])


def single_label(counts: list[int]) -> Plain:
    """A data set with so many images of each class."""
    labels = torch.eye(len(counts)).repeat_interleave(torch.tensor(counts), dim=0)
    names = [f"{i:04d}" for i in range(len(labels))]
    return Plain([f"class{i}" for i in range(len(counts))], names, labels, title="plain")


def test_describe() -> None:
    assert single_label([3, 1]).describe() == "plain: 4 images; class0 3, class1 1"
    assert Plain(["a"], ["x"], None, has_masks=True, has_saliency=True).describe() == (
        "1 image; 1 classes, labels not read; masks; saliency"
    )
    assert single_label([2] * 30).describe() == "plain: 60 images; 30 classes of 2 to 2"


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2×1.*\(1, 1\)"):
        Plain(["a"], ["x", "y"], torch.zeros(1, 1))


def test_subset() -> None:
    whole = single_label([3, 2])
    part = Subset(whole, [4, 0], note="a reason")
    assert part.names == ["0004", "0000"] and part.notes == ["a reason"] and whole.notes == []
    assert part.labels is not None and part.labels.tolist() == [[0, 1], [1, 0]]
    assert part[0].image[0, 0, 0] == 4 and part[1].name == "0000"


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_nested_and_stratified(seed: int) -> None:
    counts = [10, 25, 100, 1]
    whole = single_label(counts)
    shares = [take_share(whole, fraction, seed) for fraction in (0.1, 0.3, 0.5, 1.0)]
    for small, large in pairwise(shares):
        assert set(small.names) < set(large.names)
    for share, fraction in zip(shares, (0.1, 0.3, 0.5, 1.0), strict=True):
        assert share.labels is not None
        expected = [max(1, math.floor(fraction * count + 0.5)) for count in counts]
        assert share.labels.sum(0).tolist() == expected
        assert share.names == sorted(share.names)
    assert shares[-1] is whole


def test_share_depends_on_seed_and_names_not_on_order() -> None:
    whole = single_label([50, 50])
    backwards = Subset(whole, range(99, -1, -1))
    assert set(take_share(whole, 0.2, 1).names) == set(take_share(backwards, 0.2, 1).names)
    assert set(take_share(whole, 0.2, 1).names) != set(take_share(whole, 0.2, 2).names)


def test_share_is_the_same_on_every_machine() -> None:
    assert take_share(single_label([10]), 0.3, 0).names == ["0002", "0006", "0009"]


def test_images_of_several_classes_count_for_the_rarest() -> None:
    # every image shows class 0, every tenth also class 1: a tenth must keep class 1
    labels = torch.ones(100, 2)
    labels[:, 1] = (torch.arange(100) % 10 == 0).float()
    dataset = Plain(["a", "b"], [str(i) for i in range(100)], labels)
    for seed in range(10):
        share = take_share(dataset, 0.1, seed)
        assert share.labels is not None and share.labels.sum(0).tolist() == [10, 1]


@pytest.mark.parametrize("labels", [None, torch.full((20, 1), math.nan)])
def test_share_without_known_labels(labels: Tensor | None) -> None:
    assert len(take_share(Plain(["a"], [str(i) for i in range(20)], labels), 0.25, 0)) == 5


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_shares_outside_the_range(fraction: float) -> None:
    with pytest.raises(InputError, match=r"\(0, 1\].*data.source_fraction"):
        take_share(single_label([2]), fraction, 0)
