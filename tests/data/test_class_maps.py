"""The tables of class names, held against a list that is not ours."""

from __future__ import annotations

import re

import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES

from attnbn.data.class_maps import classes_of_map, resolve_class_map, table, table_names
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError

FIVE = ("bird", "car", "chair", "dog", "person")
WORDNET = re.compile(r"n\d{8}")


def imagenet() -> dict[str, tuple[str, str]]:
    """Id -> class and English name, of CLS-LOC's part of the table."""
    parts = [part for part in table("five")["parts"] if part["data"] == "ImageNet CLS-LOC"]
    return {ident: (part["class"], name) for part in parts for ident, name in part["names"].items()}


def test_a_map_of_ones_own_is_taken_as_it_is() -> None:
    own = {"motorcycle": "motorbike"}
    assert resolve_class_map(own) == own and classes_of_map(own) is None
    assert resolve_class_map(None) is None and classes_of_map(None) is None


def test_five_is_about_the_five_classes() -> None:
    names = resolve_class_map("five")
    assert names is not None and set(names.values()) == set(FIVE) and classes_of_map("five") == FIVE
    assert {name: names[name] for name in FIVE} == {name: name for name in FIVE}
    assert set(FIVE) < set(VOC_CLASSES)
    caltech = {
        **dict.fromkeys(("ibis", "flamingo", "pigeon", "rooster", "emu"), "bird"),
        **{"car_side": "car", "windsor_chair": "chair", "dalmatian": "dog", "Faces": "person"},
    }
    assert {name: given for name, given in names.items() if not WORDNET.fullmatch(name)} == caltech | dict(
        zip(FIVE, FIVE, strict=True)
    )


def test_synsets_are_those_of_imagenets_list() -> None:
    found = imagenet()
    counts = {name: sum(given == name for given, _ in found.values()) for name in FIVE}
    assert counts == {"bird": 59, "car": 9, "chair": 4, "dog": 118, "person": 3}
    assert all(WORDNET.fullmatch(ident) for ident in found)
    # the list of the thousand is in the order of the ids, so names in that order prove that each stands beside its own id
    places = []
    for ident in sorted(found):
        name = found[ident][1]
        # torchvision calls the bird so, to tell it from the machine
        places.append(_IMAGENET_CATEGORIES.index("crane bird" if name == "crane" else name))
    assert places == sorted(places) and len(set(places)) == len(places)
    dogs = [place for place, ident in zip(places, sorted(found), strict=True) if found[ident][0] == "dog"]
    assert dogs == list(range(151, 269))
    assert {ident for ident, (given, _) in found.items() if given == "person"} == {
        "n09835506",
        "n10148035",
        "n10565667",
    }


def test_what_is_left_out_is_not_in() -> None:
    taken = resolve_class_map("five")
    assert taken is not None
    left_out = {name: why for part in table("five")["left_out"] for name, why in part["names"].items()}
    assert not set(left_out) & set(taken)
    assert {"flamingo_head", "Faces_easy"} < set(left_out) and all(left_out.values())


@pytest.mark.parametrize("name", table_names())
def test_each_line_has_its_reason_and_no_name_two_classes(name: str) -> None:
    given: dict[str, str] = {}
    for part in table(name)["parts"]:
        assert part["why"] and part["data"] and all(part["names"].values())
        assert part["class"] in table(name)["classes"]
        for own in part["names"]:
            assert given.setdefault(own, part["class"]) == part["class"]


def test_unknown_table() -> None:
    with pytest.raises(InputError) as caught:
        resolve_class_map("fvie")
    assert str(caught.value) == (
        "expected names of classes as {old: new}, or a table out of five (closest: five), got 'fvie': data.class_map"
    )


def test_readers_take_the_name(tmp_path, photo) -> None:
    for folder in ("emu", "rooster", "Faces", "Faces_easy", "n02110341", "accordion"):
        photo(tmp_path / folder / "a.png")
    dataset = open_dataset(f"folders:{tmp_path}", split="train", classes="bird,dog,person", class_map="five")
    assert dataset.names == ["Faces/a", "emu/a", "n02110341/a", "rooster/a"]
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [2, 0, 1, 0]
