"""``attnbn segment evaluate``: a segmentation run against a data set with masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbn.cli.options import add_devices, add_json, add_look, add_run, add_skip_broken, look_of, parser
from attnbn.cli.outcome import say_broken
from attnbn.cli.progress import bar, per_cent


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print."""
    options = parser("segment evaluate", "Score a segmentation run (mIoU), with and without the CRF in one pass.")
    add_run(options, "SEG", "folder of a finished segmentation run", batch_size=8)
    add_devices(options)
    add_skip_broken(options)
    options.add_argument("--target", required=True, metavar="KIND:PATH", help="a data set with masks: voc: or scenes:")
    options.add_argument("--split", default="val", help="which split of it (default val)")
    add_look(options)
    add_json(options, "the figures, as fractions,")
    given = options.parse_args(arguments)

    from attnbn.experiments.segmentation.evaluate import evaluate_segmenter
    from attnbn.io.atomic import write_json

    with bar() as progress:
        figures = evaluate_segmenter(
            given.run,
            given.target,
            given.split,
            checkpoint=given.checkpoint,
            **look_of(given),
            device=given.device,
            devices=given.devices,
            workers=given.workers,
            batch_size=given.batch_size,
            skip_broken=given.skip_broken,
            progress=progress,
        )
    if not figures:  # the first process speaks
        return
    say_broken(figures["left_out"])
    for line in table(figures):
        print(line)
    if given.json:
        write_json(given.json, figures)


def table(figures: Mapping[str, Any]) -> list[str]:
    """A row per class, then the means and how the photographs were looked at, in per cent."""
    before = figures["before_crf"]
    width = max(map(len, figures["iou"]))
    refined = figures["crf"] is not None
    heads = ["IoU", "prec.", "recall", *(["before"] if refined else [])]
    lines = [f"{'class':<{width}}  " + "  ".join(f"{head:>7}" for head in heads)]
    for name in figures["iou"]:
        row = [figures[key][name] for key in ("iou", "precision", "recall")]
        row += [before["iou"][name]] if refined else []
        lines.append(f"{name:<{width}}  " + "  ".join(f"{per_cent(value):>7}" for value in row))
    means = f"mIoU {per_cent(figures['miou'])}"
    means += f" with the CRF, {per_cent(before['miou'])} before it" if refined else ", without CRF"
    counted, known = len(figures["mean_over"]), len(figures["iou"])
    if counted < known:
        means += f", over {counted} of {known} classes, those in the true masks"
    look = "scales " + " ".join(f"{scale:g}" for scale in figures["scales"])
    return [*lines, "", f"{means}, {figures['images']} images", look + (", mirrored too" if figures["flip"] else "")]
