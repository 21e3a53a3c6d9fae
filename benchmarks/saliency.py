"""Saliency without a trained model: ours against OpenCV's two, on photographs with maps and on drawn scenes with masks.

Peers: spectral residual and fine-grained static saliency of OpenCV (the ``opencv-contrib-python-headless`` package; left out
where it is not installed), each stretched to [0, 1] per photograph, since spectral residual answers on no fixed scale. A
Gaussian in the middle of every picture is measured too: on photographs of one object it is no small part of any detector.

``--pairs PHOTOGRAPHS=MAPS`` names a folder of photographs and one of reference maps of the same names, at any size; it may be
given several times. The maps of a large trained detector, or masks, serve as reference. ``--half`` keeps the photographs of
one half by a hash of their names: the detector's constants were chosen on the other. Scenes need no files.

Measures, at the reference's size: mean absolute error against the reference as it is; against the reference above 0.5, the
largest F-measure over the thresholds 0 to 255 with β² = 0.3, of the mean precision and the mean recall; and the coefficient
of correlation. Photographs whose reference has no pixel above 0.5 are left out of the F-measure. Time is this process's on
one core, median per photograph, without reading the file.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from attnbn.data.images import read_image
from attnbn.data.open import open_dataset
from attnbn.io.atomic import write_json
from attnbn.io.errors import InputError
from attnbn.io.pictures import list_pictures
from attnbn.saliency.files import read_saliency
from attnbn.saliency.unsupervised import UnsupervisedDetector

OURS = "attnbn, unsupervised"
BETA_SQUARED = 0.3
Map = NDArray[np.float32]
Method = Callable[[NDArray[np.uint8]], Map]
"""RGB ``H×W×3`` to a map in [0, 1] of the same size."""


class Tally:
    """The measures of one method over one set of pictures."""

    def __init__(self) -> None:
        self.precision: list[NDArray[np.float64]] = []
        self.recall: list[NDArray[np.float64]] = []
        self.error: list[float] = []
        self.correlation: list[float] = []
        self.seconds: list[float] = []

    def add(self, found: Map, reference: Map) -> None:
        self.error.append(float(np.abs(found - reference).mean()))
        if found.std() > 1e-6 and reference.std() > 1e-6:
            self.correlation.append(float(np.corrcoef(found.ravel(), reference.ravel())[0, 1]))
        else:
            self.correlation.append(0.0)  # a constant map agrees with nothing
        object_ = reference >= 0.5
        if object_.any():
            level = np.round(found * 255).astype(np.intp)
            hits, all_ = (_at_least(level[mask]) for mask in (object_, np.ones_like(object_)))
            self.precision.append(np.where(all_ > 0, hits / np.maximum(all_, 1), 1.0))
            self.recall.append(hits / object_.sum())

    def figures(self) -> dict[str, Any]:
        precision, recall = np.mean(self.precision, 0), np.mean(self.recall, 0)
        weighted = BETA_SQUARED * precision + recall
        f = np.divide((1 + BETA_SQUARED) * precision * recall, weighted, out=np.zeros(256), where=weighted > 0)
        return {
            "pictures": len(self.error),
            "mae": statistics.mean(self.error),
            "max_f": float(f.max()),
            "threshold": int(f.argmax()),
            "correlation": statistics.mean(self.correlation),
            "seconds": statistics.median(self.seconds),
        }


def _at_least(levels: NDArray[np.intp]) -> NDArray[np.int64]:
    """How many pixels have each level 0 to 255 or more."""
    return np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1]


def ours(pixels: NDArray[np.uint8]) -> Map:
    return UnsupervisedDetector().of(torch.from_numpy(pixels).permute(2, 0, 1), "")[0].numpy()


def middle(pixels: NDArray[np.uint8]) -> Map:
    """A Gaussian of a quarter of each side."""
    height, width = pixels.shape[:2]
    rows, columns = (np.arange(side) / side - 0.5 + 0.5 / side for side in (height, width))
    return np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * 0.25**2)).astype(np.float32)


def opencv_methods() -> dict[str, Method]:
    """OpenCV's two; none, and a line why, where it is not installed."""
    if find_spec("cv2") is None or not hasattr(import_module("cv2"), "saliency"):
        print("OpenCV's two are left out: pip install opencv-contrib-python-headless", file=sys.stderr)
        return {}
    cv2 = import_module("cv2")
    cv2.setNumThreads(1)

    def method(create: Callable[[], Any]) -> Method:
        def run(pixels: NDArray[np.uint8]) -> Map:
            _, found = create().computeSaliency(np.ascontiguousarray(pixels[..., ::-1]))
            values = found.astype(np.float32)
            low, high = values.min(), values.max()
            return (values - low) / (high - low) if high > low else np.zeros_like(values)

        return run

    return {
        "OpenCV, spectral residual": method(cv2.saliency.StaticSaliencySpectralResidual_create),
        "OpenCV, fine-grained": method(cv2.saliency.StaticSaliencyFineGrained_create),
    }


def photographs(folder: Path, maps: Path, half: str) -> Iterator[tuple[NDArray[np.uint8], Map]]:
    """Photographs and their reference maps, both at the maps' own size once measured."""
    for file in list_pictures(folder):
        name = file.rsplit(".", 1)[0]
        if half != "all" and hashlib.sha1(name.encode()).digest()[0] & 1 != (half == "held"):
            continue
        path = maps / f"{name}.png"
        with Image.open(path) as picture:
            size = (picture.height, picture.width)
        yield read_image(folder / file).permute(1, 2, 0).numpy(), read_saliency(path, size)[0].numpy()


def scenes(domain: str, split: str, count: int) -> Iterator[tuple[NDArray[np.uint8], Map]]:
    """Drawn scenes and their masks: what is of any class is the object."""
    dataset = open_dataset(f"scenes:{domain}?count={count}", split=split, masks=True)
    for i in range(len(dataset)):
        sample = dataset[i]
        assert sample.mask is not None
        image = sample.image.as_subclass(torch.Tensor).permute(1, 2, 0).numpy()
        yield image, (sample.mask.as_subclass(torch.Tensor) > 0).numpy().astype(np.float32)


def evaluate(
    methods: Mapping[str, Method], pictures: Iterator[tuple[NDArray[np.uint8], Map]]
) -> dict[str, dict[str, Any]]:
    """All methods in turn on each picture, so that a busy spell of the machine hits all alike."""
    tallies = {name: Tally() for name in methods}
    for pixels, reference in pictures:
        pixels = np.ascontiguousarray(pixels)
        for name, method in methods.items():
            began = time.process_time()
            found = method(pixels)
            tallies[name].seconds.append(time.process_time() - began)
            if found.shape != reference.shape:
                picture = Image.fromarray(found).resize(reference.shape[::-1], Image.Resampling.BILINEAR)
                found = np.clip(np.asarray(picture), 0, 1)
            tallies[name].add(found, reference)
    return {name: tally.figures() for name, tally in tallies.items()}


def main() -> None:
    arguments = measure.parser(__doc__.split("\n")[0])
    arguments.add_argument("--pairs", action="append", default=[], metavar="PHOTOGRAPHS=MAPS", help="two folders")
    arguments.add_argument("--half", choices=("all", "held", "tuned"), default="all", help="by a hash of the name")
    arguments.add_argument("--scenes", nargs="*", default=["source", "target"], help="domains of drawn scenes")
    arguments.add_argument("--count", type=int, default=100, help="drawn scenes of each domain")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads or 1)
    methods = {OURS: ours, **opencv_methods(), "a Gaussian in the middle": middle}
    results: dict[str, Any] = {"machine": measure.machine(torch.device("cpu")), "half": given.half, "sets": {}}
    for pair in given.pairs:
        folder, equals, maps = pair.partition("=")
        if not equals or not Path(folder).is_dir() or not Path(maps).is_dir():
            raise InputError(f"expected --pairs PHOTOGRAPHS=MAPS, two folders, got: {pair}")
        results["sets"][folder] = evaluate(methods, photographs(Path(folder), Path(maps), given.half))
        show(folder, results["sets"][folder], given)
    for domain in given.scenes:
        results["sets"][f"scenes:{domain}"] = evaluate(methods, scenes(domain, "dev", given.count))
        show(f"scenes:{domain}", results["sets"][f"scenes:{domain}"], given)
    if given.json:
        write_json(given.json, results)


def show(title: str, figures: Mapping[str, Mapping[str, Any]], given: argparse.Namespace) -> None:
    header = ["method", "MAE", "max F", "correlation", "ms a picture"]
    rows = [
        [name, f"{row['mae']:.3f}", f"{row['max_f']:.3f}", f"{row['correlation']:.3f}", f"{1e3 * row['seconds']:.0f}"]
        for name, row in figures.items()
    ]
    pictures = next(iter(figures.values()))["pictures"]
    print(f"\n{title}, {pictures} pictures\n{measure.table(header, rows, markdown=given.markdown)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
