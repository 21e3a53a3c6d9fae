"""A finished segmentation run scored on a data set, with and without the CRF."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from attnbn.data.open import has_masks, open_dataset
from attnbn.experiments.scoring import score_together
from attnbn.inference.load_segmenter import load_segmenter
from attnbn.io.errors import InputError
from attnbn.training.devices import make_fabric
from attnbn.training.launch import ended_together


def evaluate_segmenter(
    seg: str | os.PathLike[str],
    target: str,
    split: str,
    *,
    checkpoint: str = "last",
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    crf: bool = True,
    device: str = "auto",
    devices: int = 1,
    workers: int = 0,
    batch_size: int = 8,
    skip_broken: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a segmentation run.

    Args:
        seg: The run's folder.
        target: ``KIND:PATH`` of the data set.
        split: Of the data set, with masks.
        checkpoint: ``last`` or ``best``.
        scales: Instead of the run's own.
        flip: Instead of the run's own.
        crf: Refine by the run's CRF.
        device: Where to compute.
        devices: Processes that share the photographs; each further one is started with this program's command line.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        skip_broken: Leave out photographs that cannot be read.
        progress: Called with the number of photographs done and to do, of this process's share.

    Returns:
        As :meth:`~attnbn.inference.segment_score.SegmentationScore.figures` (``before_crf`` is equal where no CRF was asked for);
        ``left_out``, a line for each broken photograph; and how it was looked at: ``scales``, ``flip``, ``crf``.
        Empty on processes other than the first.

    Raises:
        InputError: The run or the data set cannot be used, or has no masks.
    """
    fabric = make_fabric(device=device, devices=devices)
    trained = load_segmenter(seg, checkpoint=checkpoint)
    if not has_masks(target):
        raise InputError(f"expected a data set with masks, to score a segmentation on, got one without: {target}")
    dataset = open_dataset(
        target, split=split, classes=trained.classes, class_map=trained.config.data.class_map, masks=True
    )
    how = trained.look(scales=scales, flip=flip, crf=crf)
    with ended_together(fabric):
        fabric.join()
        scored = score_together(
            fabric,
            trained.network.to(fabric.device),
            dataset,
            **how,
            batch_size=batch_size,
            workers=workers,
            skip_broken=skip_broken,
            progress=progress,
        )
    if not fabric.is_global_zero:
        return {}
    figures = scored.figures(dataset.classes) | {"left_out": scored.broken}
    return figures | {"scales": how["scales"], "flip": how["flip"], "crf": asdict(how["crf"]) if crf else None}
