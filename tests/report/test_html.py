"""The page is well formed, stands alone and escapes everything that comes from outside."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from attnbn.report.figures import Cell, Row, Series, class_hex, line_chart, png
from attnbn.report.html import Page, percent

EVIL = '--><script>alert("x")</script>&\'"><img src=http://evil.example/x onerror=y>$'
VOID = {"meta", "img", "br", "path", "use"}


class Checker(HTMLParser):
    """Counts tags and collects attributes; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def full_page() -> Page:
    dot = np.zeros((4, 4, 3), dtype=np.uint8)
    chart = line_chart([Series(EVIL, [0, 1], [0.1, 0.2])], x_label=EVIL, y_label="mIoU", percent=True)
    page = Page(EVIL, EVIL).heading(EVIL).paragraph(EVIL).code(EVIL).facts({EVIL: EVIL})
    page.table([EVIL, "mIoU"], [[EVIL, "50.9"], ["b", "–"]], EVIL, {(0, 0)})
    page.figure(png(dot), EVIL).figure(chart, EVIL, EVIL)
    return page.gallery([EVIL, "two"], [Row(EVIL, [Cell(dot, EVIL), Cell(dot)])], EVIL)


def check(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    return checker


def test_nothing_from_outside_becomes_markup() -> None:
    checker = check(full_page().render())
    assert checker.open == []
    assert "script" not in checker.tags
    assert checker.tags.count("img") == 3
    assert not [name for name, _ in checker.attributes if name.startswith("on")]
    assert sum(EVIL in text for text in checker.text) >= 10


def test_the_page_stands_alone() -> None:
    page = full_page().render()
    checker = check(page)
    loaded = [v for k, v in checker.attributes if k in ("src", "href", "xlink:href")]
    assert loaded
    assert all(value.startswith(("data:image/", "#")) for value in loaded)
    assert not re.search(r"@import|url\((?!#)", page.replace(EVIL, ""))
    assert "prefers-color-scheme: dark" in page


def test_charts_take_the_pages_colour() -> None:
    page = Page("t").figure(line_chart([Series("a", [0, 1], [0, 1])], x_label="x", y_label="y")).render()
    assert "currentColor" in page
    assert "<?xml" not in page


def test_tables() -> None:
    page = Page("t").table(["row", "mIoU"], [["AttnBN", "50.9 ± 0.3"], ["Grad-CAM", "–"]], strong={(0, 1)}).render()
    assert '<td>AttnBN</td><td class="number"><strong>50.9 ± 0.3</strong></td>' in page
    with pytest.raises(ValueError, match="2 cells in each row, got 1"):
        Page("t").table(["a", "b"], [["1"]])


def test_percent() -> None:
    assert [percent(v) for v in (0.50949, 1, 0, None, float("nan"))] == ["50.9", "100.0", "0.0", "–", "–"]
    assert percent(0.123456, 3) == "12.346"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GIF89a", "expected a PNG, JPEG or SVG"),
        (b"<svg ><script>x</script></svg>", "without scripts"),
        (b'<svg onload="x"></svg>', "without scripts"),
    ],
)
def test_bad_figures(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Page("t").figure(data)


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 pictures in each row, got 0: r"):
        Page("t").gallery(["a"], [Row("r", [])])


def test_a_gallery_of_masks_names_the_colours_that_occur() -> None:
    dot = np.zeros((4, 4, 3), dtype=np.uint8)
    classes = ["cat", "cow", EVIL]
    rows = [Row("r", [Cell(dot, "", frozenset({2})), Cell(dot, "", frozenset({0, 2}))])]
    page = Page("t").gallery(["a", "b"], rows, "", 480, classes).render()
    found = re.findall(r'<span style="background:(.*?)"></span>(.*?)</span>', page)
    assert [colour for colour, _ in found] == [class_hex(0), class_hex(2)]
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour, _ in found)
    assert found[0][1] == "cat" and "cow" not in page
    assert EVIL in check(page).text
    for bare in (
        Page("t").gallery(["a", "b"], rows),  # nobody gave the names
        Page("t").gallery(["a"], [Row("r", [Cell(dot)])], classes=classes),  # no mask
    ):
        assert 'class="keys"' not in bare.render()


def test_a_page_ends_with_what_made_it() -> None:
    page = Page("t").made_by("attnbn <x>", {"torch": "2.0", "numpy": "<1>"}).render()
    assert "<code>attnbn &lt;x&gt;</code></pre>\n<p>torch 2.0, numpy &lt;1&gt;</p>" in page
    assert "<p></p>" not in Page("t").made_by("attnbn", {}).render()


def test_many_columns_stand_closer() -> None:
    few, many = (Page("t").table(["x"] * count, [["1"] * count]).render() for count in (9, 10))
    assert '<table class="dense">' in many and '<table class="dense">' not in few


def test_writes_the_page(tmp_path: Path) -> None:
    Page("Über uns").write(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == Page("Über uns").render()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
