"""The tables of a comparison against plain means, in their order, with what is bold and what is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnbn.report.html import Page
from attnbn.report.transfer_tables import Results, main_table, oracle_table, trials_table
from report.test_adaptation_report import BOTH, ROWS, content


def cells(page: Page) -> list[list[str]]:
    """Every line of the page's tables."""
    lines = re.findall(r"<tr>(.*?)</tr>", page.render())
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)] for line in lines]


def test_the_main_table_of_several_directions() -> None:
    results = Results(content(BOTH))
    page = Page("t")
    main_table(page, results)
    lines = cells(page)
    assert lines[0] == ["setting", "row", "mean", "gain", "C → M", "M → C"]
    assert [line[:2] for line in lines[1:]] == [
        ["generalization", "L_s-cl"], ["", "paper"], ["", "L_s-cl + L_ac"], ["", "paper"],
        ["adaptation", "L_s-cl + L_adv"], ["", "paper"], ["", "L_s-cl + L_ac + L_adv"], ["", "paper"],
        ["peers", "DANN"],
    ]  # fmt: skip
    entries = results.content["rows"]
    for line in lines[1:]:
        if line[1] == "paper":
            assert line[2:] == ["61.3", "–", "61.3", "61.3"]
            continue
        row = next(name for name, (label, _) in ROWS.items() if label == line[1])
        table = {(e["source"], e["seed"]): e["value"] for e in entries if e["row"] == row}
        c, m = ([table[s, k] for k in range(3) if table[s, k] is not None] for s in ("C", "M"))
        mean = [(table["C", k] + table["M", k]) / 2 for k in range(3) if table["C", k] is not None]
        for text, values in zip([line[2], *line[4:]], (mean, c, m), strict=True):
            assert text == f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
        assert results.values(row, ("mean", "mean")) == pytest.approx(mean)
        if row == "source":
            assert line[3] == "–"
            first = np.mean(mean)
        else:
            assert line[3] == f"{100 * (np.mean(mean) - first):+.1f}"


def test_the_best_of_each_column_is_bold_and_the_papers_figures_never() -> None:
    results = Results(content(BOTH))
    page = Page("t")
    main_table(page, results)
    lines = cells(page)
    best = []
    for column in (2, 4, 5):
        ours = [line[column] for line in lines[1:] if line[1] != "paper"]
        best.append(max(ours, key=lambda text: float(text.split()[0])))
    assert sorted(re.findall(r"<strong>(.*?)</strong>", page.render())) == sorted(best)


def test_rows_that_show_the_same_best_figure_are_all_bold() -> None:
    results = content([("C", "M")], seeds=1, paper=False)
    for line, mean in zip(results["summary"], (0.4306, 0.4314, 0.4299, 0.2, 0.1), strict=True):
        line["mean"] = mean
    page = Page("t")
    main_table(page, Results(results))
    assert re.findall(r"<strong>(.*?)</strong>", page.render()) == ["43.1", "43.1"]


def test_the_number_of_test_images_of_each_direction() -> None:
    results = content(BOTH)
    for line in results["rows"]:
        line["images"] = 1300 if line["target"] == "M" else 70
    page = Page("t")
    main_table(page, Results(results))
    assert cells(page)[-1] == ["", "number of test images", "–", "–", "1,300", "70"]
    assert '<td class="number">1,300</td>' in page.render()  # numbers stay flush right
    results["rows"] = [line for line in results["rows"] if line["target"] == "M"]  # the other is not begun
    page = Page("t")
    main_table(page, Results(results))
    assert cells(page)[-1][4:] == ["1,300", "–"]
    alone = content([("C", "M")], seeds=1)
    alone["rows"] = [line | {"images": 8} for line in alone["rows"]]
    page = Page("t")
    main_table(page, Results(alone))
    assert cells(page)[-1] == ["", "number of test images", "8", "–", "–"]


def test_one_direction_has_the_paper_beside_and_no_mean() -> None:
    page = Page("t")
    main_table(page, Results(content([("C", "M")], seeds=1)))
    lines = cells(page)
    assert lines[0] == ["setting", "row", "C → M", "paper", "gain"]
    assert len(lines) == 6
    assert [line[3] for line in lines[1:]] == ["61.3"] * 4 + ["–"]
    page = Page("t")
    main_table(page, Results(content([("C", "M")], seeds=1, paper=False)))
    assert cells(page)[0] == ["setting", "row", "C → M", "gain"]
    assert "paper" not in page.render()


def test_trials_and_oracle_stand_apart() -> None:
    results = Results(content(BOTH))
    page = Page("t")
    trials_table(page, results, BOTH[0])
    lines = cells(page)
    assert lines[1:3] == [
        ["L_s-cl", "loss.attention 0.5", "0.5000", "90.0"],
        ["", "loss.attention 2.0", "2.0000", "90.0"],
    ]
    assert len(lines) == 1 + 2 * len(ROWS)
    assert page.render().count("<strong>") == 3 * len(ROWS)  # of each row's trials the chosen one
    assert "80.0" not in page.render()  # the target's figure is no part of the choice
    page = Page("t")
    for line in results.content["oracle"]:
        line["value"] = 0.75 if line["source"] == "C" else 0.65
    oracle_table(page, results)
    assert cells(page)[:2] == [["oracle", "mean", "C → M", "M → C"], ["L_s-cl", "70.0", "75.0", "65.0"]]
    assert "ORACLE" in page.render() and "not to be compared" in page.render().lower()
