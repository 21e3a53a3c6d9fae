"""``attnbn check-data``: everything that is wrong with the data, found before training finds it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from attnbn.cli.options import add_json, new_file, parser, positive
from attnbn.cli.progress import bar


def main(arguments: Sequence[str]) -> None:
    """Parse, check, print; errors in the data give exit status 1."""
    options = parser("check-data", "Read every image, mask and saliency map once and list all that is wrong with them.")
    options.add_argument("data", nargs="+", metavar="KIND:PATH", help="voc:, folders:, csv: or scenes:")
    options.add_argument(
        "--saliency",
        action="append",
        default=[],
        metavar="PATH",
        help="maps of the first folders: or csv: data set; given again, of the second, and so on",
    )
    options.add_argument("--split", nargs="+", default=[], metavar="NAME", help="of voc: and scenes: (default: all)")
    options.add_argument("--classes", metavar="A,B", help="the classes (default: those of the data sets)")
    options.add_argument(
        "--class-map",
        type=class_map,
        default={},
        metavar="A=B,C=D",
        help="names in the data sets, and what they become",
    )
    add_json(options, "all findings and counts")
    options.add_argument(
        "--sheet", type=new_file, metavar="FILE.png", help="write a contact sheet: images, masks, saliency, duplicates"
    )
    options.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="threads (default: one a core)")
    given = options.parse_args(arguments)

    from attnbn.cli.check_table import check_table
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
            workers=given.workers,
            progress=progress,
        )
    result = checked.as_json()
    for line in check_table(result):
        print(line)
    if given.json:
        write_json(given.json, result)
    if given.sheet:
        write_sheet(given.sheet, checked)
    errors = checked.count("error")
    if errors:
        sys.stdout.flush()
        raise RunError(f"the data have {errors:,} error{'' if errors == 1 else 's'}; correct them before training")


def class_map(text: str) -> dict[str, str]:
    """``motorcycle=motorbike,tv=tvmonitor`` as a mapping."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(old.strip() and new.strip() for old, _, new in pairs):
        raise argparse.ArgumentTypeError(f"expected OLD=NEW,OLD=NEW, got {text}")
    return {old.strip(): new.strip() for old, _, new in pairs}
