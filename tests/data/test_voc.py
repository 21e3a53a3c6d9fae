"""VOC's own folder layout."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbn.data import voc_labels
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.voc import open_voc
from attnbn.io.errors import InputError

THREE = ("cat", "dog", "person")


def xml(*objects: str) -> str:
    """An annotation; ``cat!`` is a difficult cat."""
    found = "".join(
        f"\n\t<object>\n\t\t<name>{name.rstrip('!')}</name>\n\t\t<difficult>{int(name.endswith('!'))}</difficult>"
        "\n\t\t<part>\n\t\t\t<name>head</name>\n\t\t</part>\n\t</object>"
        for name in objects
    )
    return f"<annotation><filename>x.jpg</filename><source><database>VOC</database></source>{found}</annotation>"


def annotate(root: Path, **objects: tuple[str, ...]) -> None:
    shutil.rmtree(root / "ImageSets" / "Main")
    (root / "Annotations").mkdir()
    for name, found in objects.items():
        (root / "Annotations" / f"{name}.xml").write_text(xml(*found))


def labels(dataset) -> list[list[float | None]]:
    """Labels with None for NaN, which equals itself."""
    return [[None if math.isnan(value) else value for value in row] for row in dataset.labels.tolist()]


def test_labels_from_the_lists_of_each_class(voc: Path) -> None:
    dataset = open_voc(voc, split="train", classes=THREE)
    assert dataset.names == ["a", "b", "c", "d"] and dataset.classes == THREE
    assert labels(dataset) == [[1, 0, 0], [0, 1, 1], [0, 0, 1], [None, 0, 0]]
    assert dataset.notes == ["labels from ImageSets/Main"]
    assert not dataset.has_masks and dataset[1].mask is None and dataset[1].name == "b"


def test_subset_leaves_out_images_with_none_of_the_classes(voc: Path) -> None:
    dataset = open_voc(voc, split="train", classes=["dog", "cat"])
    assert dataset.names == ["a", "b", "d"]
    assert labels(dataset) == [[0, 1], [1, 0], [0, None]]
    assert dataset.notes[1] == "left out 1 of 4 images with none of the classes"


def test_labels_from_annotations(voc: Path) -> None:
    annotate(voc, a=("cat", "cat!"), b=("dog!", "person", "dog!"), c=("person!", "person"), d=("cat!",))
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\nc\nd\n")
    dataset = open_voc(voc, split="train", classes=THREE)
    assert labels(dataset) == [[1, 0, 0], [0, None, 1], [0, 0, 1], [None, 0, 0]]
    assert dataset.notes == ["labels from Annotations"]
    assert open_voc(voc, split="train").classes == VOC_CLASSES


def test_labels_from_masks(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets" / "Main")
    dataset = open_voc(voc, split="val", classes=THREE)
    assert labels(dataset) == [[1, 0, 0], [0, 1, 1]]
    assert dataset.notes == ["labels from the masks"]


def test_all_is_every_photograph(voc: Path) -> None:
    assert open_voc(voc, split="all", classes=THREE).names == ["a", "b", "c", "d"]
    assert open_voc(voc, split="all", classes=THREE, masks=True).names == ["a", "b"]
    annotate(voc, a=("cat",), b=("dog",), c=("person",), d=("cat",))
    assert open_voc(voc, split="all", classes=THREE).notes == ["labels from Annotations"]


def test_all_joins_the_lists_of_every_split(voc: Path, photo) -> None:
    photo(voc / "JPEGImages" / "e.jpg")
    for label in THREE:
        (voc / "ImageSets" / "Main" / f"{label}_val.txt").write_text(f"e {1 if label == 'dog' else -1}\n")
    dataset = open_voc(voc, split="all", classes=THREE)
    assert dataset.names[-1] == "e" and labels(dataset)[-1] == [0, 1, 0] and labels(dataset)[0] == [1, 0, 0]


def test_masks_of_all_classes_and_of_a_subset(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets" / "Main")
    whole = open_voc(voc, split="val", masks=True)[1].mask
    assert whole is not None
    assert sorted(set(whole.flatten().tolist())) == [0, 12, 15, 255]
    subset = open_voc(voc, split="val", classes=["person", "cat"], masks=True)[1].mask
    expected = np.select([whole == 15, whole == 255], [1, 255], 0)
    np.testing.assert_array_equal(subset, expected)


def test_renaming_and_merging(voc: Path) -> None:
    dataset = open_voc(
        voc,
        split="val",
        classes=["pet", "human"],
        class_map={"cat": "pet", "dog": "pet", "person": "human"},
        masks=True,
    )
    assert dataset.classes == ("pet", "human") and labels(dataset) == [[1, 0], [1, 1]]
    mask = dataset[1].mask
    assert mask is not None and sorted(set(mask.flatten().tolist())) == [0, 1, 2, 255]


def test_merging_keeps_known_over_unknown(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "dog_train.txt").write_text("a 0\nb 1\nc 0\nd 0\n")
    dataset = open_voc(voc, split="train", classes=["pet"], class_map={"cat": "pet", "dog": "pet"})
    assert labels(dataset) == [[1], [1], [None], [None]]


def test_own_classes(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets" / "Main")
    (voc / "classes.txt").write_text("\n".join(["zebra" if name == "cat" else name for name in VOC_CLASSES]))
    dataset = open_voc(voc, split="val", classes=["zebra", "person"])
    assert labels(dataset) == [[1, 0], [0, 1]]


def test_without_labels_no_source_of_labels_is_opened(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("labels were read")

    for source in ("from_lists", "from_annotations", "from_masks"):
        monkeypatch.setattr(voc_labels, source, opened)
    for file in (voc / "ImageSets" / "Main").glob("*_train.txt"):
        file.write_bytes(b"\xff unreadable")
    dataset = open_voc(voc, split="train", classes=["cat"], labels=False)
    assert dataset.labels is None and dataset.names == ["a", "b", "c", "d"] and dataset[0].labels is None
    assert dataset.notes == ["labels are not read, so images with none of the classes stay in"]


def test_split_from_class_lists_alone(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "train.txt").unlink()
    assert open_voc(voc, split="train", classes=THREE).names == ["a", "b", "c", "d"]


def test_masks_take_the_segmentation_split(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").write_text("c\nd\n")
    assert open_voc(voc, split="val", labels=False, masks=True).names == ["a", "b"]
    assert open_voc(voc, split="val", labels=False).names == ["c", "d"]


def test_lists_of_paths_and_windows_line_ends(voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "aug.txt").write_bytes(
        b"\xef\xbb\xbf/JPEGImages/a.jpg /SegmentationClass/a.png\r\n/JPEGImages/b.jpg /SegmentationClass/b.png\r\n"
    )
    assert open_voc(voc, split="aug", classes=THREE, labels=False, masks=True).names == ["a", "b"]


def test_additional_masks(voc: Path, palette_png) -> None:
    palette_png(voc / "SegmentationClassAug" / "c.png", np.full((12, 16), 15))
    palette_png(voc / "SegmentationClassAug" / "a.png", np.full((12, 16), 15))
    (voc / "ImageSets" / "Segmentation" / "aug.txt").write_text("a\nc\n")
    dataset = open_voc(voc, split="aug", labels=False, masks=True)
    assert 8 in dataset[0].mask and (dataset[1].mask == 15).all()


@pytest.mark.parametrize("above", [".", "VOCdevkit"])
def test_parent_folders(voc: Path, above: str, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / above).mkdir(parents=True)
    voc.rename(top / above / "VOC2012")
    assert len(open_voc(top, split="train", classes=THREE)) == 4
    shutil.copytree(top / above / "VOC2012", top / above / "VOC2007")
    with pytest.raises(
        InputError, match=r"one data set in VOC's layout, got .*VOC2007, .*VOC2012; name the one wanted"
    ):
        open_voc(top, split="train")


def test_no_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no JPEGImages in it, in VOC\*/ or in VOCdevkit/VOC\*/"):
        open_voc(tmp_path, split="train")


@pytest.mark.parametrize("split", ["test", "../Main/train", ""])
def test_unknown_split(voc: Path, split: str) -> None:
    with pytest.raises(InputError, match=r"no split .*; splits here: train, val, all: .*ImageSets$"):
        open_voc(voc, split=split)


def test_empty_split(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "empty.txt").write_text("\n\n")
    with pytest.raises(
        InputError, match=r"split 'empty', got an empty list; splits here: empty, train, val, all: .*empty\.txt$"
    ):
        open_voc(voc, split="empty")


def test_missing_photograph_and_mask(voc: Path) -> None:
    (voc / "SegmentationClass" / "b.png").unlink()
    with pytest.raises(
        InputError, match=r"a mask for every name of val\.txt, found none for 'b'.*SegmentationClass/b\.png$"
    ):
        open_voc(voc, split="val", classes=THREE, masks=True)
    (voc / "JPEGImages" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"found none for 'c'.*JPEGImages/c\.jpg$"):
        open_voc(voc, split="train", classes=THREE)


def test_mask_errors_name_the_file(voc: Path, palette_png) -> None:
    dataset = open_voc(voc, split="val", classes=THREE, masks=True)
    palette_png(voc / "SegmentationClass" / "a.png", np.zeros((11, 16)))
    with pytest.raises(InputError, match=r"a mask of 12×16 like its image, got 11×16: .*SegmentationClass/a\.png$"):
        dataset[0]
    palette_png(voc / "SegmentationClass" / "a.png", np.full((12, 16), 21))
    with pytest.raises(InputError, match=r"0 to 20 .*got 21;.*a\.png$"):
        dataset[0]


def test_no_label_anywhere(voc: Path) -> None:
    shutil.rmtree(voc / "ImageSets" / "Main")
    reasons = r"no ImageSets/Main/aeroplane_<split>\.txt; no Annotations/a\.xml; no SegmentationClass/c\.png"
    with pytest.raises(InputError, match=f"a label for every photograph, found {reasons}: "):
        open_voc(voc, split="all")


def test_photograph_missing_from_a_list(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "dog_train.txt").write_text("a -1\n")
    with pytest.raises(InputError, match=r"dog_train\.txt does not list b; no Annotations/a\.xml"):
        open_voc(voc, split="train", classes=THREE)


def test_photograph_without_any_label(voc: Path) -> None:
    annotate(voc, a=("cat",), b=(), c=(), d=("cat!",))
    with pytest.raises(
        InputError, match=r"at least one class, got none in Annotations \(2 such photographs\).*/b\.jpg$"
    ):
        open_voc(voc, split="all")


def test_split_without_the_wanted_class(voc: Path) -> None:
    annotate(voc, a=("cat",), b=("cat",), c=("cat",), d=("cat",))
    with pytest.raises(InputError, match=r"one of the classes, got none among 4; correct data\.classes"):
        open_voc(voc, split="all", classes=["dog"])


def test_odd_mark(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "dog_train.txt").write_text("a -1\nb yes\n")
    with pytest.raises(InputError, match=r"1, -1 or 0 \(difficult\), got 'b yes': .*dog_train\.txt, line 2$"):
        open_voc(voc, split="train", classes=THREE)


def test_unknown_class_of_an_annotation(voc: Path) -> None:
    annotate(voc, a=("cat",), b=("zebra",), c=("cat",), d=("cat",))
    with pytest.raises(InputError, match=r"unknown class 'zebra'; .*classes\.txt: .*b\.xml$"):
        open_voc(voc, split="all")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged text"),
        (b"<annotation><object>", "damaged text"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "remove the DOCTYPE"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16"), "remove the DOCTYPE"),
    ],
)
def test_bad_annotations(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(InputError, match=rf"{message}.*: .*a\.xml$"):
        voc_labels.read_annotation(tmp_path / "a.xml")


def test_annotation_reads_objects_not_their_parts(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(xml("person", "cat!"))
    assert voc_labels.read_annotation(tmp_path / "a.xml") == [("person", False), ("cat", True)]


def test_two_photographs_of_one_name(voc: Path, photo) -> None:
    photo(voc / "JPEGImages" / "a.png")
    with pytest.raises(InputError, match=r"one file per name, got a\.jpg and a\.png"):
        open_voc(voc, split="train")


def test_samples_are_complete(voc: Path) -> None:
    dataset = open_voc(voc, split="val", classes=THREE, masks=True, saliency=lambda name, size: torch.ones(1, *size))
    sample = dataset[0]
    assert sample.image.shape == (3, 12, 16) and sample.mask is not None and sample.mask.shape == (12, 16)
    assert sample.saliency is not None and sample.labels is not None and sample.name == "a"
