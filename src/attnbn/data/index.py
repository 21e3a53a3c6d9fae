"""What lies in many class folders, remembered: listing ImageNet's 1.28 million files takes minutes on a network disc.

One file for each data set in ``$XDG_CACHE_HOME/attnbn/listings`` (else ``~/.cache/attnbn/listings``). A folder's list is
used again only while the modification time, the change time and the inode of every folder below it are what they were, so
a list is never out of date; nothing but speed is lost with the file, and one that is damaged or cannot be written is
passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from attnbn.io.atomic import write_bytes
from attnbn.io.errors import RunError
from attnbn.io.pictures import list_pictures

WORTH = 10_000
"""Fewer files than this are listed about as fast as a list is looked up, and leave no file behind."""
SETTLED = 2.0
"""Seconds. A folder changed more recently may change again within one tick of its clock and look unchanged, so its list is
not kept (the coarsest clock in use, FAT's, ticks every two seconds)."""
_MAGIC = b"attnbn listing 1 "


class Stamp(NamedTuple):
    """What tells that a folder is as it was when it was listed: a file added, removed or renamed changes its times."""

    path: str
    modified: int
    changed: int
    inode: int


@dataclass
class _Folder:
    """Pictures below one folder, and the stamps of it and of all folders below it (relative to it)."""

    files: list[str] | bytes
    stamps: list[Stamp]

    def listed(self) -> list[str]:
        # kept packed until it is wanted: a run may use twenty of a thousand classes
        files = self.files
        if isinstance(files, bytes):
            return files.decode("utf-8", "surrogateescape").split("\0") if files else []
        return files

    def packed(self) -> bytes:
        files = self.files
        return files if isinstance(files, bytes) else "\0".join(files).encode("utf-8", "surrogateescape")


def list_folders(root: Path, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Pictures in folders of a data set, from its list where that still holds.

    Args:
        root: The data set's folder.
        names: Folders in it.

    Returns:
        Name -> sorted paths relative to that folder, as :func:`~attnbn.io.pictures.list_pictures` gives them; and a line
        for a list that was damaged or could not be kept.
    """
    notes: list[str] = []
    file = _file(root)
    known = {} if file is None else _read(file, root, notes)
    found = {name: known[name] for name in names if name in known and _holds(root / name, known[name].stamps)}
    new = {name: _list(root / name) for name in names if name not in found}
    found |= new
    keep = {name: folder for name, folder in new.items() if folder.stamps}
    if file is not None and keep and sum(len(folder.files) for folder in keep.values()) >= WORTH:
        _write(file, root, {**known, **keep}, notes)
    return {name: found[name].listed() for name in names}, notes


def _list(path: Path) -> _Folder:
    """List one folder anew; without stamps if it may still be changing."""
    folders: list[str] = []
    begun = time.time()
    before = _stamps(path, [os.fspath(path)])  # also where the disc's clock is not this machine's
    files = list(list_pictures(path, folders))
    stamps = _stamps(path, folders)
    latest = max((max(stamp.modified, stamp.changed) for stamp in stamps), default=0)
    settled = before and stamps and before[0] == stamps[0] and latest < (begun - SETTLED) * 1e9
    return _Folder(files, stamps if settled else [])


def _stamps(path: Path, folders: Sequence[str]) -> list[Stamp]:
    """The stamps of folders; none at all where one of them has gone."""
    try:
        stats = [os.stat(folder) for folder in folders]
    except OSError:
        return []
    return [
        Stamp(os.path.relpath(folder, path), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for folder, stat in zip(folders, stats, strict=True)
    ]


def _holds(path: Path, stamps: Sequence[Stamp]) -> bool:
    folders = [os.path.normpath(path / stamp.path) for stamp in stamps]
    return bool(stamps) and _stamps(path, folders) == list(stamps)


def _file(root: Path) -> Path | None:
    """Where a data set's list lies; None where there is no home to keep it in."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # the XDG specification: a path that is not absolute is to be ignored
        base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
        key = os.fsencode(root.resolve())
    except (OSError, RuntimeError):
        return None
    return base / "attnbn" / "listings" / f"{hashlib.blake2b(key, digest_size=16).hexdigest()}.list"


def _read(file: Path, root: Path, notes: list[str]) -> dict[str, _Folder]:
    """The lists in a file, empty where there is none or it is not sound."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        notes.append(f"the list of files was made anew, as that of the last start cannot be read ({error}): {file}")
        return {}
    try:
        return _parse(content, root)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        notes.append(f"the list of files was made anew, as that of the last start is damaged: {file}")
        return {}


def _parse(content: bytes, root: Path) -> dict[str, _Folder]:
    """``attnbn listing 1 DIGEST LENGTH``, a header in JSON of that length, then the names, each folder's joined by NUL."""
    line, _, rest = content.partition(b"\n")
    digest, length = line.removeprefix(_MAGIC).split()
    if not line.startswith(_MAGIC) or hashlib.blake2b(rest, digest_size=16).hexdigest().encode() != digest:
        raise ValueError("another digest")
    header, body = json.loads(rest[: int(length)]), rest[int(length) :]
    if header["root"] != os.fspath(root.resolve()):
        raise ValueError("another data set")
    if b"../" in body or b"\0/" in body or body.startswith(b"/"):
        raise ValueError("names that lead elsewhere")
    folders: Mapping[str, tuple[int, int, list[list[str | int]]]] = header["folders"]
    return {
        name: _Folder(body[start:stop], [Stamp(*stamp) for stamp in stamps])  # type: ignore[arg-type]
        for name, (start, stop, stamps) in folders.items()
    }


def _write(file: Path, root: Path, folders: Mapping[str, _Folder], notes: list[str]) -> None:
    """Keep the lists for the next start; another program that does so at the same time does no harm."""
    table: dict[str, tuple[int, int, list[Stamp]]] = {}
    parts: list[bytes] = []
    end = 0
    try:
        for name, folder in folders.items():
            parts.append(folder.packed())
            table[name] = (end, end + len(parts[-1]), folder.stamps)
            end += len(parts[-1])
        header = json.dumps({"root": os.fspath(root.resolve()), "folders": table}).encode()
        body = b"".join([header, *parts])
        digest = hashlib.blake2b(body, digest_size=16).hexdigest()
        write_bytes(file, _MAGIC + f"{digest} {len(header)}\n".encode() + body)
    except (RunError, OSError, UnicodeEncodeError) as error:
        notes.append(f"the list of files could not be kept, so the next start lists them again ({error})")
