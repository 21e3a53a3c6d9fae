"""Files about to be read: only regular ones are opened, and what the operating system refuses becomes one clear line.

A named pipe called ``x.jpg`` would be waited for until somebody writes to it, ``/dev/zero`` read until the memory is full.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from attnbn.io.errors import InputError

HOLLOW = 10**7
"""Bytes up to which a file of holes is just read: some file systems keep small files where no block is counted."""
LONGEST_LINE = 1_000_000
"""Bytes; a run's line of metrics takes hundreds, that of a validation over 1000 classes tens of thousands."""

_REMEDIES = {
    errno.ENOENT: "found no file; check the path",
    errno.ENOTDIR: "found no file; check the path",
    errno.EISDIR: "got a folder",
    errno.EACCES: "may not read it; change its permissions",
    errno.EPERM: "may not read it; change its permissions",
    errno.ELOOP: "got links that lead in a circle; remove them",
    errno.ENAMETOOLONG: "got a name that is too long; shorten it",
}


def check_file(path: str | os.PathLike[str], what: str) -> None:
    """Refuse what must not be opened.

    Args:
        path: The file; links are followed.
        what: What it is to be, for messages.

    Raises:
        InputError: It is missing, a folder, a pipe, a device, a socket, out of reach, or its name is none.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise refusal(error, what, path) from None
    except ValueError:  # a NUL in the name
        raise InputError(f"expected {_a(what)}, found no file; check the path: {path}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"expected {_a(what)}, got a folder: {path}")
    if not stat.S_ISREG(mode):
        raise InputError(f"expected {_a(what)}, got a pipe, a device or a socket; give a regular file: {path}")


def refusal(error: OSError, what: str, path: str | os.PathLike[str]) -> InputError:
    """What the operating system refused, in one line.

    Args:
        error: From opening or reading.
        what: What the file is to be.
        path: The file.
    """
    other = f"could not read the file ({error.strerror or error}); try again or take it out"
    return InputError(f"expected {_a(what)}, {_REMEDIES.get(error.errno or 0, other)}: {path}")


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def check_filled(path: str | os.PathLike[str], what: str) -> None:
    """Refuse a file of hardly anything but holes, which would fill the memory with zeros: an archive of a few bytes can hold one.

    Args:
        path: A file that is there.
        what: What it is to be, for messages.

    Raises:
        InputError: It is one.
    """
    try:
        about = os.stat(path)
        enough = about.st_size // 100
        # blocks alone do not tell: some file systems count none, or count them later
        hollow = about.st_size > HOLLOW and 512 * about.st_blocks < enough and _filled(path, enough) < enough
    except OSError as error:
        raise refusal(error, what, path) from None
    if hollow:
        raise InputError(f"expected {_a(what)}, got a hollow file of {about.st_size:,} bytes; copy it anew: {path}")


def _filled(path: str | os.PathLike[str], enough: int) -> int:
    """Bytes of a file that are no holes, counted until there are enough."""
    with open(path, "rb") as file:
        place = found = 0
        while found < enough:
            try:
                start = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError as error:
                to_the_end = error.errno == errno.ENXIO  # else a file system that knows of no holes
                return found if to_the_end else enough
            place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found += place - start
    return found


def read_bytes(path: str | os.PathLike[str], what: str, largest: int | None = None) -> bytes:
    """The whole of a regular file.

    Args:
        path: The file.
        what: What it is to be, for messages.
        largest: Bytes at most, asked for before anything is read; None: any number that is on the disk.

    Raises:
        InputError: See :func:`check_file`; also where it cannot be read, is larger, or hollow.
    """
    check_file(path, what)
    check_filled(path, what)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if largest is not None and size > largest:
                raise InputError(f"expected {_a(what)} of at most {largest:,} bytes, got {size:,}: {path}")
            return file.read(size)  # a number: files of /proc have no end
    except OSError as error:
        raise refusal(error, what, path) from None


def read_utf8(path: str | os.PathLike[str], what: str = "text file", largest: int | None = None) -> str:
    """The text of a regular file as it stands, but for a byte order mark.

    Raises:
        InputError: See :func:`read_bytes`; also where it is no UTF-8.
    """
    return as_utf8(read_bytes(path, what, largest), path)


def lines_of(path: str | os.PathLike[str], what: str) -> Iterator[bytes]:
    """The lines of a regular file, one in memory at a time, with what ends them.

    Raises:
        InputError: See :func:`read_bytes`; also for a line of more than :data:`LONGEST_LINE` bytes.
    """
    check_file(path, what)
    check_filled(path, what)
    try:
        with open(path, "rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise InputError(
                        f"expected {_a(what)} with lines of at most {LONGEST_LINE:,} bytes, got a longer one; delete the file, "
                        f"or bring it back from a copy: {path}"
                    )
                yield line
    except OSError as error:
        raise refusal(error, what, path) from None


def as_utf8(data: bytes, path: str | os.PathLike[str]) -> str:
    """A file's bytes as text.

    Raises:
        InputError: They are no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"expected UTF-8 text, got other bytes; save it as UTF-8: {path}") from None
