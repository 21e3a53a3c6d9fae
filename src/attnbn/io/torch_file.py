"""Files of ``torch.save``, looked through before they are loaded: every reader must find the same, and no more than is there."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path
from typing import IO

from attnbn.io.errors import InputError
from attnbn.io.pickled import LARGEST, NoWeightsError, Pickles

_ZIP = b"PK\x03\x04"
_END, _END_64, _LOCATOR = 22, 56, 20
"""Bytes of the records at a zip's end."""
_DIRECTORY = 2_000_000
"""Bytes of a zip's directory; a tensor takes 70."""


def look_through(path: Path) -> None:
    """Refuse, before it is loaded, what is no file of weights, or would take more memory than it has bytes.

    Raises:
        InputError: An archive that grows when it is unpacked: torch.save compresses nothing.
        NoWeightsError: Anything else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:  # so it is told apart where it is loaded
            pickles = Pickles(_pickle_of_archive(file, size, path))
            pickles.follow()
        else:
            file.seek(0)
            pickles = Pickles(file.read(LARGEST))
            for _ in ("magic number", "protocol", "system", "state"):
                pickles.follow()
            order = pickles.follow()
            if not isinstance(order, list) or not all(isinstance(key, str) for key in order):
                raise NoWeightsError("storages that torch.save does not write")
    if (numbers := sum(count for _, count in pickles.storages.values())) > size:
        raise NoWeightsError(f"{numbers:,} numbers in {size:,} bytes")


def _pickle_of_archive(file: IO[bytes], size: int, path: Path) -> bytes:
    """``data.pkl``, in an archive where nobody could find another one."""
    _check_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if (unpacked := sum(entry.file_size for entry in entries)) > size:
            raise InputError(
                f"expected weights as torch.save writes them, got an archive of {size:,} bytes that unpacks to {unpacked:,}; "
                f"save it again as .safetensors: {path}"
            )
        notes = sum(entry.file_size for entry in entries if not re.fullmatch(r"[^/]+/data/[0-9]+", entry.filename))
        pickled = [entry for entry in entries if re.fullmatch(r"[^/]+/data\.pkl", entry.filename)]
        names = {entry.filename.lower() for entry in entries}  # which they are found by
        if notes > LARGEST or len(pickled) != 1 or len(names) < len(entries):
            raise NoWeightsError("an archive that torch.save does not write")
        return archive.read(pickled[0])


def _check_directory(file: IO[bytes], size: int) -> None:
    """Refuse a zip whose directory is not right before its end: another reader might take another one for it.

    Raises:
        NoWeightsError: It is such a zip, or has more entries than any weights.
    """
    file.seek(max(0, size - _END - _LOCATOR - _END_64))
    tail = file.read().rjust(_END + _LOCATOR + _END_64, b"\0")
    large, locator, end = tail[:_END_64], tail[_END_64:-_END], tail[-_END:]
    length, start = struct.unpack_from("<II", end, 12)
    before = size - _END
    if locator[:4] == b"PK\x06\x07":
        before -= _LOCATOR + _END_64
        length, start = struct.unpack_from("<QQ", large, 40)
        if large[:4] != b"PK\x06\x06" or struct.unpack_from("<Q", locator, 8) != (before,):
            raise NoWeightsError("a damaged archive")
    if end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0" or start + length != before or length > _DIRECTORY:
        raise NoWeightsError("a damaged archive")
