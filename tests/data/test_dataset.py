"""The base of all data sets, subsets, and shares that nest."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset, Subset, hold_out, take_share
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


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_held_out_parts_are_disjoint_whole_and_stratified(share: float, seed: int) -> None:
    counts = [1, 2, 3, 10, 41]
    whole = single_label(counts)
    kept, apart = hold_out(whole, share, seed)
    assert not set(kept.names) & set(apart.names)
    assert sorted([*kept.names, *apart.names]) == whole.names
    assert kept.names == sorted(kept.names) and apart.names == sorted(apart.names)  # the data set's own order
    assert kept.labels is not None and apart.labels is not None
    expected = [min(max(1, math.floor(share * count + 0.5)), count - 1) for count in counts]
    assert apart.labels.sum(0).tolist() == expected
    assert (kept.labels.sum(0) >= 1).all()
    assert (apart.labels.sum(0)[1:] >= 1).all() and apart.labels[:, 0].sum() == 0
    for part in (kept, apart):
        assert [int(part[i].image[0, 0, 0]) for i in range(len(part))] == [int(name) for name in part.names]


def test_holding_out_depends_on_seed_and_names_not_on_order() -> None:
    whole = single_label([50, 50])
    backwards = Subset(whole, range(99, -1, -1))
    for stratify in (True, False):
        apart = [set(hold_out(d, 0.3, 1, stratify=stratify)[1].names) for d in (whole, backwards)]
        assert apart[0] == apart[1] and len(apart[0]) == 30
        assert apart[0] != set(hold_out(whole, 0.3, 2, stratify=stratify)[1].names)


def test_holding_out_without_looking_at_labels() -> None:
    whole = single_label([20, 80])
    blind = Plain(whole.classes, whole.names, None)
    parts = [hold_out(d, 0.3, 4, stratify=False) for d in (whole, blind)]
    for seen, unseen in zip(*parts, strict=True):
        assert seen.names == unseen.names
    assert hold_out(blind, 0.3, 4)[1].names == parts[0][1].names  # nothing to stratify by
    assert hold_out(whole, 0.3, 4)[1].names != parts[0][1].names
    assert "labels not looked at" in parts[0][1].notes[-1]


def test_what_is_held_out_has_nothing_to_do_with_shares() -> None:
    # by one and the same order, what is held out would be just the smallest share
    whole = single_label([400])
    apart, share = set(hold_out(whole, 0.3, 0)[1].names), set(take_share(whole, 0.3, 0).names)
    assert 20 < len(apart & share) < 54


def test_holding_out_is_the_same_on_every_machine() -> None:
    assert hold_out(single_label([10]), 0.3, 0)[1].names == ["0005", "0006", "0009"]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_held_out_shares_outside_the_range(share: float) -> None:
    with pytest.raises(InputError, match=r"\(0, 1\), got .*: plain$"):
        hold_out(single_label([4]), share, 0)


def test_nothing_to_hold_out() -> None:
    with pytest.raises(InputError, match="two images of a class, one of them to hold out, got 2: plain"):
        hold_out(single_label([1, 1]), 0.5, 0)
