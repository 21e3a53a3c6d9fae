"""From a trained classifier to masks: its cues, a segmentation network grown from them, its masks and their figures.

What Table 3 compares is this path walked from two classifiers; the demonstration walks it on scenes. Each step is passed over
where it is done already, so that a stopped one goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnbn.config import PLACES
from attnbn.data.dataset import ImageDataset
from attnbn.data.images import read_mask, write_mask
from attnbn.data.open import open_dataset
from attnbn.evaluation.confusion import confusion_matrix
from attnbn.experiments.runner import Watch, quiet, versions
from attnbn.experiments.segmentation.cues import CueSettings, write_cues
from attnbn.experiments.segmentation.train import resume_segmenter, train_segmenter
from attnbn.experiments.settings import check_same, flat
from attnbn.inference.claim import as_stored
from attnbn.inference.load_segmenter import load_segmenter, read_segment_config
from attnbn.inference.segment_score import score_segmentation
from attnbn.io.atomic import write_json
from attnbn.io.errors import InputError
from attnbn.io.inside import check_inside
from attnbn.io.json_file import read_object
from attnbn.io.run_folder import CONFIG, RunFolder
from attnbn.models.segmenters import build_segmenter, grid_of
from attnbn.report.masks import MaskReport, MaskRow
from attnbn.segment_config import SegmentConfig
from attnbn.training.devices import check_device

FIGURES = "masks.json"
"""The figures of a stage's masks; written last."""

COMPARED = ("data", "model", "dsrg", "training", "seed")
"""Settings of what a segmentation run computes; a run with others is another run."""


@dataclass(frozen=True)
class MaskStage:
    """What is done from one classifier.

    Attributes:
        classifier: Folder of its finished run.
        folder: For cues (``cues-SPLIT``), the segmentation run (``segment``), masks (``masks``) and figures.
        config: Of the segmentation; its ``data.target`` and ``data.target_split`` are those of the cues. Without
            ``model.weights`` its trunk starts from the classifier's, which must then be of its make.
        split: Of the same data set, with masks, to score on.
        saliency: A folder of maps or a detector for the cues' background; None: low attention.
        cues: How they are made; their grid is set to the network's.
    """

    classifier: Path
    folder: Path
    config: SegmentConfig
    split: str
    saliency: str | None = None
    cues: CueSettings = field(default_factory=CueSettings)

    @property
    def run(self) -> Path:
        """The segmentation run's folder."""
        return self.folder / "segment"

    def cues_of(self, split: str) -> Path:
        """The folder of cues of a split."""
        return self.folder / f"cues-{split}"

    @property
    def settings(self) -> SegmentConfig:
        """The segmentation run's settings: with its cues, its output and the weights that it starts from."""
        model = replace(self.config.model, weights=self.config.model.weights or str(self.classifier))
        cues = str(self.cues_of(self.config.data.target_split))
        return replace(self.config, model=model, cues=cues, masks=None, output=str(self.run))


def carry_out(stage: MaskStage, watch: Watch = quiet) -> dict[str, Any]:
    """Do what is not yet done of a stage.

    Args:
        stage: What to do.
        watch: Told after each training step.

    Returns:
        ``cues`` (the report of cues made in the same way of the photographs that are scored, which have masks: those learned
        from need none), the masks' :meth:`~attnbn.inference.segment_score.SegmentationScore.figures`, and ``seconds`` (of the
        segmentation's training).

    Raises:
        InputError: As :func:`~attnbn.experiments.segmentation.cues.write_cues` and
            :func:`~attnbn.experiments.segmentation.train.train_segmenter`; or the folder holds a run with other settings.
        RunError: The same.
        Interrupted: The same.
    """
    target = stage.config.data.target
    if target is None:
        raise InputError("expected data.target, the photographs to segment: give --data.target KIND:PATH")
    reports = {
        split: write_cues(
            stage.classifier,
            target,
            split,
            stage.cues_of(split),
            saliency=stage.saliency,
            settings=replace(stage.cues, grid=_grid(stage.config)),
            device=stage.config.device,
            skip_broken=stage.config.data.skip_broken,
        ).report
        for split in dict.fromkeys((stage.config.data.target_split, stage.split))
    }
    config = stage.settings
    if (stage.run / CONFIG).is_file():
        stored, _ = read_segment_config(RunFolder(stage.run).config(), stage.run)
        check_same(_own(stored), _own(config), stage.run)
        trained = resume_segmenter(stage.run, {name: getattr(config, name) for name in PLACES}, watch=watch)
    else:
        trained = train_segmenter(config, watch=watch)
    figures = _figures(stage)
    return {"cues": reports[stage.split], **figures, "seconds": trained["seconds"]}


def score_set(stage: MaskStage, classes: tuple[str, ...] | None = None) -> ImageDataset:
    """The photographs that a stage's masks are scored on, with their true masks."""
    data = stage.config.data
    assert data.target is not None
    return open_dataset(data.target, split=stage.split, classes=classes, class_map=data.class_map, masks=True)


def _grid(config: SegmentConfig) -> tuple[int, int]:
    """The network's own: cues of another would be read at its nearest places."""
    return grid_of(build_segmenter(replace(config.model, weights=None), 1).network, config.data.size)


def _own(config: SegmentConfig) -> dict[str, Any]:
    """What a segmentation computes; where its data and first weights are makes no difference."""
    elsewhere = ("data.target", "model.weights")
    every = flat(asdict(config)).items()
    return {name: value for name, value in every if name.partition(".")[0] in COMPARED and name not in elsewhere}


def _figures(stage: MaskStage) -> dict[str, Any]:
    """Figures of the masks, which are written on the way."""
    file = stage.folder / FIGURES
    trained = load_segmenter(stage.run, device=check_device(stage.config.device))
    look = stage.config.inference
    made_by = as_stored({"sha256": trained.identity["sha256"], "split": stage.split, "inference": asdict(look)})
    if file.is_file() and (earlier := read_object(file, "figures of masks")).get("made_by") == made_by:
        return dict(earlier)
    dataset = score_set(stage, trained.classes)
    scored = score_segmentation(
        trained.network,
        dataset,
        size=stage.config.data.size,
        scales=look.scales,
        flip=look.flip,
        crf=look.crf,
        each=lambda one: _write_mask(stage, one.name, one.mask),
    )
    figures = scored.figures(trained.classes) | {"made_by": made_by}
    write_json(file, figures)
    return figures


def _write_mask(stage: MaskStage, name: str, mask: Tensor) -> None:
    check_inside(stage.folder, mask_file(stage, name))
    write_mask(mask_file(stage, name), mask)


def mask_file(stage: MaskStage, name: str) -> Path:
    """Where a stage's mask of a photograph is."""
    return stage.folder / "masks" / f"{name}.png"


@dataclass(frozen=True)
class Outcome:
    """A row that was carried out, with one stage per seed.

    Attributes:
        label: As tables show it.
        stages: In the order of the seeds.
        attention: Figures of each classifier's own maps as masks, on the same split.
        figures: Of each stage, from :func:`carry_out`.
        published: The paper's mIoU as a fraction, or None.
    """

    label: str
    stages: Sequence[MaskStage]
    attention: Sequence[Mapping[str, Any]]
    figures: Sequence[Mapping[str, Any]]
    published: float | None = None


def write_report(outcomes: Sequence[Outcome], file: Path, *, title: str, lead: str, command: str) -> None:
    """A page on what became of each row's attention, with photographs of the first seed."""
    firsts = [outcome.stages[0] for outcome in outcomes]
    dataset = score_set(firsts[0], tuple(outcomes[0].figures[0]["iou"])[1:])
    MaskReport(
        title=title,
        lead=lead,
        command=command,
        versions=versions(),
        rows=[MaskRow(one.label, one.attention, one.figures, one.published) for one in outcomes],
        dataset=dataset,
        counts=(_counts(firsts[0], dataset), _counts(firsts[-1], dataset)),
        mask_of=lambda place, name: _mask(firsts[place], dataset, name),
        split=firsts[0].split,
    ).write(file)


def _mask(stage: MaskStage, dataset: ImageDataset, name: str) -> Tensor:
    mask: Tensor = read_mask(mask_file(stage, name), len(dataset.classes)).as_subclass(Tensor)
    return mask


def _counts(stage: MaskStage, dataset: ImageDataset) -> Tensor:
    """Confusion matrices of single photographs from a stage's masks, int64 ``S×(N+1)×(N+1)``."""
    size = len(dataset.classes) + 1
    counts = torch.zeros(len(dataset), size, size, dtype=torch.int64)
    for index, name in enumerate(dataset.names):
        truth = dataset[index].mask
        if truth is not None:
            counts[index] = confusion_matrix(_mask(stage, dataset, name), truth.as_subclass(Tensor), size)
    return counts
