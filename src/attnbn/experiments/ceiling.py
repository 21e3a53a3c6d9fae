"""The ceiling: the same trunk trained with the target's masks, by the same loop, for as many steps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attnbn.config import RunConfig
from attnbn.data.open import open_dataset
from attnbn.data.transforms import eval_transform, normalize, train_transform
from attnbn.evaluation.confusion import confusion_matrix, mean_iou
from attnbn.experiments.feeds import Augment
from attnbn.experiments.runner import Watch, quiet
from attnbn.io.run_folder import METRICS, Metrics
from attnbn.models.build import build_network, feature_shape
from attnbn.models.segmenters import Segmenter
from attnbn.tasks.supervised import Supervised, collate_masks
from attnbn.training.checkpoint import CheckpointFolder
from attnbn.training.devices import loader_processes, make_fabric
from attnbn.training.loop import Every, Loop
from attnbn.training.schedules import learning_rate_factor, place
from attnbn.training.streams import Stream, fold


def train_ceiling(config: RunConfig, folder: Path, split: str, *, watch: Watch = quiet) -> dict[str, Any]:
    """Train on the target's masks and score on one of its splits.

    Args:
        config: A row's settings; its losses and source are left aside.
        folder: For checkpoints and metrics.
        split: The target's split to score on.
        watch: Told after each step.

    Returns:
        ``miou`` as a fraction, ``images`` and ``seconds``.
    """
    began = time.perf_counter()
    assert config.data.target is not None
    target = open_dataset(config.data.target, split=config.data.target_split, classes=config.data.classes, masks=True)
    torch.manual_seed(fold(config.seed, "weights"))
    classifier = build_network(config.model, len(target.classes)).network
    channels = feature_shape(classifier, config.data.size)[0]
    network = Segmenter(classifier.get_submodule("trunk"), nn.Conv2d(channels, len(target.classes) + 1, 1))
    augment = Augment(train_transform(config.data.size, config.data.scale, config.data.flip))
    stream = Stream("target", target, augment, collate_masks, seed=config.seed, batch_size=config.training.batch_size)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = CheckpointFolder(folder / "checkpoints")
    loop = Loop(
        Supervised(network, [], config.training),
        {"target": stream},
        place(config.training, max(1, round(stream.length / config.training.batch_size))),
        lambda stretch, step: learning_rate_factor(config.training, stretch, step),
        make_fabric(device=config.device),
        seed=config.seed,
        checkpoints=checkpoints,
        metrics=partial(Metrics, folder / METRICS),
        every=Every(config.training.log_every, config.training.checkpoint_every),
        workers=loader_processes(config.workers, config.device),
        watch=watch,
    )
    loop.run(checkpoints.newest()[0])
    test = open_dataset(config.data.target, split=split, classes=config.data.classes, masks=True)
    matrix = _score(network.eval(), test, config.data.size)
    return {
        "miou": float(mean_iou(matrix)),
        "images": len(test),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _score(network: Segmenter, test: Any, size: int) -> torch.Tensor:
    classes = len(test.classes) + 1
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    device = next(network.parameters()).device
    whole = eval_transform(size)
    for index in range(len(test)):
        sample = test[index]
        image = normalize(whole(sample).image.as_subclass(torch.Tensor)[None].to(device))
        with torch.no_grad():
            logits = network(image)
            grown = nn.functional.interpolate(logits, tuple(sample.mask.shape[-2:]), mode="bilinear")
            mask = grown[0].argmax(0).cpu()
        matrix += confusion_matrix(mask, sample.mask.as_subclass(torch.Tensor), classes)
    return matrix
