"""``KIND:PATH``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError


def test_each_kind(tmp_path: Path, photo, voc: Path) -> None:
    photo(tmp_path / "classes" / "cat" / "a.png")
    (tmp_path / "list.csv").write_text("classes/cat/a.png,cat\n")
    assert open_dataset(f"folders:{tmp_path}/classes", split="train").names == ["cat/a"]
    assert open_dataset(f"csv:{tmp_path}/list.csv", split="train").names == ["classes/cat/a"]
    assert open_dataset(f"voc:{voc}", split="train", classes="cat").names == ["a", "d"]
    assert open_dataset(f"voc:{voc}", split="val", classes="cat,dog", masks=True, labels=False)[0].mask is not None


def test_scenes() -> None:
    dataset = open_dataset("scenes:source?count=4", split="train")
    assert dataset.has_saliency and dataset.labels is not None and dataset[0].saliency is not None


def test_home_is_expanded(tmp_path: Path, photo, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "cat" / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_dataset("folders:~", split="train")) == 1


def test_kinds_without_splits_say_so(tmp_path: Path, photo) -> None:
    photo(tmp_path / "cat" / "a.png")
    assert open_dataset(f"folders:{tmp_path}", split="train").notes == []
    assert open_dataset(f"folders:{tmp_path}", split="dev").notes == [
        "folders: has no splits, so all images stand for 'dev'"
    ]


def test_saliency_reaches_the_reader(voc: Path) -> None:
    dataset = open_dataset(
        f"voc:{voc}", split="train", classes="cat", saliency=lambda name, size: torch.zeros(1, *size)
    )
    assert dataset.has_saliency and dataset[0].saliency is not None


def test_bad_specifications(tmp_path: Path, voc: Path, photo) -> None:
    photo(tmp_path / "classes" / "cat" / "a.png")
    (tmp_path / "list.csv").write_text("classes/cat/a.png,cat\n")
    cases = {
        f"{tmp_path}/classes": f"got a path alone; write folders:{tmp_path}/classes",
        str(voc): f"write voc:{voc}",
        f"{tmp_path}/list.csv": f"write csv:{tmp_path}/list.csv",
        "C:\\photos": "write folders:C:\\photos",
        "photos": "write folders:photos",
        "coco:photos": "KIND one of folders, voc, csv, caltech101, caltech256, imagenet, masks, scenes; got the kind 'coco'; "
        "for a folder per class write folders:photos",
        "folders:": "expected folders:PATH, got no path",
        f"folders:{tmp_path}/no": f"expected a folder for folders:, found nothing; check the path: {tmp_path}/no",
        f"csv:{tmp_path}/classes": "expected a file for csv:, got a folder",
        f"folders:{tmp_path}/list.csv": f"got a file; write csv:{tmp_path}/list.csv",
    }
    for spec, message in cases.items():
        with pytest.raises(InputError, match=re.escape(message)):
            open_dataset(spec, split="train")
    with pytest.raises(InputError, match="with masks, got folders:, which has none"):
        open_dataset(f"folders:{tmp_path}/classes", split="train", masks=True)
