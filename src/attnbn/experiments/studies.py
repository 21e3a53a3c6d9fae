"""The studies that ``reproduce`` knows: which recipes are their rows, what the rows differ in, and what the paper has.

Without torch, so that the command line can list them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from attnbn.config import LOSS_TERMS, RunConfig, config_from_dict
from attnbn.io.errors import InputError
from attnbn.recipes import ROWS, describe, path_of

PAPER = "paper: VGG16, VOC 2012 val"
"""What the paper's values in :attr:`StudyRow.published` are."""

LABELS = {
    "grad-cam": "Grad-CAM (L_t-cl)",
    "source-target": "L_t-cl + L_s-cl",
    "source-attention": "L_s-cl + L_ac",
    "finetune": "L_s-cl + L_ac, then L_t-cl",
    "joint": "L_s-cl + L_ac + L_t-cl",
    "attnbn": "AttnBN",
}
"""Rows of Table 1 as the paper writes them."""

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Columns of Table 1 under VOC's own names."""

_TABLE_1 = {
    "grad-cam": "74.0 34.2 19.5 33.1 18.6 25.0 41.7 27.9 36.1 11.4 26.3 20.7 30.4 29.0 41.5 40.2 21.6 32.8 18.2 23.6 35.3",
    "source-target": "74.9 38.1 20.3 34.2 21.1 26.8 38.5 31.6 34.9 10.0 31.7 25.5 29.1 30.7 41.0 41.2 21.9 32.5 19.7 23.5 37.5",
    "source-attention": "78.2 57.2 24.1 48.2 36.3 37.2 48.5 45.3 37.2 10.8 34.6 "
    "13.7 34.8 35.0 41.4 34.9 21.5 38.7 20.4 39.2 31.7",
    "finetune": "80.5 60.9 26.5 47.5 37.9 37.8 51.3 46.1 36.9 11.1 34.4 13.3 37.1 37.7 43.8 36.5 19.9 40.2 19.6 41.3 31.0",
    "joint": "82.8 64.4 26.8 59.7 44.0 48.5 65.1 56.3 58.8 10.3 53.8 17.2 59.6 50.3 49.5 54.9 27.3 60.1 25.4 56.7 38.6",
    "attnbn": "83.7 68.6 25.4 62.3 47.4 52.4 66.9 61.7 63.2 10.5 57.3 18.7 62.8 53.1 52.3 58.2 30.2 63.9 28.1 60.7 42.2",
}
"""The paper's Table 1 on VOC 2012 val, in per cent. The mIoU that it gives stand in the headers of the ``table1-*`` recipes;
in two rows they are not the means of its columns, which are 37.7 (finetune, given 39.4) and 48.1 (joint, given 46.2)."""


@dataclass(frozen=True)
class StudyRow:
    """A row of a study.

    Attributes:
        name: Short, as ``--rows`` takes it.
        recipe: The settings it starts from.
        label: As tables show it.
        paper: The recipe whose header has the paper's figure for this row.
        settings: What makes the row beyond its recipe, by name.
        masks: Where the row goes on to masks (Table 3): the recipe of its segmentation, and the one whose header has the
            paper's figure for it.
    """

    name: str
    recipe: str
    label: str
    paper: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    masks: tuple[str, str] | None = None

    @property
    def published(self) -> float:
        """The paper's mIoU on VOC 2012 val, a fraction."""
        return _published(self.paper)

    @property
    def published_masks(self) -> float | None:
        """The paper's mIoU of the segmentation from this row's cues, a fraction."""
        return None if self.masks is None else _published(self.masks[1])

    @property
    def published_iou(self) -> dict[str, float]:
        """The paper's IoU by class name, as fractions; empty where it has none."""
        values = _TABLE_1.get(self.name, "").split()
        return {name: round(float(value) / 100, 4) for name, value in zip(CLASSES, values, strict=False)}


def _published(recipe: str) -> float:
    return round(float(describe(recipe).details["paper"].split()[0]) / 100, 4)


@dataclass(frozen=True)
class Study:
    """Rows that are set side by side.

    Attributes:
        name: As the command takes it.
        title: Of its report.
        lead: What it compares, for the report.
        rows: The first is the baseline, the last the method.
        varied: Settings in which the rows differ by definition; an option for all rows cannot set them.
        caveat: What to mind when the paper's values stand beside ours; empty where they are of the same kind.
        bench: Whether it runs on the five animals.
    """

    name: str
    title: str
    lead: str
    rows: Sequence[StudyRow]
    varied: Sequence[str]
    caveat: str = ""
    bench: bool = False

    def choose(self, names: Sequence[str] | None) -> list[StudyRow]:
        """The rows of these short names, in the study's order; all for None.

        Raises:
            InputError: for a name that is none of its rows'.
        """
        known = [row.name for row in self.rows]
        for name in names or ():
            if name not in known:
                raise InputError(f"unknown row {name!r} of {self.name}, expected some of {' '.join(known)}: --rows")
        return [row for row in self.rows if names is None or row.name in names]


_ABLATION = (
    "Rows of the paper's Table 1: the same network, the same number of steps, more and more terms of Eq. 7. "
    "The target is known by image-level labels only; the source brings single objects with their saliency."
)
_SHARES = (
    "AttnBN as in the paper's Table 2, with a tenth, a half and the whole of the source; smaller shares are subsets."
)
_OTHER = " The paper's values are of VGG16 on all twenty classes of VOC 2012: compare the order and the steps, not the heights."


_MASKS = (
    "The paper's Table 3: localisation cues from a classifier's attention and from saliency train a segmentation network by "
    "deep seeded region growing. The rows differ in the classifier alone."
)


def _table1(recipes: str) -> list[StudyRow]:
    return [StudyRow(name, f"{recipes}-{name}", LABELS[name], f"table1-{name}") for name in ROWS]


def _table2(recipe: str | None) -> list[StudyRow]:
    """Shares of the source; with one recipe for all, or the recipe of each."""
    return [
        StudyRow(
            str(share),
            recipe or f"table2-{share}",
            f"{share} % of the source",
            f"table2-{share}",
            {"data.source_fraction": share / 100},
        )
        for share in (10, 50, 100)
    ]


STUDIES = {
    study.name: study
    for study in (
        Study(
            "animals", "The ablation on five animals", _ABLATION, _table1("animals"), ("training.phases",), _OTHER, True
        ),
        Study(
            "animals-table2",
            "The share of the source on five animals",
            _SHARES,
            _table2("animals-attnbn"),
            ("data.source_fraction",),
            _OTHER,
            True,
        ),
        Study(
            "animals-table3",
            "From attention to masks on five animals",
            _MASKS,
            (
                StudyRow(
                    "grad-cam", "animals-grad-cam", "Grad-CAM", "table1-grad-cam", masks=("animals-dsrg", "table3-dsrg")
                ),
                StudyRow("attnbn", "animals-attnbn", "AttnBN", "table1-attnbn", masks=("animals-dsrg", "table3-30k")),
            ),
            (),
            _OTHER,
            True,
        ),
        Study(
            "table3",
            "Table 3: from attention to masks on VOC 2012",
            _MASKS,
            (
                StudyRow("grad-cam", "table1-grad-cam", "Grad-CAM", "table1-grad-cam", masks=("table3-dsrg",) * 2),
                StudyRow("12k", "table2-10", "AttnBN, 10 % of the source", "table2-10", masks=("table3-12k",) * 2),
                StudyRow("30k", "table1-attnbn", "AttnBN", "table1-attnbn", masks=("table3-30k",) * 2),
            ),
            ("data.source_fraction",),
        ),
        Study("table1", "Table 1: the ablation on VOC 2012", _ABLATION, _table1("table1"), ("training.phases",)),
        Study(
            "table2", "Table 2: the share of the source on VOC 2012", _SHARES, _table2(None), ("data.source_fraction",)
        ),
    )
}
"""By name."""

BENCH = {
    "data.source": ("folders:", "animals/source"),
    "data.saliency": ("", "animals/source_saliency"),
    "data.target": ("voc:", "animals/VOC2012"),
    "model.weights": ("", "weights/squeezenet1_1.pth"),
}
"""What ``--bench DIR`` sets: a prefix and a place under ``DIR``."""

BENCH_DETECTOR = "weights/u2netp.onnx"
"""Under ``DIR``, the detector that ``--bench DIR`` takes for the target's saliency in studies that go on to masks."""


def recipe_settings(row: StudyRow) -> RunConfig:
    """A row's recipe as it stands, before any option."""
    values = yaml.safe_load(path_of(row.recipe).read_text(encoding="utf-8"))
    config: RunConfig = config_from_dict(RunConfig, values)
    return config


def as_row(study: Study, row: StudyRow, config: RunConfig) -> RunConfig:
    """Settings with options for all rows, made the row's own again.

    A row is a choice of terms: one that its recipe leaves out stays out, whatever weight the options give to it.

    Args:
        study: For what its rows differ in.
        row: Whose settings these are.
        config: The recipe under the options.

    Raises:
        InputError: if the options set what the study's rows differ in.
    """
    recipe = recipe_settings(row)
    for name in study.varied:
        section, _, key = name.partition(".")
        if getattr(getattr(config, section), key) != getattr(getattr(recipe, section), key):
            raise InputError(f"the rows of {study.name} differ in {name}, it cannot be set for all: leave out --{name}")
        if name in row.settings:
            config = replace(config, **{section: replace(getattr(config, section), **{key: row.settings[name]})})
    off: dict[str, Any] = {term: 0.0 for term in LOSS_TERMS if not getattr(recipe.loss, term)}
    return replace(config, loss=replace(config.loss, **off))
