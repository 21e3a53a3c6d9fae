"""What carries the method: every setting that the paper leaves open, varied alone.

    python benchmarks/animals/study.py run   --bench BENCH --output DIR
    python benchmarks/animals/study.py table --output DIR

Each trial is an ordinary run folder. A finished one is not run again, a stopped one goes on. ``table`` prints what is there as
Markdown and writes ``DIR/study.json``. The rows themselves, with several rates and seeds, are ``attnbn reproduce``'s.
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
from attnbn.experiments.rows import DIVERGED, DIVERGED_NOTE, Run, check_earlier, job, preflight
from attnbn.experiments.studies import BENCH, STUDIES, recipe_settings
from attnbn.io.atomic import write_json
from attnbn.io.errors import AttnbnError

STUDY = STUDIES["animals"]


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


CLASSIFIER = "joint"
"""The row in which all but the adversarial settings vary: AttnBN without L_adv, the cheaper and the steadier."""

ALONE: dict[str, dict[str, Any]] = {
    "as the recipe": {},
    "λ1 = 1": {"loss.attention": 1.0},
    "λ1 = 2 (the paper's)": {"loss.attention": 2.0},
    "λ1 = 8": {"loss.attention": 8.0},
    "other classes' maps pressed, weight 0.5": {"loss.other_classes": 0.5},
    "other classes' maps pressed, weight 2": {"loss.other_classes": 2.0},
    "background pressed, weight 1": {"loss.background": 1.0},
    "background pressed, weight 4": {"loss.background": 4.0},
    "maximum taken for a constant": {"loss.normalize": "max_detached"},
    "M as it is": {"loss.normalize": "none"},
    "sigmoid in the ReLU's place": {"loss.normalize": "sigmoid"},
    "L_cl summed over classes": {"loss.over_classes": "sum"},
    "compared at twice the maps' side": {"loss.resolution": 2},
    "head's rate that of the trunk": {"training.head_lr": 1.0},
    "head's rate 20 times": {"training.head_lr": 20.0},
    "12 epochs": {"training.epochs": 12},
    "3 epochs": {"training.epochs": 3},
    "10 % of the source": {"data.source_fraction": 0.1},
    "50 % of the source": {"data.source_fraction": 0.5},
}
"""What varies by itself in :data:`CLASSIFIER`; all else as in the recipe."""

ADVERSARIAL: dict[str, dict[str, Any]] = {
    "L_adv as the recipe": {},
    "λ_adv = 0.01": {"loss.adversarial": 1e-2},
    "λ_adv = 0.1": {"loss.adversarial": 1e-1},
    "λ_adv = 0.1, rising over 250 steps": {"loss.adversarial": 1e-1, "loss.adversarial_warmup": 250},
    "λ_adv = 0.1, discriminator 10 times slower": {"loss.adversarial": 1e-1, "training.discriminator_lr": 1e-5},
    "features up-sampled by 2 for the discriminator": {"model.upsample": 2},
    "features up-sampled by 5 (the paper's)": {"model.upsample": 5},
    "discriminator twice as wide": {"model.discriminator_width": 64},
}
"""What varies by itself in AttnBN."""


CROPS: dict[str, dict[str, Any]] = {
    "new crops each time": {"data.views": 0, "data.cache": None},
    "new crops, 224 px, 13×13 maps": {"data.size": 224, "data.views": 0, "data.cache": None},
    "new crops, 320 px, 19×19 maps": {"data.size": 320, "data.views": 0, "data.cache": None},
    "new crops, 224 px dilated, 27×27 maps": {
        "data.size": 224,
        "model.dilate": True,
        "data.views": 0,
        "data.cache": None,
    },
    "new crops, float32": {"precision": "32-true", "data.views": 0, "data.cache": None},
}
"""The same in :data:`CLASSIFIER`, of what keeps frozen layers from being computed once; the slowest, and so the last."""


def trials() -> list[Trial]:
    """One thing changed at a time."""
    return [
        Trial(f"alone-{_slug(shown)}", row, settings, shown)
        for row, group in ((CLASSIFIER, ALONE), ("attnbn", ADVERSARIAL), (CLASSIFIER, CROPS))
        for shown, settings in group.items()
    ]


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")


def configure(trial: Trial, options: argparse.Namespace) -> Run:
    """The trial's settings: its row's recipe, the bench's places, its own."""
    row = next(row for row in STUDY.rows if row.name == trial.row)
    values: dict[str, Any] = {key: f"{kind}{Path(options.bench) / place}" for key, (kind, place) in BENCH.items()}
    values |= {"data.cache": options.cache or str(Path(options.output) / "cache"), "precision": options.precision}
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
        if DIVERGED in result:
            print(f"{time.monotonic() - began:6.0f} s  {trials[place].name}: {result[DIVERGED]}", flush=True)
            return
        figures = result["selection"]
        print(
            f"{time.monotonic() - began:6.0f} s  {trials[place].name}: mIoU {100 * figures['miou']:.1f}, "
            f"labels given {100 * figures['given_labels']['miou']:.1f}, mean AP {100 * figures['mean_ap']:.1f} "
            f"({result['seconds']:.0f} s)",
            flush=True,
        )

    jobs = [job(one, False, lambda progress: None, steps, on_trial=True) for one in runs]
    run_jobs(jobs, options.processes, done)


def collect(output: Path) -> list[dict[str, Any]]:
    """The figures of every finished trial."""
    records = []
    for trial in trials():
        for path in sorted(output.glob(f"{trial.name}-*/results.json")):
            seed = path.parent.name.removeprefix(f"{trial.name}-")
            if not seed.isdigit():
                continue
            result = json.loads(path.read_text())
            figures = result["selection"]
            record = {"trial": trial.name, "row": trial.row, "shown": trial.shown, "seed": int(seed)}
            record |= {key: figures[key] for key in ("miou", "mean_ap", "iou", "ap", "threshold")}
            record["given"] = figures["given_labels"]["miou"]
            record |= {"seconds": result["seconds"], "resumed": "seconds_since_resume_at_step" in result}
            records.append(record | {"versions": result["versions"]})
        records += [
            {"trial": trial.name, "row": trial.row, "shown": trial.shown, **json.loads(path.read_text())}
            for path in sorted(output.glob(f"{trial.name}-*/{DIVERGED_NOTE}"))
        ]
    return records


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: what each change brought, against the same row as its recipe has it."""
    lines = ["| changed alone | mIoU | labels given | mean AP | seconds |", "|---|---|---|---|---|"]
    by_name = {record["trial"]: record for record in records}
    for trial in trials():
        base = by_name.get(next(other.name for other in trials() if other.row == trial.row))
        record = by_name.get(trial.name)
        if record is not None and DIVERGED in record:
            lines.append(f"| {trial.shown} | diverged | – | – | – |")
        elif record is not None and base is not None:
            cells = [_changed(record, base, key) for key in ("miou", "given", "mean_ap")]
            cells.append(f"{'> ' * record['resumed']}{record['seconds']:.0f}")  # resumed: since then alone
            lines.append(f"| {trial.shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _changed(record: Mapping[str, Any], base: Mapping[str, Any], key: str) -> str:
    value = f"{100 * record[key]:.1f}"
    return value if record is base else f"{value} ({100 * (record[key] - base[key]):+.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials, or print what they gave."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--bench", default="bench", help="folder that build.py made (default bench)")
    parser.add_argument("--output", required=True, help="folder of all trials")
    parser.add_argument("--cache", help="what frozen layers gave, perhaps from reproduce (default OUTPUT/cache)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--precision", default="bf16-mixed", help="default bf16-mixed")
    options = parser.parse_args(arguments)
    try:
        if options.what == "table":
            records = collect(Path(options.output))
            write_json(Path(options.output) / "study.json", records)
            print(table(records))
        else:
            run(trials(), options)
    except AttnbnError as error:
        print(f"study.py: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
