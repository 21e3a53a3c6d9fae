"""A list of photographs with their labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbn.data.csv_list import open_csv
from attnbn.io.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, photo) -> Path:
    for name in ("a.jpg", "b.jpg", "sub/c d.png"):
        photo(tmp_path / name)
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return folder / "list.csv"


@pytest.mark.parametrize("header", ["", "path,label\n", "Path,label,label\r\n", "\n\npath,label\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_rows(folder: Path, header: str, encoding: str) -> None:
    text = header + 'a.jpg,dog\nb.jpg, cat , dog,\n\n"sub/c d.png",person\n'
    dataset = open_csv(write(folder, text, encoding))
    assert dataset.classes == ("cat", "dog", "person")
    assert dataset.names == ["a", "b", "sub/c d"]
    assert dataset.labels is not None and dataset.labels.tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert dataset[2].image.shape == (3, 12, 16)


def test_classes_and_map(folder: Path) -> None:
    path = write(folder, "a.jpg,doggy\nb.jpg,cat\n")
    dataset = open_csv(path, classes=["dog", "cat"], class_map={"doggy": "dog"})
    assert dataset.labels is not None and dataset.labels.tolist() == [[1, 0], [0, 1]]


def test_paths_relative_to_the_list_and_names_that_stay_inside(folder: Path) -> None:
    lists = folder / "lists"
    lists.mkdir()
    (lists / "list.csv").write_text(f"../a.jpg,cat\n{folder}/b.jpg,cat\n./../sub/c d.png,cat\n")
    dataset = open_csv(lists / "list.csv")
    assert dataset.names == ["a", str(folder / "b")[1:], "sub/c d"]
    assert all(dataset[i].image.shape == (3, 12, 16) for i in range(3))


def test_without_labels_rows_need_none(folder: Path) -> None:
    path = write(folder, "a.jpg\nb.jpg,anything\n")
    dataset = open_csv(path, labels=False)
    assert dataset.labels is None and dataset.classes == () and len(dataset) == 2
    assert open_csv(path, labels=False, classes=["cat"]).classes == ("cat",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected rows path,label"),
        ("path,label\n", "expected rows path,label"),
        ("a.jpg,cat\nb.jpg\n", r"got no label: .*list\.csv, line 2$"),
        ("a.jpg,cat\nb.jpg, ,\n", r"got no label: .*list\.csv, line 2$"),
        ("a.jpg;cat\n", "found no file"),
        (",cat\n", r"got no path: .*list\.csv, line 1$"),
        ("path,label\na.jpg,cat\n\nnothing.jpg,cat\n", r"found no file .*nothing\.jpg.*list\.csv, line 4$"),
        ("a.jpg,cat\n./a.jpg,dog\n", r"each photograph once.*first in line 1.*list\.csv, line 2$"),
        ("a.jpg,cat\nsub,cat\n", "found no file"),
        ('a.jpg,"cat\n', "damaged"),
    ],
)
def test_bad_lists(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_csv(write(folder, text))
    assert "\n" not in str(caught.value) and "list.csv" in str(caught.value)


def test_unknown_and_absent_classes(folder: Path) -> None:
    path = write(folder, "a.jpg,cat\nb.jpg,dgo\n")
    with pytest.raises(InputError, match=r"one of the classes cat, dog, got 'dgo'.*list\.csv, line 2$"):
        open_csv(path, classes=["cat", "dog"])
    dataset = open_csv(
        path, classes=["cat", "dgo", "cow"]
    )  # whether each must have some is for whoever uses them to say
    assert dataset.labels is not None and dataset.labels.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_names_that_meet_outside_the_folder(folder: Path, photo) -> None:
    photo(folder / "lists" / "a.jpg")
    (folder / "lists" / "list.csv").write_text("a.jpg,cat\n../a.jpg,cat\n")
    with pytest.raises(InputError, match=r"names that differ, got a\.jpg and \.\./a\.jpg.*line 2$"):
        open_csv(folder / "lists" / "list.csv")


def test_other_bytes(folder: Path) -> None:
    with pytest.raises(InputError, match="UTF-8"):
        open_csv(write(folder, "a.jpg,Bär\n", "latin-1"))
