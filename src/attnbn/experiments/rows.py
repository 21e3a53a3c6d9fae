"""Rows of an ablation times seeds, each trained once into a folder of its own.

The demonstration and ``reproduce`` share it. A finished run is taken as it is, a stopped one goes on, and one with other
settings is refused by the names of what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from attnbn.config import PLACES, RunConfig, check_config, check_frozen
from attnbn.data.class_maps import resolve_class_map
from attnbn.data.classes import parse_classes
from attnbn.data.open import open_dataset
from attnbn.experiments.apart import check_output
from attnbn.experiments.domains import Domains, each, open_domains
from attnbn.experiments.evaluate import evaluate_run
from attnbn.experiments.parallel import Done, Job, nothing, run_jobs
from attnbn.experiments.runner import Say, Watch, absolute_if_there, absolute_spec, quiet
from attnbn.experiments.settings import check_same, flat
from attnbn.experiments.train import resume, train
from attnbn.inference.load import read_config
from attnbn.io.atomic import write_json
from attnbn.io.errors import DivergedError, InputError, RunError
from attnbn.io.json_file import read_object
from attnbn.io.run_folder import CONFIG, METRICS, RESULTS, RunFolder
from attnbn.training.devices import check_device
from attnbn.training.schedules import place
from attnbn.training.stops import Interrupted

DIVERGED, DIVERGED_NOTE = "diverged", "diverged.json"

COMPARED = ("data", "model", "loss", "training", "seed")
"""Settings of what a run computes; a run with others is another run."""


@dataclass(frozen=True)
class Display:
    """Where several trainings speak.

    Attributes:
        watch: Makes a progress display for a training of that title.
        say: Told what a person should know, line by line.
    """

    watch: Callable[[str], Watch] = lambda title: quiet
    say: Say = quiet


@dataclass(frozen=True, eq=False)  # each is itself, and so a key
class Run:
    """One row trained with one seed.

    Attributes:
        row: The row's short name.
        seed: Also in the settings.
        config: All settings, the folder as ``output`` among them.
    """

    row: str
    seed: int
    config: RunConfig

    @property
    def folder(self) -> Path:
        """The run's folder."""
        assert self.config.output is not None
        return Path(self.config.output)


def plan(configs: Mapping[str, RunConfig], output: Path, prefix: str, seeds: Sequence[int]) -> list[Run]:
    """Every row with every seed, all rows of a seed before the next.

    Args:
        configs: Settings by the row's short name.
        output: Folder of all; a run's is ``PREFIX-ROW-SEED`` in it.
        prefix: What the rows belong to.
        seeds: One training of each row per seed.

    Raises:
        InputError: for settings that no run can use.
    """
    runs = []
    for seed in seeds:
        for row, config in configs.items():
            mine = replace(config, seed=seed, output=str(output / f"{prefix}-{row}-{seed}"))
            check_config(mine)
            runs.append(Run(row, seed, mine))
    return runs


def check_earlier(run: Run, overwrite: bool) -> None:
    """Refuse a folder whose run has other settings, and one where the same row has them with another seed.

    Raises:
        InputError: naming up to three settings that differ, with both values.
    """
    if overwrite:
        return
    now = _identity(run.config)
    row = run.folder.name.removesuffix(f"-{run.seed}")
    seeds = sorted(run.folder.parent.glob(f"{escape(row)}-*"))
    for path in [run.folder, *(path for path in seeds if path.name.removeprefix(f"{row}-").isdecimal())]:
        folder = RunFolder(path)
        if not (path / CONFIG).is_file():
            continue
        stored, _ = read_config(folder.config(), folder.path)
        before = _identity(stored)
        if folder.path != run.folder:
            before["seed"] = now["seed"]
        if now["data.classes"] is None:
            before["data.classes"] = None
        check_same(before, now, folder.path)


def check_study_folder(output: Path, name: str) -> None:
    """Refuse a folder that holds something else than the study of this name.

    Raises:
        InputError: for a run's folder, or results of another study.
    """
    if (output / CONFIG).exists():
        raise InputError(f"expected a folder for a study, it holds a single run; choose another --output: {output}")
    file = output / RESULTS
    if not file.is_file():
        return
    try:
        earlier = read_object(file, "results", largest=None).get("study")
    except InputError:
        earlier = None
    if earlier != name:
        what = f"the study {earlier}" if earlier else "other results"
        raise InputError(f"the folder holds {what}, not {name}; choose another --output: {output}")


def preflight(run: Run) -> int:
    """Open all that a run reads, so that what is missing is found before the rows ahead of it are trained.

    Returns:
        How many steps the run takes.

    Raises:
        InputError: As the training itself would.
    """
    check_frozen(run.config.model.freeze, run.config.model.weights, run.config.model.backbone)
    check_output(run.config)
    # whether photographs are broken is for the run to find out: it would read each of them here
    domains = open_domains(replace(run.config, data=replace(run.config.data, skip_broken=False)))
    return _steps(run.config, domains)


def job(run: Run, overwrite: bool, watch: Watch, steps: int, on_trial: bool = False) -> Job:
    """The training of a run for :func:`~attnbn.experiments.parallel.run_jobs`; ``on_trial``: it may diverge."""
    return Job(try_once if on_trial else train_once, (run.config, overwrite), run.folder / METRICS, steps, watch)


def run_all(jobs: Sequence[Job], processes: int, device: str, done: Done = nothing) -> list[dict[str, Any]]:
    """Do the jobs, several at a time on the CPU, and say how to go on when they are stopped.

    Args:
        jobs: In order.
        processes: At most so many at a time on the CPU; any other device takes one after the other.
        device: As the settings name it.
        done: Told each job's place and result as it ends.

    Raises:
        AttnbnError: As :func:`~attnbn.experiments.parallel.run_jobs`.
        Interrupted: The same.
    """
    try:
        return run_jobs(jobs, processes if check_device(device) == "cpu" else 1, done)
    except Interrupted as stop:
        stop.args = (f"stopped after step {stop.step}; a checkpoint was written, the same command goes on from there",)
        raise


def train_once(config: RunConfig, overwrite: bool, watch: Watch = quiet) -> dict[str, Any]:
    """Train a run, go on with it, or take it as it is.

    Returns:
        The content of its ``results.json``.

    Raises:
        InputError: As :func:`~attnbn.experiments.train.train`.
        RunError: The same, with the run's folder.
    """
    assert config.output is not None
    try:
        if (Path(config.output) / CONFIG).is_file() and not overwrite:
            places = {name: getattr(config, name) for name in PLACES}
            return resume(config.output, places, watch=watch)
        return train(config, overwrite=overwrite, watch=watch)
    except RunError as error:
        raise type(error)(f"{error}: {config.output}") from error


def try_once(config: RunConfig, overwrite: bool, watch: Watch = quiet) -> dict[str, Any]:
    """As :func:`train_once`, for settings on trial: that they diverge is what the trial has shown, and it is not made again.

    Returns:
        The content of ``results.json``, or that of ``diverged.json``: why there is none, under :data:`DIVERGED`.
    """
    assert config.output is not None
    note = Path(config.output) / DIVERGED_NOTE
    if overwrite:
        note.unlink(missing_ok=True)
    if note.is_file():
        return read_object(note, "why a trial diverged")
    try:
        return train_once(config, overwrite, watch)
    except DivergedError as error:
        write_json(note, {DIVERGED: str(error)})
        return {DIVERGED: str(error)}


def score(run: Run, split: str) -> dict[str, Any]:
    """A finished run's figures on a split of its target, at the threshold that it has stored.

    On the split that chose the threshold they are the run's own, cross-fitted.

    Returns:
        As :func:`attnbn.inference.evaluate.summary`.
    """
    data = run.config.data
    assert data.target is not None
    if split == data.selection_split:
        own: dict[str, Any] = RunFolder(run.folder).results()["selection"]
        return own
    return evaluate_run(run.folder, data.target, split, device=run.config.device)


def check_split(config: RunConfig, split: str) -> None:
    """Refuse a split that cannot be scored, before anything is trained.

    Raises:
        InputError: The target has no such split, or no masks there.
    """
    data = config.data
    if data.target is None:
        raise InputError("expected data.target, whose masks score the rows: give --data.target voc:PATH")
    open_dataset(data.target, split=split, classes=data.classes, class_map=data.class_map, masks=True)


def _steps(config: RunConfig, domains: Domains) -> int:
    measure = domains.source if domains.target is None else domains.target
    assert measure is not None
    epoch = config.training.epoch_steps or max(1, round(len(measure) / config.training.batch_size))
    return place(config.training, epoch)[-1].stop


def _identity(config: RunConfig) -> dict[str, Any]:
    """What a run computes, with its files named so that two ways of naming the same one are equal."""
    values = {key: value for key, value in flat(asdict(config)).items() if key.partition(".")[0] in COMPARED}
    values["data.cache"] = values["data.cache"] is not None  # where it is makes no difference, its rounding does
    for key in ("data.source", "data.target"):
        values[key] = each(values[key], absolute_spec)
    for key in ("data.saliency", "model.weights"):
        values[key] = each(values[key], absolute_if_there)
    values["data.class_map"] = resolve_class_map(values["data.class_map"])
    classes = parse_classes(values["data.classes"])
    return values | {"data.classes": None if classes is None else list(classes)}
