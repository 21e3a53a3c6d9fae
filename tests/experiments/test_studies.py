"""The studies hold the paper's figures, and options for all rows leave each row what it is."""

from __future__ import annotations

import statistics

import pytest

from attnbn.cli.train import parse
from attnbn.config import LOSS_TERMS
from attnbn.data.classes import VOC_CLASSES
from attnbn.experiments.studies import CLASSES, STUDIES, as_row, recipe_settings
from attnbn.io.errors import InputError
from attnbn.recipes import ROWS, names

EVERY = [(study, row) for study in STUDIES.values() for row in study.rows]


def test_table_1_and_2_are_the_papers() -> None:
    rows = STUDIES["table1"].rows
    assert [row.name for row in rows] == list(ROWS)
    assert [row.published for row in rows] == [0.302, 0.317, 0.375, 0.394, 0.462, 0.509]
    assert [row.published for row in STUDIES["table2"].rows] == [0.451, 0.492, 0.509]
    assert list(CLASSES) == ["background", *VOC_CLASSES]
    assert all(list(row.published_iou) == list(CLASSES) for row in rows)
    assert (rows[0].published_iou["cow"], rows[-1].published_iou["train"]) == (0.263, 0.607)
    # the paper's own means, except where its table does not add up
    off = {row.name: statistics.mean(row.published_iou.values()) - row.published for row in rows}
    assert {name for name, difference in off.items() if abs(difference) > 0.01} == {"finetune", "joint"}
    assert STUDIES["table2"].rows[0].published_iou == {}


@pytest.mark.parametrize(("study", "row"), EVERY, ids=[f"{study.name}-{row.name}" for study, row in EVERY])
def test_every_row_is_its_recipe(study, row) -> None:
    assert row.recipe in names()
    config = parse(["--config", row.recipe]).config
    assert config == recipe_settings(row)  # read without the option parser
    own = as_row(study, row, config)
    assert own.loss == config.loss
    own_recipe = {"table2-10": 0.1, "table2-50": 0.5}.get(row.recipe, 1)
    assert own.data.source_fraction == row.settings.get("data.source_fraction", own_recipe)


def test_a_weight_for_all_rows_reaches_those_that_have_the_term() -> None:
    study = STUDIES["animals"]
    for row in study.rows:
        before = recipe_settings(row).loss
        loss = as_row(study, row, parse(["--config", row.recipe, "--loss.attention", "7"]).config).loss
        assert loss.attention == (7 if before.attention else 0)
        assert [bool(getattr(loss, term)) for term in LOSS_TERMS] == [
            bool(getattr(before, term)) for term in LOSS_TERMS
        ]


def test_what_makes_the_rows_cannot_be_set_for_all() -> None:
    ablation, shares = STUDIES["table1"], STUDIES["animals-table2"]
    config = parse(["--config", "table1-attnbn", "--training.phases", "[{share: 1}]"]).config
    with pytest.raises(InputError, match="rows of table1 differ in training.phases.*leave out --training.phases"):
        as_row(ablation, ablation.rows[-1], config)
    config = parse(["--config", "animals-attnbn", "--data.source_fraction", "0.3"]).config
    with pytest.raises(InputError, match="leave out --data.source_fraction"):
        as_row(shares, shares.rows[0], config)
    config = parse(["--config", "animals-attnbn"]).config
    assert [as_row(shares, row, config).data.source_fraction for row in shares.rows] == [0.1, 0.5, 1.0]


def test_rows_are_chosen_in_the_studys_order() -> None:
    study = STUDIES["animals"]
    assert [row.name for row in study.choose(["attnbn", "grad-cam"])] == ["grad-cam", "attnbn"]
    assert study.choose(None) == list(study.rows)
    with pytest.raises(InputError, match="unknown row 'gradcam' of animals, expected some of grad-cam .*: --rows"):
        study.choose(["gradcam"])
