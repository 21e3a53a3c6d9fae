"""Pictures for reports: masks over photographs, galleries as in the paper's Figures 3 and 4, line charts.

Charts are drawn on matplotlib's ``Figure`` directly: no window system, no state shared between calls.
"""

from __future__ import annotations

import colorsys
import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from attnbn.inference.overlay import Picture, overlay
from attnbn.io.text import printable

__all__ = [
    "Cell",
    "Row",
    "Series",
    "class_colour",
    "class_hex",
    "compact",
    "gallery_png",
    "line_chart",
    "mask_cell",
    "mask_picture",
    "overlay",
    "plain",
    "png",
]

INK = "#2b2f36"
"""Text and axes of charts; a page replaces it by the colour of its own text."""

COLOURS = ("#d1495b", "#2a7fba", "#3a9d5d", "#e08e1b", "#7d5ba6", "#17a2a2", "#c45ab3", "#d4b106")
"""Of lines and, first, of classes: apart in hue and lightness, readable on white and on black."""

STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "axes.grid": True, "grid.color": "#8a8f98", "grid.alpha": 0.25, "grid.linewidth": 0.7,
    "legend.frameon": False, "svg.hashsalt": "attnbn", "svg.fonttype": "path",
}  # fmt: skip


class Series(NamedTuple):
    """A line of a chart.

    Attributes:
        name: For the legend.
        x: Places, rising.
        y: Values; NaN leaves a gap.
        mark: A point set off from the line; its value stands with the name, of a single line beside the point.
        colour: Its place among :data:`COLOURS`; None: that of the line among the chart's.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None
    colour: int | None = None


class Cell(NamedTuple):
    """A picture of a gallery.

    Attributes:
        picture: uint8 ``H×W×3``; an empty one leaves its place free.
        caption: The small line under it.
        classes: Indices of the classes that stand in it in their colours, for the gallery's legend.
    """

    picture: Picture
    caption: str = ""
    classes: frozenset[int] = frozenset()


class Row(NamedTuple):
    """A row of a gallery: one photograph in several views, and a title; without one it goes on with the row above."""

    title: str
    cells: Sequence[Cell]


def png(picture: Picture) -> bytes:
    """A picture uint8 ``H×W×3`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def compact(picture: Picture, side: int = 480) -> bytes:
    """A picture for a page, at most ``side`` pixels wide and high: PNG if it is small, else JPEG of high quality.

    Of a ``side`` below 320 the quality is lower: such a gallery holds hundreds of them.
    """
    image = Image.fromarray(picture)
    if max(image.size) <= 160:
        return png(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90 if side >= 320 else 80, subsampling=0, optimize=True)
    return buffer.getvalue()


def class_colour(index: int) -> tuple[int, int, int]:
    """A class's colour in reports, RGB; the golden angle keeps neighbours apart beyond the first eight."""
    if index < len(COLOURS):
        return (int(COLOURS[index][1:3], 16), int(COLOURS[index][3:5], 16), int(COLOURS[index][5:7], 16))
    red, green, blue = colorsys.hsv_to_rgb((index * 0.61803399) % 1, 0.55 + 0.15 * (index % 3), 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def class_hex(index: int) -> str:
    """The same as ``#rrggbb``."""
    red, green, blue = class_colour(index)
    return f"#{red:02x}{green:02x}{blue:02x}"


def mask_picture(image: Tensor, mask: Tensor, strength: float = 0.62) -> Picture:
    """A mask over its photograph: classes in colour with a light outline, the background grey and dim, void white.

    Args:
        image: uint8 ``3×H×W``, RGB.
        mask: Integer ``H×W``: 0 = background, i + 1 = class i, 255 = void.
        strength: How much of a class's pixels is its colour, in [0, 1].

    Returns:
        uint8 ``H×W×3``.

    Raises:
        ValueError: The two are not of one size.
    """
    if image.shape[-2:] != mask.shape:
        raise ValueError(f"expected a mask of {[*image.shape[-2:]]} like its photograph, got {[*mask.shape]}")
    photograph = np.asarray(image.cpu(), dtype=np.float32).transpose(1, 2, 0)
    ids = np.asarray(mask.cpu()).astype(np.int64)
    grey = np.repeat((photograph @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None], 3, axis=2)
    table = np.zeros((256, 3), dtype=np.float32)
    table[1:255] = [class_colour(i) for i in range(254)]
    table[255] = 255
    inside = (ids > 0)[..., None]
    result = np.where(inside, (1 - strength) * grey + strength * table[ids], 0.55 * grey)
    result[_outline(ids)] = 250
    return result.round().clip(0, 255).astype(np.uint8)


def mask_cell(image: Tensor, mask: Tensor, caption: str = "") -> Cell:
    """:func:`mask_picture` as a picture of a gallery, whose legend then names the mask's classes."""
    shown = frozenset(value - 1 for value in np.unique(np.asarray(mask.cpu())).tolist() if 0 < value < 255)
    return Cell(mask_picture(image, mask), caption, shown)


def gallery_png(headings: Sequence[str], rows: Sequence[Row], width: int = 200) -> bytes:
    """A gallery as one picture on white: a heading per column, a title per row, a small line under each picture.

    Args:
        headings: One per column.
        rows: Each with as many cells.
        width: Of a column, in pixels; pictures keep their proportions and fit a square of it.

    Raises:
        ValueError: A row has another number of cells.
    """
    _check_rows(headings, rows)
    gap, line, head = 10, 22, 34
    titles = [24 if row.title else 0 for row in rows]
    large, small = _font(14, bold=True), _font(12)
    scaled = [[_fitted(cell.picture, width) for cell in row.cells] for row in rows]
    heights = [max(picture.height for picture in row) for row in scaled]
    total = head + sum(title + height + line + gap for title, height in zip(titles, heights, strict=True))
    canvas = Image.new("RGB", (gap + len(headings) * (width + gap), total), "white")
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(headings):
        draw.text((gap + column * (width + gap) + width / 2, head / 2), text, INK, large, anchor="mm")
    top = head
    for row, title, pictures, height in zip(rows, titles, scaled, heights, strict=True):
        draw.text((gap, top + title / 2), printable(row.title), "#6a707a", small, anchor="lm")
        for column, (cell, picture) in enumerate(zip(row.cells, pictures, strict=True)):
            left = gap + column * (width + gap)
            canvas.paste(picture, (left + (width - picture.width) // 2, top + title))
            middle = (left + width / 2, top + title + picture.height + line / 2)
            draw.text(middle, printable(cell.caption), INK, small, anchor="mm")
        top += title + height + line + gap
    return png(np.asarray(canvas))


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    percent: bool = False,
    log: bool = False,
    level: float | None = None,
    size: tuple[float, float] = (6.4, 3.6),
    file_format: Literal["svg", "png"] = "svg",
) -> bytes:
    """Lines in one frame, on a transparent ground; the legend stands above the frame, where no line can run.

    Args:
        series: The lines; names differ.
        x_label: Under the frame.
        y_label: Beside it.
        percent: Values are fractions, written per cent, and the axis starts at 0.
        log: Logarithmic axis of values; those not above zero are left out.
        level: A value to compare with, marked across the whole frame.
        size: Width and height in inches; more than four lines of legend make it higher.
        file_format: ``svg`` or ``png`` (160 dots an inch).

    Returns:
        The bytes of the file, the same for the same input.
    """
    labels, columns, lines = _legend([_label(one, percent) for one in series], size[0])
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        height = size[1] + 0.2 * max(0, lines - 4)  # a long legend shall not eat the frame
        figure = Figure(figsize=(size[0], height), layout="constrained")
        axes = figure.add_subplot()
        for index, one in enumerate(series):
            place = index if one.colour is None else one.colour
            colour = COLOURS[place % len(COLOURS)]
            style = ("-", "--", ":", "-.")[place // len(COLOURS) % 4]
            values = np.asarray(one.y, dtype=float)
            shown = np.where(values > 0, values, np.nan) if log else values
            label = plain(labels[index])
            axes.plot(one.x, shown, color=colour, linestyle=style, linewidth=2, label=label, solid_capstyle="round")
            if one.mark is not None:
                axes.plot(*one.mark, "o", color=colour, markersize=7, markeredgecolor="white", markeredgewidth=1.4)
            if one.mark is not None and len(series) == 1:  # of several lines the values would cover one another
                text = _value(one.mark[1], percent)
                axes.annotate(
                    text, one.mark, (0, 8), textcoords="offset points", ha="center", color=colour, weight="bold"
                )
        if level is not None:
            axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (2, 3)))
        axes.set_xlabel(plain(x_label))
        axes.set_ylabel(plain(y_label))
        axes.margins(x=0.02, y=0.14)
        if log:
            axes.set_yscale("log")
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
            axes.set_ylim(bottom=0)
        if len(series) > 1:
            figure.legend(loc="outside upper center", ncols=columns, handlelength=1.6, columnspacing=1.4)
        buffer = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else None
        figure.savefig(buffer, format=file_format, dpi=160, transparent=True, metadata=metadata)
    return buffer.getvalue()


def _value(value: float, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:.3g}"


def _label(one: Series, percent: bool) -> str:
    """A line's name, and its mark's value."""
    return one.name if one.mark is None else f"{one.name}: {_value(one.mark[1], percent)}"


def _legend(labels: Sequence[str], width: float) -> tuple[list[str], int, int]:
    """The labels broken to fit ``width`` inches, how many of them stand beside one another, and the legend's lines."""
    letter, rest = 0.085, 0.42  # inches: of a letter of 10 points, of an entry's line and space
    broken = [textwrap.wrap(label, int((width - rest) / letter)) for label in labels]
    longest = max((len(line) for parts in broken for line in parts), default=1)
    fitting = max(1, int(width / (letter * longest + rest)))
    rows = max(1, math.ceil(len(labels) / fitting))
    columns = math.ceil(len(labels) / rows)  # as even as can be: five of which four would fit stand as three and two
    return ["\n".join(parts) for parts in broken], columns, rows * max(map(len, broken), default=1)


def _outline(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels of a class that touch another value: one pixel wide, on the class's side; void has none."""
    edge = np.zeros(ids.shape, dtype=bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    return edge & (ids > 0) & (ids < 255)


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign would begin a formula, and not every byte of a name is a letter."""
    return "\n".join(map(printable, text.split("\n"))).replace("$", r"\$")


def _fitted(picture: Picture, side: int) -> Image.Image:
    """The picture scaled to fit a square, larger or smaller."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)


def _check_rows(headings: Sequence[str], rows: Sequence[Row]) -> None:
    for row in rows:
        if len(row.cells) != len(headings):
            raise ValueError(f"expected {len(headings)} pictures in each row, got {len(row.cells)}: {row.title}")


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", name), size)
