"""Annotations and lists: odd ones are read right or refused in one line; nothing outside the data set is ever read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from attnbn.data.broken import without_broken
from attnbn.data.open import open_dataset
from attnbn.data.voc_labels import read_annotation
from fuzz.corpus import encoded, pixels
from fuzz.guards import alone, refused, small_and_fast, within

OBJECT = "<object><name>cat</name></object>"
BODY = f"<annotation>{OBJECT}</annotation>"
LAUGHS = "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(9)
) + f"]>{BODY.replace('cat', '&a9;')}"  # fmt: skip

READ = {
    "plain": BODY.encode(),
    "bom": b"\xef\xbb\xbf" + BODY.encode(),
    "utf-16": f'<?xml version="1.0" encoding="utf-16"?>{BODY}'.encode("utf-16"),
    "latin-1": f'<?xml version="1.0" encoding="latin-1"?>{BODY}<!-- é -->'.encode("latin-1"),
    "windows": f'<?xml version="1.0" encoding="cp1252"?>\r\n{BODY}\r\n'.encode("cp1252"),
    "windows-line-ends": BODY.replace("<", "\r\n<").strip().encode(),
    "parts": BODY.replace("</object>", "<part><name>head</name></part></object>").encode(),
    "instruction": b'<?php system("touch x") ?>' + BODY.encode(),
    "deep": BODY.replace("</annotation>", "<a>" * 50_000 + "</a>" * 50_000 + "</annotation>").encode(),
    "long-text": BODY.replace("</object>", f"<pose>{chr(10) * 300_000}</pose></object>").encode(),
    "long-attribute": BODY.replace("<annotation>", f"<annotation a='{'x' * 10**6}'>").encode(),
}
REFUSED = {
    "empty": (b"", "no element found"),
    "cut": (BODY[:30].encode(), "damaged text"),
    "two": (BODY.encode() * 2, "damaged text"),
    "zeros": (bytes(100), "damaged text"),
    "bytes": (BODY.encode().replace(b"cat", b"c\xfft"), "damaged text"),
    "web-page": (b"<html><body>404</body></html>", "got <html>"),
    "laughs": (LAUGHS.encode(), "without a document type declaration"),
    "outside": (
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{BODY.replace("cat", "&x;")}'.encode(),
        "DOCTYPE",
    ),
    "outside-dtd": (f'<!DOCTYPE a SYSTEM "http://localhost/a.dtd">{BODY}'.encode(), "remove the DOCTYPE"),
    "undefined": (BODY.replace("cat", "&x;").encode(), "undefined entity"),
    "gbk": (f'<?xml version="1.0" encoding="gbk"?>{BODY}'.encode(), "in UTF-8, got another encoding"),
    "utf-7": (f'<?xml version="1.0" encoding="utf-7"?>{BODY}'.encode(), "in UTF-8, got another encoding"),
    "no-encoding": (f'<?xml version="1.0" encoding="nonsense"?>{BODY}'.encode(), "unknown encoding: nonsense"),
    "codec": (f'<?xml version="1.0" encoding="zlib"?>{BODY}'.encode(), "got another encoding"),
}


@pytest.mark.parametrize("name", READ)
def test_annotations_that_are_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.xml"
    file.write_bytes(READ[name])
    came = alone(lambda: read_annotation(file))
    assert came.value == [("cat", False)] and came.megabytes < 100 and came.seconds < 2


@pytest.mark.parametrize("name", REFUSED)
def test_annotations_that_are_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.xml"
    file.write_bytes(REFUSED[name][0])
    small_and_fast(lambda: read_annotation(file), file, REFUSED[name][1])


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two photographs a (cat) and b (dog), labelled by annotations, listed in ``train``."""
    root = tmp_path / "VOC"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, label in (("a", "cat"), ("b", "dog")):
        (root / f"JPEGImages/{name}.jpg").write_bytes(encoded(pixels(), "JPEG"))
        (root / f"Annotations/{name}.xml").write_text(BODY.replace("cat", label))
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    return root


def open_voc(root: Path) -> list[str]:
    with within(20):
        return open_dataset(f"voc:{root}", split="train").names


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa\r\nb\r\n", b"a\rb", b"a\nb\na\nb\n", b"\n\n a \n\tb\n\n", b"a 1\nb -1\n", b"a  1  x\nb",
        b"/JPEGImages/a.jpg /x/a.png\nJPEGImages/b.jpg", b"../../a\n/etc/b.jpg\n",
    ],
)  # fmt: skip
def test_lists_that_are_read(voc: Path, content: bytes) -> None:
    (voc / "ImageSets/Main/train.txt").write_bytes(content)
    assert open_voc(voc) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty list"),
        (b"\r\n\r\n", "got an empty list"),
        (b"a.jpg\n", r"names have no endings \(write a\)"),
        (b"a\nc\n", "found none for 'c'"),
        (b"../../../etc/passwd\n", "found none for 'passwd'"),
        (b"..\n", r"found none for '\.\.'"),
        (b"/\n", "found none for ''"),
        (b"a\0\n", r"found none for 'a\\x00'"),
        ("a\nb\n".encode("utf-16"), "expected UTF-8 text"),
        (b"a\n\xff\n", "expected UTF-8 text"),
        (b"x" * 10**6, "found none for 'xxx"),
    ],
)
def test_lists_that_are_refused(voc: Path, content: bytes, message: str) -> None:
    (voc / "ImageSets/Main/train.txt").write_bytes(content)
    assert len(refused(lambda: open_voc(voc), None, message)) <= 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\nb 2\n", "1, -1 or 0 .*got 'b 2'"),
        ("a\nb\n", "1, -1 or 0 .*got 'a'"),
        ("a 1 1 1\nb\n", "got 'b'"),
        ("a 1\nb -1\na -1\n", "got 'a' again with another mark"),
        ("a one\n", "got 'a one'"),
    ],
)
def test_lists_of_a_class_that_are_refused(voc: Path, content: str, message: str) -> None:
    (voc / "classes.txt").write_text("cat\ndog\n")
    (voc / "ImageSets/Main/cat_train.txt").write_text(content)
    refused(lambda: open_voc(voc), "cat_train.txt", message)


def test_lists_of_a_class_that_say_the_same_twice_are_read(voc: Path) -> None:
    (voc / "classes.txt").write_text("cat\ndog\n")
    (voc / "ImageSets/Main/cat_train.txt").write_bytes(b"\xef\xbb\xbfa  1\r\nb -1\r\na +1\r\n")
    (voc / "ImageSets/Main/dog_train.txt").write_text("a 0\nb 1\na 0\n")
    dataset = open_dataset(f"voc:{voc}", split="train")
    assert dataset.labels is not None and dataset.labels[:, 0].tolist() == [1, 0] and dataset.labels[0, 1].isnan()


@pytest.mark.parametrize(
    ("content", "message"),
    [(BODY.replace("cat", "unicorn"), "unknown class 'unicorn'"), ("<annotation/>", "at least one class, got none"),
     (BODY.replace("<name>cat</name>", ""), "unknown class ''")],
)  # fmt: skip
def test_annotations_that_label_nothing_known(voc: Path, content: str, message: str) -> None:
    (voc / "Annotations/a.xml").write_text(content)
    refused(lambda: open_voc(voc), None, message)


def test_pipes_and_folders_in_place_of_annotations_are_not_opened(voc: Path) -> None:
    (voc / "Annotations/a.xml").unlink()
    os.mkfifo(voc / "Annotations/a.xml")
    refused(lambda: open_voc(voc), None, "no Annotations/a.xml")
    (voc / "ImageSets/Main/train.txt").unlink()
    os.mkfifo(voc / "ImageSets/Main/train.txt")
    refused(lambda: open_voc(voc), None, "no split 'train'")


def test_broken_photographs_of_a_list_are_left_out_by_name(voc: Path) -> None:
    (voc / "JPEGImages/b.jpg").write_bytes(b"<html>")
    dataset = without_broken(open_dataset(f"voc:{voc}", split="train"))
    assert dataset.names == ["a"] and "web page" in dataset.notes[-1] and "b.jpg" in dataset.notes[-1]


# csv


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three photographs, of which one has a name that has to be quoted, and one lies above the list."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for place in (folder / "a.jpg", folder / 'b, "c";\nd.jpg', tmp_path / "up.jpg"):
        place.write_bytes(encoded(pixels(), "JPEG"))
    return folder


QUOTED = '"b, ""c"";\nd.jpg"'


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\xef\xbb\xbfpath,label\r\na.jpg,cat\r\n", ["a"]),
        (f"a.jpg,cat\n{QUOTED},dog,cat\n".encode(), ["a", 'b, "c";\nd']),
        (b'"a.jpg","cat"\n', ["a"]),
        (b"a.jpg,cat,cat,,\n,,\n\n", ["a"]),
        (b"../up.jpg,cat\na.jpg,cat\n", ["up", "a"]),
        (b"./../lists/./a.jpg,cat\n", ["lists/a"]),
        (b"PATH,LABEL\na.jpg,<script>alert(1)</script>\n", ["a"]),
    ],
)
def test_csv_that_is_read(photographs: Path, content: bytes, names: list[str]) -> None:
    (photographs / "list.csv").write_bytes(content)
    dataset = open_dataset(f"csv:{photographs}/list.csv", split="train")
    assert dataset.names == names
    for index in range(len(dataset)):
        assert dataset[index].image.shape == (3, 24, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected rows path,label"),
        (b"path,label\n", "expected rows path,label"),
        (b"a.jpg;cat\n", r"cells are separated by commas.*list\.csv, line 1$"),
        (b"a.jpg\tcat\n", "cells are separated by commas"),
        (b"path;label\na.jpg;cat\n", "cells are separated by commas"),
        (b"a.jpg\n", "got no label"),
        (b",cat\n", "got no path"),
        (b"a.jpg,cat\0\n", "class names of text in one line, got 'cat"),
        (b"a.jpg\0,cat\n", "found no file"),
        (b'a.jpg,"c\nt"\n', "class names of text in one line"),
        (b'"a.jpg,cat\n', "got a damaged one"),
        (b'"a.jpg"x,cat\n', "got a damaged one"),
        (b"a.jpg," + b"x" * 200_000, "got a damaged one .field larger"),
        (b"x" * 100_000 + b",cat", "found no file"),
        (b"a.jpg,c\xe4t\n", "expected UTF-8 text"),
        ("a.jpg,cat\n".encode("utf-16"), "expected UTF-8 text"),
        (b"a.jpg,cat\n./a.jpg,cat\n", "each photograph once"),
        (b"/etc/passwd-no,cat\n", "found no file"),
        (b".,cat\n", "found no file"),
    ],
)
def test_csv_that_is_refused(photographs: Path, content: bytes, message: str) -> None:
    file = photographs / "list.csv"
    file.write_bytes(content)
    assert len(refused(lambda: open_dataset(f"csv:{file}", split="train"), file, message)) <= 2000


def test_csv_with_an_unknown_class_names_the_line(photographs: Path) -> None:
    file = photographs / "list.csv"
    file.write_text("a.jpg,cat\n../up.jpg,unicorn\n")
    refused(lambda: open_dataset(f"csv:{file}", split="train", classes="cat"), file, r"'unicorn'.* line 2$")


def test_names_never_leave_the_folder_that_results_go_to(photographs: Path) -> None:
    """``../`` and absolute paths are allowed; the name of the results has neither, and two that become one are refused."""
    file = photographs / "list.csv"
    elsewhere = photographs.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(photographs / "a.jpg", elsewhere / "z.jpg")
    file.write_text(f"{elsewhere}/z.jpg,cat\n../up.jpg,cat\n")
    names = open_dataset(f"csv:{file}", split="train").names
    assert names == [f"{elsewhere}/z"[1:], "up"]
    shutil.copy(photographs / "a.jpg", photographs / "up.jpg")
    file.write_text("up.jpg,cat\n../up.jpg,cat\n")
    refused(lambda: open_dataset(f"csv:{file}", split="train"), file, "expected names that differ")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path), lambda path: os.symlink(path, path)]
)
def test_a_csv_that_is_no_file_is_not_waited_for(tmp_path: Path, make: object) -> None:
    file = tmp_path / "list.csv"
    make(file)  # type: ignore[operator]
    refused(lambda: open_dataset(f"csv:{file}", split="train"), file, "pipe|found nothing|circle")
