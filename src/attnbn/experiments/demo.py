"""The demonstration: Grad-CAM and AttnBN trained on scenes that the program draws, scored and set side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attnbn.config import RunConfig, check_config
from attnbn.data.open import open_dataset
from attnbn.experiments.ceiling import train_ceiling
from attnbn.experiments.evaluate import evaluate_run
from attnbn.experiments.train import Say, Watch, train, versions
from attnbn.inference.load import load, read_config
from attnbn.inference.predict import predict
from attnbn.io.atomic import write_json
from attnbn.io.errors import InputError
from attnbn.io.run_folder import METRICS, RunFolder
from attnbn.report.ablation import AblationReport, Compared, ReportRow, read_terms

ROWS = {"demo-grad-cam": "Grad-CAM (L_t-cl)", "demo-attnbn": "AttnBN"}
SPLIT = "test"
"""Split of the scenes that the figures are from; the threshold is chosen on another, ``dev``."""


@dataclass(frozen=True)
class Display:
    """Where the demonstration speaks.

    Attributes:
        say: Lines that stay.
        watch: Makes a progress display for a training of that title.
    """

    say: Say = lambda line: None
    watch: Callable[[str], Watch] = lambda title: lambda progress: None


def demo(
    configs: dict[str, RunConfig],
    output: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    ceiling: bool = True,
    overwrite: bool = False,
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
        display: Where to speak.

    Returns:
        ``rows`` (``recipe, seed, miou, threshold, mean_ap, seconds``), ``ceiling``, ``split``, ``versions``.

    Raises:
        InputError: for a folder that holds something else, or runs with other settings.
    """
    display = display or Display()
    folder = Path(output)
    rows: list[dict[str, Any]] = []
    figures: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in seeds:
        for recipe, config in configs.items():
            run = folder / f"{recipe}-{seed}"
            config = replace(config, seed=seed, output=str(run))
            done = _train_once(config, overwrite, display, recipe if len(seeds) == 1 else f"{recipe} seed {seed}")
            assert config.data.target is not None
            scored = evaluate_run(run, config.data.target, SPLIT, device=config.device)
            figures[recipe, seed] = scored
            row: dict[str, Any] = {"recipe": recipe, "seed": seed} | {
                key: scored[key] for key in ("miou", "threshold", "mean_ap")
            }
            rows.append(row | {"seconds": done["seconds"]})
            display.say(f"{ROWS[recipe]}: mIoU {100 * row['miou']:.1f} %, mean AP {100 * row['mean_ap']:.1f} %")
    top = None
    if ceiling:
        top = _ceiling(replace(configs["demo-grad-cam"], seed=seeds[0]), folder / "ceiling", overwrite, display)
    results = {"rows": rows, "ceiling": top, "split": SPLIT, "versions": versions()}
    write_json(folder / "results.json", results)
    display.say("drawing the report")
    _report(folder, configs, seeds, rows, figures, top)
    return results


def _train_once(config: RunConfig, overwrite: bool, display: Display, title: str) -> dict[str, Any]:
    """Train a run, go on with it, or take it as it is."""
    check_config(config)
    assert config.output is not None
    run = RunFolder(config.output)
    exists = (run.path / "config.yaml").is_file()
    if exists and not overwrite:
        stored, _ = read_config(run.config())
        if replace(stored.data, classes=None) != replace(config.data, classes=None) or any(
            getattr(stored, key) != getattr(config, key) for key in ("model", "loss", "training", "seed")
        ):
            raise InputError(
                f"the folder holds a run with other settings; choose another --output or add --overwrite: {run.path}"
            )
        if run.finished:
            display.say(f"{title}: finished already, taken from {run.path}")
    return train(config, resume=exists and not overwrite, overwrite=overwrite, watch=display.watch(title))


def _ceiling(config: RunConfig, folder: Path, overwrite: bool, display: Display) -> dict[str, Any]:
    run = RunFolder(folder)
    if run.finished and not overwrite:
        return run.results()
    result = train_ceiling(config, folder, SPLIT, watch=display.watch("ceiling"))
    display.say(f"ceiling, trained on masks: mIoU {100 * result['miou']:.1f} %")
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
            "saliency, and carries that foreground prior across. All figures are from test scenes that neither has seen."
        ),
        command="attnbn demo",
        rows=shown,
        ceiling=top,
        compared=compared,
        split=SPLIT,
    ).write(folder / "report.html")
