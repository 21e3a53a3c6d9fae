"""Fetching data sets, from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import caltech, sbd, voc

from attnbn.data import download
from attnbn.data.download import SOURCES, Archive, Source, fetch, source
from attnbn.io.errors import InputError, RunError


class Site:
    """What the server holds, what it was asked, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None  # bytes after which the connection breaks
        self.ranges = True
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    held = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            held.asked.append((name, wanted))
            if name not in held.files:
                self.send_error(404)
                return
            content = held.files[name]
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and held.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: held.cut])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()


def tar(form: str = "", **files: str) -> bytes:
    """A tar archive; ``__`` in a name stands for ``/``, ``up`` for ``..``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{form}") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("up/", "../"))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def offer(site: Site, makes: str, **files: bytes) -> Source:
    """Put archives on the server as a data set; ``_`` in a name stands for the dot before its ending."""
    archives = []
    for key, content in files.items():
        name = ".".join(key.rsplit("_", 1))
        site.files[name] = content
        archives.append(Archive(f"{site.url}/{name}", hashlib.md5(content).hexdigest(), len(content)))
    return Source("Test", tuple(archives), makes, "folders:{}/" + makes, "for tests")


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetches_unpacks_and_skips_the_second_time(site: Site, tmp_path: Path) -> None:
    wanted = offer(site, "kit/set", one_tar=tar(kit__set__a="1"), two_tar=tar(kit__set__b="2"))
    seen: list[tuple[int, int]] = []
    assert fetch(wanted, tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert left(tmp_path / "new") == ["kit/set/a", "kit/set/b"] and (tmp_path / "new/kit/set/b").read_text() == "2"
    assert [done == total for done, total in seen] == [True, True]
    assert [name for name, _ in site.asked] == ["one.tar", "two.tar"]
    assert not fetch(wanted, tmp_path / "new") and len(site.asked) == 2


def test_keeps_the_archives_if_told(site: Site, tmp_path: Path) -> None:
    fetch(offer(site, "a", one_tar=tar(a__x="1")), tmp_path, keep=True)
    assert left(tmp_path) == ["a/x", "one.tar"]


def test_an_archive_fetched_by_other_means_is_used(site: Site, tmp_path: Path) -> None:
    wanted = offer(site, "a", one_tar=tar(a__x="1"))
    (tmp_path / "one.tar").write_bytes(site.files["one.tar"])
    assert fetch(wanted, tmp_path) and site.asked == [] and left(tmp_path) == ["a/x"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.tar").write_bytes(b"something else")
    with pytest.raises(RunError, match=r"an archive of md5 [0-9a-f]{32}, got another; take it away .*one\.tar$"):
        fetch(wanted, tmp_path / "other")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_told_and_goes_on(site: Site, tmp_path: Path, ranges: bool) -> None:
    wanted = offer(site, "a", one_tar=tar(a__x="1" * 5000))
    site.cut, site.ranges = 4000, ranges
    with pytest.raises(
        RunError,
        match=r"could not fetch one\.tar \(.*\); the 4,000 bytes that came are kept; run the command again, or put the file, "
        rf"fetched from elsewhere, into {tmp_path}, where its checksum is tested: http://",
    ):
        fetch(wanted, tmp_path)
    assert left(tmp_path) == ["one.tar.part"]  # nothing under its own name that is not whole
    site.cut = None
    assert fetch(wanted, tmp_path) and left(tmp_path) == ["a/x"]
    assert (tmp_path / "a" / "x").read_text() == "1" * 5000
    assert [asked for _, asked in site.asked] == [None, "bytes=4000-"]


def test_a_transfer_stopped_after_its_last_byte(site: Site, tmp_path: Path) -> None:
    wanted = offer(site, "a", one_tar=tar(a__x="1"))
    (tmp_path / "one.tar.part").write_bytes(site.files["one.tar"])
    assert fetch(wanted, tmp_path) and left(tmp_path) == ["a/x"]


def test_another_checksum(site: Site, tmp_path: Path) -> None:
    wanted = offer(site, "a", one_tar=tar(a__x="1"))
    site.files["one.tar"] = tar(a__x="2")
    with pytest.raises(RunError, match=r"expected an archive of md5 .*, got .*, and threw it away; .*one\.tar$"):
        fetch(wanted, tmp_path)
    assert left(tmp_path) == []


def test_an_address_that_does_not_answer(site: Site, tmp_path: Path) -> None:
    wanted = offer(site, "a", one_tar=b"")
    site.files.clear()
    with pytest.raises(RunError, match=r"could not fetch one\.tar \(Not Found\); run the command again"):
        fetch(wanted, tmp_path)
    gone = Source("Test", (Archive("http://127.0.0.1:9/one.tar", "0" * 32, 1),), "a", None, "")
    with pytest.raises(RunError, match=r"could not fetch one\.tar \(.*refused\)"):
        fetch(gone, tmp_path)
    assert left(tmp_path) == []


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("up/", "../"), content)
    return packed.getvalue()


def test_archives_within_an_archive(site: Site, tmp_path: Path) -> None:
    """As Caltech-101's, with what a Mac adds."""
    inner = gzip.compress(tar(**{"101_ObjectCategories__emu__image": "e"}))
    whole = zipped(**{"caltech-101__101_ObjectCategories.tar.gz": inner, "caltech-101__show.m": b"m",
                      "MAC__caltech-101__._101_ObjectCategories.tar.gz": b"no archive",
                      "caltech-101__._Annotations.tar": b"no archive"})  # fmt: skip
    fetch(offer(site, "caltech-101", one_zip=whole), tmp_path)
    assert left(tmp_path) == [
        f"caltech-101/{f}" for f in ("._Annotations.tar", "101_ObjectCategories/emu/image", "show.m")
    ]


@pytest.mark.parametrize("kind", ["tar", "link", "zip"])
def test_an_archive_that_would_write_elsewhere_is_refused(site: Site, tmp_path: Path, kind: str) -> None:
    if kind == "tar":
        content = tar(a__x="1", up__up__evil="2")
    elif kind == "zip":
        content = zipped(a__x=b"1", up__up__evil=b"2")
    else:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            link = tarfile.TarInfo("a/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(link)
        content = packed.getvalue()
    wanted = offer(site, "a", **{f"one_{'zip' if kind == 'zip' else 'tar'}": content})
    with pytest.raises(RunError, match="refused an archive that would write outside its folder"):
        fetch(wanted, tmp_path / "deep" / "er")
    assert not (tmp_path / "evil").exists() and not (tmp_path / "deep" / "evil").exists()
    assert [file for file in left(tmp_path) if not file.endswith((".tar", ".zip"))] == []


def test_damaged_and_other_archives(site: Site, tmp_path: Path) -> None:
    for number, content in enumerate((b"no archive", tar("gz", a__x="1" * 999)[:60], tar(b__x="1"))):
        wanted = offer(site, "a", one_tar=content)
        with pytest.raises(RunError, match=r"got a damaged one|expected a in the archive, found none"):
            fetch(wanted, tmp_path / str(number))
        assert left(tmp_path / str(number)) == ["one.tar"]


def test_what_a_killed_run_left_is_cleared(site: Site, tmp_path: Path) -> None:
    stale = tmp_path / ".a.unpacking" / "a" / "half"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    fetch(offer(site, "a", one_tar=tar(a__x="1")), tmp_path)
    assert left(tmp_path) == ["a/x"]


def test_addresses_and_checksums_are_torchvisions() -> None:
    text = "".join(inspect.getsource(module) for module in (voc, sbd, caltech))
    for wanted in SOURCES.values():
        for archive in wanted.archives:
            assert archive.url in text and archive.md5 in text and archive.url.startswith("https://")


def test_what_cannot_be_fetched() -> None:
    with pytest.raises(InputError, match=r"register at https://image-net\.org"):
        source("imagenet")
    with pytest.raises(InputError, match="expected one of voc2012, voc2007, sbd, caltech101, caltech256, got 'coco'"):
        source("coco")


def test_command(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from attnbn.cli import download as command

    monkeypatch.setitem(download.SOURCES, "caltech256", offer(site, "a", one_tar=tar(a__x="1")))
    for _ in range(2):
        command.main(["caltech256", "--to", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Test (for tests)", f"  {site.url}/one.tar, 0.0 GB", f"unpacked to {tmp_path}/a; open it as folders:{tmp_path}/a",
        "Test (for tests)", f"  {site.url}/one.tar, 0.0 GB",
        f"nothing to do, it is there already: {tmp_path}/a; open it as folders:{tmp_path}/a",
    ]  # fmt: skip
