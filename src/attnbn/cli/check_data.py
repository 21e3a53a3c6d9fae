"""``attnbn check-data``: everything that is wrong with the data, found before training finds it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from attnbn.cli.options import Parser, add_json, new_file, parser, positive
from attnbn.cli.progress import bar


def main(arguments: Sequence[str]) -> None:
    """Parse, check, print; errors in the data give exit status 1."""
    given = _options().parse_args(arguments)

    from attnbn.cli.check_table import check_table
    from attnbn.data.check.taken import write_list
    from attnbn.experiments.check_data import check_data, write_sheet
    from attnbn.io.atomic import write_json
    from attnbn.io.errors import RunError

    with bar() as progress:
        checked = check_data(
            given.data,
            saliency=given.saliency,
            splits=given.split,
            classes=given.classes,
            class_map=given.class_map,
            source_cap=given.source_cap,
            seed=given.seed,
            workers=given.workers,
            progress=progress,
        )
    result = checked.as_json()
    for line in check_table(result):
        print(line)
    if given.json:
        write_json(given.json, result)
    if given.list:
        write_list(given.list, checked.parts)
    if given.sheet:
        write_sheet(given.sheet, checked)
    errors = checked.count("error")
    if errors:
        sys.stdout.flush()
        raise RunError(f"the data have {errors:,} error{'' if errors == 1 else 's'}; correct them before training")


def _options() -> Parser:
    options = parser("check-data", "Read every image, mask and saliency map once and list all that is wrong with them.")
    options.add_argument("data", nargs="+", metavar="KIND:PATH", help="data sets, as in the settings of a training")
    options.add_argument(
        "--saliency",
        action="append",
        default=[],
        metavar="PATH",
        help="maps of the first data set of simple images (folders:, csv:, caltech101:, caltech256:, imagenet:); given again, "
        "of the second, and so on",
    )
    options.add_argument(
        "--split", nargs="+", default=[], metavar="NAME", help="of voc:, masks: and scenes: (default: all)"
    )
    options.add_argument("--classes", metavar="A,B", help="the classes (default: those of the data sets)")
    options.add_argument(
        "--class-map",
        type=class_map,
        metavar="A=B,C=D",
        help="names in the data sets, and what they become; or the name of a table that comes with the program (voc20, five)",
    )
    options.add_argument(
        "--source-cap",
        type=positive,
        metavar="N",
        help="look at no more simple images of each class than a run with data.source_cap N takes",
    )
    options.add_argument("--seed", type=int, default=0, help="of that choice, the run's (default 0)")
    options.add_argument(
        "--list",
        type=new_file,
        metavar="FILE.csv",
        help="write the simple images that are taken, to be used as csv:FILE",
    )
    add_json(options, "all findings and counts")
    options.add_argument(
        "--sheet", type=new_png, metavar="FILE.png", help="write a contact sheet: images, masks, saliency, duplicates"
    )
    options.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="threads (default: one a core)")
    return options


def new_png(text: str) -> str:
    """A file that can be written and is named as the PNG that it will be."""
    if not text.lower().endswith(".png"):
        name = os.path.splitext(text)[0]
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, got another; write {name}.png: {text}")
    return new_file(text)


def class_map(text: str) -> dict[str, str] | str:
    """``motorcycle=motorbike,tv=tvmonitor`` as a mapping; a word without ``=`` is the name of a table."""
    if "=" not in text and "," not in text:
        return text
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(old.strip() and new.strip() for old, _, new in pairs):
        raise argparse.ArgumentTypeError(f"expected OLD=NEW,OLD=NEW, got {text}")
    return {old.strip(): new.strip() for old, _, new in pairs}
