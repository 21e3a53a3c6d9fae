"""A finished run, ready to look at photographs."""

from __future__ import annotations

import os
import reprlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnbn.config import RunConfig, config_from_dict
from attnbn.inference.evaluate import DEFAULT_THRESHOLD
from attnbn.inference.restore import restore
from attnbn.io.errors import InputError
from attnbn.io.run_folder import CONFIG, RESULTS, RunFolder
from attnbn.io.typed import fits
from attnbn.models.build import build_network


@dataclass(frozen=True)
class TrainedRun:
    """A run's network with all that is needed to use it.

    Attributes:
        network: In evaluation mode.
        classes: Names of its N classes.
        config: The run's settings.
        threshold: Share of a map's maximum from which a pixel is foreground.
        threshold_split: Split it was chosen on; None: it is the default.
        identity: Which run and checkpoint this is.
        unfinished: A line that says how far the run is; None where it is finished.
    """

    network: nn.Module
    classes: tuple[str, ...]
    config: RunConfig
    threshold: float
    threshold_split: str | None
    identity: dict[str, Any]
    unfinished: str | None = None


def load(run: str | os.PathLike[str], *, checkpoint: str = "last", device: str | torch.device = "cpu") -> TrainedRun:
    """Load a run's network.

    Args:
        run: Its folder.
        checkpoint: ``last`` or ``best``.
        device: Where to put it.

    Raises:
        InputError: if there is no run, no whole checkpoint, or its weights do not fit its settings.
    """
    folder = RunFolder(run)
    config, classes = read_config(folder.config(), folder.path)
    model = replace(config.model, weights=None)
    restored = restore(
        folder,
        lambda: build_network(model, len(classes), activation_of(config)).network,
        checkpoint=checkpoint,
        device=device,
        channels_last=config.channels_last,
    )
    # the best checkpoint brings the threshold of its own validation; one on held-out labels has none
    best = checkpoint == "best"
    said = restored.checkpoint.state.get("validation") if best else restored.results
    threshold = said.get("threshold") if isinstance(said, dict) else None
    if not fits(threshold, float | None) or not 0 <= (threshold or 0) <= 1:
        place = folder.checkpoints / checkpoint if best else folder.path / RESULTS
        raise InputError(f"expected a threshold in [0, 1], got {reprlib.repr(threshold)}: {place}")
    return TrainedRun(
        restored.network,
        classes,
        config,
        DEFAULT_THRESHOLD if threshold is None else threshold,
        config.data.selection_split if threshold is not None else None,
        restored.identity,
        restored.unfinished,
    )


def read_config(stored: dict[str, Any], folder: Path) -> tuple[RunConfig, tuple[str, ...]]:
    """A run's settings and classes from what its ``config.yaml`` holds.

    Raises:
        InputError: if it is a segmentation's, or of another version.
    """
    if stored.get("kind") == "segment":
        raise InputError(
            f"expected a classifier's run (of attnbn train), got a segmentation's; use attnbn segment with it: {folder}"
        )
    config: RunConfig = config_from_dict(RunConfig, stored, folder / CONFIG)
    if not isinstance(config.data.classes, list):
        raise InputError(f"expected data.classes as a list, got {config.data.classes}: {folder / CONFIG}")
    check_size(config.data.size, folder / CONFIG)
    return config, tuple(config.data.classes)


LARGEST = 8192
"""Pixels of a side that a network is shown. A run from elsewhere must not ask for terabytes."""


def check_size(size: int, place: Path) -> None:
    """Refuse a side that nothing can be shown at.

    Raises:
        InputError: It is below 8 or above :data:`LARGEST`.
    """
    if not 8 <= size <= LARGEST:
        raise InputError(f"expected data.size of 8 to {LARGEST} pixels, got {size}: {place}")


def activation_of(config: RunConfig) -> Any:
    """Eq. 2's non-linearity: the sigmoid scale of Eq. 3 takes the ReLU's place."""
    return "sigmoid" if config.loss.normalize == "sigmoid" else "relu"
