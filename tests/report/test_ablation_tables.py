"""Tables and charts of an ablation say what the runs have, over several seeds and beside the paper's values."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from attnbn.report.bars import Bar, bar_chart
from attnbn.report.curves import loss_chart, read_terms, thinned, threshold_series
from attnbn.report.figures import Cell, Row, gallery_png
from attnbn.report.html import Page
from attnbn.report.tables import ReportRow, class_table, gain, main_table, seconds, spread


def row(name: str, mious: list[float | None], published: float | None = None, **ious: list[float | None]) -> ReportRow:
    runs = [{"miou": m, "mean_ap": 0.5, "threshold": 0.25, "seconds": 10 + i} for i, m in enumerate(mious)]
    figures = [
        {"iou": {c: v[i] for c, v in ious.items()} or None, "precision": {"cat": 0.5, "dog": None}, "recall": None}
        for i in range(len(mious))
    ]
    return ReportRow(name, runs, figures, Path("run"), published, {"cat": 0.361})


def cells(page: Page) -> list[list[str]]:
    """Every line of the page's tables."""
    lines = re.findall(r"<tr>(.*?)</tr>", page.render())
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)] for line in lines]


def test_the_main_table() -> None:
    rows = [row("Grad-CAM", [0.3, 0.32], 0.302), row("AttnBN", [0.45, None], 0.509)]
    page = Page("t")
    main_table(page, rows, {"miou": 0.7, "seconds": 88.4}, "dev", "paper: VGG16")
    values = [0.3, 0.32]
    expected = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    assert cells(page) == [
        ["row", "mIoU", "gain", "paper", "labels given", "mean AP", "precision", "recall", "threshold", "seconds"],
        ["Grad-CAM", expected, "–", "30.2", "–", "50.0 ± 0.0", "50.0 ± 0.0", "–", "0.25, 0.25", "10"],
        ["AttnBN", "45.0", "+14.0", "50.9", "–", "50.0 ± 0.0", "50.0 ± 0.0", "–", "0.25, 0.25", "10"],
        ["the same trunk, trained on masks", "70.0", "–", "–", "–", "–", "–", "–", "–", "88"],
    ]
    assert "over 2 seeds; paper: VGG16" in page.render()
    page = Page("t")
    main_table(page, [row("a", [None])], None, "dev", "paper: VGG16")
    assert "paper" not in page.render()
    assert cells(page)[1][1:3] == ["–", "–"]


def test_the_table_of_classes_sets_the_best_bold_and_the_paper_beneath() -> None:
    rows = [
        row("A", [0.3], background=[0.6], cat=[0.4], cow=[None]),
        row("B", [0.4], background=[0.7], cat=[0.2], cow=[0.1]),
    ]
    page = Page("t")
    class_table(page, rows)
    assert cells(page) == [
        ["IoU of each class", "background", "cat", "cow"],
        ["A", "60.0", "40.0", "–"],
        ["paper", "–", "36.1", "–"],
        ["B", "70.0", "20.0", "10.0"],
        ["paper", "–", "36.1", "–"],
    ]
    assert re.findall(r"<strong>(.*?)</strong>", page.render()) == ["40.0", "70.0", "10.0"]
    close = [row(name, [0.3], cat=[value], cow=[0.0]) for name, value in (("A", 0.43062), ("B", 0.4314), ("C", 0.42))]
    page = Page("t")
    class_table(page, close)
    assert re.findall(r"<strong>(.*?)</strong>", page.render()) == ["43.1", "43.1"]  # what looks the same is the same
    empty = Page("t")
    class_table(empty, [row("A", [None])])
    assert cells(empty) == []


def test_numbers() -> None:
    first = row("A", [0.3])
    assert (gain(first, first), gain(row("B", [None]), first), gain(row("B", [0.25]), first)) == ("–", "–", "-5.0")
    assert spread([0.1, float("nan"), None]) == "10.0"
    assert seconds([{"seconds": 10}, {"seconds": 21, "seconds_since_resume_at_step": 4}]) == "> 16"


def test_bars_are_the_same_each_time_and_grow_with_the_rows() -> None:
    bars = [Bar("A $x$", [0.3, 0.32, 0.31], 0.302), Bar("B", [0.4], 0.509), Bar("not yet", [])]
    chart = bar_chart(bars, x_label="mIoU", published="paper: VGG16")
    assert chart == bar_chart(bars, x_label="mIoU", published="paper: VGG16")
    assert b"<svg" in chart and b"<script" not in chart
    assert _height(bar_chart(bars[:1], x_label="mIoU")) < _height(chart)


def _height(svg: bytes) -> float:
    found = re.search(rb'height="([\d.]+)pt"', svg)
    assert found
    return float(found[1])


def test_long_lines_are_thinned_to_means() -> None:
    points = [(step, float(step % 7)) for step in range(1, 1001)]
    drawn = thinned(points, 300)
    assert len(drawn) <= 300
    assert drawn[0] == (4, np.mean([1, 2, 3, 4]))
    assert drawn[-1][0] == 1000
    assert (thinned(points[:3], 300), thinned([], 3)) == (points[:3], [])


def test_losses_come_from_the_runs_metrics(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "terms": {"target_cl": 0.5}}\n{"step": 1, "validation": {}}\n{"step": 2, "terms": {"target_cl": 0.4}}\n'
    )
    terms = read_terms(tmp_path / "metrics.jsonl")
    assert terms == {"target_cl": [(1, 0.5), (2, 0.4)]}
    assert b"<svg" in loss_chart(terms)


def test_the_mark_is_the_runs_own_figure() -> None:
    points = [{"threshold": 0.1, "miou": 0.2}, {"threshold": 0.2, "miou": None}]
    line = threshold_series("A", {"curve": points, "threshold": 0.1, "miou": 0.19})
    assert (line.x, line.mark) == ([0.1, 0.2], (0.1, 0.19))
    assert np.isnan(line.y[1])
    assert threshold_series("A", {"curve": points, "threshold": 0.1, "miou": None}).mark is None


def test_a_row_without_title_goes_on_with_the_one_above() -> None:
    cell = Cell(np.zeros((10, 10, 3), np.uint8))
    both, apart = ([Row("one", [cell]), Row(title, [cell])] for title in ("", "two"))
    pages = [Page("t").gallery(["view"], rows).render() for rows in (both, apart)]
    assert [page.count('class="row"') for page in pages] == [1, 2]
    assert len(gallery_png(["view"], both)) > 0
    charts = Page("t").charts([(bar_chart([Bar("a", [0.1])], x_label="x"), "first <")]).render()
    assert "<strong>first &lt;</strong>" in charts
