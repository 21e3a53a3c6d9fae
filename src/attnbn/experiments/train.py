"""One run of the bridge from its settings to its results: data, networks, loop, threshold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from attnbn.config import ALIGNMENTS, RunConfig, check_config, check_frozen
from attnbn.data.class_maps import resolve_class_map
from attnbn.evaluation.classification import classification_figures
from attnbn.experiments.domains import Domains, each, needed_terms, open_domains
from attnbn.experiments.feeds import check_cache, make_streams
from attnbn.experiments.runner import (
    Plan,
    Say,
    Watch,
    absolute_if_there,
    absolute_spec,
    begin,
    fabric_of,
    plain,
    quiet,
    resume_run,
    stretches_of,
    versions,
)
from attnbn.experiments.scoring import evaluate_together
from attnbn.inference.classify import classify
from attnbn.inference.evaluate import DEFAULT_THRESHOLD, summary
from attnbn.inference.load import activation_of, read_config
from attnbn.models.build import build_network
from attnbn.models.weights import WeightsReport
from attnbn.tasks.alignment import build_alignment, check_alignment
from attnbn.tasks.bridge import Bridge
from attnbn.training.devices import from_first, loader_processes
from attnbn.training.streams import fold


def train(
    config: RunConfig,
    *,
    overwrite: bool = False,
    auto_resume: bool = False,
    say: Say = quiet,
    watch: Watch = quiet,
) -> dict[str, Any]:
    """Train a run, choose its threshold and write its results.

    Args:
        config: All settings; ``output`` names the run folder.
        overwrite: Replace a run that is there.
        auto_resume: Go on with a run that is there, if it was begun with these settings.
        say: Told what a person should know, line by line.
        watch: Told after each step.

    Returns:
        The content of ``results.json``; empty on processes other than the first.

    Raises:
        InputError: for settings or data that cannot be used; nothing is written then.
        RunError: if a loss is not finite or the disk is full; the checkpoints stay.
        Interrupted: after Ctrl-C, with a checkpoint written.
    """
    return begin(_plan(config), overwrite=overwrite, auto_resume=auto_resume, say=say, watch=watch)


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
    return resume_run(run, places, read_config, _plan, say, watch)


def _plan(config: RunConfig) -> Plan:
    check_config(config)
    check_frozen(config.model.freeze, config.model.weights, config.model.backbone)
    check_cache(config.data.cache)
    fabric = fabric_of(config)
    check_alignment(config)
    domains = open_domains(config)
    measure = domains.source if domains.target is None else domains.target
    assert measure is not None
    task, weights = _task(config, domains, _schedule_steps(config, len(measure)))

    def validate(step: int) -> dict[str, Any]:
        if domains.selection is None:
            figures = _held_out(config, domains, task, fabric)
            return {key: figures[key] for key in ("mean_ap", "accuracy", "loss")} | {"score": -figures["loss"]}
        figures = _select(config, domains, task, fabric)
        return {key: figures[key] for key in ("miou", "mean_ap", "threshold")} | {"score": figures["miou"]}

    return Plan(
        config,
        _stored(config, domains),
        domains.notes() + ([] if weights is None else [f"weights: {weights}"]),
        task,
        fabric,
        stretches_of(config, len(measure)),
        lambda launched, say: make_streams(config, domains, task.network, launched, say),
        None if domains.selection is None and domains.validation is None else validate,
        lambda: _results(config, domains, task, fabric),
    )


def _stored(config: RunConfig, domains: Domains) -> dict[str, Any]:
    """What stands in ``config.yaml``."""
    data = config.data
    resolved = replace(
        data,
        classes=list(domains.classes),
        source=each(data.source, absolute_spec),
        class_map=resolve_class_map(data.class_map),
        cache=None if data.cache is None else str(Path(data.cache).expanduser().resolve()),
        target=absolute_spec(data.target),
        saliency=each(data.saliency, lambda path: None if path is None else str(Path(path).expanduser().resolve())),
    )
    model = replace(config.model, weights=absolute_if_there(config.model.weights))
    values: dict[str, Any] = plain(asdict(replace(config, data=resolved, model=model, versions=versions())))
    return values


def _schedule_steps(config: RunConfig, images: int) -> int:
    """Length of the run's schedule, of which ``max_steps`` may leave out a part."""
    whole = replace(config, training=replace(config.training, max_steps=None))
    return stretches_of(whole, images)[-1].stop


def _task(config: RunConfig, domains: Domains, steps: int) -> tuple[Bridge, WeightsReport | None]:
    torch.manual_seed(fold(config.seed, "weights"))
    built = build_network(config.model, len(domains.classes), activation_of(config))
    if config.channels_last:
        built.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    alignment = None
    if needed_terms(config) & set(ALIGNMENTS):
        torch.manual_seed(fold(config.seed, "discriminator"))
        alignment = build_alignment(config.loss, config.model, built.network, config.data.size, steps)
    return Bridge(built.network, alignment, built.fresh, config.loss, config.training), built.report


def _looking(config: RunConfig) -> dict[str, Any]:
    """How a run looks at photographs while it is trained."""
    data, workers = config.data, loader_processes(config.workers, config.device)
    return {"size": data.size, "workers": workers, "skip_broken": data.skip_broken}


def _select(config: RunConfig, domains: Domains, task: Bridge, fabric: Any) -> dict[str, Any]:
    """Figures on the selection split, cross-fitted, with the threshold that is best on the whole of it."""
    assert domains.selection is not None
    evaluation = evaluate_together(fabric, task.network, domains.selection, **_looking(config))
    return summary(evaluation, threshold_split=config.data.selection_split, cross_fit=True)


def _held_out(config: RunConfig, domains: Domains, task: Bridge, fabric: Any) -> dict[str, Any]:
    """Figures of the source's held-out images, on which choices may rest where the target's labels may not be looked at."""
    validation = domains.validation
    assert validation is not None

    def figures() -> dict[str, Any]:
        seen = classify(task.network, validation, **_looking(config))
        assert seen.labels is not None
        return classification_figures(seen.scores, seen.labels, domains.classes)

    return from_first(fabric, figures)


def _results(config: RunConfig, domains: Domains, task: Bridge, fabric: Any) -> dict[str, Any]:
    results: dict[str, Any] = {
        "classes": list(domains.classes),
        "threshold": DEFAULT_THRESHOLD,
        "threshold_split": None,
        "selection": None,
        "validation": None if domains.validation is None else _held_out(config, domains, task, fabric),
    }
    if domains.selection is not None:
        figures = _select(config, domains, task, fabric)
        results |= {"threshold": figures["threshold"], "threshold_split": config.data.selection_split}
        results["selection"] = figures
    return results
