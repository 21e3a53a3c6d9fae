"""One run from its settings to its results: data, networks, loop, threshold."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attnbn.config import RunConfig, check_config
from attnbn.experiments.domains import Domains, needed_terms, open_domains
from attnbn.experiments.feeds import check_cache, make_streams
from attnbn.inference.evaluate import DEFAULT_THRESHOLD, evaluate, summary
from attnbn.inference.load import activation_of, read_config
from attnbn.io.errors import InputError
from attnbn.io.run_folder import METRICS, Metrics, RunFolder
from attnbn.models.build import build_discriminator, build_network
from attnbn.models.weights import WeightsReport
from attnbn.tasks.bridge import Bridge
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder
from attnbn.training.devices import check_device, loader_processes, make_fabric
from attnbn.training.loop import Every, Loop, Progress
from attnbn.training.schedules import Stretch, learning_rate_factor, place
from attnbn.training.streams import fold

Say = Callable[[str], None]
Watch = Callable[[Progress], None]


def quiet(_: object) -> None:
    """Shows nothing: for processes other than the first, and where nobody looks."""


def train(
    config: RunConfig,
    *,
    overwrite: bool = False,
    say: Say = quiet,
    watch: Watch = quiet,
) -> dict[str, Any]:
    """Train a run, choose its threshold and write its results.

    Args:
        config: All settings; ``output`` names the run folder.
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
    folder = _folder(config)
    parts = _prepare(config)
    if _first_process():
        folder.begin(_stored(config, parts.domains), overwrite=overwrite)
    try:
        return _run(parts, folder, None, say, watch)
    except InputError:
        if _first_process():  # found while training: without a checkpoint there is nothing to go on with
            folder.discard_unstarted()
        raise


def resume(
    run: str | os.PathLike[str],
    places: Mapping[str, Any] | None = None,
    *,
    say: Say = quiet,
    watch: Watch = quiet,
) -> dict[str, Any]:
    """Continue a run from its newest whole checkpoint, or from step 0 where there is none.

    Args:
        run: Its folder.
        places: Settings that may differ from last time: ``device``, ``devices``, ``nodes``, ``precision``, ``workers``.
        say: As :func:`train`.
        watch: As :func:`train`.

    Returns:
        As :func:`train`; at once where the run is finished already.

    Raises:
        InputError: if there is no run, or another process is writing to it.
        RunError: As :func:`train`.
        Interrupted: As :func:`train`.
    """
    folder = RunFolder(run)
    config, _ = read_config(folder.config())
    config = replace(config, **(places or {}), output=os.fspath(run))
    if folder.finished:
        say(f"the run is finished already: {folder.path}")
        return folder.results()
    parts = _prepare(config)
    if _first_process():
        folder.reopen()
        CheckpointFolder(folder.checkpoints).recover()
    newest, damaged = CheckpointFolder(folder.checkpoints).newest()
    if _first_process():
        for line in damaged:
            say(f"passed over: {line}")
        say(f"continuing after step {newest.step}" if newest else "no checkpoint yet: starting at step 0")
    return _run(parts, folder, newest, say, watch)


def _folder(config: RunConfig) -> RunFolder:
    if config.output is None:
        raise InputError("expected a folder for the run: give --output FOLDER")
    return RunFolder(config.output)


def _first_process() -> bool:
    """Whether this process writes. Known before the processes are launched, so that a refusal comes from one of them."""
    local = int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0"))
    return int(os.environ.get("RANK", local)) == 0


@dataclass(frozen=True)
class _Parts:
    """All that a run needs, made before its folder is touched, so that bad input leaves no folder behind."""

    config: RunConfig
    domains: Domains
    task: Bridge
    weights: WeightsReport | None
    fabric: Any
    stretches: list[Stretch]


def _prepare(config: RunConfig) -> _Parts:
    check_config(config)
    check_cache(config.data.cache)
    fabric = make_fabric(device=config.device, precision=config.precision, devices=config.devices, nodes=config.nodes)
    domains = open_domains(config)
    task, weights = _task(config, domains)
    if config.training.batch_size % fabric.world_size:
        raise InputError(
            f"expected training.batch_size divisible by {fabric.world_size} processes, got {config.training.batch_size}"
        )
    measure = domains.source if domains.target is None else domains.target
    assert measure is not None
    epoch = config.training.epoch_steps or max(1, round(len(measure) / config.training.batch_size))
    return _Parts(config, domains, task, weights, fabric, place(config.training, epoch))


def _run(parts: _Parts, folder: RunFolder, newest: Checkpoint | None, say: Say, watch: Watch) -> dict[str, Any]:
    """From step 0 or a checkpoint to the results, in a folder that is ours."""
    if not _first_process():
        say, watch = quiet, quiet
    try:
        for line in parts.domains.notes():
            say(line)
        if parts.weights is not None:
            say(f"weights: {parts.weights}")
        parts.fabric.launch()
        loop = _loop(parts, folder, say, watch)
        began = time.perf_counter()  # what frozen layers gave for a cache is every run's, not this one's alone
        loop.run(newest)
        if not parts.fabric.is_global_zero:
            return {}
        results = _results(parts.config, parts.domains, loop, parts.task)
        results["seconds"] = round(time.perf_counter() - began, 1)
        if newest is not None:
            results["seconds_since_resume_at_step"] = newest.step
        folder.write_results(results)
        return results
    finally:
        folder.release()


def _stored(config: RunConfig, domains: Domains) -> dict[str, Any]:
    """What stands in ``config.yaml``: every setting resolved, so that the run can be continued from anywhere."""
    data = config.data
    resolved = replace(
        data,
        classes=list(domains.classes),
        source=_absolute_spec(data.source),
        cache=None if data.cache is None else str(Path(data.cache).expanduser().resolve()),
        target=_absolute_spec(data.target),
        saliency=None if data.saliency is None else str(Path(data.saliency).expanduser().resolve()),
    )
    weights = config.model.weights
    if weights is not None and Path(weights).expanduser().exists():
        weights = str(Path(weights).expanduser().resolve())
    model = replace(config.model, weights=weights)
    values: dict[str, Any] = _plain(asdict(replace(config, data=resolved, model=model, versions=versions())))
    return values


def _absolute_spec(spec: str | None) -> str | None:
    kind, colon, path = (spec or "").partition(":")
    return f"{kind}:{Path(path).expanduser().resolve()}" if colon and kind != "scenes" else spec


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


def _task(config: RunConfig, domains: Domains) -> tuple[Bridge, WeightsReport | None]:
    torch.manual_seed(fold(config.seed, "weights"))
    built = build_network(config.model, len(domains.classes), activation_of(config))
    if config.channels_last:
        built.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = None
    if "adversarial" in needed_terms(config):
        torch.manual_seed(fold(config.seed, "discriminator"))
        discriminator = build_discriminator(config.model, built.network, config.data.size)
    return Bridge(built.network, discriminator, built.fresh, config.loss, config.training), built.report


def _loop(parts: _Parts, folder: RunFolder, say: Say, watch: Watch) -> Loop:
    config, domains, task = parts.config, parts.domains, parts.task
    training = config.training

    def validate(step: int) -> dict[str, Any]:
        figures = _select(config, domains, task)
        return {key: figures[key] for key in ("miou", "mean_ap", "threshold")} | {"score": figures["miou"]}

    return Loop(
        task,
        make_streams(config, domains, task.network, parts.fabric, say),
        parts.stretches,
        lambda stretch, step: learning_rate_factor(training, stretch, step),
        parts.fabric,
        seed=config.seed,
        checkpoints=CheckpointFolder(folder.checkpoints),
        metrics=lambda step: Metrics(folder.path / METRICS, step),
        every=Every(training.log_every, training.checkpoint_every, training.validate_every),
        workers=loader_processes(config.workers, config.device),
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
        workers=loader_processes(config.workers, config.device),
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
