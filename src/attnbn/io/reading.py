"""Files about to be read: only regular ones are opened, and what the operating system refuses becomes one clear line.

A named pipe called ``x.jpg`` would be waited for until somebody writes to it, ``/dev/zero`` read until the memory is full.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from attnbn.io.errors import InputError

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


def read_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """The whole of a regular file.

    Raises:
        InputError: See :func:`check_file`; also where it cannot be read.
    """
    check_file(path, what)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise refusal(error, what, path) from None


def read_utf8(path: str | os.PathLike[str], what: str = "text file") -> str:
    """The text of a regular file as it stands, but for a byte order mark.

    Raises:
        InputError: See :func:`read_bytes`; also where it is no UTF-8.
    """
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"expected UTF-8 text, got other bytes; save it as UTF-8: {path}") from None
