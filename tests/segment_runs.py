"""Run folders without a training: networks as they are drawn, written as a finished run leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnbn.config import DataConfig, ModelConfig, RunConfig
from attnbn.experiments.runner import plain
from attnbn.io.run_folder import RunFolder
from attnbn.models.build import build_network
from attnbn.models.segmenters import build_segmenter
from attnbn.segment_config import CrfConfig, InferenceConfig, SegmentConfig, SegmentData, SegmenterConfig
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder, module_tensors

QUICK = CrfConfig(iterations=2)


def segmentation_run(
    path: Path, classes: Sequence[str], *, size: int = 48, class_map: dict[str, str] | None = None, seed: int = 0
) -> Path:
    """A segmentation run with the small network, whose masks hold several classes."""
    torch.manual_seed(seed)
    model = SegmenterConfig(network="small")
    network = build_segmenter(model, len(classes)).network
    with torch.no_grad():
        for branch in network.head.branches:
            branch[-1].weight.mul_(300)
    config = SegmentConfig(
        cues="cues", data=SegmentData(target="voc:data", size=size, class_map=class_map), model=model,
        inference=InferenceConfig(scales=[0.75, 1.0], crf=QUICK), classes=list(classes),
    )  # fmt: skip
    return _written(path, asdict(config), network, {"steps": 5})


def classifier_run(
    path: Path, classes: Sequence[str], *, threshold: float | None = None, class_map: dict[str, str] | None = None
) -> Path:
    """A classifier's run with the small network."""
    torch.manual_seed(0)
    model = ModelConfig(backbone="small")
    network = build_network(model, len(classes), "relu").network
    data = DataConfig(classes=list(classes), size=48, selection_split="dev", class_map=class_map)
    results = {"steps": 5} | ({} if threshold is None else {"threshold": threshold})
    return _written(path, asdict(RunConfig(data=data, model=model)), network, results)


def _written(path: Path, config: Mapping[str, Any], network: nn.Module, results: Mapping[str, Any]) -> Path:
    folder = RunFolder(path)
    folder.begin(plain(dict(config)), overwrite=False)
    CheckpointFolder(folder.checkpoints).save(Checkpoint(5, module_tensors("network", network), {}))
    folder.write_results(results)
    folder.release()
    return path
