"""The tables of class names, held against a list that is not ours."""

from __future__ import annotations

import re

import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES

from attnbn.data.class_maps import classes_of_map, left_out, names_of, resolve_class_map, table, table_names
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError

FIVE = ("bird", "car", "chair", "dog", "person")
WORDNET = re.compile(r"n\d{8}")


CALTECH_256 = {
    "aeroplane": {"airplanes-101": 800, "fighter-jet": 99},
    "bicycle": {"mountain-bike": 82, "touring-bike": 110, "tricycle": 95},
    "bird": {
        "cormorant": 106, "duck": 87, "goose": 110, "hummingbird": 116, "ibis-101": 120, "ostrich": 109, "owl": 120,
        "penguin": 149, "swan": 115,
    },
    "boat": {"canoe": 104, "kayak": 103, "ketch-101": 111, "speed-boat": 100},
    "bottle": {"wine-bottle": 101},
    "bus": {"school-bus": 98},
    "car": {"car-side-101": 116},
    "dog": {"dog": 102, "greyhound": 95},
    "horse": {"horse": 270},
    "motorbike": {"motorbikes-101": 798},
    "person": {"people": 209},
    "pottedplant": {"bonsai-101": 122},
    "tvmonitor": {"computer-monitor": 133},
}  # fmt: skip
"""The folders that the table takes, with the images in them: the data set as distributed, 30,607 images in all."""
SYNSETS = dict(zip(VOC_CLASSES, (2, 4, 59, 12, 5, 3, 9, 5, 4, 1, 1, 118, 1, 2, 3, 1, 2, 1, 5, 3), strict=True))


def imagenet(name: str = "five") -> dict[str, tuple[str, str]]:
    """Id -> class and English name, of CLS-LOC's part of a table."""
    return names_of(name, "ImageNet CLS-LOC")


def place(name: str) -> int:
    """Of an English name in the list of the thousand, which is in the order of their ids."""
    return _IMAGENET_CATEGORIES.index("crane bird" if name == "crane" else name)  # to tell it from the machine


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
    places = [place(found[ident][1]) for ident in sorted(found)]
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
    reasons = {name: why for part in table("five")["left_out"] for name, why in part["names"].items()}
    assert not set(reasons) & set(taken)
    assert {"flamingo_head", "Faces_easy"} < set(reasons) and all(reasons.values())


def test_vocs_twenty_classes_and_how_many_images_they_have() -> None:
    assert classes_of_map("voc20") == VOC_CLASSES
    names = resolve_class_map("voc20")
    assert names is not None and {name: names[name] for name in VOC_CLASSES} == {name: name for name in VOC_CLASSES}
    caltech = {own: label for own, (label, _) in names_of("voc20", "Caltech-256").items()}
    assert caltech == {own: label for label, folders in CALTECH_256.items() for own in folders}
    synsets = imagenet("voc20")
    counts = {label: sum(own == label for own, _ in synsets.values()) for label in VOC_CLASSES}
    assert counts == SYNSETS and sum(counts.values()) == 241
    # the figures that the documentation gives: a class of ImageNet has 732 to 1,300 images
    small = {label: sum(CALTECH_256.get(label, {}).values()) for label in VOC_CLASSES}
    most = {label: small[label] + 1300 * counts[label] for label in VOC_CLASSES}
    assert sum(small.values()) == 4680 and sum(most.values()) == 317_980 and min(most.values()) == 1300
    assert sum(min(1000, images) for images in most.values()) == 20_000
    assert sum(min(1000, small[label] + 732 * counts[label]) for label in VOC_CLASSES) == 19_050
    shares = [min(small[label], max(500, 1000 - 1300 * counts[label])) for label in VOC_CLASSES]
    assert sum(shares) == 3451


def test_the_five_classes_are_the_same_in_both_tables() -> None:
    for label in FIVE:
        five = {ident for ident, (own, _) in imagenet("five").items() if own == label}
        assert five == {ident for ident, (own, _) in imagenet("voc20").items() if own == label}
    assert names_of("five", "Caltech-101").items() <= names_of("voc20", "Caltech-101").items()


def test_synsets_of_the_twenty_are_those_of_imagenets_list() -> None:
    found = {ident: name for ident, (_, name) in imagenet("voc20").items()}
    found |= {ident: why.partition(": ")[0] for ident, why in left_out("voc20", "ImageNet CLS-LOC").items()}
    assert len(found) == 241 + 69 and all(WORDNET.fullmatch(ident) for ident in found)
    # names in the order of their ids stand in the list in the same order, each once: each stands beside its own id
    places = [place(found[ident]) for ident in sorted(found)]
    assert places == sorted(places) and len(set(places)) == len(places)


def test_what_the_twenty_leave_out_is_not_in() -> None:
    taken = resolve_class_map("voc20")
    assert taken is not None
    for data in ("Caltech-101", "Caltech-256", "ImageNet CLS-LOC"):
        reasons = left_out("voc20", data)
        assert reasons and all(reasons.values()) and not set(reasons) & set(taken)
    assert {"zebra", "goat", "picnic-table", "faces-easy-101", "clutter"} < set(left_out("voc20", "Caltech-256"))
    assert {"n02391049", "n04335435", "n02408429"} < set(left_out("voc20", "ImageNet CLS-LOC"))
    with pytest.raises(InputError, match="a table out of five, voc20"):
        names_of("voc", "Caltech-256")


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
        "expected names of classes as {old: new}, or a table out of five, voc20 (closest: five), got 'fvie': data.class_map"
    )


def test_readers_take_the_name(tmp_path, photo) -> None:
    for folder in ("emu", "rooster", "Faces", "Faces_easy", "n02110341", "accordion"):
        photo(tmp_path / folder / "a.png")
    dataset = open_dataset(f"folders:{tmp_path}", split="train", classes="bird,dog,person", class_map="five")
    assert dataset.names == ["Faces/a", "emu/a", "n02110341/a", "rooster/a"]
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [2, 0, 1, 0]


def test_the_settings_of_both_kinds_of_runs_take_a_table() -> None:
    from attnbn.cli.segment_train import parse as parse_segment
    from attnbn.cli.train import parse

    for value, text in (("voc20", "voc20"), ({"cat": "kitty"}, '{"cat": "kitty"}')):
        classifier = parse(["--config", "attnbn", "--data.class_map", text]).config
        segmenter = parse_segment(["--config", "dsrg-vgg16", "--data.class_map", text]).config
        assert classifier is not None and segmenter is not None
        assert classifier.data.class_map == segmenter.data.class_map == value


def test_the_recipes_of_the_papers_source_take_twenty_thousand_images() -> None:
    import yaml

    from attnbn.recipes import names, path_of

    papers = [name for name in names() if name.startswith(("table1-", "table2-"))]
    assert len(papers) == 9
    for name in papers:
        data = yaml.safe_load(path_of(name).read_text(encoding="utf-8"))["data"]
        assert data["class_map"] == "voc20" and data["source_cap"] * len(VOC_CLASSES) == 20_000
