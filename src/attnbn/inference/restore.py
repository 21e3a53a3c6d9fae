"""A network out of a run's checkpoint, of whichever kind the run is: built without weights, filled, and told from others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnbn.io.errors import InputError
from attnbn.io.run_folder import CONFIG, RESULTS, RunFolder
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder


@dataclass(frozen=True)
class Restored:
    """A network as one of a run's checkpoints has it.

    Attributes:
        network: In evaluation mode, on the device asked for.
        checkpoint: What it was read from.
        results: The run's results; empty while it is not finished.
        identity: Which run and checkpoint this is.
        unfinished: A line that says how far the run is; None where it is finished.
    """

    network: nn.Module
    checkpoint: Checkpoint
    results: dict[str, Any]
    identity: dict[str, Any]
    unfinished: str | None


def restore(
    folder: RunFolder,
    build: Callable[[], nn.Module],
    *,
    checkpoint: str,
    device: str | torch.device,
    channels_last: bool,
) -> Restored:
    """Read the network of a run.

    Args:
        folder: The run's.
        build: Makes the network that the run's settings describe.
        checkpoint: ``last`` or ``best``.
        device: Where to put it.
        channels_last: Keep its tensors with the channels innermost.

    Raises:
        InputError: if there is no whole checkpoint, the last one of a finished run is lost, or its weights do not fit.
    """
    saved = CheckpointFolder(folder.checkpoints).named(checkpoint)
    with torch.device("meta"):  # no weights are drawn that the checkpoint is about to replace
        network = build()
    try:
        network.load_state_dict(saved.module("network"), assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"expected weights of the run's network, the checkpoint is of another architecture than {folder.path}/{CONFIG} says: "
            f"{reason}"
        ) from error
    if channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    results = folder.results()
    steps = results.get("steps", saved.step)
    if checkpoint == "last" and saved.step != steps:
        raise InputError(
            f"the run's last checkpoint (step {steps}) is missing or damaged, the newest whole one is of step {saved.step}; "
            f"remove {RESULTS} and continue the run with --resume: {folder.path}"
        )
    path = os.fspath(folder.path.resolve())
    return Restored(
        network.to(device).eval().requires_grad_(False),
        saved,
        results,
        {"run": path, "checkpoint": checkpoint, "step": saved.step, "sha256": saved.sha256},
        None if folder.finished else _unfinished(saved, folder),
    )


def _unfinished(saved: Checkpoint, folder: RunFolder) -> str:
    of = f" of {saved.state['steps']}" if "steps" in saved.state else ""  # checkpoints of 0.1.0 do not say
    return f"the run is not finished, its network is that after step {saved.step}{of}: {folder.path}"
