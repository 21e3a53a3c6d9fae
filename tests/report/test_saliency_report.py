"""The contact sheet: doubtful maps first, every kind in its turn, the rest at even steps, and nothing that is no map."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnbn.inference.photographs import Photograph
from attnbn.inference.saliency_summary import Summary, figures_of
from attnbn.io.pictures import list_pictures
from attnbn.report.saliency import SHEET, _spotlight, write_sheet


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def made(tmp_path: Path, shares: dict[str, float], left_out: tuple[str, ...] = ()) -> tuple[list[Photograph], Summary]:
    """Photographs with maps whose upper share is white."""
    photographs, figures = [], {}
    for name, share in shares.items():
        save(tmp_path / "photos" / f"{name}.png", np.full((40, 60, 3), 90, np.uint8))
        pixels = np.full((40, 60), 5, np.uint8)
        pixels[: round(40 * share), 10:50] = 250
        if share == 1:
            pixels[:] = 250
        save(tmp_path / "maps" / f"{name}.png", pixels)
        photographs.append(Photograph(str(tmp_path / "photos" / f"{name}.png"), name))
        figures[name] = figures_of(pixels)
    return photographs, Summary(figures, left_out)


def names_on(page: str) -> list[str]:
    """Captions of the photographs in the page's order."""
    return [name for name in re.findall(r"<small>([^<]+)</small>", page) if " %" not in name]


def sheet(tmp_path: Path, photographs: list[Photograph], summary: Summary, shown: int = 48) -> str:
    path = write_sheet(tmp_path / "maps", photographs, summary, "u2netp", shown)
    assert path == tmp_path / "maps" / SHEET
    return path.read_text()


def test_doubtful_first(tmp_path: Path) -> None:
    shares = {"a/half": 0.5, "none": 0.0, "a/third": 0.3, "all": 1.0, "most": 0.9, "nothing": 0.0}
    page = sheet(tmp_path, *made(tmp_path, shares))
    assert names_on(page) == ["none", "nothing", "all", "most", "a/half", "a/third"]
    order = [
        page.index(text) for text in ("Worth a look", "Nothing stands out: 2", "everything stands out: 1", "other maps")
    ]
    assert order == sorted(order)
    assert "take its photograph out of the source" in page and "by u2netp" in page
    assert sorted(list_pictures(tmp_path / "maps")) == sorted(f"{name}.png" for name in shares)  # the page is no map


def test_room_is_shared(tmp_path: Path) -> None:
    """Half for the doubtful, what one kind does not need for the others, and the rest at even steps from full to empty."""
    shares = {f"n{i}": 0.0 for i in range(9)} | {"all": 1.0} | {f"g{i:02}": 0.1 + 0.05 * i for i in range(13)}
    photographs, summary = made(tmp_path, shares)
    page = sheet(tmp_path, photographs, summary, 8)
    assert names_on(page) == ["n0", "n1", "n2", "all", "g12", "g08", "g04", "g00"]
    assert "The first 3 of 9; summary.json names all." in page


def test_without_doubts(tmp_path: Path) -> None:
    page = sheet(tmp_path, *made(tmp_path, {"a": 0.5, "b": 0.3, "c": 0.4}))
    assert "<h2>Worth a look" not in page and names_on(page) == ["a", "c", "b"]
    assert page.count("<img") == 9 and "<div></div>" in page


def test_only_doubts(tmp_path: Path) -> None:
    page = sheet(tmp_path, *made(tmp_path, {"a": 0.0}))
    assert "other maps" not in page and names_on(page) == ["a"] and "1 photograph stands out" in page


def test_left_out(tmp_path: Path) -> None:
    page = sheet(tmp_path, *made(tmp_path, {"a": 0.5}, ("empty file: x<y>.jpg",)))
    assert "empty file: x&lt;y&gt;.jpg" in page and "could not be read" in page


def test_pictures(tmp_path: Path) -> None:
    page = sheet(tmp_path, *made(tmp_path, {"a": 0.5}))
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        for data in re.findall(r"base64,([^\"]+)", page)
    ]
    photograph, saliency, marked = pictures
    assert (photograph == 90).all()
    assert saliency[5, 30].tolist() == [250] * 3 and saliency[35, 30].tolist() == [5] * 3
    assert marked[5, 30] == pytest.approx(90 * (0.12 + 0.88 * 250 / 255), abs=1)
    assert marked[35, 30] == pytest.approx(90 * (0.12 + 0.88 * 5 / 255), abs=1)


def test_the_line_lies_where_the_map_crosses_one_half() -> None:
    level = np.full((4, 4), 127, np.uint8)
    level[:2, :] = 128
    shown = _spotlight(np.full((4, 4, 3), 200, np.uint8), level)
    red = (shown == (255, 60, 60)).all(2)
    assert red.tolist() == [[False] * 4, [False] * 4, [True] * 4, [False] * 4]


def test_large_photographs_are_drawn_small(tmp_path: Path) -> None:
    photographs, summary = made(tmp_path, {"a": 0.5})
    save(Path(photographs[0].path), np.full((1200, 1800, 3), 90, np.uint8))
    page = sheet(tmp_path, photographs, summary)
    for data in re.findall(r"base64,([^\"]+)", page):
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= 240
