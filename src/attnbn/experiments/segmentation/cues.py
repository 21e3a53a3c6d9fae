"""A finished run and a data set to localisation cues: the folder that a segmentation network learns from.

Cues are made from the attention of the labelled classes and from saliency. Masks, where a data set has them, are read
after the last cue is written, to say in the report how good the cues are; no cue depends on one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from attnbn.data.cue_files import write_archive
from attnbn.data.dataset import ImageDataset
from attnbn.data.open import has_masks, open_dataset, place_of
from attnbn.experiments.segmentation.cue_work import PAGE, REPORT, CueWork
from attnbn.inference.claim import Done
from attnbn.inference.gather import by_name, look_round
from attnbn.inference.layers import LAST
from attnbn.inference.load import TrainedRun, load, read_config
from attnbn.inference.maps import Fuse
from attnbn.inference.passes import Passes
from attnbn.inference.photographs import check_name
from attnbn.inference.predict import predict
from attnbn.inference.shards import Shard, current_shard, own, remaining
from attnbn.io.atomic import write_json
from attnbn.io.errors import InputError
from attnbn.io.run_folder import RunFolder
from attnbn.report.cues import CueTally, Shown, write_page
from attnbn.saliency.detector import Detector
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.open import open_saliency
from attnbn.segmentation.cues import AgainstBackground, Conflict, make_cues
from attnbn.training.devices import own_device

MOST_CLASSES = 254
"""A mask's values hold no more beside the background and the unknown."""


@dataclass(frozen=True)
class CueSettings:
    """How attention and saliency become cues; see :func:`attnbn.segmentation.cues.make_cues`.

    Attributes:
        grid: Rows and columns, those of the segmentation network's output.
        foreground: Share of a map's maximum above which it is a cue.
        background: Saliency below which it is background.
        background_attention: Without saliency, the attention below which it is background.
        conflict: Between classes: ``smaller``, ``ignore`` or ``both``.
        against_background: Between a class and the background: ``unknown``, ``foreground`` or ``background``.

    Raises:
        InputError: A value that no cue can be made with.
    """

    grid: tuple[int, int] = (41, 41)
    foreground: float = 0.2
    background: float = 0.06
    background_attention: float = 0.05
    conflict: Conflict = "smaller"
    against_background: AgainstBackground = "unknown"

    def __post_init__(self) -> None:
        if not all(1 <= side <= 1024 for side in self.grid):
            raise InputError(f"expected --grid from 1 to 1024 cells a side, got {self.grid[0]}×{self.grid[1]}")
        if not 0 <= self.foreground < 1:
            raise InputError(f"expected --foreground in [0, 1), got {self.foreground:g}")
        for key in ("background", "background_attention"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"expected --{key.replace('_', '-')} in [0, 1], got {getattr(self, key):g}")
        for key, known in (("conflict", get_args(Conflict)), ("against_background", get_args(AgainstBackground))):
            if getattr(self, key) not in known:
                came = getattr(self, key)
                raise InputError(f"expected --{key.replace('_', '-')} to be one of {', '.join(known)}, got {came}")


@dataclass
class CuesMade(Done):
    """What :func:`write_cues` did.

    Attributes:
        notes: One line each about what was left out or assumed.
        report: What stands in ``report.json``; None as long as photographs are missing.
    """

    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] | None = None


def write_cues(
    run: str | os.PathLike[str],
    target: str,
    split: str,
    output: str | os.PathLike[str],
    *,
    saliency: str | None = None,
    settings: CueSettings | None = None,
    checkpoint: str = "last",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    layers: Sequence[str] = (LAST,),
    fuse: Fuse = "mean",
    device: str = "auto",
    workers: int = 0,
    batch_size: int = 16,
    skip_broken: bool = False,
    overwrite: bool = False,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CuesMade:
    """Write a folder of cues, and when all photographs have theirs, its report; work that was stopped goes on.

    Args:
        run: The folder of a finished run of a classifier.
        target: ``KIND:PATH`` of the photographs.
        split: Of the data set.
        output: The folder; see :mod:`attnbn.data.cue_files`.
        saliency: A folder of maps or a detector, as :func:`~attnbn.saliency.open.open_saliency` takes them; None: the
            background comes from low attention.
        settings: How attention and saliency become cues; None: the literature's.
        checkpoint: ``last`` or ``best``.
        scales: This and the next three as in :func:`attnbn.inference.predict.predict`.
        flip: Look at the mirror image too.
        layers: Whose attention is taken.
        fuse: The ``mean`` or the ``product`` of the layers' maps.
        device: Where to compute.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        overwrite: Take over a folder of other cues.
        shard: This process's share; None: as the launcher says.
        progress: Called with the photographs done and all of this process.

    Returns:
        What was done by this process.

    Raises:
        InputError: No finished run of a classifier, a photograph that has no label, no saliency or cannot be read, or a
            folder of other cues.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    settings, passes = settings or CueSettings(), Passes(scales, flip, layers, fuse)
    trained = _classifier(run, checkpoint, device)
    dataset = open_dataset(target, split=split, classes=trained.classes, class_map=trained.config.data.class_map)
    done = CuesMade(notes=[dataset.describe(), *dataset.notes])
    indices = _labelled(dataset, done.notes)
    names = [check_name(dataset.names[index]) for index in indices]
    source, described = _saliency(saliency, names)
    made_by = {
        "target": ":".join(place_of(target)),
        "split": split,
        "identity": trained.identity | {"size": trained.config.data.size},
        "settings": {**asdict(settings), **passes.settings(), "saliency": described},
    }
    shard = current_shard() if shard is None else shard
    place = Path(output).expanduser()
    with CueWork(place, trained.classes, settings.grid, made_by, overwrite, shard.world > 1) as folder:
        todo, done.skipped = remaining(names, folder.complete, shard)
        index_of = {names[i]: indices[i] for i in todo}
        for prediction in predict(
            trained.network, dataset, size=trained.config.data.size, attend="labels", **passes.settings(),
            indices=[indices[i] for i in own(names, shard)], only=list(index_of.values()),
            batch_size=batch_size, workers=workers, skip_broken=skip_broken, broken=done.broken,
        ):  # fmt: skip
            found = _saliency_of(source, dataset, index_of[prediction.name], prediction.size)
            cues = make_cues(prediction.maps, prediction.classes, len(trained.classes), found, **asdict(settings))
            folder.write(prediction.name, cues, prediction.classes)
            done.written += 1
            if progress is not None:
                progress(done.written + len(done.broken), len(todo))
        broken = by_name(list(index_of), folder.complete, done.broken)
        done.missing, left_out = look_round(folder.path, names, folder.complete, folder.mark, shard, broken)
        if done.missing == 0:
            ready = _ready(names, left_out, dataset)
            done.report = None if done.written else folder.report(ready)  # nothing is new
            if done.report is None:
                looks = _Looks(dataset, source, _Truth(target, split, trained))
                done.report = _finish(folder, ready, looks, done.notes, list(left_out.values()))
        return done


def _ready(names: Sequence[str], left_out: Collection[str], dataset: ImageDataset) -> list[str]:
    """The photographs that have their cues, once none is missing."""
    ready = [name for name in names if name not in left_out]
    if not ready:
        raise InputError(f"expected photographs to make cues of, got none that can be read: {dataset.title}")
    return ready


def _classifier(run: str | os.PathLike[str], checkpoint: str, device: str) -> TrainedRun:
    """The finished run of a classifier."""
    folder = RunFolder(run)
    read_config(folder.config(), folder.path)  # refuses a segmentation's, before what is said of attnbn train
    if not folder.finished:
        raise InputError(
            f"expected a finished run, got an unfinished one; finish it with attnbn train --resume {folder.path}"
        )
    trained = load(run, checkpoint=checkpoint, device=own_device(device))
    if len(trained.classes) > MOST_CLASSES:
        raise InputError(f"expected a run of at most {MOST_CLASSES} classes, got {len(trained.classes)}: {folder.path}")
    return trained


def _labelled(dataset: ImageDataset, notes: list[str]) -> list[int]:
    """The photographs with a class that is surely there; a note on those whose classes are all uncertain."""
    assert dataset.labels is not None
    known = (dataset.labels == 1).any(1)
    none = (~known & ~dataset.labels.isnan().any(1)).nonzero().flatten().tolist()
    if none:
        more = f" ({len(none):,} such photographs)" if len(none) > 1 else ""
        raise InputError(
            f"expected labels of every photograph, got a photograph with no label{more}; label it or take it out: "
            f"{dataset.names[none[0]]} in {dataset.title}"
        )
    unsure = (~known).nonzero().flatten().tolist()
    if unsure:
        noun = "photograph" if len(unsure) == 1 else "photographs"
        notes.append(
            f"left out {len(unsure):,} {noun} whose classes are all marked difficult, the first {dataset.names[unsure[0]]}"
        )
    return known.nonzero().flatten().tolist()


def _saliency(spec: str | None, names: Sequence[str]) -> tuple[SaliencyFolder | Detector | None, dict[str, Any] | None]:
    """Where saliency comes from, with a map for every photograph, and what tells it from another."""
    if spec is None:
        return None, None
    source = open_saliency(spec)
    if isinstance(source, SaliencyFolder):
        source.check(names)
        return source, {"folder": os.fspath(source.path.resolve())}
    return source, source.identity()


def _saliency_of(
    source: SaliencyFolder | Detector | None, dataset: ImageDataset, index: int, size: tuple[int, int]
) -> Tensor | None:
    """The saliency of a photograph of H×W; only a detector needs the photograph itself, which is read for it once more."""
    if source is None:
        return None
    blank = torch.zeros((), dtype=torch.uint8).expand(3, *size)
    image = blank if isinstance(source, SaliencyFolder) else dataset[index].image.as_subclass(Tensor)
    return source.of(image, dataset.names[index])


class _Truth:
    """True masks by name, for the report alone.

    Args:
        target: ``KIND:PATH``.
        split: Of the data set.
        trained: Whose classes.

    Attributes:
        left_out: One line for each mask that could not be read.
    """

    def __init__(self, target: str, split: str, trained: TrainedRun) -> None:
        self.left_out: list[str] = []
        self._dataset: ImageDataset | None = None
        self._place: dict[str, int] = {}
        if not has_masks(target):
            return
        # VOC lists photographs with masks apart from those with labels, often fewer; every mask there is will do
        split = "all" if place_of(target)[0] == "voc" else split
        self._dataset = open_dataset(
            target,
            split=split,
            classes=trained.classes,
            class_map=trained.config.data.class_map,
            labels=False,
            masks=True,
        )
        self._place = {name: index for index, name in enumerate(self._dataset.names)}

    def of(self, name: str) -> Tensor | None:
        """The mask of a photograph, uint8 ``H×W``, or None."""
        if self._dataset is None or name not in self._place:
            return None
        try:
            mask = self._dataset[self._place[name]].mask
        except InputError as error:
            self.left_out.append(str(error))
            return None
        return None if mask is None else mask.as_subclass(Tensor)


@dataclass(frozen=True)
class _Looks:
    """What a report shows beside the cues.

    Attributes:
        dataset: The photographs.
        source: Of saliency, or None.
        truth: Of masks.
    """

    dataset: ImageDataset
    source: SaliencyFolder | Detector | None
    truth: _Truth

    def shown(self, name: str, cues: Tensor, labels: Sequence[int]) -> Shown:
        """A photograph for the gallery."""
        index = self.dataset.names.index(name)
        image = self.dataset[index].image.as_subclass(Tensor)
        size = (image.shape[-2], image.shape[-1])
        saliency = _saliency_of(self.source, self.dataset, index, size)
        return Shown(name, image, cues, labels, saliency, self.truth.of(name))


def _finish(
    folder: CueWork, names: Sequence[str], looks: _Looks, notes: Sequence[str], left_out: Sequence[str]
) -> dict[str, Any]:
    """Gather the cues of all photographs, whichever process made them, and write what stands for them all.

    Two processes that end at the same time both do so, each writing the same files whole.
    """
    write_archive(folder.path, names)
    tally = CueTally(folder.classes)
    for name in names:
        tally.add(name, *folder.read(name), looks.truth.of(name))
    without = list(looks.truth.left_out)
    notes = [*notes, *(f"without its mask: {line}" for line in without)]
    more = {"notes": notes, "left_out": list(left_out), "masks_left_out": without}
    report = {**folder.made_by, **tally.figures(), **more}
    write_json(folder.path / REPORT, report)
    photographs = [looks.shown(name, *folder.read(name)) for name in tally.chosen()]
    write_page(folder.path / PAGE, report, photographs, folder.classes)
    ready = set(names)
    folder.end(names, [name for name in looks.dataset.names if name not in ready])
    return report
