"""A finished run on images of another domain: figures, scores and features, kept in a folder of the direction's own.

The only place where labels of a target are read, after the training is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from attnbn.config import RunConfig
from attnbn.data.dataset import ImageDataset
from attnbn.data.single import check_single
from attnbn.evaluation.classification import classification_figures
from attnbn.experiments.domains import open_domains, open_test
from attnbn.inference.classify import Classified, classify
from attnbn.inference.load import load
from attnbn.io.atomic import remove_parts_of, write_bytes, write_json
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_object
from attnbn.report.transfer import TENSORS, TRANSFER
from attnbn.training.devices import check_device, loader_processes


@dataclass(frozen=True)
class Tests:
    """The images that a direction's runs of one seed are looked at with, both labelled.

    Attributes:
        source: Held out of the source.
        target: The target's test images.
        doubts: What a person should know before trusting figures of the latter: classes without an image, unreadable ones.
    """

    source: ImageDataset
    target: ImageDataset
    doubts: tuple[str, ...] = ()


def open_tests(config: RunConfig, classes: tuple[str, ...], metric: str) -> Tests:
    """Open both.

    Args:
        config: A run's settings with the target named.
        classes: The run's.
        metric: ``accuracy`` wants images of a single class.

    Raises:
        InputError: for data that cannot be read, nothing to test on, or images of several classes where accuracy is asked for.
    """
    source = open_domains(config).validation
    if source is None:
        raise InputError("expected images of the source that are held out of training: give --data.hold_out 0.3")
    target, doubts = open_test(config, classes)
    if metric == "accuracy":
        for dataset in (source, target):
            check_single(dataset)
    return Tests(source, target, tuple(doubts))


def test_run(run: Path, tests: Tests, folder: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Look at a run with both test sets, unless this was done before.

    Args:
        run: A finished run's folder.
        tests: From :func:`open_tests`, for the run's seed.
        folder: Of the direction's figures of this run; gets ``transfer.json`` and ``transfer.safetensors``.
        identity: What the figures depend on besides the weights; others are figures of something else.

    Returns:
        :func:`~attnbn.evaluation.classification.classification_figures` on the target's test images, ``validation`` (the
        same on the source's), ``mean_ap_relative`` (mean AP where each image's scores are set against one another by a
        softmax before images are ranked), and ``names``, ``source_names``.
    """
    trained = load(run)
    known = {**identity, "checkpoint": trained.identity["sha256"]}
    if (earlier := _earlier(folder, known)) is not None:
        return earlier
    network = trained.network.to(check_device(trained.config.device))
    workers = loader_processes(trained.config.workers, trained.config.device)
    seen = {
        name: classify(
            network,
            dataset,
            size=trained.config.data.size,
            workers=workers,
            skip_broken=trained.config.data.skip_broken,
        )
        for name, dataset in (("source", tests.source), ("target", tests.target))
    }
    figures = _figures(seen["target"], trained.classes)
    relative = _figures(replace(seen["target"], scores=seen["target"].scores.log_softmax(1)), trained.classes)
    figures |= {"mean_ap_relative": relative["mean_ap"]}
    figures |= {"validation": _figures(seen["source"], trained.classes), "of": known}
    figures |= {"names": seen["target"].names, "source_names": seen["source"].names}
    folder.mkdir(parents=True, exist_ok=True)
    remove_parts_of(folder / TENSORS, folder / TRANSFER)
    write_bytes(folder / TENSORS, save(_tensors(seen["source"], "source_") | _tensors(seen["target"], "")))
    write_json(folder / TRANSFER, figures)  # last: it says that both are whole
    return figures


def _figures(seen: Classified, classes: tuple[str, ...]) -> dict[str, Any]:
    assert seen.labels is not None
    return classification_figures(seen.scores, seen.labels, classes)


def _tensors(seen: Classified, prefix: str) -> dict[str, Tensor]:
    assert seen.labels is not None
    parts = {"scores": seen.scores, "labels": seen.labels, "features": seen.features}
    return {f"{prefix}{name}": tensor.to(torch.float32).contiguous() for name, tensor in parts.items()}


def _earlier(folder: Path, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figures taken before, where they are of the same weights and images."""
    try:
        figures = read_object(folder / TRANSFER, "a run's figures on both domains", largest=None)
    except InputError:
        return None
    return figures if figures.get("of") == known and (folder / TENSORS).is_file() else None
