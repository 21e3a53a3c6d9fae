"""Keep a fifth of the bench's ``train`` apart, to measure recognition on: ``fifth.py BENCH/animals/VOC2012 --output DIR``.

``dev`` shows a cow in 6 of its photographs and a sheep in 4, too few to say how well a network knows them. A fifth of
``train``, every fifth name of its list, has some fifty of each. DIR is a folder in VOC's layout with the splits ``four``,
``fifth`` and ``dev``; photographs and masks are links to the bench's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from build import whole

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.voc_labels import read_lines
from attnbn.io.errors import AttnbnError, InputError

LINKED = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
SPLITS = {"four": lambda place: place % 5 != 0, "fifth": lambda place: place % 5 == 0}
"""Which lines of ``train``'s lists, counted from 0, each split has."""


def divide(bench: Path, output: Path) -> None:
    """Write the folder.

    Args:
        bench: The bench's ``VOC2012``.
        output: The new folder.

    Raises:
        InputError: ``bench`` lacks a part, its lists do not belong together, or ``output`` exists.
    """
    for place in LINKED:
        if not (bench / place).is_dir():
            raise InputError(f"expected the animals bench's VOC2012 with a folder {place}, got none: {bench}")
    names = read_lines(bench / "ImageSets/Main/train.txt")
    lists = {label: read_lines(bench / f"ImageSets/Main/{label}_train.txt") for label in VOC_CLASSES}
    for label, lines in lists.items():
        if [line.split()[:1] for line in lines] != [[name] for name in names]:
            raise InputError(
                f"expected the names of train.txt in their order: {bench / f'ImageSets/Main/{label}_train.txt'}"
            )
    with whole(output) as part:
        main = part / "ImageSets/Main"
        main.mkdir(parents=True)
        for place in LINKED:
            (part / place).symlink_to((bench / place).resolve(), target_is_directory=True)
        for split, has in SPLITS.items():
            for stem, lines in ({split: names} | {f"{label}_{split}": lines for label, lines in lists.items()}).items():
                own = (line for place, line in enumerate(lines) if has(place))
                (main / f"{stem}.txt").write_text("".join(f"{line}\n" for line in own))
        for file in sorted((bench / "ImageSets/Main").glob("*dev.txt")):
            (main / file.name).symlink_to(file.resolve())


def main(arguments: Sequence[str] | None = None) -> int:
    """Divide; 2 if it could not be done."""
    options = argparse.ArgumentParser(prog="fifth.py", description=(__doc__ or "").partition("\n")[0])
    options.add_argument("bench", type=Path, help="the bench's VOC2012")
    options.add_argument("--output", type=Path, required=True, help="the folder to write; it must not exist")
    given = options.parse_args(arguments)
    try:
        divide(given.bench, given.output)
    except AttnbnError as error:
        print(f"fifth.py: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
