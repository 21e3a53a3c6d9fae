"""Caltech-101 and Caltech-256 as they are distributed."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbn.data.open import open_dataset, place_of
from attnbn.io.errors import InputError


@pytest.fixture
def caltech101(tmp_path: Path, photo) -> Path:
    root = tmp_path / "caltech-101" / "101_ObjectCategories"
    for seed, name in enumerate(("BACKGROUND_Google", "Faces", "Faces_easy", "airplanes", "dalmatian", "emu")):
        photo(root / name / "image_0001.jpg", seed=seed)
    photo(root / "emu" / "image_0002.jpg")
    (root / "BACKGROUND_Google" / "tmp").write_text("")  # there is such a file
    (root / ".DS_Store").write_text("")
    (tmp_path / "caltech-101" / "Annotations" / "emu").mkdir(parents=True)
    return root


@pytest.fixture
def caltech256(tmp_path: Path, photo) -> Path:
    root = tmp_path / "caltech256" / "256_ObjectCategories"
    for number, name in (
        (1, "ak47"),
        (56, "dog"),
        (105, "horse"),
        (198, "spider"),
        (251, "airplanes-101"),
        (257, "clutter"),
    ):
        photo(root / f"{number:03d}.{name}" / f"{number:03d}_0001.jpg", seed=number)
    (root / "198.spider" / "RENAME2").write_text("#!/bin/sh")  # a stray file of the original archive
    (root / "056.dog" / "greg" / "vision309").mkdir(parents=True)  # and stray folders
    return root


@pytest.mark.parametrize("above", [0, 1, 2])
def test_caltech101(caltech101: Path, above: int) -> None:
    path = [caltech101, *caltech101.parents][above]
    dataset = open_dataset(f"caltech101:{path}", split="train")
    assert dataset.classes == ("Faces", "Faces_easy", "airplanes", "dalmatian", "emu")
    assert dataset.names[-2:] == ["emu/image_0001", "emu/image_0002"] and len(dataset) == 6
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [0, 1, 2, 3, 4, 4]
    assert dataset.notes == ["left out BACKGROUND_Google, pictures of no class"]
    assert dataset[0].image.shape == (3, 12, 16) and dataset.title == f"caltech101:{caltech101}"
    assert place_of(f"caltech101:{path}") == ("caltech101", str(caltech101))


def test_torchvision_lays_it_out_otherwise(caltech101: Path, tmp_path: Path) -> None:
    (tmp_path / "caltech-101").rename(tmp_path / "caltech101")
    assert len(open_dataset(f"caltech101:{tmp_path}", split="all")) == 6


def test_the_folder_under_another_name(caltech101: Path, tmp_path: Path) -> None:
    caltech101.rename(tmp_path / "objects")
    assert len(open_dataset(f"caltech101:{tmp_path}/objects", split="all", classes="emu")) == 2


@pytest.mark.parametrize("above", [0, 1, 2])
def test_caltech256(caltech256: Path, above: int) -> None:
    path = [caltech256, *caltech256.parents][above]
    dataset = open_dataset(f"caltech256:{path}", split="train")
    assert dataset.classes == ("ak47", "dog", "horse", "spider", "airplanes-101")
    assert dataset.names == [
        "001.ak47/001_0001", "056.dog/056_0001", "105.horse/105_0001", "198.spider/198_0001", "251.airplanes-101/251_0001"
    ]  # fmt: skip
    assert dataset.notes == ["left out 257.clutter, pictures of no class"]
    assert place_of(f"caltech256:{path}") == ("caltech256", str(caltech256))


def test_classes_renamed(caltech256: Path) -> None:
    dataset = open_dataset(
        f"caltech256:{caltech256}", split="dev", classes="animal", class_map={"dog": "animal", "horse": "animal"}
    )
    assert dataset.names == ["056.dog/056_0001", "105.horse/105_0001"] and dataset.classes == ("animal",)
    assert dataset.notes == [
        "left out 3 folders not among the classes (ak47, spider, airplanes-101)",
        "left out 257.clutter, pictures of no class",
        "caltech256: has no splits, so all images stand for 'dev'",
    ]


def test_what_lies_deeper_and_odd_folders_are_left_out_and_counted(caltech256: Path, photo) -> None:
    photo(caltech256 / "056.dog" / "greg" / "a.jpg")
    photo(caltech256 / "mine" / "a.jpg")
    dataset = open_dataset(f"caltech256:{caltech256}", split="all")
    assert len(dataset) == 5 and "left out 1 photograph in folders below the class folders" in dataset.notes
    assert "left out 1 folder that are no classes (mine)" not in dataset.notes
    assert "left out 1 folder that is no class (mine)" in dataset.notes


def test_without_labels_and_with_saliency(caltech101: Path) -> None:
    dataset = open_dataset(
        f"caltech101:{caltech101}", split="all", classes="emu", labels=False, saliency=lambda name, size: None
    )
    assert dataset.labels is None and dataset.names == ["emu/image_0001", "emu/image_0002"] and dataset.has_saliency


def test_bad_layouts(caltech101: Path, caltech256: Path, tmp_path: Path, photo) -> None:
    photo(tmp_path / "mine" / "cat" / "a.jpg")
    with pytest.raises(
        InputError,
        match=rf"Caltech-101's folder 101_ObjectCategories .*\(other class folders are folders:{tmp_path}/mine\)",
    ):
        open_dataset(f"caltech101:{tmp_path}/mine", split="all")
    with pytest.raises(InputError, match=r"expected a folder for caltech101:, found nothing; .*nowhere$"):
        place_of(f"caltech101:{tmp_path}/nowhere")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "101_ObjectCategories.tar.gz").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"found it packed; unpack it there with tar -xf: .*101_ObjectCategories\.tar\.gz$"
    ):
        open_dataset(f"caltech101:{tmp_path}/packed", split="all")
    with pytest.raises(InputError, match=r"no class 'dgo' in the data set \(closest: dog"):
        open_dataset(f"caltech256:{caltech256}", split="all", classes="dgo")
    (caltech256 / "009.bear").mkdir()
    with pytest.raises(InputError, match=r"photographs of class 'bear', found none; unpack .*009\.bear$"):
        open_dataset(f"caltech256:{caltech256}", split="all")
    with pytest.raises(InputError, match="with masks, got caltech256:, which has none"):
        open_dataset(f"caltech256:{caltech256}", split="all", masks=True)
    (tmp_path / "256_ObjectCategories").mkdir()
    with pytest.raises(InputError, match=r"Caltech-256's class folders, found none"):
        open_dataset(f"caltech256:{tmp_path}/256_ObjectCategories", split="all")
    with pytest.raises(InputError, match=rf"got a path alone; write caltech256:{caltech256}"):
        open_dataset(str(caltech256), split="all")
