"""``attnbn saliency``: saliency maps for photographs, by a detector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnbn.cli.options import Parser, add_output, add_skip_broken, count, parser, positive, share
from attnbn.cli.outcome import say_done
from attnbn.cli.progress import bar

_SETTINGS = {
    "mean": "mean",
    "std": "std",
    "white": "white",
    "activation": "activation",
    "output": "output_index",
    "size": "size",
}
"""A model's settings and the options that give them."""

_NONE = "no map is doubtful by its figures, which do not tell whether it marks the right thing"


def main(arguments: Sequence[str]) -> None:
    """Parse, detect, print."""
    given = _options().parse_args(arguments)

    from attnbn.inference.saliency import write_saliency
    from attnbn.inference.saliency_sources import list_sources
    from attnbn.report.saliency import SHEET, write_sheet
    from attnbn.saliency.open import open_detector

    detector = open_detector(given.detector, threads=given.threads, device=given.device, **_settings(given))
    photographs = list_sources(given.photographs, Path(given.output))
    with bar() as progress:
        done = write_saliency(
            detector,
            photographs,
            given.output,
            scale=given.scale,
            overwrite=given.overwrite,
            skip_broken=given.skip_broken,
            batch_size=given.batch_size,
            workers=given.workers,
            progress=progress,
        )
    constant = f"; nothing stands out in {done.constant:,} of them" if done.constant else ""
    say_done(done, "saliency map", given.output, last=constant)
    if done.summary is not None:
        if given.sheet:
            write_sheet(Path(given.output), photographs, done.summary, given.detector, given.sheet)
        page = f": {Path(given.output) / SHEET}" if given.sheet else ", summary.json names them"
        doubtful = sum(map(len, done.summary.doubtful().values()))
        if doubtful or given.sheet:
            total = len(done.summary.figures)
            found = f"{doubtful:,} of {total:,} maps {'is' if doubtful == 1 else 'are'} doubtful" if doubtful else _NONE
            print(f"{found}; look before you train{page}")


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """What was said of the model, as fields of its settings; what was not said stays as it is known."""
    said = {field: getattr(given, option) for field, option in _SETTINGS.items()}
    return {
        field: tuple(value) if isinstance(value, list) else value for field, value in said.items() if value is not None
    }


class _List(argparse.Action):
    """Print the known models and where they lie, and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002  argparse's own name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from attnbn.saliency.presets import PRESETS, UNSUPERVISED, cache_folders, find_preset

        rows = [(UNSUPERVISED, "what differs from the borders; no model, no file", "built in", "MIT")]
        for preset in PRESETS.values():
            rows.append((preset.name, preset.about, str(find_preset(preset) or "not found"), preset.licence))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        for name, about, place, licence in rows:
            print(f"{name:<{widths[0]}}  {about:<{widths[1]}}  {place}  [{licence}]")
        print(f"\nlooked for in {', '.join(map(str, cache_folders()))}")
        parser.exit()


def _options() -> Parser:
    options = parser(
        "saliency",
        "Write the saliency map of each photograph, to be used as --saliency or --data.saliency, and a page to look at them.",
    )
    options.add_argument(
        "photographs",
        nargs="+",
        metavar="PATH",
        help="photographs, folders, or data sets (voc:PATH, folders:PATH, csv:FILE and others)",
    )
    options.add_argument(
        "--detector",
        required=True,
        metavar="NAME",
        help="unsupervised (needs no file), a known model (e.g. u2netp; see --list), or onnx:FILE",
    )
    options.add_argument("--list", action=_List, help="list the known models, where each lies and its licence, and end")
    add_output(options, "a folder that another detector made")
    options.add_argument(
        "--scale", type=share, default=1.0, help="width and height of a map, as a share of its photograph's (default 1)"
    )
    options.add_argument(
        "--sheet", type=count, default=48, metavar="N",
        help="photographs on the page DIR/saliency.html, doubtful ones first (default 48; 0: no page)",
    )  # fmt: skip
    _add_model(options)
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--threads", type=positive, help="that compute (default: as many as torch uses)")
    options.add_argument(
        "--workers", type=positive, default=2,
        help="threads that read and write; of unsupervised, processes (default 2)",
    )  # fmt: skip
    options.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        help="photographs a forward pass, if the model takes several (default 1)",
    )
    add_skip_broken(options)
    return options


def _add_model(to: Parser) -> None:
    """What the file of an unknown model does not say."""
    group: argparse._ArgumentGroup = to.add_argument_group(
        "models that --list does not name (default: as U²-Net; of those that it names: as they were trained)"
    )
    group.add_argument("--mean", type=float, nargs=3, metavar="M", help="of the channels (ImageNet's)")
    group.add_argument("--std", type=float, nargs=3, metavar="S", help="of the channels (ImageNet's)")
    group.add_argument(
        "--white",
        choices=("max", "255"),
        help="what pixels are divided by first: the photograph's largest value (max), or 255",
    )
    group.add_argument("--activation", choices=("none", "sigmoid"), help="of the output (none)")
    group.add_argument("--output-index", type=int, metavar="N", help="which output is the map (0)")
    group.add_argument("--size", type=positive, help="of the input, for models that take any (320)")
