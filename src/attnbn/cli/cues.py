"""``attnbn cues``: a run's attention, and saliency, to the cues that a segmentation network learns from."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from attnbn.cli.options import add_output, add_passes, add_run, add_skip_broken, parser, passes_of, positive
from attnbn.cli.outcome import say_done
from attnbn.cli.progress import bar, per_cent

SHOWN = 20
"""Photographs without a seed that are named; the report's JSON names all."""


def main(arguments: Sequence[str]) -> None:
    """Parse, make cues, print."""
    options = parser(
        "cues",
        "Write localisation cues for a segmentation network: foreground from the attention of each photograph's labelled "
        "classes, background from saliency (without it, from low attention), and a report on them.",
    )
    add_run(options)
    add_skip_broken(options)
    options.add_argument("--target", required=True, metavar="KIND:PATH", help="voc:, folders:, csv: or scenes:")
    options.add_argument("--split", default="train", help="which split of it (default train)")
    options.add_argument(
        "--saliency", metavar="PATH_OR_DETECTOR",
        help="where the background comes from: a folder of maps, unsupervised, a known model (attnbn saliency --list), or "
        "onnx:FILE (default: where all attention is low)",
    )  # fmt: skip
    add_output(options, "a folder of other cues", "CUES")
    _add_settings(options)
    add_passes(options)
    given = options.parse_args(arguments)

    from attnbn.experiments.segmentation.cues import CueSettings, write_cues

    with bar() as progress:
        made = write_cues(
            given.run,
            given.target,
            given.split,
            given.output,
            saliency=given.saliency,
            settings=CueSettings(
                _grid(given.grid), given.foreground, given.background, given.background_attention, given.conflict,
                given.against_background,
            ),
            checkpoint=given.checkpoint,
            **passes_of(given),
            device=given.device,
            workers=given.workers,
            batch_size=given.batch_size,
            skip_broken=given.skip_broken,
            overwrite=given.overwrite,
            progress=progress,
        )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":  # they are the same in all processes
        print(*made.notes, sep="\n")
    say_done(made, "photograph", given.output, first="cues of ")
    if made.report is None:
        print("whichever process ends last gathers all; what a stopped one has left the same command does again")
        return
    for line in cue_table(made.report):
        print(line)


def _add_settings(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--grid", type=positive, nargs="+", default=[41], metavar="H",
        help="rows and columns of the cues, those of the segmentation network's output (one number: a square; default 41)",
    )  # fmt: skip
    to.add_argument(
        "--foreground", type=float, default=0.2, help="share of a map's maximum above which it is a cue (default 0.2)"
    )
    to.add_argument(
        "--background", type=float, default=0.06, help="saliency below which it is background (default 0.06)"
    )
    to.add_argument(
        "--background-attention", type=float, default=0.05,
        help="without saliency: share of every map's maximum below which it is background (default 0.05)",
    )  # fmt: skip
    to.add_argument(
        "--conflict", choices=("smaller", "ignore", "both"), default="smaller",
        help="where two classes claim a cell: the smaller one has it (default), none has it, or both have it",
    )  # fmt: skip
    to.add_argument(
        "--against-background", choices=("unknown", "foreground", "background"), default="unknown",
        help="where a class and the background claim a cell: none has it (default), or the one named",
    )  # fmt: skip


def _grid(values: Sequence[int]) -> tuple[int, int]:
    """Rows and columns from one number or two."""
    if len(values) > 2:
        from attnbn.io.errors import InputError

        raise InputError(f"expected --grid as one number or as rows and columns, got {' '.join(map(str, values))}")
    return values[0], values[-1]


def cue_table(report: Mapping[str, Any]) -> list[str]:
    """The report's figures: a row per class, the whole, and the photographs of which a class has no seed."""
    classes: Mapping[str, Mapping[str, Any]] = report["classes"]
    known = report["masks"] > 0
    width = max(map(len, classes))
    head = f"{'class':<{width}}  {'images':>7}  {'seeded':>7}  {'coverage':>8}"
    lines = [head + (f"  {'prec.':>7}  {'recall':>7}" if known else "")]
    for name, row in classes.items():
        cells = f"{name:<{width}}  {row['images']:>7,}  {row['seeded']:>7,}  {per_cent(row['coverage']):>8}"
        if known:
            cells += f"  {per_cent(row['precision']):>7}  {per_cent(row['recall']):>7}"
        lines.append(cells)
    lines += ["", f"{per_cent(report['coverage'])} of all cells carry a cue, {report['images']:,} photographs"]
    if known:
        lines.append(
            f"mIoU {per_cent(report['miou'])} where a cue is known, on {report['masks']:,} photographs with masks; it alone "
            "does not predict what a network learns from the cues"
        )
    else:
        lines.append("precision and recall –: no photograph has a mask")
    without = report["without_seed"]
    if without:
        lines.append(
            f"{len(without):,} photograph{'' if len(without) == 1 else 's'} without a seed of a labelled class:"
        )
        lines += [f"  {one['name']} ({', '.join(one['classes'])})" for one in without[:SHOWN]]
        lines += [f"  ... and {len(without) - SHOWN:,} more, all in report.json"] if len(without) > SHOWN else []
    return lines
