"""Finding and naming photographs."""

from pathlib import Path

import pytest
import torch

from attnbn.inference.photographs import Photographs, check_name, list_photographs
from attnbn.io.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(*paths: Path, leave_out: Path | None = None) -> list[str]:
    return [p.name for p in list_photographs(paths, leave_out)]


def test_folders_are_searched_in_order_without_hidden_files_and_others(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.PNG", "a/.hidden.jpg", ".cache/x.jpg", "notes.txt", "a/b/c.d.tif", "._b.jpg")
    assert names(tmp_path) == ["b", "a/z", "a/b/c.d"]


def test_a_named_file_is_taken_whatever_its_ending(tmp_path: Path) -> None:
    touch(tmp_path, "photo.raw", "other.jpg")
    assert names(tmp_path / "photo.raw") == ["photo"]
    with pytest.raises(InputError, match="photo"):
        Photographs(list_photographs([tmp_path / "photo.raw"]), ["cat"])[0]


def test_the_same_file_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    assert names(tmp_path / "b.jpg", tmp_path, tmp_path / "a.jpg") == ["b", "a"]


def test_colliding_names_keep_what_tells_them_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/a.png", "x/c.png", "y/b.jpg", "y/c.png")
    assert names(tmp_path / "x", tmp_path / "y") == ["a.jpg", "a.png", "x/c", "b", "y/c"]
    touch(tmp_path, "other/x/c.png")
    with pytest.raises(InputError, match=r"different names, got .*x/c\.png and .*other/x/c\.png: rename one"):
        names(tmp_path / "x", tmp_path / "other" / "x")


def test_links_in_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["a"]


def test_the_output_folder_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/overlays/a.cat.png")
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a"]
    with pytest.raises(InputError, match="output folder other than the photographs' own"):
        names(tmp_path, leave_out=tmp_path)


def test_nothing_found(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=f"expected photographs .*found none: {tmp_path}"):
        names(tmp_path)
    with pytest.raises(InputError, match=r"found nothing: .*missing"):
        names(tmp_path / "missing")
    with pytest.raises(InputError, match="no path given"):
        names()


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a\0b"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="stays inside the output folder"):
        check_name(name)


def test_the_data_set_reads_the_photographs(photographs: Path) -> None:
    dataset = Photographs(list_photographs([photographs]), ["cat"])
    assert dataset.names == ["a", "b", "zoo/c", "zoo/d", "zoo/deep/e"]
    assert dataset.labels is None
    assert [tuple(dataset[i].image.shape) for i in range(5)] == [(3, 30 + i, 40) for i in range(5)]
    assert dataset[0].image.dtype == torch.uint8
