"""``attnbn evaluate``: a finished run's maps and labels against a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbn.cli.options import add_devices, add_json, add_passes, add_run, add_skip_broken, parser, passes_of, share
from attnbn.cli.outcome import say_broken, say_unseen


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print."""
    options = parser("evaluate", "Score a run's attention maps (mIoU) and labels (mean AP) on a data set.")
    add_run(options)
    add_devices(options)
    add_skip_broken(options)
    options.add_argument("--target", required=True, metavar="KIND:PATH", help="voc:, folders:, csv: or scenes:")
    options.add_argument("--split", default="val", help="which split of it (default val)")
    options.add_argument("--threshold", type=share, help="instead of the one the run has stored")
    options.add_argument("--no-masks", action="store_true", help="score labels only, for VOC on the split of Main")
    add_passes(options)
    add_json(options, "the figures, as fractions,")
    given = options.parse_args(arguments)

    from attnbn.cli.tables import figures_table
    from attnbn.experiments.evaluate import evaluate_run
    from attnbn.io.atomic import write_json

    figures: dict[str, Any] = evaluate_run(
        given.run,
        given.target,
        given.split,
        checkpoint=given.checkpoint,
        threshold=given.threshold,
        masks=not given.no_masks,
        **passes_of(given),
        device=given.device,
        devices=given.devices,
        workers=given.workers,
        batch_size=given.batch_size,
        skip_broken=given.skip_broken,
    )
    if not figures:  # the first process speaks
        return
    say_broken(figures.pop("left_out"))
    say_unseen(figures["unseen"], given.split)
    for line in (*figures_table(figures), *_how(figures)):
        print(line)
    if given.json:
        write_json(given.json, figures)


def _how(figures: Mapping[str, Any]) -> list[str]:
    """A line on whatever makes the figures others than those of a single look."""
    parts = []
    if figures["scales"] != [1.0]:
        parts.append("scales " + " ".join(f"{scale:g}" for scale in figures["scales"]))
    if figures["flip"]:
        parts.append("mirrored too")
    if figures["layers"] != ["last"]:
        how = f" ({figures['fuse']})" if len(figures["layers"]) > 1 else ""
        parts.append(f"layers {' '.join(figures['layers'])}{how}")
    if parts and figures["threshold_split"] is not None and not figures["cross_fitted"]:
        parts.append("the threshold was chosen without")
    return [", ".join(parts)] if parts else []
