"""YAML from files that anybody may have written: plain values come out, or one clear line.

Tags that name Python objects are refused by PyYAML's safe loader. What it lets through is checked here: a few lines of
aliases that stand for millions of values, a value that contains itself, brackets so deep that the parser fails.
"""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

from attnbn.io.errors import InputError
from attnbn.io.reading import read_utf8

LARGEST = 100_000
"""Characters; settings are a few thousand, of a thousand classes some 40,000; a second is spent on so many."""
_MOST = 100_000
"""Values, aliases counted as often as they stand for something."""
_DEEPEST = 40


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a file of one YAML document.

    Returns:
        Dictionaries, lists and plain values; None for an empty file.

    Raises:
        InputError: It cannot be read, is too large, no YAML, holds Python objects, or grows without measure.
    """
    text = read_utf8(path, "YAML file", largest=4 * LARGEST)  # a character takes up to 4 bytes
    if len(text) > LARGEST:
        raise InputError(f"expected a YAML file of at most {LARGEST:,} characters, got {len(text):,}: {path}")
    if _nesting(text) > _DEEPEST:  # the scanner takes seconds over a few thousand open brackets
        raise InputError(f"expected YAML of at most {_DEEPEST} levels, got more; make it flatter: {path}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"expected YAML, could not read it ({' '.join(str(error).split())[:120]}): {path}") from error
    except RecursionError:
        raise InputError(f"expected YAML of at most {_DEEPEST} levels, got more; make it flatter: {path}") from None
    except Exception as error:  # the loader's own conversions: 2024-13-45 as a date, !!int abc
        raise InputError(
            f"expected YAML, got a value that cannot be read ({error}); put texts in quotes: {path}"
        ) from error
    _check_size(value, path)
    return value


def _nesting(text: str) -> int:
    """How deep brackets are nested, those in texts counted too."""
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _check_size(value: Any, path: str | os.PathLike[str]) -> None:
    count = 0
    level = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for item in level:
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            if not isinstance(item, dict | list | set | tuple):
                continue
            count += len(parts)
            if count > _MOST:
                raise InputError(
                    f"expected at most {_MOST:,} values, got more (aliases of aliases?); write them out: {path}"
                )
            below += parts
        level = below
        if not level:
            return
    raise InputError(f"expected YAML of at most {_DEEPEST} levels, got more (a value that holds itself?): {path}")
