"""``attnbn submit``: a run's masks, or a classifier's scores, packed for VOC's evaluation server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from attnbn.cli.options import Parser, add_look, add_run, look_of, parser, share
from attnbn.cli.progress import bar
from attnbn.io.errors import InputError

COMPETITIONS = {"segmentation": ("comp5", "comp6"), "classification": ("comp1", "comp2")}
"""Of each task: trained on VOC's own train and val alone, and on anything else too."""


def main(arguments: Sequence[str]) -> None:
    """Parse, compute, pack, print."""
    given = _options().parse_args(arguments)
    _check(given)

    from attnbn.experiments.segmentation.submit import submit
    from attnbn.experiments.submit_scores import submit_scores

    common: dict[str, Any] = {
        "split": given.split,
        "competition": given.competition or COMPETITIONS[given.task][1],
        "checkpoint": given.checkpoint,
        "device": given.device,
        "workers": given.workers,
        "batch_size": given.batch_size,
    }
    with bar() as progress:
        common["progress"] = progress
        if given.task == "classification":
            look = {"scales": given.scales, "flip": given.flip}
            made = submit_scores(given.run, given.target, given.output, **look, **common)
            what, files = "photographs' scores", f"{common['competition']}_cls_{given.split}_CLASS.txt"
        else:
            look = look_of(given)
            made = submit(given.run, given.target, given.output, threshold=given.threshold, **look, **common)
            what, files = "masks", "NAME.png"
    for line in made.notes:
        print(line)
    already = f" ({made.resumed:,} of them were there already)" if made.resumed else ""
    print(f"{made.images:,} {what}{already} packed as {made.folder}/{files}: {made.path}")


def _check(given: argparse.Namespace) -> None:
    """A competition of the task, and nothing that belongs to the other."""
    known = COMPETITIONS[given.task]
    if given.competition not in (None, *known):
        raise InputError(f"expected --competition {' or '.join(known)} for {given.task}, got {given.competition}")
    if given.task == "classification" and (given.no_crf or given.threshold is not None):
        wrong = "--no-crf" if given.no_crf else "--threshold"
        raise InputError(f"{wrong} is for masks, of which --task classification sends none: leave it out")


def _options() -> Parser:
    options = parser(
        "submit",
        "Pack what VOC's evaluation server takes: a run's masks, of attention maps or of a segmentation, or a classifier's "
        "scores.",
    )
    text = "folder of a finished run: a classifier's or a segmentation's"
    add_run(options, "RUN_OR_SEG", text, batch_size=8)
    options.add_argument(
        "--task", choices=tuple(COMPETITIONS), default="segmentation",
        help="segmentation (default): masks; classification: scores of a run on VOC's 20 classes",
    )  # fmt: skip
    options.add_argument("--target", required=True, metavar="voc:PATH", help="VOC's photographs and ImageSets")
    options.add_argument(
        "--split", default="test", help="a list of ImageSets/Segmentation, or of Main for classification (default test)"
    )
    options.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the archive: .tar, .tar.gz or .tgz; stopped work goes on beside it",
    )
    options.add_argument(
        "--competition", choices=sorted(sum(COMPETITIONS.values(), ())), metavar="compN",
        help="comp5, for classification comp1: trained on VOC's own train and val alone; comp6 or comp2 (default): anything "
        "else too, such as ImageNet weights",
    )  # fmt: skip
    options.add_argument("--threshold", type=share, help="of attention maps, instead of the one the run has stored")
    add_look(options)
    return options
