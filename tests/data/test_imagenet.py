"""ImageNet's CLS-LOC as it is distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnbn.data.open import open_dataset, place_of
from attnbn.io.errors import InputError

TENCH, HEN, COLLIE = "n01440764", "n01514859", "n02106030"
VAL = [f"ILSVRC2012_val_{i:08d}" for i in range(1, 4)]


def save(path: Path, form: str = "JPEG", mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), 90, np.uint8)).convert(mode).save(path, form)


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    root = tmp_path / "ILSVRC"
    data = root / "Data" / "CLS-LOC"
    save(data / "train" / TENCH / f"{TENCH}_10026.JPEG")
    save(data / "train" / HEN / f"{HEN}_1.JPEG", mode="CMYK")  # some are CMYK
    save(data / "train" / COLLIE / f"{COLLIE}_2.JPEG", form="PNG")  # and one is a PNG
    save(data / "train" / COLLIE / f"{COLLIE}_13.JPEG")
    for name in VAL:
        save(data / "val" / f"{name}.JPEG")
    save(data / "test" / "ILSVRC2012_test_00000001.JPEG")
    (root / "ImageSets" / "CLS-LOC").mkdir(parents=True)
    (root / "ImageSets" / "CLS-LOC" / "val.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(VAL, 1)))
    return root


def solution(root: Path, rows: str | None = None) -> Path:
    file = root.parent / "LOC_val_solution.csv"
    default = (
        f"{VAL[2]},{COLLIE} 85 1 499 272 {COLLIE} 1 2 3 4 \n{VAL[0]},{TENCH} 85 1 499 272 \n{VAL[1]},{COLLIE} 1 1 2 2\n"
    )
    file.write_text("ImageId,PredictionString\n" + (default if rows is None else rows))
    return file


def annotate(root: Path, **synsets: str) -> None:
    folder = root / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True)
    for name, synset in synsets.items():
        thing = f"<object><name>{synset}</name><bndbox><xmin>1</xmin></bndbox></object>"
        (folder / f"{name}.xml").write_text(f"<annotation><folder>val</folder>{thing * 2}</annotation>")


@pytest.mark.parametrize("below", ["..", ".", "Data/CLS-LOC"])
def test_train(ilsvrc: Path, below: str) -> None:
    dataset = open_dataset(f"imagenet:{ilsvrc / below}", split="train")
    assert dataset.classes == (TENCH, HEN, COLLIE)
    assert dataset.names == [
        f"{TENCH}/{TENCH}_10026",
        f"{HEN}/{HEN}_1",
        f"{COLLIE}/{COLLIE}_13",
        f"{COLLIE}/{COLLIE}_2",
    ]
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [0, 1, 2, 2] and dataset.notes == []
    for index in range(4):
        assert dataset[index].image.shape == (3, 5, 7)
    assert place_of(f"imagenet:{ilsvrc / below}") == ("imagenet", str(ilsvrc / "Data" / "CLS-LOC"))


def test_a_folder_of_class_folders(ilsvrc: Path) -> None:
    folder = ilsvrc / "Data" / "CLS-LOC" / "train"
    whole = open_dataset(f"imagenet:{folder}", split="train")
    assert whole.names == open_dataset(f"imagenet:{ilsvrc}", split="train").names and whole.notes == []
    assert open_dataset(f"imagenet:{folder}", split="dev").notes == [
        "class folders without splits, so all images stand for 'dev'"
    ]


def test_classes_of_a_run(ilsvrc: Path) -> None:
    dataset = open_dataset(f"imagenet:{ilsvrc}", split="all", classes="bird,dog", class_map="five")
    assert dataset.classes == ("bird", "dog") and dataset.labels is not None
    assert dataset.labels.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert dataset.notes == [
        f"left out 1 folder not among the classes ({TENCH})", "all: the images of train, none of val and test"
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["table", "boxes"])
def test_val(ilsvrc: Path, source: str) -> None:
    if source == "table":
        solution(ilsvrc)
    else:
        annotate(ilsvrc, **dict(zip(VAL, (TENCH, COLLIE, COLLIE), strict=True)))
    dataset = open_dataset(f"imagenet:{ilsvrc}", split="val")
    assert dataset.names == VAL and dataset.classes == (TENCH, COLLIE)
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [0, 1, 1]
    dogs = open_dataset(f"imagenet:{ilsvrc}", split="val", classes=COLLIE)
    assert dogs.names == VAL[1:] and dogs.notes == ["left out 1 of 3 images with none of the classes"]
    assert dogs.labels is not None and dogs.labels.tolist() == [[1], [1]] and dogs[1].image.shape == (3, 5, 7)


def test_val_in_class_folders(ilsvrc: Path) -> None:
    val = ilsvrc / "Data" / "CLS-LOC" / "val"
    for name, synset in zip(VAL, (TENCH, COLLIE, COLLIE), strict=True):
        (val / synset).mkdir(exist_ok=True)
        (val / f"{name}.JPEG").rename(val / synset / f"{name}.JPEG")
    dataset = open_dataset(f"imagenet:{ilsvrc}", split="val")
    assert dataset.names == [f"{TENCH}/{VAL[0]}", f"{COLLIE}/{VAL[1]}", f"{COLLIE}/{VAL[2]}"]


def test_without_labels_no_label_is_read(ilsvrc: Path) -> None:
    solution(ilsvrc, "damaged")
    for split, number in (("val", 3), ("test", 1)):
        dataset = open_dataset(f"imagenet:{ilsvrc}", split=split, labels=False)
        assert len(dataset) == number and dataset.labels is None and dataset.classes == (TENCH, HEN, COLLIE)
    some = open_dataset(f"imagenet:{ilsvrc}", split="test", labels=False, classes=HEN)
    assert some.classes == (HEN,) and some.notes == ["labels are not read, so images with none of the classes stay in"]


def test_labels_that_are_nowhere(ilsvrc: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"labels of val's images, .* neither LOC_val_solution\.csv beside ILSVRC nor Annotations/CLS-LOC/val; .*/val$",
    ):
        open_dataset(f"imagenet:{ilsvrc}", split="val")
    with pytest.raises(InputError, match="labels of test's images"):
        open_dataset(f"imagenet:{ilsvrc}", split="test")
    file = solution(ilsvrc, f"{VAL[0]},{TENCH} 1 2 3 4\n")
    with pytest.raises(InputError, match=rf"a label for every image of val, found none for {VAL[1]}: {file}$"):
        open_dataset(f"imagenet:{ilsvrc}", split="val")
    solution(ilsvrc, f"{VAL[0]},tench 1 2 3 4\n")
    with pytest.raises(InputError, match=r"an image's name and nXXXXXXXX with a box, got .*solution\.csv, line 2$"):
        open_dataset(f"imagenet:{ilsvrc}", split="val")


def test_bad_layouts(ilsvrc: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no split 'dev'; splits here: train, val, test: .*CLS-LOC$"):
        open_dataset(f"imagenet:{ilsvrc}", split="dev")
    packed = tmp_path / "packed" / "train"
    packed.mkdir(parents=True)
    (packed / f"{TENCH}.tar").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"no class folders nXXXXXXXX in it, in train, .*unpack ILSVRC2012_img_train\.tar"
    ):
        open_dataset(f"imagenet:{packed.parent}", split="train")
    (ilsvrc / "Data" / "CLS-LOC" / "train" / "n00000001").mkdir()
    with pytest.raises(InputError, match=r"images of n00000001, found none; unpack n00000001\.tar there: .*n00000001$"):
        open_dataset(f"imagenet:{ilsvrc}", split="train")
    assert len(open_dataset(f"imagenet:{ilsvrc}", split="train", classes=COLLIE)) == 2
