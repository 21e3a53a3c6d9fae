"""A run's masks packed as VOC's evaluation server takes them: of attention maps (Table 1) or of a segmentation (Table 3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.data.images import write_mask
from attnbn.data.open import place_of
from attnbn.experiments.voc_server import Submitted, Work, archive_path, listed, pack, voc_ids
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.load_segmenter import is_segmenter, load_segmenter
from attnbn.inference.passes import Passes
from attnbn.inference.predict import predict
from attnbn.inference.segment import segment_photographs
from attnbn.io.errors import InputError
from attnbn.io.run_folder import RunFolder
from attnbn.training.devices import check_device

Competition = Literal["comp5", "comp6"]
"""VOC's two segmentation competitions: comp5 for what was trained on VOC's own train and val alone, comp6 for all else,
such as weights of ImageNet or photographs of another data set."""


def submit(
    run: str | os.PathLike[str],
    target: str,
    output: str | os.PathLike[str],
    *,
    split: str = "test",
    competition: Competition = "comp6",
    checkpoint: str = "last",
    threshold: float | None = None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    crf: bool = True,
    device: str = "auto",
    workers: int = 0,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Submitted:
    """Write the archive for VOC's evaluation server.

    Args:
        run: A classifier's run (its attention maps at its threshold, of the classes it predicts) or a segmentation's.
        target: ``voc:PATH``; neither labels nor masks are read.
        output: The archive, ``.tar``, ``.tar.gz`` or ``.tgz``.
        split: A list of ``ImageSets/Segmentation``.
        competition: ``comp5`` or ``comp6``.
        checkpoint: ``last`` or ``best``.
        threshold: Of attention maps, instead of the run's own.
        scales: Factors on the run's size; None: 1 for a classifier, a segmentation's own.
        flip: Look at the mirror image too; None: not, or as the segmentation's settings say.
        crf: Refine a segmentation by its CRF.
        device: Where to compute.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        progress: Called with the number of photographs done and to do.

    Raises:
        InputError: Another ending, data that are not VOC's, a photograph that is missing or cannot be read (the server wants
            them all), or a run whose classes are not VOC's.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    path = archive_path(output)
    dataset = listed(target, split, "Segmentation")
    masks = _masks_of(
        run, checkpoint, threshold, scales, flip, crf, check_device(device), workers=workers, batch_size=batch_size
    )
    work = Work(path, masks.made_by | {"target": place_of(target), "split": split}, dataset.names, ".png")
    work.fill(masks.of(dataset, work.missing), write_mask, progress)
    folder = f"results/VOC2012/Segmentation/{competition}_{split}_cls"
    pack(path, folder, {f"{name}.png": file for name, file in work.files.items()})
    work.remove()
    return Submitted(path, folder, len(work.files), work.resumed, masks.notes)


@dataclass(frozen=True)
class _Masks:
    """Where masks with VOC's class ids come from.

    Attributes:
        of: From a data set and indices to names and masks, uint8 ``H×W``.
        made_by: The run and its settings.
        notes: What a person should know.
    """

    of: Callable[[ImageDataset, Sequence[int]], Iterator[tuple[str, Tensor]]]
    made_by: dict[str, Any]
    notes: list[str]


def _masks_of(
    run: str | os.PathLike[str],
    checkpoint: str,
    threshold: float | None,
    scales: Sequence[float] | None,
    flip: bool | None,
    crf: bool,
    device: str,
    **reading: Any,
) -> _Masks:
    if is_segmenter(RunFolder(run).config()):
        if threshold is not None:
            raise InputError(f"--threshold cuts attention maps, this run is a segmentation's: {run}")
        return _of_segmenter(run, checkpoint, device, {"scales": scales, "flip": flip, "crf": crf}, reading)
    if not crf:
        raise InputError(f"--no-crf belongs to a segmentation, this run is a classifier's: {run}")
    return _of_attention(run, checkpoint, device, threshold, Passes(scales or (1.0,), bool(flip)), reading)


def _of_segmenter(
    run: str | os.PathLike[str], checkpoint: str, device: str, look: dict[str, Any], reading: dict[str, Any]
) -> _Masks:
    trained = load_segmenter(run, checkpoint=checkpoint, device=device)
    ids, never = voc_ids(trained.classes, trained.config.data.class_map, run)
    how = trained.look(**look)

    def masks(dataset: ImageDataset, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        for one in segment_photographs(trained.network, dataset, indices=indices, **how, **reading):
            yield one.name, ids[one.mask.long()]

    crf = None if how["crf"] is None else asdict(how["crf"])
    return _Masks(masks, {"identity": trained.identity, **how, "crf": crf}, _notes(trained.unfinished, never))


def _of_attention(
    run: str | os.PathLike[str],
    checkpoint: str,
    device: str,
    threshold: float | None,
    passes: Passes,
    reading: dict[str, Any],
) -> _Masks:
    trained = load(run, checkpoint=checkpoint, device=device)
    ids, never = voc_ids(trained.classes, trained.config.data.class_map, run)
    cut = trained.threshold if threshold is None else threshold
    chosen = "as given" if threshold is not None else f"chosen on {trained.threshold_split}"
    if threshold is None and trained.threshold_split is None:
        chosen = "the default: the run had no split to choose it on"
    notes = [f"attention maps cut at {cut:.2f}, {chosen}", *_notes(trained.unfinished, never)]
    size = trained.config.data.size

    def masks(dataset: ImageDataset, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        for one in predict(
            trained.network, dataset, size=size, indices=indices, scales=passes.scales, flip=passes.flip, **reading
        ):
            yield one.name, ids[segment(one, cut).long()]

    return _Masks(masks, {"identity": trained.identity, "size": size, "threshold": cut, **passes.settings()}, notes)


def _notes(unfinished: str | None, never: Sequence[str]) -> list[str]:
    """Lines on a run that is not finished, and on VOC's classes that it does not know."""
    notes = [] if unfinished is None else [unfinished]
    if never:
        notes.append(
            f"the run does not know {len(never)} of VOC's classes, which it never predicts: {', '.join(never)}"
        )
    return notes
