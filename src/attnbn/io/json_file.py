"""JSON from files that anybody may have written: plain values come out, or one clear line."""

from __future__ import annotations

import json
import os
from typing import Any

from attnbn.io.errors import InputError
from attnbn.io.reading import check_file, read_utf8

LARGEST = 2_000_000
"""Bytes. What a run says of itself takes thousands; of a file of brackets the values take twenty times as much memory."""


def read_json(path: str | os.PathLike[str], what: str = "JSON file", *, largest: int | None = LARGEST) -> Any:
    """Read a file of one JSON value.

    Args:
        path: The file.
        what: What it is to be, for messages.
        largest: Bytes at most; None: any, for lists of photographs.

    Raises:
        InputError: It cannot be read, is too large, no JSON, or nested beyond measure.
    """
    check_file(path, what)
    if largest is not None and (size := os.stat(path).st_size) > largest:
        raise InputError(f"expected JSON of at most {largest:,} bytes, got {size:,}: {path}")
    try:
        return json.loads(read_utf8(path, what))
    except RecursionError:
        raise InputError(f"expected JSON, could not read it (too many levels): {path}") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"expected JSON, could not read it ({error}): {path}") from None


def read_object(path: str | os.PathLike[str], what: str, *, largest: int | None = LARGEST) -> dict[str, Any]:
    """Read a file of one JSON object.

    Args:
        path: The file.
        what: What it is to hold, for messages.
        largest: As for :func:`read_json`.

    Raises:
        InputError: As :func:`read_json`; also for another value.
    """
    value = read_json(path, largest=largest)
    if not isinstance(value, dict):
        raise InputError(f"expected {what}, got {type(value).__name__}: {path}")
    return value
