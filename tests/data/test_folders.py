"""A folder per class."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from attnbn.data.folders import open_folders
from attnbn.data.sample import Saliency
from attnbn.data.transforms import seeded, train_transform
from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder


def test_reads_class_folders(tmp_path: Path, photo) -> None:
    photo(tmp_path / "dog" / "deep" / "er" / "b.JPG")
    photo(tmp_path / "dog" / "a.png")
    photo(tmp_path / "cat" / "a.png", height=9, width=11)
    (tmp_path / "cat" / "readme.txt").write_text("no photograph")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "cat" / "._a.png").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    dataset = open_folders(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.names == ["cat/a", "dog/a", "dog/deep/er/b"]
    assert dataset.labels is not None and dataset.labels.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert dataset.notes == [] and not dataset.has_masks and not dataset.has_saliency
    sample = dataset[0]
    assert sample.name == "cat/a" and sample.image.shape == (3, 9, 11)
    assert sample.labels is not None and sample.labels.tolist() == [1, 0]
    assert sample.saliency is None and sample.mask is None


def test_subset_order_renaming_and_merging(tmp_path: Path, photo) -> None:
    for name in ("ibis", "emu", "cat", "ant"):
        photo(tmp_path / name / "a.png")
    photo(tmp_path / "loose.png")
    dataset = open_folders(tmp_path, classes=["cat", "bird"], class_map={"ibis": "bird", "emu": "bird"})
    assert dataset.classes == ("cat", "bird") and dataset.names == ["cat/a", "emu/a", "ibis/a"]
    assert dataset.labels is not None and dataset.labels.argmax(1).tolist() == [0, 1, 1]
    assert dataset.notes == [
        "left out 1 folder not among the classes (ant)",
        "left out 1 photograph in no class folder",
    ]


def test_names_that_collide_keep_their_extension(tmp_path: Path, photo) -> None:
    for name in ("a.jpg", "a.png", "b.png", "c.jpg", "c.png", "c.jpg.png"):
        photo(tmp_path / "cat" / name)
    names = open_folders(tmp_path).names
    assert names == ["cat/a.jpg", "cat/a.png", "cat/b", "cat/c.jpg", "cat/c.jpg.png", "cat/c.png"]


def test_linked_folders_are_followed_once(tmp_path: Path, photo) -> None:
    photo(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    assert open_folders(root).names == ["cat/a"]


def test_saliency_is_asked_by_name_and_upright_size(tmp_path: Path, photo) -> None:
    photo(tmp_path / "cat" / "a.png", height=9, width=11)
    asked = []

    def saliency(name: str, size: tuple[int, int]) -> torch.Tensor:
        asked.append((name, size))
        return torch.full((1, *size), 0.5)

    dataset = open_folders(tmp_path, saliency=saliency)
    assert dataset.has_saliency and asked == []
    assert isinstance(dataset[0].saliency, Saliency) and asked == [("cat/a", (9, 11))]
    assert open_folders(tmp_path, saliency=lambda name, size: None)[0].saliency is None


def test_travels_to_worker_processes(tmp_path: Path, photo) -> None:
    photo(tmp_path / "photos" / "cat" / "a.png")
    photo(tmp_path / "maps" / "cat" / "b.png")
    dataset = open_folders(tmp_path / "photos", saliency=SaliencyFolder(tmp_path / "maps", required=False))
    transform = train_transform(8)
    again, moved = pickle.loads(pickle.dumps((dataset, transform)))
    assert torch.equal(seeded(moved, 3)(again[0]).image, seeded(transform, 3)(dataset[0]).image)


def test_without_labels(tmp_path: Path, photo) -> None:
    photo(tmp_path / "cat" / "a.png")
    dataset = open_folders(tmp_path, labels=False)
    assert dataset.labels is None and dataset[0].labels is None and dataset.classes == ("cat",)


def test_label_of_a_sample_is_its_own_memory(tmp_path: Path, photo) -> None:
    photo(tmp_path / "cat" / "a.png")
    dataset = open_folders(tmp_path)
    label = dataset[0].labels
    assert label is not None and dataset.labels is not None
    label.zero_()
    assert dataset.labels[0, 0] == 1


def test_a_broken_photograph_is_named_when_read(tmp_path: Path, photo) -> None:
    photo(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"")
    dataset = open_folders(tmp_path)
    with pytest.raises(InputError, match=r"empty file.*cat/b\.png$"):
        dataset[1]


def test_bad_folders(tmp_path: Path, photo) -> None:
    with pytest.raises(InputError, match=r"folder per class, found no folder"):
        open_folders(tmp_path)
    photo(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"photographs of class 'dog', found none.*dog$"):
        open_folders(tmp_path)
    assert len(open_folders(tmp_path, classes=["cat"])) == 1
    with pytest.raises(InputError, match=r"no class 'cta' in the data set \(closest: cat\)"):
        open_folders(tmp_path, classes=["cta"])


def test_split_folders_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        os.makedirs(tmp_path / name / "cat")
    with pytest.raises(InputError, match=rf"named like splits \(train, val\).*folders:{tmp_path}/train"):
        open_folders(tmp_path)


def test_train_is_also_a_vehicle(tmp_path: Path, photo) -> None:
    photo(tmp_path / "train" / "a.png")
    assert open_folders(tmp_path).classes == ("train",)


def test_another_layout_is_no_class_folders(tmp_path: Path, photo) -> None:
    for name in ("JPEGImages", "SegmentationClass"):
        photo(tmp_path / "VOCdevkit" / "VOC2012" / name / "a.png")
    for root in (tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "VOCdevkit", tmp_path):
        with pytest.raises(InputError, match=rf"got VOC's layout \(.*write voc:{root}: {root}$"):
            open_folders(root)
    photo(tmp_path / "msrc" / "Images" / "a.png")
    (tmp_path / "msrc" / "GroundTruth").mkdir()
    with pytest.raises(InputError, match="of class 'GroundTruth', found none"):
        open_folders(tmp_path / "msrc")  # nothing says that it is to hold masks
    photo(tmp_path / "msrc" / "GroundTruth" / "a_GT.png")
    with pytest.raises(InputError, match=r"got photographs and masks \(Images and GroundTruth\); write masks:"):
        open_folders(tmp_path / "msrc")
    with pytest.raises(InputError, match="got photographs and masks"):
        open_folders(tmp_path / "msrc", classes=["cat"])
    named = open_folders(tmp_path / "msrc", classes=["ground"], class_map={"GroundTruth": "ground"})
    assert named.names == ["GroundTruth/a_GT"]
