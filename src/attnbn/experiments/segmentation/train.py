"""One segmentation run from its settings to its results: cues (or masks), network, loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attnbn.config import check_frozen
from attnbn.data.broken import without_broken
from attnbn.data.classes import parse_classes
from attnbn.data.cue_files import CueFolder
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.open import open_dataset
from attnbn.data.transforms import train_transform
from attnbn.experiments.feeds import Augment
from attnbn.experiments.runner import (
    Plan,
    Say,
    Watch,
    absolute_if_there,
    absolute_spec,
    begin,
    fabric_of,
    plain,
    quiet,
    resume_run,
    stretches_of,
    versions,
)
from attnbn.experiments.scoring import score_together
from attnbn.experiments.segmentation.feeds import (
    MaskedPhotographs,
    SeededPhotographs,
    Squash,
    classes_of_masks,
    collate_cues,
)
from attnbn.inference.load_segmenter import read_segment_config
from attnbn.io.errors import InputError
from attnbn.io.run_folder import RunFolder
from attnbn.models.segmenters import BuiltSegmenter, build_segmenter, grid_of
from attnbn.segment_config import SegmentConfig, SegmenterConfig, check_segment_config
from attnbn.tasks.dsrg import Dsrg
from attnbn.tasks.supervised import Supervised, collate_masks
from attnbn.training.checkpoint import CheckpointFolder
from attnbn.training.devices import loader_processes
from attnbn.training.streams import Stream, fold
from attnbn.training.task import Task


def train_segmenter(
    config: SegmentConfig,
    *,
    overwrite: bool = False,
    auto_resume: bool = False,
    say: Say = quiet,
    watch: Watch = quiet,
) -> dict[str, Any]:
    """Train a segmentation network and write its results.

    Args:
        config: All settings; ``output`` names the run folder.
        overwrite: Replace a run that is there.
        auto_resume: Go on with a run that is there, if it was begun with these settings.
        say: Told what a person should know, line by line.
        watch: Told after each step.

    Returns:
        The content of ``results.json``; empty on processes other than the first.

    Raises:
        InputError: for settings or data that cannot be used; nothing is written then.
        RunError: if a loss is not finite or the disk is full; the checkpoints stay.
        Interrupted: after Ctrl-C, with a checkpoint written.
    """
    return begin(_plan(config), overwrite=overwrite, auto_resume=auto_resume, say=say, watch=watch)


def resume_segmenter(
    run: str | os.PathLike[str], places: Mapping[str, Any] | None = None, *, say: Say = quiet, watch: Watch = quiet
) -> dict[str, Any]:
    """Continue a segmentation run from its newest whole checkpoint, or from step 0 where there is none.

    Args:
        run: Its folder.
        places: Settings that may differ from last time, see :data:`attnbn.config.PLACES`.
        say: As :func:`train_segmenter`.
        watch: As :func:`train_segmenter`.

    Returns:
        As :func:`train_segmenter`; at once where the run is finished already.

    Raises:
        InputError: if there is no such run, or another process is writing to it.
    """
    return resume_run(run, places, read_segment_config, _plan, say, watch)


@dataclass(frozen=True)
class _Data:
    """What a run reads: the photographs to train on, their cues or None (masks), and those it is scored on."""

    photographs: ImageDataset
    cues: CueFolder | None
    selection: ImageDataset | None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.photographs.classes

    def notes(self, grid: tuple[int, int]) -> list[str]:
        """What a person should know; ``grid`` is that of the network's logits."""
        lines = [f"target: {self.photographs.describe()}", *(f"  {note}" for note in self.photographs.notes)]
        if self.cues is not None and self.cues.grid != grid:
            own, wanted = ("×".join(map(str, sides)) for sides in (self.cues.grid, grid))
            lines.append(
                f"  cues of {own} are read at the nearest of the network's {wanted} places (attnbn cues --grid)"
            )
        return lines + ([] if self.selection is None else [f"selection: {self.selection.describe()}"])


def _plan(config: SegmentConfig) -> Plan:
    check_segment_config(config)
    check_frozen(config.model.freeze, config.model.weights, config.model.network)
    fabric = fabric_of(config)
    data = _open(config)
    torch.manual_seed(fold(config.seed, "weights"))
    built = build_segmenter(_with_file(config.model), len(data.classes))
    grid = grid_of(built.network, config.data.size)
    if config.channels_last:
        built.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task, stream = _task(config, data, built, grid)

    def figures() -> dict[str, Any] | None:
        return _score(config, built, data.selection, fabric)

    def validate(step: int) -> dict[str, Any]:
        scored = figures()
        assert scored is not None
        return {"miou": scored["miou"], "score": scored["miou"]}

    return Plan(
        config,
        _stored(config, data.classes),
        data.notes(grid) + ([] if built.report is None else [f"weights: {built.report}"]),
        task,
        fabric,
        stretches_of(config, len(data.photographs)),
        lambda launched, say: {"target": stream},
        None if data.selection is None else validate,
        lambda: {
            "classes": list(data.classes),
            "selection": figures(),
            "selection_split": config.data.selection_split,
        },
    )


def _open(config: SegmentConfig) -> _Data:
    data = config.data
    assert data.target is not None
    cues = None if config.cues is None else CueFolder(config.cues)
    own = cues.classes if cues is not None else classes_of_masks(config.masks or "")
    what, place = ("cues", config.cues) if cues is not None else ("masks", config.masks)
    wanted = _classes(config)
    if own is not None and wanted is not None and wanted != own:
        raise InputError(f"expected the classes of the {what} ({', '.join(own)}), got {', '.join(wanted)}: {place}")
    classes = wanted if own is None else own
    common: dict[str, Any] = {"classes": classes, "class_map": data.class_map}
    photographs = open_dataset(data.target, split=data.target_split, **common)
    if data.skip_broken:
        photographs = without_broken(photographs)
    if cues is not None:
        photographs = _with_cues(photographs, cues)
    if config.masks is not None:
        photographs = MaskedPhotographs(photographs, config.masks)
    selection = None
    if data.selection_split is not None:
        common["classes"] = photographs.classes
        selection = open_dataset(data.target, split=data.selection_split, masks=True, **common)
    return _Data(photographs, cues, selection)


def _classes(config: SegmentConfig) -> tuple[str, ...] | None:
    try:
        return parse_classes(config.classes)
    except InputError as error:  # which names a classifier's setting
        raise InputError(str(error).replace("data.classes", "--classes")) from error


def _with_cues(photographs: ImageDataset, cues: CueFolder) -> ImageDataset:
    """Without the photographs that were left out, for a reason, when the cues were made."""
    left_out = set(cues.left_out)
    kept = [index for index, name in enumerate(photographs.names) if name not in left_out]
    if len(kept) == len(photographs):
        return photographs
    gone = len(photographs) - len(kept)
    return Subset(photographs, kept, f"left out {gone:,} photograph{'s' * (gone > 1)} that the cues left out")


def _task(config: SegmentConfig, data: _Data, built: BuiltSegmenter, grid: tuple[int, int]) -> tuple[Task, Stream]:
    """What is trained, and what on."""
    common: dict[str, Any] = {"seed": config.seed, "batch_size": config.training.batch_size}
    cut = config.data
    if data.cues is None:
        crop = Augment(train_transform(cut.size, cut.scale, cut.flip))
        stream = Stream("target", data.photographs, crop, collate_masks, **common)
        return Supervised(built.network, built.fresh, config.training), stream
    seeded = SeededPhotographs(data.photographs, data.cues, grid)
    stream = Stream("target", seeded, Squash(cut.size, cut.flip), collate_cues, **common)
    return Dsrg(built.network, built.fresh, config.dsrg, config.training), stream


def _score(
    config: SegmentConfig, built: BuiltSegmenter, selection: ImageDataset | None, fabric: Any
) -> dict[str, Any] | None:
    """Figures on the selection split at a single scale without CRF: what is quick enough to repeat."""
    if selection is None:
        return None
    scored = score_together(
        fabric,
        built.network,
        selection,
        size=config.data.size,
        workers=loader_processes(config.workers, config.device),
        skip_broken=config.data.skip_broken,
    )
    figures = scored.figures(selection.classes)
    return {key: figures[key] for key in ("miou", "iou", "precision", "recall", "images")}


def _with_file(model: SegmenterConfig) -> SegmenterConfig:
    """A trained run's folder given as weights, as the file of its newest checkpoint."""
    if model.weights is None or not Path(model.weights).expanduser().is_dir():
        return model
    folder = RunFolder(Path(model.weights).expanduser())
    folder.config()
    return replace(model, weights=str(CheckpointFolder(folder.checkpoints).weights_file()))


def _stored(config: SegmentConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    """What stands in ``config.yaml``."""
    resolved = replace(
        config,
        cues=absolute_if_there(config.cues),
        masks=absolute_if_there(config.masks),
        data=replace(config.data, target=absolute_spec(config.data.target)),
        model=replace(config.model, weights=absolute_if_there(config.model.weights)),
        classes=list(classes),
        versions=versions(),
    )
    values: dict[str, Any] = plain(asdict(resolved))
    return values
