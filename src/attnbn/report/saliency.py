"""The contact sheet of a folder of saliency maps: the doubtful ones first, then the rest from the fullest to the emptiest.

A page, not a picture: a picture in the folder would be read as somebody's map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnbn.data.images import read_image
from attnbn.inference.claim import read_manifest
from attnbn.inference.overlay import Picture
from attnbn.inference.photographs import Photograph
from attnbn.inference.saliency import MANIFEST
from attnbn.inference.saliency_summary import Doubt, MapFigures, Summary
from attnbn.report.figures import Cell, Row
from attnbn.report.gallery import choose
from attnbn.report.html import Page, percent
from attnbn.saliency.files import read_saliency

SHEET = "saliency.html"
"""In the folder of the maps."""

SHOWN = 48
"""Photographs on the sheet, half of them doubtful ones, if there are so many."""

_SIDE, _LARGEST = 240, 480
"""Pixels of a picture on the page, and of what it is drawn from."""

_VIEWS = ("Photograph", "Map", "What it marks")
_FREE = Cell(np.zeros((0, 0, 3), np.uint8))

_TITLES: Mapping[Doubt, str] = {
    "nothing": "Nothing stands out",
    "everything": "Nearly everything stands out",
    "borders": "What stands out runs along all four borders",
    "undecided": "Undecided",
}
_WORDS: Mapping[Doubt, str] = {
    "nothing": "Less than 0.5 % of the photograph reaches one half. As a prior it would teach the attention to cover nothing; as "
    "a source of background cues it calls the whole photograph background.",
    "everything": "More than 80 % of the photograph reaches one half. That is right for a close-up and wrong for most others.",
    "borders": "More than a quarter of each border reaches one half: rather the ground or a frame than an object.",
    "undecided": "More than 40 % of the photograph lies between 0.2 and 0.8: the detector found nothing in particular.",
}


def write_sheet(
    folder: Path, photographs: Sequence[Photograph], summary: Summary, detector: str, shown: int = SHOWN
) -> Path:
    """Write the contact sheet into the folder of the maps; it appears whole or not at all.

    Args:
        folder: Of the maps, complete.
        photographs: Whose maps they are.
        summary: Of all maps.
        detector: What made them, in a word.
        shown: Photographs on it.

    Returns:
        The page.

    Raises:
        InputError: A photograph or a map can no longer be read.
        RunError: The page cannot be written.
    """
    doubtful = summary.doubtful()
    count = sum(map(len, doubtful.values()))
    above = [one.above for one in summary.figures.values()]
    page = Page(
        "Saliency maps",
        f"How much each pixel of {len(above):,} photograph{'' if len(above) == 1 else 's'} stands out, by {detector}. Look "
        "before you train: the attention learns to cover what these maps mark.",
    )
    facts = {
        "maps": f"{len(above):,}",
        "worth a look": f"{count:,}",
        "of a photograph reach one half (median)": f"{percent(float(np.median(above)), 0)} %",
    }
    if summary.left_out:
        facts["could not be read"] = f"{len(summary.left_out):,}"
    page.facts(facts)
    page.paragraph(
        "Worth a look are maps that a simple test finds odd: nearly nothing or nearly everything marked, all borders marked, "
        "most of it undecided. No test sees a map that marks the wrong thing: for that, look at the others too."
    )
    draw = _Drawer(folder, {one.name: one.path for one in photographs}, summary.figures)
    room = min(count, shown // 2)
    _doubtful(page, doubtful, draw, room)
    _rest(page, summary, doubtful, draw, shown - room)
    if summary.left_out:
        page.heading("Photographs that could not be read")
        for line in summary.left_out[:shown]:
            page.paragraph(line)
        if len(summary.left_out) > shown:
            page.paragraph(_first(len(summary.left_out), shown))
    page.heading("How they were made")
    made_by = read_manifest(folder / MANIFEST) or {}
    page.table(["setting", "value"], [[key, _value(value)] for key, value in made_by.items()])
    page.write(folder / SHEET)
    return folder / SHEET


def _doubtful(page: Page, doubtful: Mapping[Doubt, Sequence[str]], draw: _Drawer, room: int) -> None:
    """The maps that a person should look at, by kind."""
    kinds = {kind: names for kind, names in doubtful.items() if names}
    if not kinds:
        return
    page.heading("Worth a look")
    page.paragraph(
        "If a map is wrong, take its photograph out of the source, or put a better map in its place: one that another detector "
        "made (attnbn saliency PHOTOGRAPH --detector OTHER --output ELSEWHERE), or a grey picture of its name drawn by hand. "
        "Do that last: this folder's own command would make such a map anew. summary.json names all that are doubtful."
    )
    quota = _quota({kind: len(names) for kind, names in kinds.items()}, room)
    for kind, names in kinds.items():
        page.subheading(f"{_TITLES[kind]}: {len(names):,}")
        page.paragraph(_WORDS[kind])
        draw.gallery(page, names[: quota[kind]], _first(len(names), quota[kind]))


def _quota(counts: Mapping[Doubt, int], room: int) -> dict[Doubt, int]:
    """Places for each kind: equal shares of the room, and what a kind does not need goes to the others."""
    quota: dict[Doubt, int] = {}
    for left, kind in zip(range(len(counts), 0, -1), sorted(counts, key=lambda kind: counts[kind]), strict=True):
        quota[kind] = min(counts[kind], -(-room // left))
        room -= quota[kind]
    return quota


def _rest(page: Page, summary: Summary, doubtful: Mapping[Doubt, Sequence[str]], draw: _Drawer, room: int) -> None:
    """The other maps at even steps."""
    marked = {name for names in doubtful.values() for name in names}
    rest = {name: one.above for name, one in summary.figures.items() if name not in marked}
    if not rest or not room:
        return
    page.heading("The other maps" if marked else "The maps")
    page.paragraph(
        "Chosen by rule: at even steps from the map in which most stands out to the one in which least does."
        if len(rest) > room
        else "All, from the one in which most stands out to the one in which least does."
    )
    draw.gallery(page, [choice.name for choice in choose(rest, room)], "")


class _Drawer:
    """Photographs beside their maps.

    Args:
        folder: Of the maps.
        paths: Of the photographs, by name.
        figures: Of the maps, by name.
    """

    def __init__(self, folder: Path, paths: Mapping[str, str], figures: Mapping[str, MapFigures]) -> None:
        self._folder, self._paths, self._figures = folder, paths, figures

    def gallery(self, page: Page, names: Sequence[str], caption: str) -> None:
        """Add photographs to the page, two beside one another; each with its map and what the map leaves of it."""
        cells = [self._cells(name) for name in names]
        beside = min(2, len(cells))
        if len(cells) % 2 and beside == 2:
            cells.append([_FREE] * len(_VIEWS))
        rows = [
            Row("", [cell for one in cells[at : at + beside] for cell in one]) for at in range(0, len(cells), beside)
        ]
        page.gallery([*_VIEWS] * beside, rows, caption, side=_SIDE)

    def _cells(self, name: str) -> list[Cell]:
        image = read_image(self._paths[name])
        saliency = read_saliency(self._folder / f"{name}.png", (image.shape[-2], image.shape[-1]))
        picture = _small(image.permute(1, 2, 0).numpy())
        level = _small(np.asarray((saliency[0] * 255).round().byte()))
        one = self._figures[name]
        said = f"mean {percent(one.mean, 0)} %", f"{percent(one.above, 0)} % reach one half"
        return [
            Cell(picture, name),
            Cell(np.repeat(level[..., None], 3, 2), said[0]),
            Cell(_spotlight(picture, level), said[1]),
        ]


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture at the size in which it is drawn on, uint8 ``H×W`` or ``H×W×3``; larger ones would take longer only."""
    scale = min(1.0, _LARGEST / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _spotlight(picture: Picture, level: NDArray[np.uint8]) -> Picture:
    """The photograph as bright as its map, with a red line where the map crosses one half."""
    light = (0.12 + 0.88 * level.astype(np.float32) / 255)[..., None]
    shown = (picture * light + 0.5).astype(np.uint8)
    high = level >= 128
    edge = np.zeros_like(high)
    edge[1:] |= high[1:] != high[:-1]
    edge[:, 1:] |= high[:, 1:] != high[:, :-1]
    shown[edge] = (255, 60, 60)
    return shown


def _first(count: int, shown: int) -> str:
    return f"The first {shown:,} of {count:,}; summary.json names all." if count > shown else ""


def _value(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "–" if value is None else str(value)
