"""Class names: parsing, selecting, and two domains that must agree."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from attnbn.data.classes import (
    VOC_CLASSES,
    Partial,
    check_agreement,
    check_presence,
    match_classes,
    parse_classes,
    select_classes,
)
from attnbn.data.dataset import ImageDataset
from attnbn.io.errors import InputError


def test_voc_has_twenty_classes_in_order() -> None:
    assert len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES)
    assert VOC_CLASSES[7] == "cat" and VOC_CLASSES[14] == "person"


@pytest.mark.parametrize("value", ["cat,dog", " cat , dog ", ["cat", "dog"], ("cat", "dog")])
def test_parse(value: Any) -> None:
    assert parse_classes(value) == ("cat", "dog")


def test_parse_none() -> None:
    assert parse_classes(None) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "expected class names"),
        ("cat,,dog", "expected class names"),
        ([], "expected class names"),
        ("cat,dog,cat", "each class once, got cat twice"),
        ([True, "cat"], "got True; put it in quotes"),
    ],
)
def test_parse_bad(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*: data.classes$"):
        parse_classes(value)


def test_select_subset_order_and_renaming() -> None:
    selection = select_classes(["cat", "motorcycle", "cow"], ["motorbike", "cat"], {"motorcycle": "motorbike"}, "here")
    assert selection.classes == ("motorbike", "cat") and selection.index == (1, 0, None) and selection.is_subset


def test_select_everything_and_merging() -> None:
    selection = select_classes(["ibis", "emu", "cat"], None, {"ibis": "bird", "emu": "bird"}, "here")
    assert selection.classes == ("bird", "cat") and selection.index == (0, 0, 1) and not selection.is_subset


def test_select_unknown() -> None:
    with pytest.raises(InputError, match=r"no class 'hrose' in the data set \(closest: horse.*: here$"):
        select_classes(VOC_CLASSES, ["hrose"], None, "here")


def test_match_domains_that_agree_in_any_order() -> None:
    assert match_classes(["dog", "cat"], ["cat", "dog"]) == ("cat", "dog")
    assert match_classes(None, ["cat", "dog"]) == ("cat", "dog")
    assert match_classes(["dog", "cat"], None) == ("dog", "cat")
    assert match_classes(["dog", "motorcycle"], ["dog", "motorbike"], None, {"motorcycle": "motorbike"}) == (
        "dog",
        "motorbike",
    )


def test_match_wanted_keeps_its_order() -> None:
    assert match_classes(["dog", "cat", "ant"], VOC_CLASSES, "dog,cat") == ("dog", "cat")


def test_match_never_intersects_silently() -> None:
    with pytest.raises(InputError) as caught:
        match_classes(["cat", "ape"], ["cat", "cow", "dog"])
    assert str(caught.value) == (
        "the classes of source and target differ: only the source has ape; only the target has cow, dog; "
        "choose those wanted with --data.classes or rename with --data.class_map"
    )
    with pytest.raises(InputError, match="differ: only the target has dog; choose"):
        match_classes(["cat"], ["cat", "dog"])
    with pytest.raises(InputError, match="differ: only the source has dog; choose"):
        match_classes(["cat", "dog"], ["cat"])


@pytest.mark.parametrize(
    ("source", "target", "wanted", "class_map", "message"),
    [
        (["cat", "dog"], VOC_CLASSES, "cat,dgo", None, "no class 'dgo' in the source (closest: dog)"),
        (["cat", "ape"], VOC_CLASSES, "cat,ape", None, "no class 'ape' in the target"),
        (["Cat"], ["cat"], "cat", None, "no class 'cat' in the source (closest: Cat)"),
        (["cat"], ["cat"], "zzz", None, "no class 'zzz' in the source (it has cat)"),
        (["cat"], ["cat"], "cat,cat", None, "each class once"),
        (["cat"], ["cat"], None, {"kat": "cat"}, "no class 'kat' to rename in source or target (closest: cat)"),
    ],
)
def test_match_bad(source: Any, target: Any, wanted: Any, class_map: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        match_classes(source, target, wanted, class_map)


def test_presence() -> None:
    labels = torch.tensor([[1.0, 0.0, torch.nan], [1.0, 0.0, 0.0]])
    dataset = ImageDataset(["cat", "cow", "dog"], ["a", "b"], labels, title="voc:here train")
    with pytest.raises(
        InputError, match=r"every class in the target, got none of classes cow, dog;.*: voc:here train$"
    ):
        check_presence(dataset, "target")
    check_presence(ImageDataset(["cat"], ["a"], None), "target")
    check_presence(ImageDataset(["cat"], ["a"], torch.ones(1, 1)), "target")


def test_several_domains_say_which_has_what() -> None:
    with pytest.raises(InputError) as caught:
        check_agreement({"folders:A": ["cat", "ape"], "folders:B": ["cat", "cow"], "target": ["cow", "cat", "dog"]})
    assert str(caught.value) == (
        "the classes of folders:A, folders:B and target differ: only folders:A has ape; only folders:B and the target have "
        "cow; only the target has dog; choose those wanted with --data.classes or rename with --data.class_map"
    )
    check_agreement({"source": ["cat", "dog"], "target": ["dog", "cat"]})
    check_agreement({})


def test_of_partial_classes_some_may_be_missing() -> None:
    selection = select_classes(["dog", "hound", "goat"], Partial(("cat", "dog")), {"hound": "dog"}, "here")
    assert selection.classes == ("cat", "dog") and selection.index == (1, 1, None)
    assert isinstance(parse_classes(Partial(("cat", "dog"))), Partial)
    assert not isinstance(parse_classes(["cat", "dog"]), Partial)
    with pytest.raises(InputError, match="no class 'cat' in the data set .*: here"):
        select_classes(["goat"], Partial(("cat", "dog")), None, "here")
