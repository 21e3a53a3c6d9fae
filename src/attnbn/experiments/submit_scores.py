"""A classifier's scores packed as VOC's evaluation server takes them: one file a class, a line for every photograph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import place_of
from attnbn.experiments.voc_server import Submitted, Work, archive_path, listed, pack, voc_ids
from attnbn.inference.load import TrainedRun, load
from attnbn.inference.load_segmenter import is_segmenter
from attnbn.inference.passes import Passes
from attnbn.inference.predict import predict
from attnbn.io.atomic import write_text
from attnbn.io.errors import InputError, RunError
from attnbn.io.run_folder import RunFolder
from attnbn.training.devices import check_device

ClassCompetition = Literal["comp1", "comp2"]
"""VOC's two classification competitions: comp1 for what was trained on VOC's own train and val alone, comp2 for all else."""


def submit_scores(
    run: str | os.PathLike[str],
    target: str,
    output: str | os.PathLike[str],
    *,
    split: str = "test",
    competition: ClassCompetition = "comp2",
    checkpoint: str = "last",
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    device: str = "auto",
    workers: int = 0,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Submitted:
    """Write the archive for VOC's evaluation server: ``results/VOC2012/Main/COMPETITION_cls_SPLIT_CLASS.txt``, twenty of them.

    A line is the photograph's name and its score, a blank between them. The server ranks by the score, so it is the logit,
    with the nine digits that tell every float32 from the next.

    Args:
        run: A classifier's run on VOC's twenty classes, in any order.
        target: ``voc:PATH``; no label is read.
        output: The archive, ``.tar``, ``.tar.gz`` or ``.tgz``.
        split: A list of ``ImageSets/Main``.
        competition: ``comp1`` or ``comp2``.
        checkpoint: ``last`` or ``best``.
        scales: Factors on the run's size, the scores of all averaged; None: 1.
        flip: Look at the mirror image too; None: not.
        device: Where to compute.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        progress: Called with the number of photographs done and to do.

    Raises:
        InputError: Another ending, data that are not VOC's, a photograph that is missing or cannot be read (the server wants
            them all), a segmentation's run, or one whose classes are not all of VOC's.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    path = archive_path(output)
    dataset = listed(target, split, "Main")
    passes = Passes(scales or (1.0,), bool(flip))
    trained = _classifier(run, checkpoint, device)
    order = _order(trained, run)
    size = trained.config.data.size
    made_by = {"task": "classification", "identity": trained.identity, "size": size, **passes.settings()}
    work = Work(path, made_by | {"target": place_of(target), "split": split}, dataset.names, ".txt")

    def scores() -> Iterator[tuple[str, Tensor]]:
        for one in predict(
            trained.network, dataset, size=size, indices=work.missing, scales=passes.scales, flip=passes.flip,
            workers=workers, batch_size=batch_size,
        ):  # fmt: skip
            yield one.name, one.scores[order]

    work.fill(scores(), _write, progress)
    files = _class_files(work, f"{competition}_cls_{split}")
    for file in files.values():
        _check(file, dataset.names)
    folder = "results/VOC2012/Main"
    pack(path, folder, files)
    work.remove()
    return Submitted(path, folder, len(work.files), work.resumed, [trained.unfinished] if trained.unfinished else [])


def _classifier(run: str | os.PathLike[str], checkpoint: str, device: str) -> TrainedRun:
    if is_segmenter(RunFolder(run).config()):
        raise InputError(
            f"expected a classifier's run, whose scores are sent, got a segmentation's; leave out --task classification to send "
            f"its masks: {run}"
        )
    return load(run, checkpoint=checkpoint, device=check_device(device))


def _order(trained: TrainedRun, run: str | os.PathLike[str]) -> list[int]:
    """The run's index of each of VOC's classes."""
    ids, lacking = voc_ids(trained.classes, trained.config.data.class_map, run)
    if lacking:
        raise InputError(
            f"expected a run on all of VOC's 20 classes, the server wants a file of each, got one on {len(trained.classes)}, "
            f"without {', '.join(lacking)}: {run}"
        )
    return ids[1:].argsort().tolist()


def _write(file: Path, scores: Tensor) -> None:
    """A photograph's scores, a line for each of VOC's classes."""
    write_text(file, "".join(f"{score:.9g}\n" for score in scores.tolist()))


def _class_files(work: Work, begin: str) -> dict[str, Path]:
    """From a file for each photograph to one for each class, by their names in the archive."""
    columns: list[list[str]] = [[] for _ in VOC_CLASSES]
    for name, file in work.files.items():
        for column, score in zip(columns, file.read_text(encoding="utf-8").split(), strict=True):
            column.append(f"{name} {score}\n")
    files = {f"{begin}_{name}.txt": work.folder / "classes" / f"{begin}_{name}.txt" for name in VOC_CLASSES}
    for file, column in zip(files.values(), columns, strict=True):
        write_text(file, "".join(column))
    return files


def _check(file: Path, names: Sequence[str]) -> None:
    """Hold a class's file, as it is on the disk, against the split's list.

    Raises:
        RunError: A photograph is missing, there twice or out of its place, or has no finite score.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    if [line.partition(" ")[0] for line in lines] != list(names):
        raise RunError(f"expected a line for each of the split's {len(names):,} photographs, got others: {file}")
    for line in lines:
        if not abs(float(line.partition(" ")[2])) < float("inf"):
            raise RunError(f"expected a finite score, got {line!r}: {file}")
