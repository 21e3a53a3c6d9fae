"""The remembered listing of class folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from attnbn.data import index
from attnbn.data.class_folders import Suffixed
from attnbn.data.folders import open_folders
from attnbn.data.index import list_folders
from attnbn.data.photos import unique_names


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, in which the smallest and newest list is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "WORTH", 1)
    monkeypatch.setattr(index, "SETTLED", -60.0)
    return tmp_path / "cache" / "attnbn" / "listings"


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    touch(root / "a" / "2.JPEG", root / "a" / "1.png", root / "a" / "deep" / "er" / "3.jpg", root / "b" / "ö\udcff.jpg")
    touch(root / "a" / "notes.txt", root / "a" / ".hidden.jpg")
    return root


A = ["1.png", "2.JPEG", "deep/er/3.jpg"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are really listed from now on."""
    listed: list[str] = []
    real = index.list_pictures

    def spy(folder: Path, folders: list[str]) -> object:
        listed.append(Path(folder).name)
        return real(folder, folders)

    monkeypatch.setattr(index, "list_pictures", spy)
    return listed


def test_second_start_lists_nothing(cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list_folders(root, ["a", "b"])
    assert first == ({"a": A, "b": ["ö\udcff.jpg"]}, [])
    assert len(list(cache.iterdir())) == 1
    listed = counted(monkeypatch)
    assert list_folders(root, ["b", "a"]) == first and listed == []
    # by another way to the same place
    (root.parent / "link").symlink_to(root)
    assert list_folders(root.parent / "link", ["a"])[0] == {"a": A} and listed == []


@pytest.mark.parametrize("change", ["add", "remove", "rename", "deep"])
def test_a_changed_folder_is_listed_again_and_no_other(
    cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    list_folders(root, ["a", "b"])
    expected = A
    if change == "add":
        touch(root / "a" / "0.jpg")
        expected = ["0.jpg", *A]
    elif change == "remove":
        (root / "a" / "1.png").unlink()
        expected = A[1:]
    elif change == "rename":
        (root / "a" / "1.png").rename(root / "a" / "9.png")
        expected = ["2.JPEG", "9.png", "deep/er/3.jpg"]
    else:
        touch(root / "a" / "deep" / "0.jpg")
        expected = [*A[:2], "deep/0.jpg", A[2]]
    listed = counted(monkeypatch)
    assert list_folders(root, ["a", "b"])[0] == {"a": expected, "b": ["ö\udcff.jpg"]}
    assert listed == ["a"]
    listed.clear()
    assert list_folders(root, ["a"])[0] == {"a": expected} and listed == []  # the new list is kept


def test_another_folder_of_the_same_time_is_listed_again(cache: Path, root: Path) -> None:
    """Unpacking an archive gives a folder the time that it has there, whatever came into it."""
    list_folders(root, ["b"])
    time = os.stat(root / "b").st_mtime_ns
    touch(root / "b" / "other.jpg")
    os.utime(root / "b", ns=(time, time))
    assert list_folders(root, ["b"])[0] == {"b": ["other.jpg", "ö\udcff.jpg"]}


def test_lists_of_other_classes_stay(cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list_folders(root, ["a"])
    list_folders(root, ["b"])
    listed = counted(monkeypatch)
    list_folders(root, ["a", "b"])
    assert listed == []


def test_a_folder_that_may_still_change_is_not_kept(cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SETTLED", 60.0)
    list_folders(root, ["a"])
    assert not cache.exists()


def test_small_data_sets_leave_nothing_behind(cache: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WORTH", 5)
    list_folders(root, ["a", "b"])
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "other"])
def test_a_damaged_list_is_passed_over_and_made_anew(cache: Path, root: Path, damage: str) -> None:
    first, _ = list_folders(root, ["a", "b"])
    file = next(cache.iterdir())
    content = file.read_bytes()
    changed = {
        "cut": content[:-3],
        "flipped": content[:-1] + bytes([content[-1] ^ 1]),
        "empty": b"",
        "foreign": b"\x80\x04 pickle?\n",
        "other": content.replace(b"listing 1", b"listing 7"),
    }[damage]
    file.write_bytes(changed)
    again, notes = list_folders(root, ["a", "b"])
    assert again == first
    assert notes == [f"the list of files was made anew, as that of the last start is damaged: {file}"]
    assert list_folders(root, ["a", "b"]) == (first, [])


def test_a_list_of_another_data_set_is_not_taken(cache: Path, root: Path) -> None:
    list_folders(root, ["a"])
    file = next(cache.iterdir())
    moved = root.parent / "moved"
    shutil.copytree(root, moved)
    other = index._file(moved)
    assert other is not None
    file.rename(other)
    found, notes = list_folders(moved, ["a"])
    assert found == {"a": A} and "is damaged" in notes[0]


def test_an_unwritable_cache_is_told_and_harmless(
    cache: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found, notes = list_folders(root, ["a"])
    assert found == {"a": A}
    assert any("could not be kept, so the next start lists them again" in note for note in notes)


def test_no_home(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert list_folders(root, ["a"]) == ({"a": A}, []) and not cache.exists()


def test_a_data_set_opens_the_same_with_and_without(cache: Path, root: Path) -> None:
    (root / "b" / "ö\udcff.jpg").rename(root / "b" / "c.jpg")
    touch(root / "b" / "c.png")
    first, second = open_folders(root), open_folders(root)
    assert next(cache.iterdir()).is_file()
    assert first.names == second.names == ["a/1", "a/2", "a/deep/er/3", "b/c.jpg", "b/c.png"]
    assert [first.path(i) for i in range(5)] == [second.path(i) for i in range(5)]
    assert all(second.path(i).is_file() for i in range(5))


def test_files_kept_as_names_and_endings() -> None:
    folders = {"a": ["x.jpg", "y.jpg"], "b": ["x.JPG", "x.jpg", "x.jpg.png", "d.e/z.webp"], "c": []}
    kept = Suffixed()
    for folder, files in folders.items():
        kept.extend(folder, files)
    paths = [f"{folder}/{file}" for folder, files in folders.items() for file in files]
    assert list(kept) == paths and kept.names == unique_names(paths)
    assert kept[-1] == paths[-1] and kept[1:3] == paths[1:3] and len(kept) == 6
    with pytest.raises(IndexError):
        kept[6]
