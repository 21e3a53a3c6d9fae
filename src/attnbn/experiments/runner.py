"""A training from its plan to its results: the run folder taken, the loop run, what it gave written. For every kind of run.

What is trained, and on what, is the plan's; nothing of the folder is touched before the plan stands.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from attnbn.config import RunConfig
from attnbn.experiments.apart import check_output
from attnbn.experiments.settings import check_remembered, check_same, lasting, remembered
from attnbn.io.errors import InputError, RunError
from attnbn.io.run_folder import CONFIG, METRICS, Metrics, RunFolder
from attnbn.segment_config import SegmentConfig
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder
from attnbn.training.determinism import deterministic
from attnbn.training.devices import check_device, loader_processes, make_fabric, together
from attnbn.training.launch import ended_together
from attnbn.training.loop import Every, Loop, Progress, Validate
from attnbn.training.schedules import Stretch, learning_rate_factor, place
from attnbn.training.streams import Stream, check_shares
from attnbn.training.task import Task

Say = Callable[[str], None]
Watch = Callable[[Progress], None]
AnyConfig = RunConfig | SegmentConfig
ConfigT = TypeVar("ConfigT", RunConfig, SegmentConfig)


def quiet(_: object) -> None:
    """Shows nothing: for processes other than the first, and where nobody looks."""


@dataclass(frozen=True)
class Plan:
    """All that a run needs, made before its folder is touched, so that bad input leaves no folder behind.

    Attributes:
        config: Its settings.
        stored: What stands in ``config.yaml``: every setting resolved, so that the run can be continued from anywhere.
        notes: What a person should know before the training starts, line by line.
        task: What is trained.
        fabric: Devices and processes, not launched yet.
        stretches: The phases placed on steps.
        streams: Makes the streams of data once the processes are launched.
        validate: ``step -> metrics`` with a ``score``, or None. This and the next are called in all processes.
        results: The figures of the trained run, for ``results.json``.
    """

    config: AnyConfig
    stored: Mapping[str, Any]
    notes: Sequence[str]
    task: Task
    fabric: Any
    stretches: list[Stretch]
    streams: Callable[[Any, Say], dict[str, Stream]]
    validate: Validate | None
    results: Callable[[], dict[str, Any]]


def begin(
    plan: Plan, *, overwrite: bool, auto_resume: bool = False, say: Say = quiet, watch: Watch = quiet
) -> dict[str, Any]:
    """Carry out a plan in a new folder.

    Args:
        plan: With ``output``.
        overwrite: Replace a run that is there.
        auto_resume: Go on with a run that is there, if it was begun with these settings.
        say: Told what a person should know, line by line.
        watch: Told after each step.

    Returns:
        The content of ``results.json``; empty on processes other than the first.

    Raises:
        InputError: if the folder is taken, or data turn out unusable; nothing is left then.
        RunError: if a loss is not finite or the disk is full; the checkpoints stay.
        Interrupted: after Ctrl-C, with a checkpoint written.

    Where torchrun starts a training anew (``--max-restarts``) with the command line that began it, it goes on.
    """
    folder = output_folder(plan.config)
    if (auto_resume or _restarted()) and _begun(plan, folder, overwrite):
        return _finished(folder, say) if folder.finished else go_on(plan, folder, say=say, watch=watch)
    check_output(plan.config)
    if first_process():
        folder.begin(plan.stored, overwrite=overwrite)
    try:
        return _run(plan, folder, say, watch)
    except InputError:
        if first_process():  # found while training: without a checkpoint there is nothing to go on with
            folder.discard_unstarted()
        raise


def go_on(plan: Plan, folder: RunFolder, *, say: Say = quiet, watch: Watch = quiet) -> dict[str, Any]:
    """Carry out the rest of a plan: from its newest whole checkpoint, or from step 0 where there is none.

    Args:
        plan: The same as before, but for :data:`attnbn.config.PLACES`.
        folder: Of the run.
        say: As :func:`begin`.
        watch: As :func:`begin`.

    Returns:
        As :func:`begin`.

    Raises:
        InputError: if another process is writing to the run.
        RunError: As :func:`begin`.
        Interrupted: As :func:`begin`.
    """
    if first_process():
        for line in _changes(folder.config(), plan.config):
            say(line)
        folder.reopen()
        CheckpointFolder(folder.checkpoints).recover()
    return _run(plan, folder, say, watch, resume=True)


def resume_run(
    run: str | os.PathLike[str],
    places: Mapping[str, Any] | None,
    read: Callable[[dict[str, Any], Path], tuple[ConfigT, Any]],
    plan: Callable[[ConfigT], Plan],
    say: Say,
    watch: Watch,
) -> dict[str, Any]:
    """Continue a run of any kind; one that is finished is taken as it is.

    Args:
        run: Its folder.
        places: Settings that may differ from last time, see :data:`attnbn.config.PLACES`.
        read: The run's settings from what its ``config.yaml`` holds.
        plan: What they ask for.
        say: As :func:`begin`.
        watch: As :func:`begin`.

    Returns:
        As :func:`begin`; at once where the run is finished already.

    Raises:
        InputError: if there is no such run, or another process is writing to it.
    """
    folder = RunFolder(run)
    stored = folder.config()
    config, _ = read(stored, folder.path)
    if folder.finished:
        return _finished(folder, say)
    return go_on(plan(replace(config, **(places or {}), output=os.fspath(run))), folder, say=say, watch=watch)


def output_folder(config: AnyConfig) -> RunFolder:
    """The folder of a new run.

    Raises:
        InputError: if the settings name none.
    """
    if config.output is None:
        raise InputError("expected a folder for the run: give --output FOLDER")
    return RunFolder(config.output)


def first_process() -> bool:
    """Whether this process writes. Known before the processes are launched, so that a refusal comes from one of them."""
    local = int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0"))
    return int(os.environ.get("RANK", local)) == 0


def fabric_of(config: AnyConfig) -> Any:
    """Devices and processes by the settings.

    Raises:
        InputError: for a device that this machine lacks, or a batch that the processes cannot share evenly.
    """
    fabric = make_fabric(device=config.device, precision=config.precision, devices=config.devices, nodes=config.nodes)
    check_shares(config.training.batch_size, fabric.world_size, config.training.accumulate)
    return fabric


def stretches_of(config: AnyConfig, images: int) -> list[Stretch]:
    """The phases placed on steps, where an epoch goes once through so many images."""
    epoch = config.training.epoch_steps or max(1, round(images / config.training.batch_size))
    return place(config.training, epoch)


def _run(plan: Plan, folder: RunFolder, say: Say, watch: Watch, resume: bool = False) -> dict[str, Any]:
    """From step 0 or a checkpoint to the results, in a folder that is ours."""
    if not first_process():
        say, watch = quiet, quiet
    try:
        for line in plan.notes:
            say(line)
        with ended_together(plan.fabric):
            with deterministic(plan.config.deterministic):
                plan.fabric.join()
                # the first knows: another may have looked for the run when the first had just begun it
                resume = plan.fabric.broadcast(resume)
                newest = _checkpoint(plan.fabric, folder, say) if resume else None
                loop = _loop(plan, folder, say, watch)
                began = time.perf_counter()  # what frozen layers gave for a cache is every run's, not this one's alone
                loop.run(newest)
            figures = plan.results()
        if not plan.fabric.is_global_zero:
            return {}
        results: dict[str, Any] = {"seed": plan.config.seed, "steps": plan.stretches[-1].stop, **figures}
        results |= {"device": check_device(plan.config.device), "versions": versions()}
        results["seconds"] = round(time.perf_counter() - began, 1)
        if newest is not None:
            results["seconds_since_resume_at_step"] = newest.step
        folder.write_results(results)
        return results
    finally:
        folder.release()


def _checkpoint(fabric: Any, folder: RunFolder, say: Say) -> Checkpoint | None:
    """Where to go on. Read once all processes are there, that is after the first has tidied up what a kill left behind.

    Raises:
        InputError: if all are damaged, or settings were changed since.
        RunError: if the processes do not find the same.
    """
    newest, damaged = CheckpointFolder(folder.checkpoints).newest()
    for line in damaged:
        say(f"passed over: {line}")
    if newest is None and damaged:  # not from step 0, which would be weeks anew, unnoticed
        raise InputError(
            f"expected a whole checkpoint, all are damaged; bring one back from a copy, or train the run again (--overwrite): "
            f"{folder.path}"
        )
    found = None if newest is None else newest.sha256
    first = fabric.broadcast(found)

    def check() -> None:
        if found != first:
            raise RunError(f"expected all processes to find the same newest checkpoint, check the disk: {folder.path}")

    together(fabric, check)
    if newest is not None:
        check_remembered(newest.state.get("settings"), folder.config(), folder.path / CONFIG)
    if newest is not None and first_process():
        CheckpointFolder(folder.checkpoints).drop_older(newest.step)  # a kill may have come before it was done
    say("no checkpoint yet: starting at step 0" if newest is None else f"continuing after step {newest.step}")
    return newest


def _loop(plan: Plan, folder: RunFolder, say: Say, watch: Watch) -> Loop:
    training = plan.config.training

    def metrics(step: int, validated: bool) -> Metrics:
        opened = Metrics(folder.path / METRICS, step, validated)
        if line := opened.lacking(training.log_every):
            say(line)
        return opened

    return Loop(
        plan.task,
        plan.streams(plan.fabric, say),
        plan.stretches,
        lambda stretch, step: learning_rate_factor(training, stretch, step),
        plan.fabric,
        seed=plan.config.seed,
        settings=remembered(folder.config()) if plan.fabric.is_global_zero else None,
        checkpoints=CheckpointFolder(folder.checkpoints),
        metrics=metrics,
        every=Every(training.log_every, training.checkpoint_every, training.validate_every, training.checkpoint_share),
        workers=loader_processes(plan.config.workers, plan.config.device),
        accumulate=training.accumulate,
        validate=plan.validate,
        watch=watch,
    )


def _finished(folder: RunFolder, say: Say) -> dict[str, Any]:
    if not first_process():
        return {}
    results = folder.results()
    say(f"the run is finished already, after step {results.get('steps')}: {folder.path}")
    return results


def _begun(plan: Plan, folder: RunFolder, overwrite: bool) -> bool:
    """Whether the folder holds a run that was begun with the plan's settings.

    Raises:
        InputError: if it holds one with others, which is not to be overwritten.
    """
    if not (folder.path / CONFIG).is_file():
        return False
    before, now = lasting(folder.config()), lasting(plan.stored)
    if not overwrite:
        check_same(before, now, folder.path)
    return before == now


def _restarted() -> bool:
    """Whether torchrun starts this training anew after a process of it died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _changes(before: Mapping[str, Any], now: AnyConfig) -> Iterator[str]:
    """What a person should know who goes on with a run elsewhere than it was begun."""
    versions_then = before.get("versions")
    if isinstance(versions_then, dict) and (line := other_versions(versions_then)):
        yield line
    if (precision := before.get("precision", now.precision)) != now.precision:
        yield f"the run was begun in {precision}, now {now.precision}: the rest will not be what it would have been"


def other_versions(before: Mapping[str, str] | None) -> str | None:
    """What to say of a run that was begun with other versions than these; None where they are the same.

    >>> other_versions(versions()) is None
    True
    >>> other_versions({**versions(), "torch": "1.0"}).startswith("the run was begun with torch 1.0, now ")
    True
    """
    now = versions()
    changed = [f"{name} {old}, now {now.get(name)}" for name, old in (before or {}).items() if old != now.get(name)]
    if not changed:
        return None
    return f"the run was begun with {'; '.join(changed)}: the rest may not be bit for bit what it would have been"


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    packages = {
        name: version(name) for name in ("attnbn", "torch", "torchvision", "lightning-fabric", "numpy", "pillow")
    }
    return {"python": platform.python_version(), **packages}


def absolute_spec(spec: str | None) -> str | None:
    """``KIND:PATH`` with the whole path, so that it holds from anywhere; scenes have none."""
    kind, colon, path = (spec or "").partition(":")
    return f"{kind}:{Path(path).expanduser().resolve()}" if colon and kind != "scenes" else spec


def absolute_if_there(path: str | None) -> str | None:
    """The whole path of a file or folder that exists; anything else (a name of weights, None) as it is."""
    if path is not None and Path(path).expanduser().exists():
        return str(Path(path).expanduser().resolve())
    return path


def plain(value: Any) -> Any:
    """Tuples as lists: what YAML can hold without tags."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
