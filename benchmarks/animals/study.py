"""What carries the method: every setting that the paper leaves open, varied alone, and the same grid for every row.

    python benchmarks/animals/study.py grid  --bench BENCH --output DIR
    python benchmarks/animals/study.py alone --bench BENCH --output DIR
    python benchmarks/animals/study.py table --output DIR

Each trial is an ordinary run folder. A finished one is not run again, a stopped one goes on. ``table`` prints what is there as
Markdown and writes ``DIR/study.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attnbn.config import RunConfig, check_config
from attnbn.experiments.parallel import run_jobs
from attnbn.experiments.rows import Run, check_earlier, job, preflight
from attnbn.experiments.studies import BENCH, STUDIES, recipe_settings
from attnbn.io.atomic import write_json

STUDY = STUDIES["animals"]
GRID = ((2e-3, 6), (5e-3, 6), (1e-2, 6), (5e-3, 3))
"""Learning rate and epochs of the trials that every row gets."""


@dataclass(frozen=True)
class Trial:
    """A row with settings of its own.

    Attributes:
        name: Its folder.
        row: Short name of the row.
        settings: By their names on the command line.
        shown: What it varies, for the table.
    """

    name: str
    row: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""


def grid() -> list[Trial]:
    """Every row with every rate and length."""
    return [
        Trial(
            f"grid-{row.name}-{rate:g}-{epochs}",
            row.name,
            {"training.lr": rate, "training.epochs": epochs},
            f"lr {rate:g}, {epochs} epochs",
        )
        for rate, epochs in GRID
        for row in STUDY.rows
    ]


ALONE: dict[str, dict[str, Any]] = {
    "as the recipe": {},
    "maximum taken for a constant": {"loss.normalize": "max_detached"},
    "M as it is": {"loss.normalize": "none"},
    "sigmoid in the ReLU's place": {"loss.normalize": "sigmoid"},
    "L_cl summed over classes": {"loss.over_classes": "sum"},
    "λ1 = 0.5": {"loss.attention": 0.5},
    "λ1 = 1": {"loss.attention": 1.0},
    "λ1 = 4": {"loss.attention": 4.0},
    "λ1 = 8": {"loss.attention": 8.0},
    "λ_adv = 0": {"loss.adversarial": 0.0},
    "λ_adv = 0.01": {"loss.adversarial": 1e-2},
    "λ_adv = 0.1": {"loss.adversarial": 1e-1},
    "λ_adv = 0.01, rising over 250 steps": {"loss.adversarial": 1e-2, "loss.adversarial_warmup": 250},
    "discriminator 10 times slower, λ_adv = 0.01": {"loss.adversarial": 1e-2, "training.discriminator_lr": 1e-5},
    "features not up-sampled for the discriminator": {"model.upsample": 1},
    "features up-sampled by 5 for the discriminator": {"model.upsample": 5},
    "discriminator twice as wide": {"model.discriminator_width": 64},
    "head's rate that of the trunk": {"training.head_lr": 1.0},
    "head's rate 10 times": {"training.head_lr": 10.0},
    "other classes' maps pressed, weight 0.5": {"loss.other_classes": 0.5},
    "other classes' maps pressed, weight 2": {"loss.other_classes": 2.0},
    "compared at twice the maps' side": {"loss.resolution": 2},
    "weight decay 5e-3": {"training.weight_decay": 5e-3},
    "10 % of the source": {"data.source_fraction": 0.1},
    "50 % of the source": {"data.source_fraction": 0.5},
    "4 fixed views": {"data.views": 4},
    "new crops each time": {"data.views": 0, "data.cache": None},
    "float32, new crops each time": {"precision": "32-true", "data.views": 0, "data.cache": None},
    "224 px, 13×13 maps, new crops": {"data.size": 224, "data.views": 0, "data.cache": None},
    "320 px, 19×19 maps, new crops": {"data.size": 320, "data.views": 0, "data.cache": None},
    "224 px dilated, 27×27 maps, new crops": {
        "data.size": 224,
        "model.dilate": True,
        "data.views": 0,
        "data.cache": None,
    },
}
"""What varies by itself, in AttnBN; all else as in the recipe."""


def alone() -> list[Trial]:
    """AttnBN with one thing changed at a time."""
    return [Trial(f"alone-{_slug(shown)}", "attnbn", settings, shown) for shown, settings in ALONE.items()]


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")


def configure(trial: Trial, options: argparse.Namespace) -> Run:
    """The trial's settings: its row's recipe, the bench's places, its own."""
    row = next(row for row in STUDY.rows if row.name == trial.row)
    values: dict[str, Any] = {key: f"{kind}{Path(options.bench) / place}" for key, (kind, place) in BENCH.items()}
    values |= {"data.cache": str(Path(options.output) / "cache"), "precision": options.precision}
    values |= dict(trial.settings)
    config: RunConfig = recipe_settings(row)
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        change = {key: value}
        config = replace(config, **({section: replace(getattr(config, section), **change)} if section else change))
    folder = Path(options.output) / f"{trial.name}-{options.seed}"
    config = replace(config, seed=options.seed, output=str(folder), device="cpu")
    check_config(config)
    return Run(trial.row, options.seed, config)


def run(trials: Sequence[Trial], options: argparse.Namespace) -> None:
    """Train what is not yet trained, saying what is done."""
    runs = [configure(trial, options) for trial in trials]
    for one in runs:
        check_earlier(one, overwrite=False)
    steps = preflight(runs[0])
    began = time.monotonic()

    def done(place: int, result: dict[str, Any]) -> None:
        figures = result["selection"]
        print(
            f"{time.monotonic() - began:6.0f} s  {trials[place].name}: mIoU {100 * figures['miou']:.1f}, "
            f"labels given {100 * figures['given_labels']['miou']:.1f}, mean AP {100 * figures['mean_ap']:.1f} "
            f"({result['seconds']:.0f} s)",
            flush=True,
        )

    jobs = [job(one, False, lambda progress: None, steps) for one in runs]
    run_jobs(jobs, options.processes, done)


def collect(output: Path) -> list[dict[str, Any]]:
    """The figures of every finished trial."""
    records = []
    for trial in [*grid(), *alone()]:
        for path in sorted(output.glob(f"{trial.name}-*/results.json")):
            seed = path.parent.name.removeprefix(f"{trial.name}-")
            if not seed.isdigit():
                continue
            result = json.loads(path.read_text())
            figures = result["selection"]
            record = {"trial": trial.name, "row": trial.row, "shown": trial.shown, "seed": int(seed)}
            record |= {key: figures[key] for key in ("miou", "mean_ap", "iou", "ap", "threshold")}
            record["given"] = figures["given_labels"]["miou"]
            records.append(record | {"seconds": result["seconds"], "versions": result["versions"]})
    return records


def tables(records: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the grid with the best of each row marked, then what was varied alone."""
    lines = ["| row | " + " | ".join(f"lr {rate:g}, {epochs} epochs" for rate, epochs in GRID) + " |"]
    lines.append("|---" * (1 + len(GRID)) + "|")
    by_name = {record["trial"]: record for record in records}
    for row in STUDY.rows:
        found = [by_name.get(t.name) for t in grid() if t.row == row.name]
        best = max((r["miou"] for r in found if r), default=None)
        lines.append(f"| {row.label} | " + " | ".join(_cell(record, best) for record in found) + " |")
    lines += ["", "| AttnBN with | mIoU | labels given | mean AP | seconds |", "|---|---|---|---|---|"]
    base = by_name.get(alone()[0].name)
    for trial in alone():
        if (record := by_name.get(trial.name)) is not None and base is not None:
            cells = [_changed(record, base, key) for key in ("miou", "given")]
            cells += [f"{100 * record['mean_ap']:.1f}", f"{record['seconds']:.0f}"]
            lines.append(f"| {trial.shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _changed(record: Mapping[str, Any], base: Mapping[str, Any], key: str) -> str:
    return f"{100 * record[key]:.1f} ({100 * (record[key] - base[key]):+.1f})"


def _cell(record: Mapping[str, Any] | None, best: float | None) -> str:
    if record is None:
        return "–"
    text = " / ".join(f"{100 * record[key]:.1f}" for key in ("miou", "given", "mean_ap"))
    return f"**{text}**" if record["miou"] == best else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials, or print what they gave."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("grid", "alone", "table"))
    parser.add_argument("--bench", default="bench", help="folder that build.py made (default bench)")
    parser.add_argument("--output", required=True, help="folder of all trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--precision", default="bf16-mixed", help="default bf16-mixed")
    options = parser.parse_args(arguments)
    if options.what == "table":
        records = collect(Path(options.output))
        write_json(Path(options.output) / "study.json", records)
        print(tables(records))
    else:
        run(grid() if options.what == "grid" else alone(), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
