"""``attnbn reproduce``: a table of the paper, row by row and seed by seed, with the paper's values beside ours."""

from __future__ import annotations

import shlex
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbn.cli.options import Parser, count, parser, positive, separate
from attnbn.cli.outcome import say_unseen
from attnbn.experiments.studies import BENCH, BENCH_DETECTOR, STUDIES, Study, StudyRow, as_row
from attnbn.io.errors import InputError

if TYPE_CHECKING:
    from attnbn.config import RunConfig
    from attnbn.segment_config import SegmentConfig

OWN = ("bench", "split", "target-saliency")
"""Options of this command alone."""

SEGMENT = "segment."
"""Before the settings of ``attnbn segment train``."""

EPILOG = """\
Every setting of attnbn train is an option here too and goes to all rows (--loss.attention 4, --training.epochs 2,
--device cuda, --config mine.yaml). A term that a row leaves out stays out, whatever weight is given to it.

  attnbn reproduce animals --bench BENCH --seeds 0 1 2 --output DIR
  attnbn reproduce animals --bench BENCH --rows grad-cam attnbn --output DIR
  attnbn reproduce animals-table3 --bench BENCH --output DIR
  attnbn reproduce table1 --data.source folders:SIMPLE --data.saliency MAPS --data.target voc:VOC2012 --output DIR

Finished runs are not run again, stopped ones go on: give the same command. results.json and report.html in DIR are
written anew after each run. Each of several --processes has its own network, data and loader: about 1.3 GB for
the animals, so leave memory for all of them. DIR/cache holds what frozen layers gave (4.2 GB for the animals), shared by
all rows and seeds; delete it when all is done.

Studies of Table 3 go on from attention to masks: --target-saliency is a folder of saliency maps of the target's photographs
or a detector (unsupervised, a name of attnbn saliency --list, onnx:FILE), --segment.SETTING a setting of attnbn segment train
for all rows. They write masks.json and masks.html too.
"""


@dataclass(frozen=True)
class ReproduceCommand:
    """What the command line asked for.

    Attributes:
        study: What to compare.
        rows: Those of its rows that are wanted.
        configs: The settings of each, by its short name.
        options: The command's own options.
        segmentations: Settings of each row's segmentation, where the study goes on to masks.
        saliency: Of the target's photographs, there.
    """

    study: Study
    rows: list[StudyRow]
    configs: dict[str, RunConfig]
    options: Any
    segmentations: dict[str, SegmentConfig]
    saliency: str | None


def parse(arguments: Sequence[str]) -> ReproduceCommand:
    """The command line as settings for every row.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    own, settings, segment = _separate(arguments)
    given = _parser().parse_args(own)
    study = STUDIES[given.study]
    rows = study.choose(given.rows)
    masks = any(row.masks for row in rows)
    if not masks and (segment or given.target_saliency):
        raise InputError(f"--target-saliency and --segment settings are for Table 3, {given.study} makes no masks")
    words = _bench(study, given.bench, settings) + settings

    from attnbn.cli import train
    from attnbn.cli.settings import cache_beside

    configs = {}
    for row in rows:
        try:
            parsed = train.parse(["--config", row.recipe, *words])
            config = parsed.config
        except InputError as error:
            raise InputError(str(error).replace("attnbn train --help", "attnbn reproduce --help")) from error
        if config.devices > 1 or config.nodes > 1:
            raise InputError(
                "expected --devices 1 and --nodes 1: each row trains on one device (attnbn train takes more)"
            )
        config = as_row(study, row, config)
        data = cache_beside(config.data, config.model.freeze, parsed.given, given.output)
        configs[row.name] = replace(config, data=data)
    given.seeds = list(dict.fromkeys(given.seeds))
    segmentations, saliency = _masks(rows, given, segment) if masks else ({}, None)
    return ReproduceCommand(study, rows, configs, given, segmentations, saliency)


def _masks(rows: Sequence[StudyRow], given: Any, words: list[str]) -> tuple[dict[str, SegmentConfig], str | None]:
    """Settings of each row's segmentation, and where the target's saliency is."""
    from attnbn.cli import segment_train

    saliency: str | None = given.target_saliency
    if given.bench is not None:
        saliency = saliency or f"onnx:{Path(given.bench) / BENCH_DETECTOR}"
    configs = {}
    for row in rows:
        assert row.masks is not None
        try:
            config = segment_train.parse(["--config", row.masks[0], *words]).config
        except InputError as error:
            text = str(error).replace("attnbn segment train --help", "attnbn reproduce --help")
            raise InputError(text.replace("--", "--segment.", 1)) from error
        configs[row.name] = config
    return configs, saliency


def _parser() -> Parser:
    options = parser("reproduce", "Reproduce a table of the paper: all its rows, with the paper's values beside ours.")
    options.epilog, options.formatter_class = EPILOG, RawDescriptionHelpFormatter
    options.add_argument("study", choices=list(STUDIES), metavar="STUDY", help=f"one of {', '.join(STUDIES)}")
    options.add_argument(
        "--bench", metavar="DIR", help="folder of the animals and their weights, for the animals studies"
    )
    options.add_argument(
        "--target-saliency",
        metavar="PATH_OR_DETECTOR",
        help="for Table 3: a folder of the target's saliency maps, or a detector",
    )
    options.add_argument("--rows", nargs="+", metavar="ROW", help="short names, e.g. grad-cam attnbn (default all)")
    options.add_argument(
        "--seeds", type=count, nargs="+", default=[0], metavar="SEED", help="trainings of each row (default 0)"
    )
    options.add_argument(
        "--output", required=True, metavar="DIR", help="folder for all runs, results.json, report.html"
    )
    options.add_argument(
        "--split", help="score this split of the target, at the thresholds chosen on the selection split"
    )
    options.add_argument("--processes", type=positive, default=1, help="trainings at a time on the CPU (default 1)")
    options.add_argument("--overwrite", action="store_true", help="start anew even if the folder holds runs")
    return options


def _separate(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The command's own words, and those of the settings of both kinds."""
    own, settings = separate(arguments, OWN, "reproduce")
    bridge = [word for words in settings if not words[0].startswith(f"--{SEGMENT}") for word in words]
    segment = [words for words in settings if words[0].startswith(f"--{SEGMENT}")]
    return own, bridge, [word.replace(f"--{SEGMENT}", "--", 1) for words in segment for word in words]


def _bench(study: Study, bench: str | None, settings: Sequence[str]) -> list[str]:
    """What ``--bench`` sets, but for what the settings set themselves."""
    if bench is None:
        return []
    if not study.bench:
        raise InputError(
            f"--bench is for the animals; for {study.name} give --data.source, --data.saliency, --data.target"
        )
    named = {word.removeprefix("--").partition("=")[0] for word in settings if word.startswith("--")}
    wanted = {key: (prefix, Path(bench) / place) for key, (prefix, place) in BENCH.items() if key not in named}
    missing = [f"{path} (or give --{key})" for key, (_, path) in wanted.items() if not path.expanduser().exists()]
    if missing:
        raise InputError(f"expected the bench's data and weights, found no {', no '.join(missing)}: --bench {bench}")
    return [word for key, (prefix, path) in wanted.items() for word in (f"--{key}", f"{prefix}{path}")]


def table(rows: Sequence[StudyRow], results: Mapping[str, Any]) -> list[str]:
    """A line per row: the paper's mIoU, ours, the gain, with labels given, mean AP, threshold, seconds; then each class."""
    width = max(len(row.label) for row in rows)
    lines = [
        f"{'':<{width}}  {'paper':>6}  {'mIoU':>12}  {'gain':>6}  {'labels given':>12}  {'mean AP':>12}  "
        f"{'threshold':<{_wide(results)}}  seconds"
    ]
    published = {row.name: row.published for row in rows}
    for line in results["summary"]:
        own = [entry for entry in results["rows"] if entry["row"] == line["row"]]
        gain = "–" if line["gain"] is None else f"{100 * line['gain']:+.1f}"
        seconds = sum(entry["seconds"] for entry in own) / len(own)
        resumed = "> " * any("seconds_since_resume_at_step" in entry for entry in own)
        lines.append(
            f"{line['label']:<{width}}  {100 * published[line['row']]:>6.1f}  {_spread(line['miou']):>12}  {gain:>6}  "
            f"{_spread(line['given_labels']):>12}  {_spread(line['mean_ap']):>12}  "
            f"{_thresholds(own):<{_wide(results)}}  {resumed}{seconds:.0f}"
        )
    names = list(dict.fromkeys(name for line in results["summary"] for name in line["iou"]))
    if names:
        lines += ["", f"{'IoU':<{width}}  " + "  ".join(f"{name[:6]:>6}" for name in names)]
    for line in results["summary"]:
        if names:
            lines.append(
                f"{line['label']:<{width}}  " + "  ".join(f"{_percent(line['iou'].get(name)):>6}" for name in names)
            )
    return lines


def mask_table(results: Mapping[str, Any]) -> list[str]:
    """A line per row and seed: mIoU of the attention, of the masks before and after the CRF, and the paper's."""
    width = max(len(row["label"]) for row in results["rows"])
    lines = [f"{'masks':<{width}}  {'paper':>6}  seed  attention  before CRF  after CRF"]
    for row in results["rows"]:
        figures = [row["attention"]["miou"], row["before_crf"]["miou"], row["miou"]]
        shown = "  ".join(f"{_percent(v):>{w}}" for v, w in zip(figures, (9, 10, 9), strict=True))
        lines.append(f"{row['label']:<{width}}  {_percent(row['published']):>6}  {row['seed']:>4}  {shown}")
    return lines


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _spread(figure: Mapping[str, float | None]) -> str:
    return _percent(figure["mean"]) + ("" if figure["sd"] is None else f" ± {_percent(figure['sd'])}")


def _thresholds(entries: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join("–" if entry["threshold"] is None else f"{entry['threshold']:.2f}" for entry in entries)


def _wide(results: Mapping[str, Any]) -> int:
    """Room for a row's thresholds, one per seed."""
    seeds = max((int(line["n"]) for line in results["summary"]), default=0)
    return max(len("threshold"), len("0.00, ") * seeds - 2)


def main(arguments: Sequence[str]) -> None:
    """Parse, reproduce, print."""
    command = parse(arguments)
    if command.study.bench and any(config.data.target is None for config in command.configs.values()):
        raise InputError(
            f"expected the animals' folder (benchmarks/animals builds it) for {command.study.name}: give --bench DIR"
        )

    from attnbn.cli.progress import TrainingDisplay
    from attnbn.experiments.reproduce import Reproduction
    from attnbn.experiments.rows import Display

    given = command.options
    masks: dict[str, Any] | None = None
    with TrainingDisplay(sys.stderr) as display:
        classifiers = Reproduction(
            command.study,
            command.rows,
            command.configs,
            Path(given.output),
            given.seeds,
            given.split,
            given.overwrite,
            given.processes,
            shlex.join(["attnbn", "reproduce", *arguments]),
            Display(display.titled, display.say),
        )
        if command.segmentations:
            from attnbn.experiments.segmentation.table3 import MaskReproduction

            masks = MaskReproduction(classifiers, command.segmentations, command.saliency).run()
        else:
            classifiers.run()
    results = classifiers.results
    for line in table(command.rows, results):
        print(line)
    chosen = {entry["threshold_split"] for entry in results["rows"]} - {None}
    fitted = " (cross-fitted)" if all(entry["cross_fitted"] for entry in results["rows"]) else ""
    print(
        f"\nmIoU in per cent on {results['split']}{fitted}; thresholds chosen on {', '.join(sorted(chosen)) or 'no split'}"
    )
    unseen = {name: None for entry in results["rows"] for name in entry["unseen"] or ()}
    say_unseen(tuple(unseen), results["split"])
    for line in [] if masks is None else ["", *mask_table(masks)]:
        print(line)
    print(f"look at {Path(given.output) / ('report.html' if masks is None else 'masks.html')}")
