"""From classifiers to masks: the whole path on scenes, what it writes, that it goes on, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbn.cli.main import main
from attnbn.cli.reproduce import mask_table
from attnbn.cli.reproduce import parse as parse_reproduce
from attnbn.cli.segment_train import parse as parse_segment
from attnbn.cli.train import parse
from attnbn.data.images import read_mask
from attnbn.data.open import open_dataset
from attnbn.data.scenes.dataset import COUNTS
from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.experiments.reproduce import Reproduction
from attnbn.experiments.segmentation import masks as masks_module
from attnbn.experiments.segmentation.table3 import MaskReproduction
from attnbn.experiments.studies import STUDIES, Study, StudyRow
from attnbn.io.errors import InputError
from attnbn.report.ablation import AblationReport
from attnbn.segment_config import check_segment_config

STUDY = Study(
    "tiny",
    "Two rows",
    "Scenes.",
    [
        StudyRow("grad-cam", "demo-grad-cam", "Grad-CAM", "table1-grad-cam", masks=("demo-dsrg", "table3-dsrg")),
        StudyRow("attnbn", "demo-attnbn", "AttnBN", "table1-attnbn", masks=("demo-dsrg", "table3-30k")),
    ],
    (),
)
TARGET = "scenes:target?count=24"
DSRG = ["--config", "demo-dsrg", "--data.size", "48", "--training.steps", "3", "--training.batch_size", "4",
        "--inference.crf.iterations", "1", "--device", "cpu"]  # fmt: skip


def study(output: Path, *more: str, saliency: str | None = None) -> MaskReproduction:
    words = ["--data.source", "scenes:source?count=24", "--data.target", TARGET, "--data.size", "48", "--training.steps",
             "2", "--training.batch_size", "2", "--device", "cpu"]  # fmt: skip
    configs = {row.name: parse(["--config", row.recipe, *words]).config for row in STUDY.rows}
    classifiers = Reproduction(STUDY, STUDY.rows, configs, output, command="attnbn reproduce tiny")
    return MaskReproduction(classifiers, {row: parse_segment([*DSRG, *more]).config for row in configs}, saliency)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("table3") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AblationReport, "write", lambda page, path: None)  # the classifiers' page has its own tests
        return folder, study(folder).run()


def test_the_figures_are_those_of_the_masks_on_disk(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, results = finished
    assert results == json.loads((folder / "masks.json").read_text())
    assert [(row["row"], row["seed"], row["published"]) for row in results["rows"]] == [
        ("grad-cam", 0, 0.59), ("attnbn", 0, 0.621),
    ]  # fmt: skip
    dataset = open_dataset(TARGET, split="dev", masks=True)
    size = len(dataset.classes) + 1
    for row in results["rows"]:
        counts = torch.zeros(size, size, dtype=torch.int64)
        for index, name in enumerate(dataset.names):
            mask = read_mask(folder / f"tiny-{row['row']}-0-masks/masks/{name}.png", size - 1)
            counts += confusion_matrix(
                mask.as_subclass(torch.Tensor), dataset[index].mask.as_subclass(torch.Tensor), size
            )
        assert row["miou"] == pytest.approx(float(mean_iou(counts)))
        assert row["images"] == len(dataset)
        assert 0 <= row["before_crf"]["miou"] <= 1
        assert row["cues"]["classes"]["background"]["precision"] is not None  # of dev, which has masks
    assert results["gain"] == pytest.approx(results["rows"][1]["miou"] - results["rows"][0]["miou"])


def test_the_page_has_tables_and_galleries(finished: tuple[Path, dict[str, Any]]) -> None:
    page = (finished[0] / "masks.html").read_text()
    for text in ("before CRF", "IoU of each class", "Ground truth", "Failures", "62.1", "attnbn reproduce tiny"):
        assert text in page
    assert page.count("<img") == 4 * (9 + 4)
    lines = mask_table(finished[1])
    assert len(lines) == 3
    assert lines[2].startswith("AttnBN")


def test_what_is_done_is_not_done_again(finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done already")

    for name in ("train_segmenter", "score_segmentation"):
        monkeypatch.setattr(masks_module, name, never)
    monkeypatch.setattr("attnbn.experiments.segmentation.cues.predict", lambda *_, **__: iter(()))
    monkeypatch.setattr(AblationReport, "write", lambda page, path: None)
    assert study(finished[0]).run() == finished[1]


def test_other_settings_are_refused(finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AblationReport, "write", lambda page, path: None)
    with pytest.raises(InputError, match=r"other settings \(training.steps 3, now 4\).*tiny-grad-cam-0-masks"):
        study(finished[0], "--training.steps", "4").run()


def test_missing_saliency_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        study(tmp_path / "out", saliency=str(tmp_path / "nowhere")).run()
    assert not (tmp_path / "out").exists()


def test_cues_grid_is_the_networks(finished: tuple[Path, dict[str, Any]]) -> None:
    manifest = json.loads((finished[0] / "tiny-attnbn-0-masks/cues-train/cues.json").read_text())
    assert manifest["grid"] == [6, 6]


def test_table_3_in_the_studies() -> None:
    rows = STUDIES["table3"].rows
    assert [(row.masks[0], row.published_masks) for row in rows if row.masks] == [
        ("table3-dsrg", 0.59), ("table3-12k", 0.617), ("table3-30k", 0.621),
    ]  # fmt: skip


def test_the_command_passes_settings_on(tmp_path: Path) -> None:
    words = [
        "table3",
        "--output",
        str(tmp_path),
        "--data.source",
        "folders:s",
        "--data.saliency",
        "m",
        "--data.target",
        "voc:v",
    ]
    command = parse_reproduce(
        [*words, "--segment.training.steps", "9", "--target-saliency", "maps", "--loss.attention", "3"]
    )
    assert command.saliency == "maps"
    assert {c.training.steps for c in command.segmentations.values()} == {9}
    assert command.configs["30k"].loss.attention == 3
    assert command.segmentations["12k"].data.size == 321
    with pytest.raises(InputError, match="--segment.training.stpes"):
        parse_reproduce([*words, "--segment.training.stpes", "9"])
    with pytest.raises(InputError, match="are for Table 3, table1 makes no masks"):
        parse_reproduce(["table1", *words[1:], "--segment.training.steps", "9"])


def test_the_demonstration_goes_on_to_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in COUNTS:
        monkeypatch.setitem(COUNTS, split, 24)
    output = tmp_path / "demo"
    words = ["demo", "--full", "--no-ceiling", "--steps", "2", "--device", "cpu", "--processes", "1"]
    assert main([*words, "--output", str(output)]) == 0
    rows = json.loads((output / "results.json").read_text())["masks"]
    assert [row["recipe"] for row in rows] == ["demo-grad-cam", "demo-attnbn"]
    assert all(0 < row["miou"] < 1 for row in rows)
    assert "masks of attnbn: attention" in capsys.readouterr().out
    assert (output / "masks.html").stat().st_size > 10_000


def test_its_own_settings_leave_out_where_things_are() -> None:
    config = parse_segment(DSRG).config
    moved = replace(config, data=replace(config.data, target="scenes:target?count=9"), output="elsewhere")
    assert masks_module._own(config) == masks_module._own(moved)
    assert masks_module._own(replace(config, seed=1)) != masks_module._own(config)


def test_a_stages_settings_are_whole(tmp_path: Path) -> None:
    config = replace(parse_segment(DSRG).config, masks="elsewhere")
    stage = masks_module.MaskStage(tmp_path / "run", tmp_path / "out", config, "dev")
    check_segment_config(stage.settings)
    assert stage.settings.cues == str(tmp_path / "out" / "cues-train")
    assert (stage.settings.output, stage.settings.masks) == (str(tmp_path / "out" / "segment"), None)
    assert stage.settings.model.weights == str(tmp_path / "run")
    own = replace(config, model=replace(config.model, weights="IMAGENET1K_V1"))
    assert replace(stage, config=own).settings.model.weights == "IMAGENET1K_V1"
