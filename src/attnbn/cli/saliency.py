"""``attnbn saliency``: saliency maps for photographs, by a detector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbn.cli.options import Parser, add_output, add_skip_broken, parser, positive, share
from attnbn.cli.outcome import say_done
from attnbn.cli.progress import bar
from attnbn.io.errors import InputError

if TYPE_CHECKING:
    from attnbn.saliency.onnx import OnnxDetector


def main(arguments: Sequence[str]) -> None:
    """Parse, detect, print."""
    given = _options().parse_args(arguments)

    from attnbn.inference.saliency import write_saliency
    from attnbn.inference.saliency_sources import list_sources

    detector = _detector(given)
    photographs = list_sources(given.photographs, Path(given.output))
    with bar() as progress:
        done = write_saliency(
            detector,
            photographs,
            given.output,
            scale=given.scale,
            overwrite=given.overwrite,
            skip_broken=given.skip_broken,
            batch_size=given.batch_size,
            workers=given.workers,
            progress=progress,
        )
    constant = f"; nothing stands out in {done.constant:,} of them" if done.constant else ""
    say_done(done, "saliency map", given.output, last=constant)


def _detector(given: argparse.Namespace) -> OnnxDetector:
    from attnbn.saliency.onnx import DetectorSettings, OnnxDetector
    from attnbn.saliency.open import detector_file

    model = detector_file(given.detector)
    if model is None:
        raise InputError(f"expected --detector onnx:FILE, got {given.detector}")
    settings = DetectorSettings(
        tuple(given.mean), tuple(given.std), given.white, given.output_index, given.activation, given.size
    )
    return OnnxDetector(model, settings=settings, threads=given.threads, device=given.device)


def _options() -> Parser:
    options = parser(
        "saliency", "Write the saliency map of each photograph, to be used as --saliency or --data.saliency."
    )
    options.add_argument(
        "photographs",
        nargs="+",
        metavar="PATH",
        help="photographs, folders, or data sets (voc:PATH, folders:PATH, csv:FILE)",
    )
    options.add_argument("--detector", required=True, metavar="onnx:FILE", help="the model, e.g. onnx:u2netp.onnx")
    add_output(options, "a folder that another detector made")
    options.add_argument(
        "--scale", type=share, default=1.0, help="width and height of a map, as a share of its photograph's (default 1)"
    )
    _add_model(options)
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--threads", type=positive, help="that compute (default: as many as torch uses)")
    options.add_argument("--workers", type=positive, default=2, help="threads that read and write (default 2)")
    options.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        help="photographs a forward pass, if the model takes several (default 1)",
    )
    add_skip_broken(options)
    return options


def _add_model(to: Parser) -> None:
    """What the file does not say of a model other than U²-Net."""
    group: argparse._ArgumentGroup = to.add_argument_group("models other than U²-Net and U²-Net-p")
    group.add_argument(
        "--mean", type=float, nargs=3, default=(0.485, 0.456, 0.406), metavar="M", help="of the channels (ImageNet's)"
    )
    group.add_argument(
        "--std", type=float, nargs=3, default=(0.229, 0.224, 0.225), metavar="S", help="of the channels (ImageNet's)"
    )
    group.add_argument(
        "--white", choices=("max", "255"), default="max",
        help="what pixels are divided by first: the photograph's own largest value, or 255 (default max)",
    )  # fmt: skip
    group.add_argument("--activation", choices=("none", "sigmoid"), default="none", help="of the output (default none)")
    group.add_argument("--output-index", type=int, default=0, metavar="N", help="which output is the map (default 0)")
    group.add_argument("--size", type=positive, help="of the input, for models that take any (default 320)")
