"""``attnbn demo``: the paper's claim in minutes, on scenes that the program draws."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from attnbn.cli.options import Parser, count, parser, positive
from attnbn.cli.progress import TrainingDisplay, duration, per_cent


def main(arguments: Sequence[str]) -> None:
    """Parse, demonstrate, print."""
    given = _options().parse_args(arguments)

    from attnbn.cli import segment_train, train
    from attnbn.experiments.demo import ROWS, demo
    from attnbn.experiments.rows import Display

    began = time.monotonic()
    own = ["--device", given.device] + (["--training.steps", str(given.steps)] if given.steps else [])
    configs = {recipe: train.parse(["--config", recipe, *own]).config for recipe in ROWS}
    segmentation = segment_train.parse(["--config", "demo-dsrg", *own]).config
    with TrainingDisplay(sys.stderr) as display:
        results = demo(
            configs,
            given.output,
            seeds=given.seeds,
            ceiling=not given.no_ceiling,
            overwrite=given.overwrite,
            processes=given.processes,
            segmentation=segmentation if given.full else None,
            display=Display(display.titled),
        )
    for line in table(results):
        print(line)
    pages = f"{given.output}/report.html{' and masks.html' * given.full}"
    print(f"\n{duration(time.monotonic() - began)} in all; look at {pages}")


def _options() -> Parser:
    options = parser("demo", "Train Grad-CAM and AttnBN on scenes drawn by the program, and write a report.")
    options.add_argument("--output", default="attnbn-demo", metavar="DIR", help="default attnbn-demo")
    options.add_argument(
        "--seeds", type=count, nargs="+", default=[0], help="one training of each row per seed (default 0)"
    )
    options.add_argument("--steps", type=positive, help="training steps of each row, instead of the recipes'")
    options.add_argument("--no-ceiling", action="store_true", help="leave out the model trained on masks")
    options.add_argument(
        "--full", action="store_true", help="go on to localisation cues and to masks of a segmentation network"
    )
    options.add_argument("--overwrite", action="store_true", help="start anew even if the folder holds runs")
    cores = os.cpu_count() or 1
    options.add_argument(
        "--processes",
        type=positive,
        default=min(cores, 4),
        help="trainings at a time on the CPU (default: the cores, at most 4)",
    )
    options.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    return options


def table(results: Mapping[str, Any]) -> list[str]:
    """A line for each training, the ceiling's, and what became of each row's maps."""
    lines = [f"{'row':<16}  {'seed':>4}  {'mIoU':>7}  {'mean AP':>7}  threshold"]
    for row in results["rows"]:
        name, miou, mean_ap = row["recipe"].removeprefix("demo-"), per_cent(row["miou"]), per_cent(row["mean_ap"])
        lines.append(f"{name:<16}  {row['seed']:>4}  {miou:>7}  {mean_ap:>7}  {row['threshold']:.2f}")
    if results["ceiling"]:
        lines.append(f"{'trained on masks':<16}  {'':>4}  {per_cent(results['ceiling']['miou']):>7}")
    for row in results["masks"] or []:
        attention, before, after = (per_cent(row[key]) for key in ("attention", "before_crf", "miou"))
        name = row["recipe"].removeprefix("demo-")
        lines.append(f"masks of {name}: attention {attention}, segmentation {before}, with CRF {after}")
    return lines
