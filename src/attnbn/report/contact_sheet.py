"""A contact sheet: photographs beside their masks and saliency maps, so that a person sees whether they belong together."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from attnbn.data.check.findings import Part
from attnbn.data.images import VOID, read_image, read_mask, voc_palette
from attnbn.io.atomic import write_bytes
from attnbn.io.text import printable

WIDTH = 1600
"""Of the sheet, in pixels."""
_HEIGHT, _WIDEST = 132, 230
"""Of a picture on it; wider ones are made lower."""
_GAP, _MARGIN, _TEXT, _TITLE = 14, 24, 13, 19
_MOST = 100
"""Characters of each end of a caption; no tile is wide enough for more."""
_INK, _GREY, _RED, _PAPER = (24, 26, 31), (105, 110, 120), (190, 30, 30), (255, 255, 255)

Picture = NDArray[np.uint8]
"""A picture, uint8 ``H×W×3``, RGB."""


class Tile(NamedTuple):
    """A photograph and what goes with it.

    Attributes:
        image: uint8 ``H×W×3``.
        caption: A line below it.
        labels: Its classes as (name, mask id).
        mask: uint8 ``H×W`` of ids, or None.
        saliency: float ``H×W`` in [0, 1], or None.
        twin: Another photograph beside it, or None.
        warn: The caption is red.
    """

    image: Picture
    caption: str = ""
    labels: tuple[tuple[str, int], ...] = ()
    mask: NDArray[np.uint8] | None = None
    saliency: NDArray[np.float32] | None = None
    twin: Picture | None = None
    warn: bool = False


class Row(NamedTuple):
    """A split.

    Attributes:
        title: Above its tiles.
        classes: Named there in the colours of their masks.
        tiles: As many lines of them as are needed.
    """

    title: str
    classes: tuple[str, ...]
    tiles: list[Tile]


def read_tile(part: Part, index: int) -> Tile:
    """A photograph of a split with its mask in the ids of the split's classes.

    Raises:
        InputError: It, or its mask, cannot be read.
    """
    mask = None
    if part.drawn is not None:
        sample = part.drawn[index]
        image = sample.image
        mask = None if sample.mask is None else sample.mask.numpy()
        saliency = None if sample.saliency is None else sample.saliency[0].numpy()
    else:
        image, saliency = read_image(part.images[index]), None
        file = part.masks[index] if part.masks else None
        if file is not None:
            ids = np.zeros(VOID + 1, dtype=np.uint8)
            ids[VOID] = VOID
            for own, place in enumerate(part.selection.index):
                ids[own + 1] = 0 if place is None else place + 1
            mask = ids[read_mask(file, VOID).numpy()]
    row = part.labels[index]
    names = part.selection.classes
    labels = tuple((names[i], i + 1) for i in torch.where(row == 1)[0].tolist())
    return Tile(image.numpy().transpose(1, 2, 0), part.names[index], labels, mask, saliency)


def draw_sheet(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Write the sheet as a PNG.

    Args:
        path: The file.
        rows: The splits, from top to bottom.

    Raises:
        RunError: It cannot be written.
    """
    bands = [band for row in rows for band in _bands(row)]
    height = 2 * _MARGIN + sum(band.height for band in bands)
    sheet = Image.new("RGB", (WIDTH, height), _PAPER)
    top = _MARGIN
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())


def _bands(row: Row) -> Iterator[Image.Image]:
    """A title, then lines of tiles set from left to right."""
    yield _title(row)
    line: list[Image.Image] = []
    used = _MARGIN
    for tile in map(_draw_tile, row.tiles):
        if line and used + tile.width > WIDTH - _MARGIN:
            yield _line(line)
            line, used = [], _MARGIN
        line.append(tile)
        used += tile.width + _GAP
    if line:
        yield _line(line)


def _line(tiles: Sequence[Image.Image]) -> Image.Image:
    band = Image.new("RGB", (WIDTH, max(tile.height for tile in tiles) + _GAP), _PAPER)
    left = _MARGIN
    for tile in tiles:
        band.paste(tile, (left, 0))
        left += tile.width + _GAP
    return band


def _title(row: Row) -> Image.Image:
    has_legend = any(tile.mask is not None for tile in row.tiles)
    band = Image.new("RGB", (WIDTH, (2 if has_legend else 1) * _TITLE + _GAP), _PAPER)
    draw = ImageDraw.Draw(band)
    draw.text((_MARGIN, 6), printable(row.title), font=_font(_TITLE), fill=_INK)
    left: float = _MARGIN
    if has_legend:
        for place, name in enumerate((*row.classes, "void")):
            left = _legend(draw, left, _TITLE + 16, name, VOID if place == len(row.classes) else place + 1)
    return band


def _legend(draw: ImageDraw.ImageDraw, left: float, top: float, name: str, identity: int) -> float:
    """A class's name after a square in its colour; returns where the next may begin."""
    red, green, blue = voc_palette()[identity].tolist()
    draw.rectangle((left, top + 2, left + 10, top + 12), fill=(red, green, blue))
    draw.text((left + 14, top - 1), name, font=_font(_TEXT), fill=_GREY)
    return left + 14 + draw.textlength(name, font=_font(_TEXT)) + 10


def _draw_tile(tile: Tile) -> Image.Image:
    panels = [_scaled(tile.image)]
    if tile.mask is not None:
        panels.append(_scaled(_tinted(tile.image, tile.mask)))
    if tile.saliency is not None:
        grey = np.rint(tile.saliency.clip(0, 1) * 255).astype(np.uint8)
        panels.append(_scaled(np.repeat(grey[:, :, None], 3, axis=2)))
    if tile.twin is not None:
        panels.append(_scaled(tile.twin))
    width = sum(panel.width for panel in panels) + 2 * (len(panels) - 1)
    lines = [tile.caption, ", ".join(name for name, _ in tile.labels)]
    canvas = Image.new("RGB", (width, _HEIGHT + 2 * (_TEXT + 4)), _PAPER)
    left = 0
    for panel in panels:
        canvas.paste(panel, (left, _HEIGHT - panel.height))
        left += panel.width + 2
    draw = ImageDraw.Draw(canvas)
    for number, text in enumerate(lines):
        colour = _RED if tile.warn else (_INK, _GREY)[number]
        draw.text((0, _HEIGHT + 2 + number * (_TEXT + 3)), _fitted(draw, text, width), font=_font(_TEXT), fill=colour)
    return canvas


def _fitted(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, cut in the middle to fit: the ends of a path say most."""
    text = printable(text)
    if len(text) > 2 * _MOST:  # a path may have 4,096; measuring each cut of it would take seconds
        text = f"{text[:_MOST]}…{text[-_MOST:]}"
    if draw.textlength(text, font=_font(_TEXT)) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
        if draw.textlength(cut, font=_font(_TEXT)) <= width:
            return cut
    return ""


def _scaled(picture: Picture) -> Image.Image:
    height, width = picture.shape[:2]
    scale = min(_HEIGHT / height, _WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS)


def _tinted(image: Picture, mask: NDArray[np.uint8]) -> Picture:
    """The photograph under its mask's colours; the background is darkened, so that a shifted mask shows."""
    colours = voc_palette()[mask].astype(np.float32)
    cover = np.where(mask == 0, 0.55, 0.6)[..., None]
    tinted: Picture = (image * (1 - cover) + colours * cover + 0.5).astype(np.uint8)
    return tinted


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans: the same letters on every machine, Latin, Greek, Cyrillic and more.
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
