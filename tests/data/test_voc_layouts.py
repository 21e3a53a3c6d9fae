"""VOC 2007, VOC 2012 and SBD in miniature, with the file names and formats of the real ones: every split opened."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from attnbn.data import voc_augmented
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError


def write_lists(root: Path, kind: str, **splits: list[str]) -> None:
    folder = root / "ImageSets" / kind
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def write_class_lists(root: Path, labels: dict[str, dict[str, str]], **splits: list[str]) -> None:
    """``2008_000002 -1`` and ``2008_000015  1``, one file for each class and split."""
    for split, names in splits.items():
        for label in VOC_CLASSES:
            rows = "".join(f"{name} {labels[name].get(label, '-1'):>2}\n" for name in names)
            (root / "ImageSets" / "Main" / f"{label}_{split}.txt").write_text(rows)


def annotate(root: Path, labels: dict[str, dict[str, str]]) -> None:
    (root / "Annotations").mkdir(exist_ok=True)
    for name, found in labels.items():
        objects = "".join(
            f"\n\t<object>\n\t\t<name>{label}</name>\n\t\t<difficult>{int(mark == '0')}</difficult>"
            "\n\t\t<part>\n\t\t\t<name>head</name>\n\t\t</part>\n\t</object>"
            for label, mark in found.items()
        )
        text = f"<annotation>\n\t<folder>VOC</folder>\n\t<segmented>1</segmented>{objects}\n</annotation>\n"
        (root / "Annotations" / f"{name}.xml").write_text(text)


def mask(cls: int, void: int = 2) -> np.ndarray:
    ids = np.zeros((12, 16), np.uint8)
    ids[3:9, 3:9] = 255
    ids[3 + void : 9 - void, 3 + void : 9 - void] = cls
    return ids


@pytest.fixture
def voc2012(tmp_path: Path, photo, palette_png) -> Path:
    """Trainval: Main starts at 2008, Segmentation has images of 2007 that are in no list of Main."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    labels = {
        "2007_000032": {"aeroplane": "1", "person": "1"},
        "2007_000033": {"aeroplane": "1"},
        "2008_000002": {"tvmonitor": "1"},
        "2008_000003": {"train": "1", "person": "1"},
        "2008_000008": {"horse": "1", "person": "0"},
        "2008_000015": {"bottle": "1"},
        "2011_003276": {"cat": "1"},
    }
    for name in labels:
        photo(root / "JPEGImages" / f"{name}.jpg")
    annotate(root, labels)
    train, val = ["2008_000008", "2008_000015", "2011_003276"], ["2008_000002", "2008_000003"]
    write_lists(root, "Main", train=train, val=val, trainval=[*train, *val])
    write_class_lists(root, labels, train=train, val=val, trainval=[*train, *val])
    seg_train, seg_val = ["2007_000032", "2008_000008"], ["2007_000033", "2008_000003"]
    write_lists(root, "Segmentation", train=seg_train, val=seg_val, trainval=[*seg_train, *seg_val])
    write_lists(root, "Action", train=["2010_006215 1"])
    write_lists(root, "Layout", train=["2008_000008 1"])
    for name, cls in zip([*seg_train, *seg_val], (1, 13, 1, 19), strict=True):
        palette_png(root / "SegmentationClass" / f"{name}.png", mask(cls))
        palette_png(root / "SegmentationObject" / f"{name}.png", mask(1))
    return root


@pytest.fixture
def voc2007(tmp_path: Path, photo, palette_png) -> Path:
    """Trainval and test unpacked into one folder: test has lists, annotations and masks like the rest."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    labels = {
        "000005": {"chair": "1"},
        "000007": {"car": "1"},
        "000032": {"aeroplane": "1", "person": "0"},
        "000001": {"dog": "1"},
    }
    for name in labels:
        photo(root / "JPEGImages" / f"{name}.jpg")
    annotate(root, labels)
    write_lists(
        root, "Main", train=["000005"], val=["000007"], trainval=["000005", "000007"], test=["000001", "000032"]
    )
    write_class_lists(
        root, labels, train=["000005"], val=["000007"], trainval=["000005", "000007"], test=["000001", "000032"]
    )
    write_lists(root, "Segmentation", train=["000032"], val=["000007"], trainval=["000007", "000032"], test=["000001"])
    for name, cls in (("000032", 1), ("000007", 7), ("000001", 12)):
        palette_png(root / "SegmentationClass" / f"{name}.png", mask(cls))
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """SBD as its archive unpacks: lists, photographs, masks as .mat files; train and val both overlap VOC's."""
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    for folder in ("img", "cls", "inst"):
        (root / folder).mkdir(parents=True)
    (root / "train.txt").write_text("2008_000008\n2008_000002\n2008_000003\n")
    (root / "val.txt").write_text("2008_000015\n2011_003276\n2007_000033\n")
    (root / "cls" / "2008_000002.mat").write_bytes(b"MATLAB 5.0 MAT-file, never opened")
    return root


COUNTS_2012 = {"train": (3, 2), "val": (2, 2), "trainval": (5, 4), "all": (7, 4)}
COUNTS_2007 = {"train": (1, 1), "val": (1, 1), "trainval": (2, 2), "test": (2, 1), "all": (4, 3)}


@pytest.mark.parametrize("split", COUNTS_2012)
def test_voc2012(voc2012: Path, split: str) -> None:
    main, segmentation = COUNTS_2012[split]
    images = open_dataset(f"voc:{voc2012}", split=split)
    assert len(images) == main and images.labels is not None and bool((images.labels != 0).any(1).all())
    masked = open_dataset(f"voc:{voc2012}", split=split, masks=True)
    assert len(masked) == segmentation and masked.labels is not None
    for index in range(segmentation):
        sample = masked[index]
        assert sample.mask is not None and sample.labels is not None
        shown = set(sample.mask.unique().tolist())
        assert {0, 255} < shown and all(sample.labels[i - 1] == 1 for i in shown - {0, 255})


@pytest.mark.parametrize("split", COUNTS_2007)
def test_voc2007(voc2007: Path, split: str) -> None:
    main, segmentation = COUNTS_2007[split]
    assert len(open_dataset(f"voc:{voc2007.parent}", split=split)) == main
    masked = open_dataset(f"voc:{voc2007}", split=split, masks=True)
    assert len(masked) == segmentation and all(masked[i].mask is not None for i in range(segmentation))


def test_difficult_is_unknown_by_list_and_by_annotation(voc2012: Path, voc2007: Path) -> None:
    person = VOC_CLASSES.index("person")
    for path, split in ((voc2012, "train"), (voc2007, "test")):
        by_list = open_dataset(f"voc:{path}", split=split)
        by_annotation = open_dataset(f"voc:{path}", split="trainval" if path is voc2007 else split, masks=True)
        assert by_list.labels is not None and by_annotation.labels is not None
        assert sum(math.isnan(value) for value in by_list.labels[:, person].tolist()) == 1
        assert sum(math.isnan(value) for value in by_annotation.labels[:, person].tolist()) == 1


def test_the_test_images_of_2012_have_no_labels(voc2012: Path, photo) -> None:
    """The archive of test images: lists, photographs, and annotations of some people alone."""
    for name in ("2008_000001", "2008_000004"):
        photo(voc2012 / "JPEGImages" / f"{name}.jpg")
    write_lists(voc2012, "Main", test=["2008_000001", "2008_000004"])
    write_lists(voc2012, "Segmentation", test=["2008_000004"])
    annotate(voc2012, {"2008_000004": {"person": "1"}})
    assert open_dataset(f"voc:{voc2012}", split="test", labels=False).names == ["2008_000001", "2008_000004"]
    with pytest.raises(
        InputError,
        match=r"a label for every photograph, found no ImageSets/Main/aeroplane_test\.txt; no Annotations/2008_000001\.xml; "
        r"no SegmentationClass/2008_000001\.png; VOC 2008 to 2012 keep the labels of their test images: ",
    ):
        open_dataset(f"voc:{voc2012}", split="test")
    with pytest.raises(
        InputError,
        match=r"a mask for every name of test\.txt, found none for '2008_000004'; VOC 2008 to 2012 keep the masks",
    ):
        open_dataset(f"voc:{voc2012}", split="test", labels=False, masks=True)


def test_two_years_side_by_side(voc2012: Path, voc2007: Path) -> None:
    with pytest.raises(
        InputError, match=r"one data set in VOC's layout, got .*VOC2007, .*VOC2012; name the one wanted"
    ):
        open_dataset(f"voc:{voc2012.parent.parent}", split="train")


def test_the_archive_of_2011(voc2012: Path, tmp_path: Path) -> None:
    (tmp_path / "TrainVal").mkdir()
    voc2012.parent.rename(tmp_path / "TrainVal" / "VOCdevkit")
    assert len(open_dataset(f"voc:{tmp_path}", split="train")) == 3


AUGMENTED = ["2007_000032", "2008_000008", "2008_000002", "2008_000015", "2011_003276"]
NO_MASKS = "no training reads the masks of train_aug (SBD's, SegmentationClassAug): its labels are of whole images"


@pytest.mark.parametrize("place", ["benchmark_RELEASE", "VOCdevkit/benchmark_RELEASE", "sbd", "VOCdevkit/SBD"])
@pytest.mark.parametrize("split", ["train_aug", "trainaug"])
def test_train_aug_of_voc_and_sbd(voc2012: Path, sbd: Path, tmp_path: Path, place: str, split: str) -> None:
    moved = tmp_path / place
    if place.endswith("RELEASE"):
        sbd.parent.rename(moved)
    else:  # as torchvision lays it out
        sbd.rename(moved)
    dataset = open_dataset(f"voc:{tmp_path}", split=split)
    # VOC's train first, then SBD's train and val, each once and without VOC's val
    assert dataset.names == AUGMENTED
    where = moved / "dataset" if place.endswith("RELEASE") else moved
    assert dataset.notes == [
        f"train_aug is VOC's train and SBD's train and val without VOC's val ({where}): 5 names; the common list has 10,582",
        NO_MASKS,
        "labels from Annotations",
    ]
    assert dataset.labels is not None
    assert [VOC_CLASSES[row.nan_to_num().argmax()] for row in dataset.labels] == [
        "aeroplane", "horse", "tvmonitor", "bottle", "cat"
    ]  # fmt: skip


def test_the_counts_of_the_common_list() -> None:
    # VOC's train, and what SBD's train and val add to VOC's train and val
    assert voc_augmented.COMMON == 1464 + 6820 + 2298 and 8498 + 2857 == 11_355


@pytest.mark.parametrize("file", ["train_aug.txt", "trainaug.txt"])
@pytest.mark.parametrize("paths", [False, True])
def test_train_aug_by_a_list(voc2012: Path, sbd: Path, palette_png, file: str, paths: bool) -> None:
    names = ["2008_000015", "2007_000032"]
    rows = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" if paths else name for name in names]
    (voc2012 / "ImageSets" / "Segmentation" / file).write_text("\n".join(rows))
    for name in names:
        palette_png(voc2012 / "SegmentationClassAug" / f"{name}.png", mask(5))
    dataset = open_dataset(f"voc:{voc2012}", split="train_aug")
    assert dataset.names == names
    assert dataset.notes[:2] == [f"train_aug is {file}: 2 names; the common list has 10,582", NO_MASKS]
    masked = open_dataset(f"voc:{voc2012}", split="train_aug", labels=False, masks=True)
    assert masked[0].mask is not None and 5 in masked[0].mask  # to measure on


def test_train_aug_as_train_and_aug(voc2012: Path) -> None:
    write_lists(voc2012, "Segmentation", aug=["2008_000015", "2008_000008"])
    dataset = open_dataset(f"voc:{voc2012}", split="train_aug", classes="person,bottle,horse")
    assert dataset.names == ["2007_000032", "2008_000008", "2008_000015"]
    assert dataset.notes[0].startswith("train_aug is train.txt and aug.txt: 3 names")


def test_the_common_length_is_not_remarked_on(voc2012: Path, monkeypatch: pytest.MonkeyPatch, sbd: Path) -> None:
    monkeypatch.setattr(voc_augmented, "COMMON", 5)
    assert open_dataset(f"voc:{voc2012}", split="train_aug").notes[0].endswith(": 5 names")


def test_a_list_that_holds_images_of_val_is_told(voc2012: Path) -> None:
    write_lists(voc2012, "Segmentation", trainaug=["2008_000015", "2008_000003"])
    notes = open_dataset(f"voc:{voc2012}", split="train_aug").notes
    assert "1 of its names are in VOC's val too: figures on val would be of images trained on" in notes


def test_train_aug_never_takes_labels_from_masks(voc2012: Path, sbd: Path) -> None:
    (voc2012 / "Annotations" / "2007_000032.xml").unlink()
    with pytest.raises(
        InputError, match=r"found ImageSets/Main/aeroplane_train\.txt does not list 2007_000032; no Annotations"
    ):
        open_dataset(f"voc:{voc2012}", split="train_aug")
    assert len(open_dataset(f"voc:{voc2012}", split="train_aug", labels=False)) == 5
    write_lists(voc2012, "Segmentation", trainaug=["2007_000032"])  # which has a mask
    with pytest.raises(InputError, match="a label for every photograph"):
        open_dataset(f"voc:{voc2012}", split="train_aug")


def test_train_aug_from_lists_alone(voc2012: Path) -> None:
    write_lists(voc2012, "Segmentation", trainaug=["2008_000015", "2008_000002"])
    dataset = open_dataset(f"voc:{voc2012}", split="train_aug")
    assert dataset.notes[-1] == "labels from ImageSets/Main" and len(dataset) == 2


def test_train_aug_that_is_nowhere_or_without_masks(voc2012: Path, sbd: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"found none for '2008_000002'; add SegmentationClassAug \(the \.mat files of SBD are not read\), or",
    ):
        open_dataset(f"voc:{voc2012}", split="train_aug", labels=False, masks=True)
    (voc2012 / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(
        InputError, match=r"expected VOC's val, whose images are left out of SBD's, found none; .*val\.txt$"
    ):
        open_dataset(f"voc:{voc2012}", split="train_aug")
    (sbd / "val.txt").unlink()
    with pytest.raises(
        InputError, match=r"no split 'train_aug', .* trainaug\.txt of 10,582 names there, or SBD's folder"
    ):
        open_dataset(f"voc:{voc2012}", split="train_aug")
