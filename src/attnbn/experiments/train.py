"""One run from its settings to its results: data, networks, loop, threshold."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attnbn.config import RunConfig, check_config
from attnbn.data.collate import collate
from attnbn.data.sample import Sample
from attnbn.data.transforms import SampleTransform, seeded, train_transform
from attnbn.experiments.domains import Domains, needed_terms, open_domains
from attnbn.inference.evaluate import DEFAULT_THRESHOLD, evaluate, summary
from attnbn.inference.load import activation_of, read_config
from attnbn.io.errors import InputError
from attnbn.io.run_folder import METRICS, Metrics, RunFolder
from attnbn.models.build import build_discriminator, build_network
from attnbn.tasks.bridge import Bridge
from attnbn.training.checkpoint import CheckpointFolder
from attnbn.training.devices import check_device, make_fabric
from attnbn.training.loop import Every, Loop, Progress
from attnbn.training.schedules import learning_rate_factor, place
from attnbn.training.streams import Stream, fold

Say = Callable[[str], None]
Watch = Callable[[Progress], None]


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    say: Say = lambda line: None,
    watch: Watch = lambda progress: None,
) -> dict[str, Any]:
    """Train a run, choose its threshold and write its results.

    Args:
        config: All settings; ``output`` names the run folder.
        resume: Continue the run in that folder (its own settings count, but for device, precision and workers).
        overwrite: Replace a run that is there.
        say: Told what a person should know, line by line.
        watch: Told after each step.

    Returns:
        The content of ``results.json``; empty on processes other than the first.

    Raises:
        InputError: for settings or data that cannot be used; nothing is written then.
        RunError: if a loss is not finite or the disk is full; the checkpoints stay.
        Interrupted: after Ctrl-C, with a checkpoint written.
    """
    if config.output is None:
        raise InputError("expected a folder for the run: give --output FOLDER")
    folder = RunFolder(config.output)
    if resume:
        config = _resumed(folder, config)
    check_config(config)
    first = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    if resume and folder.finished:
        if first:
            say(f"the run is finished already: {folder.path}")
        return folder.results()
    fabric = make_fabric(device=config.device, precision=config.precision, devices=config.devices, nodes=config.nodes)
    domains = open_domains(config)
    stored = _stored(config, domains)
    if first:
        if resume:
            folder.reopen()
        else:
            folder.begin(stored, overwrite=overwrite)
        for line in domains.notes():
            say(line)
    try:
        fabric.launch()
        began = time.perf_counter()
        task = _task(config, domains, say if first else lambda line: None)
        checkpoints = CheckpointFolder(folder.checkpoints)
        newest, damaged = checkpoints.newest() if resume else (None, [])
        if first and resume:
            for line in damaged:
                say(f"passed over: {line}")
            say(f"continuing after step {newest.step}" if newest else "no checkpoint yet: starting at step 0")
        loop = _loop(config, domains, task, fabric, checkpoints, folder, watch if first else lambda progress: None)
        loop.run(newest)
        if not fabric.is_global_zero:
            return {}
        results = _results(config, domains, loop, task)
        results["seconds"] = round(time.perf_counter() - began, 1)
        if newest is not None:
            results["seconds_since_resume_at_step"] = newest.step
        folder.write_results(results)
        return results
    finally:
        folder.release()


def _resumed(folder: RunFolder, given: RunConfig) -> RunConfig:
    """The run's own settings; where to compute may differ from last time."""
    config, _ = read_config(folder.config())
    place = {name: getattr(given, name) for name in ("output", "device", "precision", "devices", "nodes", "workers")}
    return replace(config, **place)


def _stored(config: RunConfig, domains: Domains) -> dict[str, Any]:
    """What stands in ``config.yaml``: every setting resolved, so that the run can be continued from anywhere."""
    data = config.data
    resolved = replace(
        data,
        classes=list(domains.classes),
        source=_absolute_spec(data.source),
        target=_absolute_spec(data.target),
        saliency=None if data.saliency is None else str(Path(data.saliency).resolve()),
    )
    weights = config.model.weights
    if weights is not None and Path(weights).exists():
        weights = str(Path(weights).resolve())
    resolved_config = replace(config, data=resolved, model=replace(config.model, weights=weights))
    values: dict[str, Any] = _plain(asdict(resolved_config))
    return {**values, "versions": versions()}


def _absolute_spec(spec: str | None) -> str | None:
    kind, colon, path = (spec or "").partition(":")
    return f"{kind}:{Path(path).resolve()}" if colon and kind != "scenes" else spec


def _plain(value: Any) -> Any:
    """Tuples as lists: what YAML can hold without tags."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    packages = {
        name: version(name) for name in ("attnbn", "torch", "torchvision", "lightning-fabric", "numpy", "pillow")
    }
    return {"python": platform.python_version(), **packages}


def _task(config: RunConfig, domains: Domains, say: Say) -> Bridge:
    torch.manual_seed(fold(config.seed, "weights"))
    built = build_network(config.model, len(domains.classes), activation_of(config))
    if built.report is not None:
        say(f"weights: {built.report}")
    discriminator = None
    if "adversarial" in needed_terms(config):
        torch.manual_seed(fold(config.seed, "discriminator"))
        discriminator = build_discriminator(config.model, built.network, config.data.size)
    return Bridge(built.network, discriminator, built.fresh, config.loss, config.training)


class Augment:
    """``(sample, seed) -> augmented sample``; a class, so that loader processes can be sent it."""

    def __init__(self, transform: SampleTransform) -> None:
        self.transform = transform

    def __call__(self, sample: Sample, seed: int) -> Sample:
        return seeded(self.transform, seed)(sample)


def _loop(
    config: RunConfig,
    domains: Domains,
    task: Bridge,
    fabric: Any,
    checkpoints: CheckpointFolder,
    folder: RunFolder,
    watch: Watch,
) -> Loop:
    data, training = config.data, config.training
    augment = Augment(train_transform(data.size, data.scale, data.flip))
    streams = {
        name: Stream(name, dataset, augment, collate, seed=config.seed, batch_size=training.batch_size)
        for name, dataset in (("source", domains.source), ("target", domains.target))
        if dataset is not None
    }
    measure = streams.get("target", streams.get("source"))
    assert measure is not None
    epoch = training.epoch_steps or max(1, round(measure.length / training.batch_size))

    def validate(step: int) -> dict[str, Any]:
        figures = _select(config, domains, task)
        return {key: figures[key] for key in ("miou", "mean_ap", "threshold")} | {"score": figures["miou"]}

    return Loop(
        task,
        streams,
        place(training, epoch),
        lambda stretch, step: learning_rate_factor(training, stretch, step),
        fabric,
        seed=config.seed,
        checkpoints=checkpoints,
        metrics=lambda step: Metrics(folder.path / METRICS, step),
        every=Every(training.log_every, training.checkpoint_every, training.validate_every),
        workers=config.workers,
        validate=validate if domains.selection is not None else None,
        watch=watch,
    )


def _select(config: RunConfig, domains: Domains, task: Bridge) -> dict[str, Any]:
    """Figures on the selection split, cross-fitted, with the threshold that is best on the whole of it."""
    assert domains.selection is not None
    evaluation = evaluate(
        task.network,
        domains.selection,
        size=config.data.size,
        workers=config.workers,
        skip_broken=config.data.skip_broken,
    )
    return summary(evaluation, threshold_split=config.data.selection_split, cross_fit=True)


def _results(config: RunConfig, domains: Domains, loop: Loop, task: Bridge) -> dict[str, Any]:
    results: dict[str, Any] = {
        "classes": list(domains.classes),
        "seed": config.seed,
        "steps": loop.stretches[-1].stop,
        "threshold": DEFAULT_THRESHOLD,
        "threshold_split": None,
        "selection": None,
        "device": check_device(config.device),
        "versions": versions(),
    }
    if domains.selection is not None:
        figures = _select(config, domains, task)
        results |= {"threshold": figures["threshold"], "threshold_split": config.data.selection_split}
        results["selection"] = figures
    return results
