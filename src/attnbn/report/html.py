"""A page that stands alone: pictures inside, no network, no scripts, light or dark as the reader's system is.

All text is escaped, so a file's name or a class's name can never become markup.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from importlib.resources import files
from pathlib import Path

from attnbn.io.atomic import write_text
from attnbn.report.figures import INK, Row, class_hex, compact

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What browsers hold the page to, should a name become markup in spite of all: no script runs, nothing is fetched or sent."""

_NUMBER = re.compile(r"[-+−]?[\d.,]+( ?%)?( ?± ?[\d.,]+)?|–")
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}

DENSE = 10
"""Columns from which on a table is set closer."""


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction per cent without the sign, as tables show it; a dash for a figure that does not exist.

    >>> percent(0.5091), percent(None)
    ('50.9', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


class Page:
    """A report, built from top to bottom.

    Args:
        title: The page's heading and its title in the browser.
        lead: A sentence or two under it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self._title = title
        self._parts = [f"<header><h1>{escape(title)}</h1>{_paragraph(lead, 'lead')}</header>"]

    def heading(self, text: str) -> Page:
        """Begin a section."""
        return self._add(f"<h2>{escape(text)}</h2>")

    def subheading(self, text: str) -> Page:
        """Begin a part of a section."""
        return self._add(f"<h3>{escape(text)}</h3>")

    @contextmanager
    def folded(self, text: str, *, unfolded: bool = False) -> Iterator[Page]:
        """What is added within the block stands under a line that the reader opens and closes.

        Args:
            text: The line.
            unfolded: It is open when the page is.
        """
        self._add(f"<details{' open' if unfolded else ''}><summary>{escape(text)}</summary>")
        yield self
        self._add("</details>")

    def paragraph(self, text: str) -> Page:
        """Add plain text."""
        return self._add(_paragraph(text))

    def code(self, text: str) -> Page:
        """Add a command or a listing, kept as it is."""
        return self._add(f"<pre><code>{escape(text)}</code></pre>")

    def facts(self, facts: Mapping[str, str]) -> Page:
        """Add a few figures, set large, each over its name."""
        items = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
        return self._add(f'<dl class="facts">{"".join(items)}</dl>')

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str = "",
        strong: Collection[tuple[int, int]] = (),
    ) -> Page:
        """Add a table; columns of numbers are set flush right.

        Args:
            header: Names of the columns.
            rows: Cells as text (see :func:`percent`).
            caption: Above the table.
            strong: Cells set bold, as (row, column) from 0.

        Raises:
            ValueError: A row has another number of cells than the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"expected {len(header)} cells in each row, got {len(row)}")
        numeric = [bool(rows) and all(_NUMBER.fullmatch(row[c].strip()) for row in rows) for c in range(len(header))]
        kind = [' class="number"' if is_number else "" for is_number in numeric]
        head = "".join(f'<th scope="col"{kind[c]}>{escape(text)}</th>' for c, text in enumerate(header))
        body = []
        for r, row in enumerate(rows):
            cells = (f"<strong>{escape(t)}</strong>" if (r, c) in strong else escape(t) for c, t in enumerate(row))
            body.append("<tr>" + "".join(f"<td{kind[c]}>{cell}</td>" for c, cell in enumerate(cells)) + "</tr>")
        title = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
        opening = '<table class="dense">' if len(header) >= DENSE else "<table>"
        table = f"{opening}{title}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        return self._add(f'<div class="scroll">{table}</div>')

    def figure(self, data: bytes, caption: str = "", alt: str = "") -> Page:
        """Add a picture: the bytes of a PNG, JPEG or SVG file.

        An SVG made by :mod:`attnbn.report.figures` takes the page's text colour.

        Raises:
            ValueError: The bytes are none of these.
        """
        title = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return self._add(f"<figure>{_picture(data, alt or caption)}{title}</figure>")

    def charts(self, charts: Sequence[tuple[bytes, str]]) -> Page:
        """Add charts, each with the line over it, two beside one another where there is room."""
        parts = (f"<figure><strong>{escape(title)}</strong>{_picture(data, title)}</figure>" for data, title in charts)
        return self._add(f'<div class="charts">{"".join(parts)}</div>')

    def gallery(
        self,
        headings: Sequence[str],
        rows: Sequence[Row],
        caption: str = "",
        side: int = 480,
        classes: Sequence[str] = (),
    ) -> Page:
        """Add photographs in rows, each in several views with a small line under it.

        Args:
            headings: One per column.
            rows: Each with as many pictures; one without a title goes on with the photograph above; an empty picture
                leaves its place free.
            caption: Under the gallery.
            side: Pictures are at most so many pixels wide and high.
            classes: Names of the classes; those that stand in a picture in their colour are named over the gallery.

        Raises:
            ValueError: A row has another number of pictures than there are headings.
        """
        parts = [f'<span class="head">{escape(heading)}</span>' for heading in headings]
        for row in rows:
            if len(row.cells) != len(headings):
                raise ValueError(f"expected {len(headings)} pictures in each row, got {len(row.cells)}: {row.title}")
            if row.title:
                parts.append(f'<span class="row">{escape(row.title)}</span>')
            for heading, cell in zip(headings, row.cells, strict=True):
                if not cell.picture.size:
                    parts.append("<div></div>")
                    continue
                note = f"<small>{escape(cell.caption)}</small>"
                parts.append(f"<div>{_picture(compact(cell.picture, side), f'{heading}: {row.title}')}{note}</div>")
        title = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        grid = f'<div class="gallery" style="--columns:{len(headings)}">{"".join(parts)}</div>'
        keys = _keys(rows, classes)
        return self._add(f'<figure class="wide">{keys}<div class="scroll">{grid}</div>{title}</figure>')

    def made_by(self, command: str, versions: Mapping[str, str]) -> Page:
        """End with the command that made the page and the versions of what it ran on."""
        self.heading("How to make this page").code(command)
        return self.paragraph(", ".join(f"{name} {version}" for name, version in versions.items()))

    def render(self) -> str:
        """The whole page as HTML text."""
        style = (files("attnbn.report") / "style.css").read_text(encoding="utf-8")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f"<title>{escape(self._title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
            + "\n".join(self._parts)
            + "\n</main></body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page; it appears whole or not at all.

        Raises:
            RunError: It cannot be written.
        """
        write_text(path, self.render())

    def _add(self, part: str) -> Page:
        self._parts.append(part)
        return self


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(text)}</p>" if text else ""


def _keys(rows: Sequence[Row], classes: Sequence[str]) -> str:
    """A line of colours and class names for the classes that a gallery's pictures show."""
    if not classes:
        return ""
    shown = sorted({index for row in rows for cell in row.cells for index in cell.classes})
    keys = (f'<span><span style="background:{class_hex(i)}"></span>{escape(classes[i])}</span>' for i in shown)
    return f'<p class="keys">{"".join(keys)}</p>' if shown else ""


def _picture(data: bytes, alt: str) -> str:
    for start, kind in _IMAGES.items():
        if data.startswith(start):
            source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
            return f'<img src="{source}" alt="{escape(alt)}" loading="lazy">'
    found = re.search(r"<svg\b.*</svg>", data.decode("utf-8", "replace"), re.DOTALL)
    if not found:
        raise ValueError("expected a PNG, JPEG or SVG file")
    # matplotlib writes each text a second time as a comment, names from outside among them
    drawing = re.sub(r"<!--.*?-->", "", found[0], flags=re.DOTALL)
    if "<script" in drawing.lower() or re.search(r"\son\w+\s*=", drawing):
        raise ValueError("expected an SVG file without scripts")
    # Drawn in line, it follows the page's colour; its groups' names would repeat from chart to chart.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing).replace(INK, "currentColor")
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
