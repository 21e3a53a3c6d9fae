"""A finished run scored on a data set, at the threshold that the run has stored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from attnbn.data.open import has_masks, open_dataset, place_of
from attnbn.experiments.scoring import evaluate_together
from attnbn.inference.evaluate import summary
from attnbn.inference.layers import LAST
from attnbn.inference.load import TrainedRun, load
from attnbn.inference.maps import Fuse
from attnbn.inference.passes import Passes
from attnbn.training.devices import make_fabric
from attnbn.training.launch import ended_together


def evaluate_run(
    run: str | os.PathLike[str],
    target: str,
    split: str,
    *,
    checkpoint: str = "last",
    threshold: float | None = None,
    masks: bool = True,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    layers: Sequence[str] = (LAST,),
    fuse: Fuse = "mean",
    device: str = "auto",
    devices: int = 1,
    workers: int = 0,
    batch_size: int = 16,
    skip_broken: bool = False,
) -> dict[str, Any]:
    """Score a run; the threshold is never chosen here.

    On the very split that it was chosen on, the figures are cross-fitted, unless ``threshold`` is given.

    Args:
        run: The run's folder.
        target: ``KIND:PATH`` of the data set.
        split: Of the data set.
        checkpoint: ``last`` or ``best``.
        threshold: Instead of the run's own.
        masks: Score the maps, where the data set has masks; without, labels only (VOC: on the split of ``Main``).
        scales: This and the next three as in :func:`attnbn.inference.predict.predict`. The run's own threshold was chosen
            at a single look.
        flip: Look at the mirror image too.
        layers: Whose attention is taken.
        fuse: The ``mean`` or the ``product`` of the layers' maps.
        device: Where to compute.
        devices: Processes that share the photographs; each further one is started with this program's command line.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        skip_broken: Leave out photographs that cannot be read.

    Returns:
        As :func:`attnbn.inference.evaluate.summary`, with ``left_out``, a line for each broken photograph, and
        how it was looked at: ``scales``, ``flip``, ``layers``, ``fuse``. Empty on processes other than the first.
    """
    passes = Passes(scales, flip, layers, fuse)
    fabric = make_fabric(device=device, devices=devices)
    trained = load(run, checkpoint=checkpoint)
    dataset = open_dataset(
        target,
        split=split,
        classes=trained.classes,
        class_map=trained.config.data.class_map,
        masks=masks and has_masks(target),
    )
    with ended_together(fabric):
        fabric.join()
        evaluation = evaluate_together(
            fabric,
            trained.network.to(fabric.device),
            dataset,
            size=trained.config.data.size,
            threshold=threshold if threshold is not None else trained.threshold,
            **passes.settings(),
            batch_size=batch_size,
            workers=workers,
            skip_broken=skip_broken,
        )
    if not fabric.is_global_zero:
        return {}
    chosen_here = threshold is None and trained.threshold_split is not None and _same(trained, target, split)
    figures = summary(
        evaluation,
        threshold=trained.threshold if threshold is None else threshold,
        threshold_split=trained.threshold_split if threshold is None else None,
        cross_fit=chosen_here,
    )
    return figures | passes.settings() | {"threshold_given": threshold is not None, "left_out": evaluation.broken}


def _same(trained: TrainedRun, target: str, split: str) -> bool:
    """Whether the threshold was chosen on this very split of this very data set."""
    own = trained.config.data.target
    if own is None or split != trained.threshold_split:
        return False
    return place_of(own) == place_of(target)
