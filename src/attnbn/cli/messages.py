"""The option parser's errors in one plain line: what was expected, what came, and the option that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_TYPES = {"NoneType": "null", "int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_TYPES |= {"dict": "settings by name (NAME: VALUE)", "tuple": "a list"}


def plain(message: str, options: Iterable[str]) -> str:
    r"""A message of the option parser, made readable.

    Args:
        message: As the parser gives it, of one or more lines.
        options: Names of all options without their dashes, to find the one that was meant.

    >>> plain("unrecognized arguments: --training.stpes 3", ["training.steps"])
    'unknown option --training.stpes, did you mean --training.steps?'
    >>> plain('Parser key "model.head": Expected a typing.Literal[\'keep\', \'new\']. Got value: foo', [])
    "expected --model.head to be one of 'keep', 'new', got foo"
    """
    text = " ".join(message.split())
    if found := re.search(r"unrecognized arguments: --([\w.]+)", text):
        return f"unknown option --{found[1]}{_meant(found[1], options)}"
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        name = f"{found[1]}.{found[2].removeprefix(found[1] + '.')}"
        return f"unknown setting {name}{_meant(name, options)}"
    if found := re.search(r'Parser key "([\w.]+)":.*?(?:Got value|Given value): (.*?)$', text):
        return f"expected --{found[1]} to be {_expected(text)}, got {found[2]}"
    return text


def _meant(name: str, options: Iterable[str]) -> str:
    known = list(options)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:  # the last part alone: --steps for --training.steps
        close = [option for option in known if option.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    return f", did you mean --{close[0]}?" if close else ""


def _expected(text: str) -> str:
    if found := re.search(r"Literal\[(.*?)\]", text):
        return f"one of {found[1]}"
    kinds = list(dict.fromkeys(re.findall(r"<class '([\w.]+)'>", text.split("Given value type")[0])))
    named = [_TYPES.get(kind, f"a {kind}") for kind in kinds]
    return " or ".join(named) if named else "of its kind"
