"""Pictures have the right size, colour and place, and are the same each time."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from attnbn.inference.overlay import captioned
from attnbn.report.figures import (
    Cell,
    Row,
    Series,
    class_colour,
    class_hex,
    compact,
    gallery_png,
    line_chart,
    mask_cell,
    mask_picture,
    overlay,
    png,
)


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def photograph(height: int = 40, width: int = 60) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_overlay_is_warm_where_attention_is_and_near_the_photograph_elsewhere() -> None:
    image = torch.full((3, 20, 30), 128, dtype=torch.uint8)
    attention = torch.zeros(20, 30)
    attention[:, 15:] = 1
    picture = overlay(image, attention).astype(int)
    assert picture.shape == (20, 30, 3)
    assert (picture[:, 15:, 0] > picture[:, 15:, 2] + 60).all()  # red where attention is full
    assert (abs(picture[:, :15] - 128) < 20).all()
    with pytest.raises(ValueError, match=r"a map of \[20, 30\] like its photograph, got \[30, 20\]"):
        overlay(image, attention.T)


def test_caption_stays_in_its_corner() -> None:
    picture = np.full((100, 150, 3), 200, dtype=np.uint8)
    changed = (captioned(picture, "dog  97%") != picture).any(-1)
    assert changed[70:, :80].any()
    assert not changed[:70].any()
    assert not changed[:, 110:].any()
    assert captioned(np.zeros((8, 8, 3), dtype=np.uint8), "a very long name  50%").shape == (8, 8, 3)


def test_mask_picture_shows_classes_outline_void_and_background() -> None:
    image = torch.full((3, 12, 12), 100, dtype=torch.uint8)
    mask = torch.zeros(12, 12, dtype=torch.uint8)
    mask[2:8, 2:8], mask[10:] = 2, 255
    picture = mask_picture(image, mask)
    assert picture[0, 0].tolist() == [55, 55, 55]
    assert picture[2, 2].tolist() == [250, 250, 250]
    expected = [round(0.38 * 100 + 0.62 * c) for c in class_colour(1)]
    np.testing.assert_allclose(picture[5, 5], expected, atol=1)
    assert picture[11, 5].min() > 180
    with pytest.raises(ValueError, match=r"a mask of \[12, 12\] like its photograph, got \[11, 12\]"):
        mask_picture(image, mask[1:])


def test_a_mask_in_a_gallery_says_which_classes_it_shows() -> None:
    image = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    mask = torch.tensor([[0, 0, 255, 255], [3, 3, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    cell = mask_cell(image, mask, "two")
    assert (cell.caption, cell.classes) == ("two", {0, 2})  # neither the background nor void
    np.testing.assert_array_equal(cell.picture, mask_picture(image, mask))
    assert mask_cell(image, mask * 0).classes == set()


def test_class_colours_differ() -> None:
    colours = [class_colour(i) for i in range(20)]
    assert len(set(colours)) == 20
    assert all(0 <= c <= 255 for colour in colours for c in colour)
    assert [bytes.fromhex(class_hex(i)[1:]) for i in range(20)] == [bytes(colour) for colour in colours]


def test_gallery_holds_every_picture_scaled() -> None:
    red, blue = np.zeros((10, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    picture = decode(gallery_png(["one", "two"], [Row("first", [Cell(red, "1"), Cell(blue, "2")])] * 2, width=50))
    assert picture.shape[1] == 3 * 10 + 2 * 50
    assert (picture == [255, 0, 0]).all(-1).sum() == 2 * 50 * 25
    assert (picture == [0, 0, 255]).all(-1).sum() == 2 * 50 * 50
    with pytest.raises(ValueError, match="2 pictures in each row, got 1: first"):
        gallery_png(["one", "two"], [Row("first", [Cell(red)])])


def test_small_pictures_stay_exact_and_large_ones_become_small() -> None:
    small = photograph().numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(decode(compact(small)), small)
    np.testing.assert_array_equal(decode(png(small)), small)
    large = np.full((600, 1200, 3), 77, np.uint8)
    assert decode(compact(large)).shape == (240, 480, 3)
    assert len(compact(large)) < 20_000


def test_charts_are_the_same_each_time_and_keep_no_state() -> None:
    lines = [Series("a", [1, 2, 3], [0.1, float("nan"), 0.4], (3, 0.4)), Series("b", [1, 2, 3], [0.2, 0, 0.1])]
    for settings in ({"percent": True}, {"log": True}):
        first = line_chart(lines, x_label="x", y_label="y", **settings)
        assert first == line_chart(lines, x_label="x", y_label="y", **settings)
        assert b"<svg" in first
    picture = decode(line_chart(lines, x_label="x", y_label="y", file_format="png"))
    assert picture.shape[:2] == (576, 1024)
    assert line_chart([], x_label="x", y_label="y")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    return figures


@pytest.mark.parametrize("count", [2, 5, 7, 16])
@pytest.mark.parametrize(
    "name", ["L_ac", "L_s-cl + L_ac + L_adv", "a name so long that no chart is as wide as it is " * 2]
)
def test_no_line_runs_under_the_legend(drawn: list[Figure], count: int, name: str) -> None:
    lines = [Series(f"{name} {i}", [0, 1, 2], [0.9, 0.1 * i, 0.9], (0, 0.9)) for i in range(count)]
    line_chart(lines, x_label="x", y_label="y", percent=True, size=(4.8, 3.2))
    (figure,) = drawn
    figure.draw_without_rendering()
    legend, frame = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.y0 >= frame.y1 and frame.height > 0.4 * 3.2 * figure.dpi
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y1 <= figure.bbox.y1
    shown = [" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()]
    assert shown == [f"{name.strip()} {i}: 90.0 %" for i in range(count)]


def test_close_marks_cannot_cover_one_anothers_values(drawn: list[Figure]) -> None:
    """Of several lines the values stand in the legend; a single line has its beside the point."""
    lines = [Series(name, [0, 1], [0, y], (1, y)) for name, y in (("a", 0.186), ("b", 0.192), ("c", 0.31))]
    line_chart(lines, x_label="x", y_label="y", percent=True)
    line_chart(lines[:1], x_label="x", y_label="y", percent=True)
    line_chart([lines[0], Series("d", [0, 1], [0, 1])], x_label="x", y_label="y")
    several, one, unmarked = drawn
    assert [text.get_text() for text in several.legends[0].get_texts()] == ["a: 18.6 %", "b: 19.2 %", "c: 31.0 %"]
    assert not several.axes[0].texts
    assert [text.get_text() for text in one.axes[0].texts] == ["18.6 %"] and not one.legends
    assert [text.get_text() for text in unmarked.legends[0].get_texts()] == ["a: 0.186", "d"]
