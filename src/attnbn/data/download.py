"""Fetching data sets from their official addresses, where one is still served, when a person asks for it.

Addresses and checksums are torchvision's. torchvision's own functions start a broken transfer of two gigabytes anew and leave
half a file under its final name; here it goes on where it broke, and nothing appears under its name that is not whole.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from attnbn.io.atomic import explained
from attnbn.io.errors import InputError, RunError

Progress = Callable[[int, int], None]
"""(bytes there, bytes in all)."""

_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC"
_CHUNK = 1 << 20
_TIMEOUT = 60.0
"""Seconds without a byte after which a transfer counts as broken."""


@dataclass(frozen=True)
class Archive:
    """One file of a data set.

    Attributes:
        url: The official address.
        md5: Checksum, 32 hexadecimal digits.
        size: Bytes, about, for people.
    """

    url: str
    md5: str
    size: int

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Source:
    """A data set that can be fetched.

    Attributes:
        title: What people call it.
        archives: Its files.
        makes: The folder that they unpack to, relative to the one that is named.
        spec: How it is opened: the kind, and the folder relative to the one that is named; None: not by itself.
        terms: Whose it is and what may be done with it.
    """

    title: str
    archives: tuple[Archive, ...]
    makes: str
    spec: str | None
    terms: str


SOURCES = {
    "voc2012": Source(
        "PASCAL VOC 2012, training and validation",
        (Archive(f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd", 1_999_639_040),),
        "VOCdevkit/VOC2012",
        "voc:{}/VOCdevkit/VOC2012",
        "photographs from Flickr under its terms, for research; the test images need an account on the evaluation server",
    ),
    "voc2007": Source(
        "PASCAL VOC 2007, training, validation and test",
        (
            Archive(f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64", 460_032_000),
            Archive(f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f", 451_020_800),
        ),
        "VOCdevkit/VOC2007",
        "voc:{}/VOCdevkit/VOC2007",
        "photographs from Flickr under its terms, for research",
    ),
    "sbd": Source(
        "Semantic Boundaries Data set (SBD)",
        (
            Archive(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
                "82b4d87ceb2ed10f6038a1cba92111cb",
                1_419_539_633,
            ),
        ),
        "benchmark_RELEASE",
        None,
        "its lists make VOC's split train_aug; photographs from Flickr under its terms, for research",
    ),
    "caltech101": Source(
        "Caltech-101",
        (
            Archive(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
                137_414_764,
            ),
        ),
        "caltech-101",
        "caltech101:{}/caltech-101",
        "CC BY 4.0",
    ),
    "caltech256": Source(
        "Caltech-256",
        (
            Archive(
                "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
                "67b4f42ca05d46448c6bb8ecd2220f6d",
                1_183_006_720,
            ),
        ),
        "256_ObjectCategories",
        "caltech256:{}/256_ObjectCategories",
        "CC BY 4.0",
    ),
}

ELSEWHERE = {
    "imagenet": "ImageNet is given to registered people alone: register at https://image-net.org/download.php, unpack "
    "ILSVRC2012_img_train.tar and each class's archive in it into a folder of its name, and open imagenet:PATH",
    "msrc": "MSRC v2 has no address with a checksum: fetch it from its page at Microsoft Research (Image Understanding), unpack "
    "it, and open masks:PATH",
}
"""Data sets that cannot be fetched for a person, and what to do instead."""


def source(name: str) -> Source:
    """The data set of a name.

    Raises:
        InputError: There is none, or it cannot be fetched for a person.
    """
    if name in ELSEWHERE:
        raise InputError(ELSEWHERE[name])
    if name not in SOURCES:
        raise InputError(f"expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]


def fetch(wanted: Source, to: Path, *, keep: bool = False, progress: Progress | None = None) -> bool:
    """Fetch a data set and unpack it.

    An archive that lies in ``to`` already, fetched by other means, is used if its checksum is right.

    Args:
        wanted: The data set.
        to: The folder that will hold it; made if it is not there.
        keep: Whether its archives stay beside it.
        progress: Called with the bytes of an archive that are there, and all of them.

    Returns:
        Whether anything was done; False where it is there already.

    Raises:
        RunError: An address does not answer or the transfer breaks (what has come is kept for the next try), another
            checksum, a full disk, or an archive that would write outside its folder.
    """
    if (to / wanted.makes).exists():
        return False
    with explained(to):
        to.mkdir(parents=True, exist_ok=True)
    files = [to / archive.name for archive in wanted.archives]
    for archive, file in zip(wanted.archives, files, strict=True):
        if not file.is_file():
            _transfer(archive, file, progress)
        elif _md5(file) != archive.md5:
            raise RunError(
                f"expected an archive of md5 {archive.md5}, got another; take it away and fetch it anew: {file}"
            )
    _unpack_all(files, to, wanted.makes)
    if not keep:
        for file in files:
            file.unlink()
    return True


def _transfer(archive: Archive, file: Path, progress: Progress | None) -> None:
    """Fetch one archive to ``file``, by way of ``file.part``, which stays if the transfer breaks."""
    part = file.with_name(f"{file.name}.part")
    with _reasons(archive, file, part):
        done = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(archive.url, headers={"User-Agent": "attnbn"})  # noqa: S310 - a constant of ours
        if done:
            request.add_header("Range", f"bytes={done}-")
        try:
            response = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            response = None  # all of it is there
        if response is not None:
            with response:
                if getattr(response, "status", None) != http.HTTPStatus.PARTIAL_CONTENT:
                    done = 0
                _copy(response, part, done, progress)
    got = _md5(part)
    if got != archive.md5:
        part.unlink()
        raise RunError(
            f"expected an archive of md5 {archive.md5}, got {got}, and threw it away; the file at the address has changed or was "
            f"damaged on its way; try again later: {archive.url}"
        )
    part.replace(file)


def _copy(response: http.client.HTTPResponse, part: Path, done: int, progress: Progress | None) -> None:
    length = response.headers.get("Content-Length")
    total = done + int(length) if length else 0
    with explained(part), part.open("ab" if done else "wb") as out:
        while True:
            block = response.read(_CHUNK)
            if not block:
                break
            out.write(block)
            done += len(block)
            if progress is not None:
                progress(done, max(done, total))
    if done < total:
        raise ConnectionError(f"{done:,} of {total:,} bytes came")


@contextmanager
def _reasons(archive: Archive, file: Path, part: Path) -> Iterator[None]:
    """A failing transfer as one line with what to do."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        kept = f"; the {part.stat().st_size:,} bytes that came are kept" if part.exists() else ""
        raise RunError(
            f"could not fetch {archive.name} ({reason}){kept}; run the command again, or put the file, fetched from elsewhere, "
            f"into {file.parent}, where its checksum is tested: {archive.url}"
        ) from error


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack_all(files: Sequence[Path], to: Path, makes: str) -> None:
    """Unpack archives in a folder aside, and move what they make into place when all of it is there."""
    aside = to / f".{makes.replace('/', '-')}.unpacking"
    try:
        with explained(aside):
            shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
            for file in files:
                _unpack(file, aside)
            # Caltech-101's archive holds archives
            for inner in [file for file in sorted((aside / makes).glob("*.tar*")) if not file.name.startswith(".")]:
                _unpack(inner, inner.parent)
                inner.unlink()
            if not (aside / makes).is_dir():
                raise RunError(f"expected {makes} in the archive, found none; the data set has changed: {files[0]}")
            (to / makes).parent.mkdir(parents=True, exist_ok=True)
            os.replace(aside / makes, to / makes)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(file: Path, to: Path) -> None:
    try:
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as packed:
                for name in packed.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                        raise RunError(f"refused an archive that would write outside its folder ({name!r}): {file}")
                packed.extractall(to)  # noqa: S202 - the names are looked at above
            return
        with tarfile.open(file) as tar:
            # names that lead outside, links that do, devices and the like are refused
            tar.extractall(to, filter="data")
    except tarfile.FilterError as error:
        raise RunError(f"refused an archive that would write outside its folder ({error}): {file}") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise RunError(
            f"expected an archive, got a damaged one ({error}); take it away and fetch it anew: {file}"
        ) from error
