"""Text for a line of output: file names may hold anything but ``/`` and NUL, a terminal and a report must not suffer from it."""

from __future__ import annotations

import unicodedata

LONGEST = 2000
"""Characters of a message; the middle of a longer one is left out, since its start says what and its end says where."""


def printable(text: str) -> str:
    r"""The text with line ends, control characters and bytes that are no UTF-8 written as escapes.

    >>> printable("two\nlines \x1b[31m \udcff.jpg")
    'two\\nlines \\x1b[31m \\udcff.jpg'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_text(text: str) -> bool:
    r"""Whether a name can stand in a table, a settings file and a picture: no line ends, control characters or odd bytes.

    >>> is_text("ice cream"), is_text("ice\ncream"), is_text("\udcff")
    (True, False, False)
    """
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def is_utf8(text: str) -> bool:
    r"""Whether a name's bytes are UTF-8, as not all that may name a file are.

    >>> is_utf8("тигр"), is_utf8("\udcff")
    (True, False)
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str) -> str:
    """A message as one line of bearable length.

    >>> len(one_line("x" * 10**6))
    2000
    """
    line = printable(text)
    if len(line) <= LONGEST:
        return line
    half = LONGEST // 2
    return f"{line[: half - 1]}…{line[-half:]}"
