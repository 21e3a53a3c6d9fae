"""``attnbn segment predict``: masks and overlays for photographs, or for a split of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbn.cli.options import add_look, add_output, add_run, add_skip_broken, look_of, parser
from attnbn.cli.outcome import say_done, say_unfinished
from attnbn.cli.progress import bar
from attnbn.io.errors import InputError

if TYPE_CHECKING:
    from attnbn.data.dataset import ImageDataset
    from attnbn.inference.load_segmenter import TrainedSegmenter


def main(arguments: Sequence[str]) -> None:
    """Parse, segment, print."""
    options = parser(
        "segment predict", "Write masks (palette PNG) and overlays of photographs or of a data set's split."
    )
    add_run(options, "SEG", "folder of a finished segmentation run", batch_size=8)
    add_skip_broken(options)
    options.add_argument("photographs", nargs="*", metavar="PHOTO_OR_FOLDER")
    options.add_argument("--target", metavar="KIND:PATH", help="a data set in place of photographs")
    options.add_argument("--split", help="which split of it (default train)")
    options.add_argument(
        "--given-labels", action="store_true",
        help="keep to the classes that the data set's labels name: masks for a second stage of training",
    )  # fmt: skip
    add_output(options, "a folder that another run made")
    options.add_argument(
        "--probabilities", action="store_true", help="write the probabilities before the CRF too, for attnbn crf"
    )
    add_look(options)
    given = options.parse_intermixed_args(arguments)  # photographs may come after the options, and may be none
    _check(given)

    from attnbn.inference.load_segmenter import load_segmenter
    from attnbn.inference.segment_files import segment_to_files
    from attnbn.training.devices import own_device

    trained = load_segmenter(given.run, checkpoint=given.checkpoint, device=own_device(given.device))
    say_unfinished(trained.unfinished)
    with bar() as progress:
        done = segment_to_files(
            trained.network,
            _photographs(given, trained),
            given.output,
            **trained.look(**look_of(given)),
            given_labels=given.given_labels,
            probabilities=given.probabilities,
            identity=trained.identity,
            overwrite=given.overwrite,
            skip_broken=given.skip_broken,
            batch_size=given.batch_size,
            workers=given.workers,
            progress=progress,
        )
    say_done(done, "mask", given.output)


def _check(given: argparse.Namespace) -> None:
    """Photographs or a data set, and nothing that belongs to the other."""
    if bool(given.photographs) == (given.target is not None):
        came = "both" if given.photographs else "neither"
        raise InputError(f"expected photographs or --target KIND:PATH, got {came} (see attnbn segment predict --help)")
    for name in ("split", "given_labels"):
        if given.target is None and getattr(given, name):
            raise InputError(
                f"--{name.replace('_', '-')} belongs to a data set: give --target KIND:PATH in place of photographs"
            )


def _photographs(given: argparse.Namespace, trained: TrainedSegmenter) -> ImageDataset:
    from attnbn.data.open import open_dataset
    from attnbn.inference.photographs import Photographs, list_photographs

    if given.target is None:
        found = list_photographs(given.photographs, leave_out=Path(given.output))
        return Photographs(found, trained.classes)
    return open_dataset(
        given.target,
        split=given.split or "train",
        classes=trained.classes,
        class_map=trained.config.data.class_map,
        labels=given.given_labels,
    )
