"""Plain values from a settings file against the types that settings have."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value (of YAML or JSON) is of a type: whole numbers stand for floats, lists for tuples, NaN for nothing.

    >>> fits(3, float), fits(3.5, int), fits(True, int), fits([0.5, 1], tuple[float, float]), fits(None, str | None)
    (True, False, False, True, True)
    """
    parts = get_args(hint)
    match get_origin(hint) or hint:
        case kind if kind is Any:
            return True
        case kind if kind in (Union, UnionType):
            return any(fits(value, part) for part in parts)
        case kind if kind is Literal:
            return any(value == part and type(value) is type(part) for part in parts)
        case kind if kind is float:
            return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        case kind if kind is int:
            return isinstance(value, int) and not isinstance(value, bool)
        case kind if kind is list:
            return isinstance(value, list) and all(fits(one, parts[0]) for one in value)
        case kind if kind is tuple:
            pairs = isinstance(value, list | tuple) and len(value) == len(parts)
            return pairs and all(map(fits, value, parts))
        case kind if kind is dict:
            return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
        case kind if isinstance(kind, type):
            return isinstance(value, kind)
    return True


def in_words(hint: Any) -> str:
    """A type for a message.

    >>> in_words(int | None), in_words(Literal["a", "b"]), in_words(tuple[float, float])
    ('a whole number or nothing', 'a or b', 'a list of 2 numbers')
    """
    plain: Mapping[Any, str] = {
        int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing",
    }  # fmt: skip
    parts = get_args(hint)
    match get_origin(hint) or hint:
        case kind if kind in (Union, UnionType):
            return " or ".join(map(in_words, parts))
        case kind if kind is Literal:
            return " or ".join(map(str, parts))
        case kind if kind is tuple:
            return f"a list of {len(parts)} numbers"
        case kind if kind is list:
            return "a list"
        case kind if kind is dict:
            return "names with values"
        case kind:
            return plain.get(kind, getattr(kind, "__name__", str(kind)))
