"""JSON from files that anybody may have written: plain values come out, or one clear line."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from attnbn.io.errors import InputError
from attnbn.io.reading import as_utf8, read_bytes

LARGEST = 2_000_000
"""Bytes. What a run says of itself takes thousands; of a file of brackets the values take twenty times as much memory."""
LONGEST = 32_000_000
"""Bytes of a list of photographs: 300 each for 100,000 of them."""
_MOST = 90_000_000
"""Bytes of memory that the values may take, estimated."""


def read_json(path: str | os.PathLike[str], what: str = "JSON file", *, largest: int | None = LARGEST) -> Any:
    """Read a file of one JSON value.

    Args:
        path: The file.
        what: What it is to be, for messages.
        largest: Bytes at most; None: :data:`LONGEST`, for lists of photographs.

    Raises:
        InputError: It cannot be read, is too large, no JSON, or nested beyond measure.
    """
    return _value(path, what, "JSON", "", largest)


def _value(path: str | os.PathLike[str], file: str, what: str, remedy: str, largest: int | None) -> Any:
    text = _text(path, file, LONGEST if largest is None else largest)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "too many levels" if isinstance(error, RecursionError) else error
        after = remedy and f"; {remedy}"
        raise InputError(f"expected {what}, could not read it ({reason}){after}: {path}") from None


def _text(path: str | os.PathLike[str], what: str, largest: int) -> str:
    """The file's text, if its values do not take too much memory: a bracket of one byte is a list of sixty."""
    data = read_bytes(path, what, largest)
    wide = 4 if re.search(rb"[\xf0-\xff]", data) else 1 if data.isascii() else 2  # bytes of each character in memory
    memory = 2 * wide * len(data) + 250 * data.count(b"{") + 70 * data.count(b"[") + 40 * data.count(b",")
    if memory > _MOST:
        raise InputError(f"expected JSON of fewer values, got {memory / 1e6:,.0f} MB of them: {path}")
    return as_utf8(data, path)


def read_object(
    path: str | os.PathLike[str], what: str, *, largest: int | None = LARGEST, remedy: str = ""
) -> dict[str, Any]:
    """Read a file of one JSON object.

    Args:
        path: The file.
        what: What it is to hold, for messages.
        largest: As for :func:`read_json`.
        remedy: What to do about a damaged one, for messages.

    Raises:
        InputError: As :func:`read_json`; also for another value.
    """
    value = _value(path, "JSON file", what, remedy, largest)
    if not isinstance(value, dict):
        raise InputError(f"expected {what}, got {type(value).__name__}{remedy and f'; {remedy}'}: {path}")
    return value
