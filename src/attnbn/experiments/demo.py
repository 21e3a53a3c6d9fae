"""The demonstration: Grad-CAM and AttnBN trained on scenes that the program draws, scored and set side by side."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnbn.config import RunConfig, check_config
from attnbn.data.open import open_dataset
from attnbn.experiments.ceiling import train_ceiling
from attnbn.experiments.evaluate import evaluate_run
from attnbn.experiments.parallel import Job, run_jobs
from attnbn.experiments.train import Watch, quiet, resume, train, versions
from attnbn.inference.load import load, read_config
from attnbn.inference.predict import predict
from attnbn.io.atomic import write_json
from attnbn.io.errors import InputError
from attnbn.io.run_folder import CONFIG, METRICS, RESULTS, RunFolder
from attnbn.report.ablation import AblationReport, Compared, ReportRow, read_terms
from attnbn.training.devices import check_device

ROWS = {"demo-grad-cam": "Grad-CAM (L_t-cl)", "demo-attnbn": "AttnBN"}
SPLIT = "test"
"""Split of the scenes that the figures are from; the threshold is chosen on another, ``dev``."""


@dataclass(frozen=True)
class Display:
    """Where the demonstration speaks.

    Attributes:
        watch: Makes a progress display for a training of that title.
    """

    watch: Callable[[str], Watch] = lambda title: quiet


def demo(
    configs: dict[str, RunConfig],
    output: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    ceiling: bool = True,
    overwrite: bool = False,
    processes: int = 1,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train the rows, score them on scenes that none has seen, and write ``results.json`` and ``report.html``.

    A run that is finished is not run again, one that was stopped goes on.

    Args:
        configs: Settings of each row of :data:`ROWS`, by recipe.
        output: Folder for everything.
        seeds: One training of each row per seed.
        ceiling: Also train the mask-supervised ceiling, once.
        overwrite: Start anew even if the folder holds runs.
        processes: Trainings at a time, on the CPU.
        display: Where to speak.

    Returns:
        ``rows`` (``recipe, seed, miou, threshold, mean_ap, seconds``), ``ceiling``, ``split``, ``versions``.

    Raises:
        InputError: for a folder that holds something else, or runs with other settings.
    """
    display = display or Display()
    folder = Path(output)
    jobs = _jobs(configs, folder, seeds, ceiling, overwrite, display)
    device = check_device(next(iter(configs.values())).device)
    done = run_jobs(list(jobs.values()), processes if device == "cpu" else 1)
    outcomes = dict(zip(jobs, done, strict=True))
    rows: list[dict[str, Any]] = []
    figures: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in seeds:
        for recipe, config in configs.items():
            assert config.data.target is not None
            scored = evaluate_run(folder / f"{recipe}-{seed}", config.data.target, SPLIT, device=config.device)
            figures[recipe, seed] = scored
            row: dict[str, Any] = {"recipe": recipe, "seed": seed}
            row |= {key: scored[key] for key in ("miou", "threshold", "mean_ap")}
            rows.append(row | {"seconds": outcomes[f"{recipe}-{seed}"]["seconds"]})
    results = {"rows": rows, "ceiling": outcomes.get("ceiling"), "split": SPLIT, "versions": versions()}
    write_json(folder / "results.json", results)
    _report(folder, configs, seeds, rows, figures, outcomes.get("ceiling"))
    return results


def _jobs(
    configs: dict[str, RunConfig],
    folder: Path,
    seeds: Sequence[int],
    ceiling: bool,
    overwrite: bool,
    display: Display,
) -> dict[str, Job]:
    """The trainings by folder name, the longest first, so that the others fill the time beside it."""
    jobs = {}
    for recipe in reversed(configs):
        for seed in seeds:
            name = f"{recipe}-{seed}"
            config = replace(configs[recipe], seed=seed, output=str(folder / name))
            check_config(config)
            _check_earlier(config, overwrite)
            jobs[name] = Job(
                _train_once,
                (config, overwrite),
                folder / name / METRICS,
                config.training.steps or 0,
                display.watch(recipe if len(seeds) == 1 else f"{recipe} seed {seed}"),
            )
    if ceiling:
        config = replace(configs["demo-grad-cam"], seed=seeds[0], output=str(folder / "ceiling"))
        steps = config.training.steps or 0
        watch = display.watch("ceiling, trained on masks")
        jobs["ceiling"] = Job(_ceiling_once, (config, overwrite), folder / "ceiling" / METRICS, steps, watch)
    return jobs


def _check_earlier(config: RunConfig, overwrite: bool) -> None:
    """Refuse a folder whose run has other settings."""
    assert config.output is not None
    run = RunFolder(config.output)
    if overwrite or not (run.path / CONFIG).is_file():
        return
    stored, _ = read_config(run.config())
    same = replace(stored.data, classes=None) == replace(config.data, classes=None) and all(
        getattr(stored, key) == getattr(config, key) for key in ("model", "loss", "training", "seed")
    )
    if not same:
        raise InputError(
            f"the folder holds a run with other settings; choose another --output or add --overwrite: {run.path}"
        )


def _train_once(config: RunConfig, overwrite: bool, watch: Watch = quiet) -> dict[str, Any]:
    """Train a run, go on with it, or take it as it is."""
    assert config.output is not None
    if (Path(config.output) / CONFIG).is_file() and not overwrite:
        return resume(config.output, watch=watch)
    return train(config, overwrite=overwrite, watch=watch)


def _ceiling_once(config: RunConfig, overwrite: bool, watch: Watch = quiet) -> dict[str, Any]:
    assert config.output is not None
    run = RunFolder(config.output)
    if run.finished and not overwrite:
        return run.results()
    if overwrite:
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        (run.path / RESULTS).unlink(missing_ok=True)
    result = train_ceiling(config, run.path, SPLIT, watch=watch)
    run.write_results(result)
    return result


def _report(
    folder: Path,
    configs: dict[str, RunConfig],
    seeds: Sequence[int],
    rows: list[dict[str, Any]],
    figures: dict[tuple[str, int], dict[str, Any]],
    top: dict[str, Any] | None,
) -> None:
    first = seeds[0]
    runs = {recipe: load(folder / f"{recipe}-{first}") for recipe in configs}
    shown = [
        ReportRow(
            ROWS[recipe],
            [row for row in rows if row["recipe"] == recipe],
            [figures[recipe, seed] for seed in seeds],
            read_terms(folder / f"{recipe}-{first}" / METRICS),
        )
        for recipe in configs
    ]
    any_config = next(iter(configs.values()))
    assert any_config.data.target is not None
    dataset = open_dataset(any_config.data.target, split=SPLIT, masks=True)
    predictions = [list(predict(run.network, dataset, size=run.config.data.size)) for run in runs.values()]
    compared = Compared(list(ROWS.values()), dataset, predictions, [run.threshold for run in runs.values()])
    AblationReport(
        title="Attention Bridging on the embedded scenes",
        lead=(
            "Two classifiers, trained from the same random weights for the same number of steps with image-level labels of "
            "the target. Grad-CAM learns from the target alone; AttnBN also sees single toys in a studio with their "
            "saliency, and carries that foreground prior across. The scenes are made to mislead: a class nearly always "
            "comes with its own ground (rails, water, a road), which is enough to recognise it by. All figures are from "
            "test scenes that neither has seen."
        ),
        command="attnbn demo",
        rows=shown,
        ceiling=top,
        compared=compared,
        split=SPLIT,
    ).write(folder / "report.html")
