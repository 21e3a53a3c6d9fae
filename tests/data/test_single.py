"""Images of exactly one class."""

from __future__ import annotations

import math

import pytest
import torch

from attnbn.data.dataset import ImageDataset
from attnbn.data.single import check_single, only_single, only_single_of_own
from attnbn.io.errors import InputError

NAN = math.nan
ROWS = {
    "one": [1, 0, 0],
    "two": [1, 1, 0],
    "none": [0, 0, 0],
    "maybe": [1, NAN, 0],
    "another": [0, 0, 1],
    "what": [NAN, 0, 0],
}


def dataset(*names: str) -> ImageDataset:
    return ImageDataset(["a", "b", "c"], list(names), torch.tensor([ROWS[n] for n in names]), title="voc:here val")


def test_what_is_left() -> None:
    part = only_single(dataset(*ROWS))
    assert part.names == ["one", "another"]
    assert part.notes == [
        "left out 4 of 6 images: 1 of several classes, 1 of none, 2 of a class that is unknown (difficult) (data.single_label)"
    ]


def test_nothing_to_leave_out() -> None:
    whole = dataset("one", "another")
    assert only_single(whole) is whole and whole.notes == []
    check_single(whole)


def test_nothing_left() -> None:
    with pytest.raises(
        InputError, match=r"exactly one of the classes, left out 2 of 2 images: .*data.classes: voc:here val"
    ):
        only_single(dataset("two", "none"))


def whole(*rows: list[float]) -> ImageDataset:
    """The images of ``dataset("one", "two", "another", "what", "one more")`` with two further classes."""
    names = ["one", "two", "another", "what", "more"]
    return ImageDataset(["a", "b", "c", "d", "e"], names, torch.tensor(rows), title="voc:here val")


def test_what_shows_no_other_class_of_the_data_set() -> None:
    run = ImageDataset(
        ["a", "b", "c"], ["one", "two", "another", "more"], torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]])
    )
    rows = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 1, 0, NAN, 0]]
    part = only_single_of_own(run, whole(*rows))
    assert part.names == ["one"] and part.labels is not None and part.labels.tolist() == [[1, 0, 0]]
    assert part.notes == [
        "left out 3 of 4 images: 1 of several classes, 2 that show, or may show, another class of the data set "
        "(data.single_label own)"
    ]
    assert only_single_of_own(part, whole(*rows)) is part


def test_none_shows_one_class_alone() -> None:
    run = ImageDataset(["a"], ["one"], torch.ones(1, 1), title="voc:here val")
    with pytest.raises(InputError) as caught:
        only_single_of_own(run, whole(*[[1.0, 0, 0, 0, 1]] * 5))
    assert str(caught.value) == (
        "expected images of exactly one of the 5 classes of the data set, left out 1 of 1 images: 1 that show, or may "
        "show, another class of the data set (data.single_label own); set data.single_label true to count the run's classes "
        "alone: voc:here val"
    )
    with pytest.raises(ValueError, match="got none of stranger"):
        only_single_of_own(ImageDataset(["a"], ["stranger"], torch.ones(1, 1)), whole(*[[1.0, 0, 0, 0, 0]] * 5))


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        check_single(dataset("one", "two", "two", "maybe"))
    assert str(caught.value) == (
        "expected images of exactly one class each, got 3 of 4 images: 2 of several classes, 1 of a class that is unknown "
        "(difficult); leave the others out with --data.single_label true: voc:here val"
    )
    with pytest.raises(InputError, match="; choose mean_ap: voc:here val"):
        check_single(dataset("two"), "choose mean_ap")


def test_labels_are_needed() -> None:
    blind = ImageDataset(["a"], ["x"], None)
    for function in (only_single, check_single):
        with pytest.raises(ValueError, match="a data set with labels"):
            function(blind)
