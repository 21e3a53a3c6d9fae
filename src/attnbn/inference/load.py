"""A finished run, ready to look at photographs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnbn.config import RunConfig, config_from_dict
from attnbn.inference.evaluate import DEFAULT_THRESHOLD
from attnbn.io.errors import InputError
from attnbn.io.run_folder import RESULTS, RunFolder
from attnbn.models.build import build_network
from attnbn.training.checkpoint import CheckpointFolder


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
    """

    network: nn.Module
    classes: tuple[str, ...]
    config: RunConfig
    threshold: float
    threshold_split: str | None
    identity: dict[str, Any]


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
    stored = folder.config()
    config, classes = read_config(stored, folder.path)
    saved = CheckpointFolder(folder.checkpoints).named(checkpoint)
    # no weights are drawn that the checkpoint is about to replace
    with torch.device("meta"):
        network = build_network(replace(config.model, weights=None), len(classes), activation_of(config)).network
    try:
        network.load_state_dict(saved.module("network"), assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the checkpoint is of another architecture than {folder.path}/config.yaml says: {reason}"
        ) from error
    if config.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    results = folder.results()
    if checkpoint == "last" and results and saved.step != results["steps"]:
        raise InputError(
            f"the run's last checkpoint (step {results['steps']}) is missing or damaged, and its threshold is not that of step "
            f"{saved.step}; remove {RESULTS} and continue the run with --resume: {folder.path}"
        )
    # the best checkpoint brings the threshold of its own validation
    threshold = saved.state["validation"]["threshold"] if checkpoint == "best" else results.get("threshold")
    return TrainedRun(
        network.to(device).eval().requires_grad_(False),
        classes,
        config,
        DEFAULT_THRESHOLD if threshold is None else threshold,
        config.data.selection_split if threshold is not None else None,
        {"run": os.fspath(folder.path.resolve()), "checkpoint": checkpoint, "step": saved.step, "sha256": saved.sha256},
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
    config: RunConfig = config_from_dict(RunConfig, stored)
    if not isinstance(config.data.classes, list):
        raise InputError("expected the classes of the run as a list in config.yaml: data.classes")
    return config, tuple(config.data.classes)


def activation_of(config: RunConfig) -> Any:
    """Eq. 2's non-linearity: the sigmoid scale of Eq. 3 takes the ReLU's place."""
    return "sigmoid" if config.loss.normalize == "sigmoid" else "relu"
