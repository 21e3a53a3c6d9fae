"""Files appear whole or not at all: written under a temporary name in the same folder, flushed, then renamed."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from attnbn.io.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the folder's permissions")
_REMEDIES[errno.ENAMETOOLONG] = "shorten the name"
_REMEDIES[errno.EFBIG] = "raise the limit on the size of files (ulimit -f) or give another place"


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an operating system's refusal to write into one line that names the file and the remedy.

    Raises:
        RunError: for a full disk, a read-only folder, or any other ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            remedy = "free some and run the command again (a training with --resume)"
            raise RunError(f"no space left to write; {remedy}: {path}") from error
        remedy = _REMEDIES.get(error.errno or 0, "give another place")
        raise RunError(f"could not write ({error.strerror or error}), {remedy}: {path}") from error


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the place of ``path`` when the block ends without an exception.

    Raises:
        RunError: if it cannot be written; nothing half-written stays, and an earlier file is kept.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    # not by mkstemp: where a request to stop comes within it, nobody learns the name of what it has made
    temporary = path.with_name(f".{part_stem(path)}.{uuid.uuid4().hex[:16]}.part")
    try:
        with explained(path), open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with explained(path):
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a disk that cannot be written has nothing to be removed
            temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """See to it that names in a folder outlast a power cut, where the system can: a new file's contents alone are not enough."""
    with suppress(OSError):  # of a system that opens no folders
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def part_stem(path: Path) -> str:
    """How the temporary name of a file begins, after a dot: its own name, cut so that the whole fits in 255 bytes."""
    return path.name.encode("utf-8", "ignore")[:100].decode("utf-8", "ignore")


def remove_parts(folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Remove what a killed process had begun to write of certain files.

    Args:
        folders: Where to look, with all below them.
        files: What is nobody else's to write just now. Of names that are cut in the temporary one nothing is removed: it might
            be another file's.
    """
    parts: dict[Path, list[Path]] = {}
    for folder in folders:
        for part in folder.rglob(".*.part"):
            parts.setdefault(part.parent / part.name[1:].rsplit(".", 2)[0], []).append(part)
    for file in files if parts else ():
        if part_stem(file) == file.name:
            for part in parts.pop(file, ()):
                part.unlink(missing_ok=True)


def remove_parts_of(*files: Path) -> None:
    """Remove what a killed process had begun to write of a few files, which are nobody else's to write just now."""
    for file in files:
        for part in file.parent.glob(f".{glob.escape(part_stem(file))}.*.part"):
            part.unlink(missing_ok=True)


def unwritable(path: str | os.PathLike[str]) -> str | None:
    """Why a file can surely not be written, to be asked before long work; None where nothing speaks against it.

    >>> unwritable("/")
    'a folder'
    """
    path = Path(path)
    if path.is_dir():
        return "a folder"
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        return f"one below a file ({above})"
    return None if os.access(above, os.W_OK) else f"one in a folder that is write-protected ({above})"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` atomically, as UTF-8; of file names that are no text, the odd bytes are escaped.

    Its name is on the disk, too, when this returns: notes and results say that other files are whole. Of pictures by the
    thousand, which :func:`write_bytes` writes, this would cost too much.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))
    sync_folder(Path(path).parent)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically; NaN becomes null, since JSON has no NaN."""
    write_text(path, json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def without_nan(value: Any) -> Any:
    """The value with every non-finite float replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return value
