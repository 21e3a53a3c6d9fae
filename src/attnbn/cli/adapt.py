"""``attnbn adapt``: Tables 6 and 7, a classifier carried from one domain to another without the other's labels."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbn.cli.options import Parser, count, parser, positive, separate
from attnbn.io.errors import InputError

if TYPE_CHECKING:
    from attnbn.adapt_config import AdaptConfig
    from attnbn.experiments.adaptation.directions import Direction

OWN = ("config", "domains", "saliency", "directions", "leave-one-out", "no-trials")
"""Options of this command alone."""

EPILOG = """\
Every setting of attnbn train is an option here too and goes to all rows (--model.weights FILE, --training.epochs 2).

  attnbn adapt --config demo-adapt --output DIR
  attnbn adapt --config five --domains C=folders:CALTECH M=folders:MSRC --model.weights WEIGHTS --seeds 0 1 2 --output DIR
  attnbn adapt --config table6 --data.source folders:SIMPLE --data.saliency MAPS --data.target voc:VOC2012 --output DIR
  attnbn adapt --config table7 --domains V=voc:VOC2007 C=folders:CALTECH101 I=folders:IMAGENET --saliency V=MAPS --output DIR

Saliency of a domain folders:PATH is looked for in PATH_saliency unless --saliency NAME=FOLDER names it. Where a recipe
has trials, each row is trained with all of them on the first seed, and the one with the lowest loss on images held out of
the source serves for all seeds; --no-trials takes the settings as they stand. No label of a target is read but to score.
Finished runs are not run again, stopped ones go on: give the same command.
"""


@dataclass(frozen=True)
class AdaptCommand:
    """What the command line asked for.

    Attributes:
        config: Settings of all runs.
        directions: From where to where.
        options: The command's own options.
    """

    config: AdaptConfig
    directions: list[Direction]
    options: Any


def parse(arguments: Sequence[str]) -> AdaptCommand:
    """The command line as settings and directions.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    own, settings = separate(arguments, OWN, "adapt")
    given = _parser().parse_args(own)

    from attnbn.adapt_config import ROWS, AdaptConfig
    from attnbn.cli.settings import cache_beside, parse_settings

    words = ["--config", given.config, *(word for setting in settings for word in setting)]
    parsed = parse_settings(AdaptConfig, words, command="adapt", description="", epilog="")
    config = parsed.config
    if config.devices > 1 or config.nodes > 1:
        raise InputError("expected --devices 1 and --nodes 1: each row trains on one device (attnbn train takes more)")
    for name in given.rows or ():
        if name not in ROWS:
            raise InputError(f"unknown row {name!r}, expected some of {' '.join(ROWS)}: --rows")
    compare = config.compare
    rows = given.rows or compare.rows
    trials = {} if given.no_trials else {row: values for row, values in compare.trials.items() if row in rows}
    data = cache_beside(config.data, config.model.freeze, parsed.given, given.output)
    config = replace(config, data=data, compare=replace(compare, rows=list(rows), trials=trials))
    given.seeds = list(dict.fromkeys(given.seeds))
    directions = _directions(config, given)
    if given.processes is None:
        drawn = all(domain.spec.startswith("scenes:") for d in directions for domain in (*d.sources, d.target))
        given.processes = min(os.cpu_count() or 1, 4) if drawn else 1
    return AdaptCommand(config, directions, given)


def _directions(config: AdaptConfig, given: Any) -> list[Direction]:
    """Those between the named domains, or the one of the settings' source and target."""
    from attnbn.experiments.adaptation.directions import (
        Direction,
        Domain,
        all_directions,
        beside,
        choose_directions,
        parse_domains,
    )

    data = config.data
    named = list(given.domains or [f"{name}={spec}" for name, spec in config.compare.domains.items()])
    if data.target is None:
        if not named:
            raise InputError(
                "expected domains: give --domains NAME=KIND:PATH NAME=KIND:PATH, or --data.source and --data.target"
            )
        domains = parse_domains(named, given.saliency or ())
        return choose_directions(all_directions(domains, given.leave_one_out), given.directions)
    if given.domains or given.directions or given.leave_one_out or given.saliency:
        raise InputError(
            "expected either --domains (with --saliency NAME=FOLDER) or --data.source and --data.target, got both"
        )
    if data.source is None:
        raise InputError("expected a source beside data.target: give --data.source KIND:PATH")
    specs = [data.source] if isinstance(data.source, str) else list(data.source)
    maps = data.saliency if isinstance(data.saliency, list) else [data.saliency] * len(specs)
    if len(maps) != len(specs):
        raise InputError(f"expected a saliency folder for each of {len(specs)} sources, got {len(maps)}: data.saliency")
    names = ["source"] if len(specs) == 1 else [f"source{place + 1}" for place in range(len(specs))]
    sources = [Domain(n, spec, saliency or beside(spec)) for n, spec, saliency in zip(names, specs, maps, strict=True)]
    return [Direction(tuple(sources), Domain("target", data.target), together="source")]


def _parser() -> Parser:
    options = parser("adapt", "Carry a classifier from one domain to another without reading the other's labels.")
    options.epilog, options.formatter_class = EPILOG, RawDescriptionHelpFormatter
    options.add_argument(
        "--config",
        required=True,
        metavar="RECIPE",
        help="table6, table7, five, animals-adapt, demo-adapt or a YAML file",
    )
    options.add_argument("--domains", nargs="+", metavar="NAME=KIND:PATH", help="the domains, each with a short name")
    options.add_argument("--saliency", nargs="+", metavar="NAME=FOLDER", help="saliency maps of domains, by name")
    options.add_argument("--directions", nargs="+", metavar="A-B", help="from where to where (default: all pairs)")
    options.add_argument(
        "--leave-one-out", action="store_true", help="all domains but one, put together, to that one; for each in turn"
    )
    options.add_argument("--rows", nargs="+", metavar="ROW", help="short names, e.g. source attnbn coral")
    options.add_argument(
        "--seeds", type=count, nargs="*", default=[0], metavar="SEED", help="trainings of each row (default 0)"
    )
    options.add_argument("--no-trials", action="store_true", help="take the settings as they stand for every row")
    options.add_argument(
        "--output", required=True, metavar="DIR", help="folder for all runs, results.json, report.html"
    )
    options.add_argument(
        "--processes",
        type=positive,
        help="trainings at a time on the CPU (default 1; on drawn scenes, which are small, the cores, at most 4)",
    )
    options.add_argument("--overwrite", action="store_true", help="start anew even if the folder holds runs")
    return options


def table(results: Mapping[str, Any]) -> list[str]:
    """A line per row, a column per direction and their mean: ours, and the paper's where it has one."""
    lines_of: dict[str, list[Mapping[str, Any]]] = {}
    for line in results["summary"]:
        lines_of.setdefault(line["row"], []).append(line)
    columns = [_direction(line) for line in next(iter(lines_of.values()))]
    width = max(len(own[0]["label"]) for own in lines_of.values())
    cell = max(14, *(len(name) for name in columns))
    header = f"{'':<{width}}  {'setting':<14}  " + "  ".join(f"{name:>{cell}}" for name in columns)
    lines = [header]
    for own in lines_of.values():
        shown = "  ".join(f"{_figure(line):>{cell}}" for line in own)
        lines.append(f"{own[0]['label']:<{width}}  {own[0]['setting']:<14}  {shown}")
    return lines


def _direction(line: Mapping[str, Any]) -> str:
    return "mean" if line["source"] == "mean" else f"{line['source']}-{line['target']}"


def _figure(line: Mapping[str, Any]) -> str:
    if line["mean"] is None:
        return "–"
    spread = "" if line["deviation"] is None else f" ± {100 * line['deviation']:.1f}"
    paper = "" if line["paper"] is None else f" ({100 * line['paper']:.0f})"
    return f"{100 * line['mean']:.1f}{spread}{paper}"


def main(arguments: Sequence[str]) -> None:
    """Parse, compare, print."""
    command = parse(arguments)

    from attnbn.cli.progress import TrainingDisplay
    from attnbn.experiments.adaptation.compare import Adaptation
    from attnbn.experiments.rows import Display

    given = command.options
    with TrainingDisplay(sys.stderr) as display:
        results = Adaptation(
            command.config,
            command.directions,
            Path(given.output),
            given.seeds,
            given.overwrite,
            given.processes,
            given.config,
            shlex.join(["attnbn", "adapt", *arguments]),
            Display(display.titled, display.say),
        ).run()
    for line in table(results):
        print(line)
    named = {"accuracy": "accuracy", "mean_ap": "mean AP"}[results["metric"]]
    paper = "; the paper's in brackets" if any(line["paper"] is not None for line in results["summary"]) else ""
    print(
        f"\n{named} on the target in per cent, mean ± deviation over seeds{paper}; no target label was read but for this"
    )
    print(f"look at {Path(given.output) / 'report.html'}")
