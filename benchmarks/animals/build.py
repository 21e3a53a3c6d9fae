"""Build the small bench of animals from VOC 2012, SBD and Animal-Pose.

``build.py --voc VOC2012 --sbd SBD --animal-pose POSE --output DIR [--saliency-model u2netp.onnx]``; what it
consists of and where the data sets are to be had stands in README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from composition import ANIMALS, LISTS, MASKED, Composition, read_composition
from originals import Originals, find_originals, read_labels, read_original_mask
from pictures import scaled_mask, size_of, source_photograph, target_photograph, working_copy
from u2net import Detector
from verify import report

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import write_mask
from attnbn.io.atomic import explained
from attnbn.io.errors import AttnbnError, InputError

PLAIN_SECONDS = 20.0
"""Between two lines of progress where the output is no terminal."""
Item = TypeVar("Item")


def counted(items: Collection[Item], what: str) -> Iterator[Item]:
    """The items, with a line of progress on stderr."""
    live, shown = sys.stderr.isatty(), time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done == len(items) or time.monotonic() - shown >= (0.1 if live else PLAIN_SECONDS):
            shown = time.monotonic()
            end = "\n" if done == len(items) or not live else ""
            print(f"{chr(13) if live else ''}{what} {done:,}/{len(items):,}", end=end, file=sys.stderr, flush=True)


@contextlib.contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A folder that takes the name ``output`` when the block ends well, and is gone when it does not.

    Raises:
        InputError: ``output`` exists.
    """
    if output.exists():
        raise InputError(f"expected a new folder to write, found one in place; remove it or choose another: {output}")
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    with explained(output):
        part.mkdir(parents=True)
    try:
        with explained(output):
            yield part
            part.rename(output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def build(originals: Originals, composition: Composition, detector: Detector | None, output: Path) -> None:
    """Write the whole bench.

    Args:
        originals: Where its parts come from.
        composition: What it consists of.
        detector: Of the source's saliency; None: no maps are written.
        output: A folder that does not exist yet.

    Raises:
        InputError: An original is damaged, or ``output`` exists.
        RunError: It cannot be written.
    """
    with whole(output) as folder:
        write_target(originals, composition, folder / "VOC2012")
        write_lists(originals, composition, folder / "VOC2012" / "ImageSets")
        write_source(originals, composition, detector, folder)


def write_target(originals: Originals, composition: Composition, root: Path) -> None:
    """Photographs of all splits and masks of the one that has them."""
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    masked = frozenset(composition.splits[MASKED])
    for name in counted(composition.targets, "target photographs"):
        original = originals.photographs[name]
        jpeg = target_photograph(original)
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg)
        if name in masked:
            ids = read_original_mask(originals.masks[name], size_of(original.read_bytes())[::-1])
            mask = torch.from_numpy(scaled_mask(ids, size_of(jpeg)).copy())
            write_mask(root / "SegmentationClass" / f"{name}.png", mask)


def write_lists(originals: Originals, composition: Composition, sets: Path) -> None:
    """Names of each split and, for each of VOC's classes, which of them show it."""
    labels = {name: read_labels(originals.annotations[name]) for name in composition.targets}
    for folder in ("Main", "Segmentation"):
        (sets / folder).mkdir(parents=True)
        for split, names in composition.splits.items():
            (sets / folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for split, names in composition.splits.items():
        for label in VOC_CLASSES:
            rows = [f"{name} {1 if label in labels[name] else -1:>2}\n" for name in names]
            (sets / "Main" / f"{label}_{split}.txt").write_text("".join(rows))


def write_source(originals: Originals, composition: Composition, detector: Detector | None, root: Path) -> None:
    """A folder a class of photographs, and parallel to it one of saliency maps."""
    for label in ANIMALS:
        (root / "source" / label).mkdir(parents=True)
        if detector:
            (root / "source_saliency" / label).mkdir(parents=True)
    for name in counted(composition.source, "source photographs" + (" and saliency maps" if detector else "")):
        copy = working_copy(originals.source[name])
        jpeg = source_photograph(copy)
        (root / "source" / f"{name}.jpg").write_bytes(jpeg)
        if detector:
            try:
                detector(copy, size_of(jpeg)).save(root / "source_saliency" / f"{name}.png")
            except InputError as error:
                raise InputError(f"{error}: {originals.source[name]}") from None


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(prog="build.py", description="Build the small bench of animals from public data.")
    options.add_argument("--voc", type=Path, required=True, help="PASCAL VOC 2012: VOC2012 or VOCdevkit")
    options.add_argument("--sbd", type=Path, help="SBD's masks: benchmark_RELEASE/dataset or SegmentationClassAug")
    options.add_argument("--animal-pose", type=Path, required=True, help="Animal-Pose: animalpose_image_part2")
    options.add_argument("--output", type=Path, required=True, help="the folder to write; it must not exist")
    options.add_argument("--saliency-model", type=Path, help="u2netp.onnx, to write saliency maps (needs onnxruntime)")
    options.add_argument(
        "--lists", type=Path, default=LISTS, help="names of the images (default: those beside this file)"
    )
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, then compare with what the bench must be; 1 if they differ, 2 if it could not be built."""
    given = parse(arguments)
    try:
        composition = read_composition(given.lists)
        originals = find_originals(composition, given.voc, given.sbd, given.animal_pose)
        detector = Detector(given.saliency_model) if given.saliency_model else None
        build(originals, composition, detector, given.output)
        return report(given.output, composition)
    except AttnbnError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
