"""A segmentation run, ready to segment photographs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnbn.config import config_from_dict
from attnbn.inference.load import check_size
from attnbn.inference.restore import restore
from attnbn.io.errors import InputError
from attnbn.io.run_folder import CONFIG, RunFolder
from attnbn.models.segmenters import build_segmenter
from attnbn.segment_config import SegmentConfig, check_inference


@dataclass(frozen=True)
class TrainedSegmenter:
    """A run's segmentation network with all that is needed to use it.

    Attributes:
        network: Images to logits, in evaluation mode.
        classes: Names of its N classes, the background not among them.
        config: The run's settings.
        identity: Which run and checkpoint this is.
        unfinished: A line that says how far the run is; None where it is finished.
    """

    network: nn.Module
    classes: tuple[str, ...]
    config: SegmentConfig
    identity: dict[str, Any]
    unfinished: str | None = None

    def look(
        self, *, scales: Sequence[float] | None = None, flip: bool | None = None, crf: bool = True
    ) -> dict[str, Any]:
        """How to segment: ``size``, ``scales``, ``flip`` and ``crf`` of :func:`~attnbn.inference.segment.segment_photographs`.

        Args:
            scales: Instead of the run's ``inference.scales``.
            flip: Instead of its ``inference.flip``.
            crf: Whether to refine by its ``inference.crf``.
        """
        own = self.config.inference
        return {
            "size": self.config.data.size,
            "scales": list(own.scales if scales is None else scales),
            "flip": own.flip if flip is None else flip,
            "crf": own.crf if crf else None,
        }


def load_segmenter(
    seg: str | os.PathLike[str], *, checkpoint: str = "last", device: str | torch.device = "cpu"
) -> TrainedSegmenter:
    """Load a segmentation run's network.

    Args:
        seg: Its folder.
        checkpoint: ``last`` or ``best``.
        device: Where to put it.

    Raises:
        InputError: if there is no segmentation run, no whole checkpoint, or its weights do not fit its settings.
    """
    folder = RunFolder(seg)
    config, classes = read_segment_config(folder.config(), folder.path)
    model = replace(config.model, weights=None)
    restored = restore(
        folder,
        lambda: build_segmenter(model, len(classes)).network,
        checkpoint=checkpoint,
        device=device,
        channels_last=config.channels_last,
    )
    return TrainedSegmenter(restored.network, classes, config, restored.identity, restored.unfinished)


def is_segmenter(stored: Mapping[str, Any]) -> bool:
    """Whether what a ``config.yaml`` holds is a segmentation's."""
    return stored.get("kind") == "segment"


def read_segment_config(stored: Mapping[str, Any], folder: Path) -> tuple[SegmentConfig, tuple[str, ...]]:
    """A segmentation run's settings and classes from what its ``config.yaml`` holds.

    Raises:
        InputError: if it is a classifier's, or of another version.
    """
    if not is_segmenter(stored):
        raise InputError(
            f"expected a segmentation's run (of attnbn segment train), got a classifier's; use attnbn attend or evaluate with "
            f"it: {folder}"
        )
    config: SegmentConfig = config_from_dict(SegmentConfig, stored, folder / CONFIG)
    if not isinstance(config.classes, list) or not config.classes:
        raise InputError(f"expected the classes of the run as a list in config.yaml, got none: {folder}")
    check_size(config.data.size, folder / CONFIG)
    check_inference(config.inference)
    return config, tuple(config.classes)
