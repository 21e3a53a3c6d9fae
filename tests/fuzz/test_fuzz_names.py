"""Odd names, links, pipes and devices: found, named and read, or refused in one line; nothing is waited for."""

from __future__ import annotations

import json
import os
import socket
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbn.cli.main import main
from attnbn.data.images import read_image
from attnbn.data.open import open_dataset
from attnbn.inference.photographs import list_photographs
from attnbn.io.errors import InputError
from attnbn.io.pictures import list_pictures
from attnbn.saliency.files import SaliencyFolder
from fuzz.corpus import encoded, pixels
from fuzz.guards import refused, within
from segment_runs import classifier_run

CAFE = "café"
ODD = [
    "plain.jpg", "with space.jpg", "quo'te\".jpg", "new\nline.jpg", "tab\t.jpg", "\x1b[31mred.jpg", "percent%s{0}.jpg",
    os.fsdecode(b"\xff\xfe.jpg"), f"{'x' * 240}.jpg", f"{'長' * 82}.jpg", unicodedata.normalize("NFC", f"{CAFE}.jpg"),
    unicodedata.normalize("NFD", f"{CAFE}.jpg"), "<img src=x onerror=alert(1)>.jpg", "<script>alert(1)<_script>.jpg",
    "-rf.jpg", "--output.jpg", "$(touch ran).jpg", "`touch ran`.jpg", "; touch ran.jpg", "a\u202egpj.exe.jpg", "🐈.jpg",
    "\u2028.jpg", "*.jpg", "~.jpg", "CON.jpg", "a.b.c.jpg", "UPPER.JPG", " .jpg",
]  # fmt: skip
PASSED_OVER = (
    "Thumbs.db",
    ".DS_Store",
    "._plain.jpg",
    ".hidden.jpg",
    "desktop.ini",
    "notes.txt",
    "plain.jpg.part",
    "jpg",
)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of photographs with odd names, and of files that are none."""
    folder = tmp_path / "odd"
    folder.mkdir()
    data = encoded(pixels(), "JPEG")
    for name in ODD:
        (folder / name).write_bytes(data)
    for name in PASSED_OVER:
        (folder / name).write_bytes(b"\0\5\x16\7")
    return folder


def test_every_photograph_is_found_once_and_read(odd: Path) -> None:
    assert sorted(list_pictures(odd)) == sorted(ODD)
    assert len(ODD) == len({photograph.name for photograph in list_photographs([odd])})
    dataset = open_dataset(f"folders:{odd.parent}", split="train")
    assert sorted(dataset.names) == sorted("odd/" + name[: -len(".jpg")] for name in ODD)
    for index in range(len(dataset)):
        assert dataset[index].image.shape == (3, 24, 32)


def test_a_refusal_is_one_line_whatever_the_file_is_called(odd: Path) -> None:
    for name in ODD:
        (odd / name).write_bytes(b"")
        refused(lambda name=name: read_image(odd / name), odd / name, "empty file")  # type: ignore[misc]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A classifier's run."""
    return classifier_run(tmp_path / "run", ["cat", "dog"], threshold=0.3)


def command(*words: object) -> int:
    with within(50):
        return main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])


def test_attend_writes_for_every_name(odd: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("attend", run, odd, "--output", "maps", "--masks", "--device", "cpu") == 0
    names = sorted(name[: -len(".jpg")] for name in ODD)
    assert sorted(file.name[: -len(".npz")] for file in (tmp_path / "maps/maps").iterdir()) == names
    assert sorted(file.name[: -len(".png")] for file in (tmp_path / "maps/masks").iterdir()) == names
    assert not list(tmp_path.rglob("ran")) and not list((tmp_path / "maps").rglob("*.part"))
    # again: what is complete is passed over under every name
    assert command("attend", run, odd, "--output", "maps", "--masks", "--device", "cpu") == 0


def test_check_data_names_each_in_one_line(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ODD[3:6]:
        (odd / name).write_bytes(b"<html>")
    status = command("check-data", f"folders:{tmp_path}", "--sheet", tmp_path / "s.png", "--json", tmp_path / "c.json")
    out = capsys.readouterr().out
    assert status == 1 and "image-unreadable: 3" in out and r"/new\nline.jpg" in out
    assert all(line.isprintable() for line in out.split("\n"))
    assert np.asarray(read_image(tmp_path / "s.png")).shape[2] > 100
    found = json.loads((tmp_path / "c.json").read_text())["findings"]
    assert sum(finding["kind"] == "image-unreadable" for finding in found) == 3


def test_a_name_too_long_for_its_results_is_said_in_one_line(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = tmp_path / "photos" / f"{'y' * 251}.jpg"
    photograph.parent.mkdir()
    photograph.write_bytes(encoded(pixels(), "JPEG"))
    assert command("attend", run, photograph.parent, "--output", tmp_path / "maps", "--device", "cpu") == 1
    error = capsys.readouterr().err
    assert "shorten the name" in error and error.count("\n") == 1


def test_maps_of_photographs_with_odd_names(odd: Path, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    grey = np.linspace(0, 255, 24 * 32).reshape(24, 32).astype(np.uint8)
    for name in ODD:
        (maps / f"{name[:-4]}.png").write_bytes(encoded(grey, "PNG"))
    folder = SaliencyFolder(maps)
    for name in ODD:
        saliency = folder(name[:-4], (24, 32))
        assert saliency is not None and saliency.shape == (1, 24, 32)


# links


def test_links_in_circles_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    (folder / "deep" / "b.jpg").write_bytes(encoded(pixels(), "JPEG"))
    os.symlink("..", folder / "deep" / "up")
    os.symlink(".", folder / "self")
    os.symlink(folder, tmp_path / "cat" / "again.jpg")  # a folder, whatever it is called
    with within(10):
        assert list(list_pictures(folder)) == ["a.jpg", "deep/b.jpg"]
        assert [photograph.name for photograph in list_photographs([folder])] == ["a", "deep/b"]
        assert open_dataset(f"folders:{tmp_path}", split="train").names == ["cat/a", "cat/deep/b"]


def test_a_folder_named_as_a_photograph_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cat" / "x.jpg").mkdir(parents=True)
    (tmp_path / "cat" / "x.jpg" / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    assert list(list_pictures(tmp_path / "cat")) == ["x.jpg/a.jpg"]
    refused(lambda: read_image(tmp_path / "cat" / "x.jpg"), tmp_path / "cat" / "x.jpg", "got a folder")


def loop(path: Path) -> None:
    os.symlink(path.name + "-2.jpg", path)
    os.symlink(path.name, path.with_name(path.name + "-2.jpg"))


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)
        os.chdir(here)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "got a pipe, a device or a socket"),
    "socket": (listen, "got a pipe, a device or a socket"),
    "zero": (lambda path: os.symlink("/dev/zero", path), "got a pipe, a device or a socket"),
    "null": (lambda path: os.symlink("/dev/null", path), "got a pipe, a device or a socket"),
    "broken": (lambda path: os.symlink("nowhere.jpg", path), "found no file"),
    "circle": (loop, "links that lead in a circle"),
    "below-a-file": (lambda path: os.symlink("/etc/passwd/a.jpg", path), "found no file"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_by_every_reader(
    tmp_path: Path, kind: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = SPECIAL[kind]
    folder = tmp_path / "data" / "cat"
    folder.mkdir(parents=True)
    (folder / "good.jpg").write_bytes(encoded(pixels(), "JPEG"))
    path = folder / "special.jpg"
    make(path)
    refused(lambda: read_image(path), path, message)
    dataset = open_dataset(f"folders:{folder.parent}", split="train")
    refused(lambda: dataset[dataset.names.index("cat/special")], path, message)
    assert command("attend", run, folder, "--output", tmp_path / "m", "--device", "cpu", "--skip-broken") == 0
    output = capsys.readouterr()
    assert "1 photograph written" in output.out and message in output.err
    assert command("check-data", f"folders:{folder.parent}") == 1
    assert "image-unreadable" in (said := capsys.readouterr().out) or "image-missing" in said


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_when_it_is_named(tmp_path: Path, kind: str) -> None:
    make, message = SPECIAL[kind]
    path = tmp_path / "special.jpg"
    make(path)
    refused(lambda: list_photographs([path]), path, message)


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    refused(lambda: read_image(tmp_path / ("x" * 300 + ".jpg")), None, "got a name that is too long")
    refused(lambda: read_image(f"{tmp_path}/a\0.jpg"), None, "found no file")
    refused(lambda: list_photographs([tmp_path / "nothing.jpg"]), "nothing.jpg", "found nothing")


# permissions


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever runs the tests, files may be out of reach: root becomes nobody, within its own folder."""
    monkeypatch.chdir(tmp_path)
    if os.geteuid() != 0:
        yield
        return
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    torch.zeros(1)
    yield
    os.seteuid(0)
    os.umask(before)


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


@pytest.mark.usefixtures("nobody")
def test_files_and_folders_out_of_reach(tmp_path: Path) -> None:
    data = encoded(pixels(), "JPEG")
    for folder in ("data/cat", "data/cat/shut"):
        Path(folder).mkdir(parents=True)
        Path(folder, "a.jpg").write_bytes(data)
    Path("list.csv").write_text("data/cat/a.jpg,cat\n")
    for path in ("data/cat/shut", "data/cat/a.jpg", "list.csv"):
        Path(path).chmod(0)
    become_nobody()
    try:
        refused(lambda: read_image("data/cat/a.jpg"), "a.jpg", "may not read it; change its permissions")
        refused(lambda: read_image("data/cat/shut/a.jpg"), "a.jpg", "may not read it")
        refused(lambda: list(list_pictures("data/cat")), "shut", "folder of pictures, may not read it")
        refused(lambda: list_photographs(["data"]), "shut", "folder of photographs, may not read it")
        refused(lambda: open_dataset("folders:data", split="train"), "shut", "may not read it")
        refused(lambda: open_dataset("csv:list.csv", split="train"), "list.csv", "may not read it")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        Path("data/cat/shut").chmod(0o755)


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "two\nlines", "\x1b[31m"])
def test_classes_need_names_of_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    refused(lambda: open_dataset(f"folders:{tmp_path}", split="train"), tmp_path, "class names of text in one line")


def test_classes_may_be_called_anything_else(tmp_path: Path) -> None:
    names = sorted(["<img src=x onerror=alert(1)>", "-x", "$x^$", "a b", "{0}%s", "日本", CAFE])
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    try:
        dataset = open_dataset(f"folders:{tmp_path}", split="train")
    except InputError as error:
        pytest.fail(str(error))
    assert sorted(dataset.classes) == names
