"""``attnbn segment train``: a segmentation network from cues."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from attnbn.cli.settings import Command, parse_settings
from attnbn.segment_config import SegmentConfig

EPILOG = """\
A recipe (attnbn recipes) or YAML file given as --config sets what the options leave open; options win wherever they
stand. --print_config shows everything resolved.

  attnbn segment train --config dsrg-vgg16 --cues CUES --data.target voc:VOC2012 --output SEG
  attnbn segment train --config retrain-vgg16 --masks MASKS --data.target voc:VOC2012 --output SEG2
  attnbn segment train --resume SEG
"""


def parse(arguments: Sequence[str]) -> Command[SegmentConfig]:
    """The command line as settings.

    Raises:
        InputError: in one line, for anything that is not an option or not of its kind.
    """
    description = "Train a segmentation network by deep seeded region growing, or on the masks of an earlier stage."
    return parse_settings(SegmentConfig, arguments, command="segment train", description=description, epilog=EPILOG)


def main(arguments: Sequence[str]) -> None:
    """Parse, train, print."""
    command = parse(arguments)
    from attnbn.cli.progress import TrainingDisplay, per_cent
    from attnbn.experiments.segmentation.train import resume_segmenter, train_segmenter

    results: dict[str, Any]
    with TrainingDisplay(sys.stderr) as display:
        say, watch = display.say, display.titled("training")
        if command.resume is not None:
            results = resume_segmenter(command.resume, command.places, say=say, watch=watch)
        else:
            results = train_segmenter(
                command.config, overwrite=command.overwrite, auto_resume=command.auto_resume, say=say, watch=watch
            )
    if not results:  # not the first of several processes
        return
    print(f"run: {command.resume or command.config.output}")
    if (figures := results["selection"]) is None:
        print("no data.selection_split was given: score it with attnbn segment evaluate")
        return
    split = results["selection_split"]
    print(f"mIoU {per_cent(figures['miou'])} on {split} ({figures['images']} images, one scale, no CRF)")
