"""The dense CRF: time, memory and accuracy, ours against pydensecrf2's, in one run.

pydensecrf2 is the field's compiled implementation; it is measured where it is installed (it needs a C++ compiler, and is no part
of the ``bench`` extra therefore: ``pip install pydensecrf2``). It runs on one thread of the CPU, whatever ``--device`` and
``--threads`` say. Both get the same photographs and probabilities, and the same kernels: those of training (standard
deviations in place divided by 12) at 41×41, those of inference at full size.

Accuracy is measured against the definition in float64 with whole matrices, on crops small enough for it: the share of pixels
with the same label, and the mean difference of a marginal. Memory is the peak of a fresh process above what it held before.

Photographs are drawn scenes with the noise of a sensor, which touch as many corners of the lattice as photographs do;
``--images`` takes real ones. Probabilities are coarse and noisy, as a network's: every label has a region, except in
``3 seen``, where all but three are below 1e-5 everywhere, as in the output of a trained network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import measure
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbn.data.images import read_image
from attnbn.data.scenes.compose import target_scene
from attnbn.data.scenes.dice import Dice
from attnbn.io.atomic import write_json
from attnbn.segmentation.crf import dense_crf

INFERENCE = {"bilateral_xy": 80.0, "gaussian_xy": 3.0}
TRAINING = {"bilateral_xy": 80 / 12, "gaussian_xy": 3 / 12}
OURS, EXACT, LATTICE, PEER = "attnbn", "attnbn, exact", "attnbn, lattice", "pydensecrf2"
METHODS = {OURS: "auto", EXACT: "exact", LATTICE: "lattice"}
PARTS = ("speed", "accuracy", "memory", "sizes")


@dataclass(frozen=True)
class Case:
    """What is refined.

    Attributes:
        name: In the tables.
        height: Of the images.
        width: Of the images.
        labels: All labels.
        batch: Images in one call.
        seen: How many labels have a region; None: all.
        kernels: Standard deviations in place.
        methods: Who is measured, beside the peer.
    """

    name: str
    height: int
    width: int
    labels: int
    batch: int = 1
    seen: int | None = None
    kernels: Mapping[str, float] | None = None
    methods: tuple[str, ...] = (OURS,)

    @property
    def deviations(self) -> Mapping[str, float]:
        return INFERENCE if self.kernels is None else self.kernels


SPEED = (
    Case("41×41, 21 labels, batch of 20", 41, 41, 21, 20, kernels=TRAINING, methods=(OURS, LATTICE)),
    Case("375×500, 21 labels", 375, 500, 21),
    Case("375×500, 21 labels, 3 seen", 375, 500, 21, seen=3),
    Case("375×500, 4 labels", 375, 500, 4),
)
ACCURACY = (
    Case("41×41, training", 41, 41, 21, 6, kernels=TRAINING, methods=(OURS, LATTICE)),
    Case("72×72 of 375×500", 375, 500, 21, 6, methods=(EXACT, LATTICE)),
)
MEMORY = Case("500×500, 21 labels", 500, 500, 21)
CROP = 72
SCENE = 500


def photographs(case: Case, files: list[str]) -> tuple[Tensor, Tensor]:
    """Images uint8 ``B×3×H×W`` and probabilities ``B×C×H×W``."""
    images, probabilities = [], []
    for index in range(case.batch):
        image, scores = _drawn(index, case) if not files else _read(files[index % len(files)], case)
        images.append(image)
        probabilities.append(_probabilities(scores, case, index))
    return torch.stack(images), torch.stack(probabilities)


def _drawn(index: int, case: Case) -> tuple[Tensor, Tensor]:
    """A scene with noise; its mask as scores of its labels."""
    scene = target_scene(Dice(0, index), SCENE, 1.0)
    noisy = scene.image + np.random.default_rng(index).normal(0, 6, scene.image.shape)
    image = torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)
    ids = torch.from_numpy(scene.mask.astype(np.int64))
    ids[ids == 255] = 0
    scores = F.one_hot(ids % case.labels, case.labels).permute(2, 0, 1).float()
    if case.height * case.width > 64 * 64:  # a part of the scene, at its own resolution
        return image[:, : case.height, : case.width].contiguous(), scores[:, : case.height, : case.width]
    return _shrunk(image, case), F.interpolate(scores[None], size=(case.height, case.width), mode="area")[0]


def _read(path: str, case: Case) -> tuple[Tensor, Tensor]:
    image = read_image(path).as_subclass(torch.Tensor)
    return _shrunk(image, case), torch.zeros(case.labels, case.height, case.width)


def _shrunk(image: Tensor, case: Case) -> Tensor:
    size = (case.height, case.width)
    resized = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
    return resized.round().to(torch.uint8).contiguous()


def _probabilities(scores: Tensor, case: Case, seed: int) -> Tensor:
    """Like a network's: known at an eighth of the resolution (of a map of 41: all of it), with smooth errors."""
    size = (case.height, case.width)
    coarse = F.interpolate(scores[None], size=(41, 41), mode="area")
    errors = torch.randn(1, case.labels, 9, 9, generator=torch.Generator().manual_seed(seed))
    logits = 4 * coarse + 1.5 * F.interpolate(errors, size=(41, 41), mode="bicubic")
    logits = F.interpolate(logits, size=size, mode="bilinear")[0]
    if case.seen is not None:
        logits[logits.mean((1, 2)).argsort(descending=True)[case.seen :]] -= 20
    return logits.softmax(0)


def ours(case: Case, images: Tensor, probabilities: Tensor, method: str) -> Tensor:
    """Marginals by this package."""
    return dense_crf(images, probabilities, method=method, **case.deviations)  # type: ignore[arg-type]


def peer(case: Case, images: Tensor, probabilities: Tensor) -> Tensor:
    """Marginals by pydensecrf2, as its users get them: an image a call."""
    from pydensecrf import densecrf

    _, labels, height, width = probabilities.shape
    refined = []
    for image, given in zip(images.cpu(), probabilities.cpu(), strict=True):
        crf = densecrf.DenseCRF2D(width, height, labels)
        crf.setUnaryEnergy(np.ascontiguousarray(-given.clamp(min=1e-5).log().reshape(labels, -1).numpy()))
        crf.addPairwiseGaussian(sxy=case.deviations["gaussian_xy"], compat=3)
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        crf.addPairwiseBilateral(sxy=case.deviations["bilateral_xy"], srgb=13, rgbim=pixels, compat=10)
        refined.append(torch.from_numpy(np.array(crf.inference(10)).reshape(labels, height, width)))
    return torch.stack(refined)


def brute_force(case: Case, image: Tensor, probabilities: Tensor) -> Tensor:
    """The definition in float64 with whole matrices, ``C×H×W``."""
    height, width = image.shape[1:]
    axes = (torch.arange(n, dtype=torch.float64, device=image.device) for n in (height, width))
    place = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    colour = image.flatten(1).double()
    total = torch.zeros(height * width, height * width, dtype=torch.float64, device=image.device)
    for weight, points in (
        (10.0, torch.cat([place / case.deviations["bilateral_xy"], colour / 13.0])),
        (3.0, place / case.deviations["gaussian_xy"]),
    ):
        kernel = torch.zeros_like(total)
        for axis in points:
            kernel += (axis[:, None] - axis).square_()
        kernel.mul_(-0.5).clamp_(min=-300).exp_()  # 1e-130 does for 0: float64 is slow beyond 1e-308
        norm = kernel.sum(1).rsqrt_()
        total += kernel.mul_(weight * norm).mul_(norm[:, None])
    exponents = probabilities.double().clamp(min=1e-5).log().flatten(1)
    marginals = exponents.softmax(0)
    for _ in range(10):
        marginals = (exponents + marginals @ total).softmax(0)
    return marginals.view_as(probabilities)


def methods(case: Case, images: Tensor, probabilities: Tensor, peers: bool) -> dict[str, Callable[[], Tensor]]:
    """What is measured, by name."""

    def run(method: str) -> Callable[[], Tensor]:
        return lambda: ours(case, images, probabilities, method)

    found = {name: run(METHODS[name]) for name in case.methods}
    return {**found, PEER: lambda: peer(case, images, probabilities)} if peers else found


def measure_speed(given: argparse.Namespace, cases: tuple[Case, ...], device: torch.device) -> list[dict[str, Any]]:
    """Seconds an image, and how many times the peer's speed."""
    records = []
    for case in cases:
        images, probabilities = (t.to(device) for t in photographs(case, given.images))
        times = measure.interleaved(
            methods(case, images, probabilities, given.peer), given.repeats, device, given.patience
        )
        for name, measured in times.items():
            records.append(
                {
                    "case": case.name,
                    "method": name,
                    "milliseconds": 1000 * statistics.median(measured) / case.batch,
                    "times": measured,
                    "faster": measure.ratio(times, PEER, name) if given.peer else None,
                }
            )
    return records


def measure_accuracy(given: argparse.Namespace, cases: tuple[Case, ...], device: torch.device) -> list[dict[str, Any]]:
    """Agreement with the definition, over all crops."""
    records = []
    for case in cases:
        images, probabilities = (t.to(device) for t in photographs(case, given.images))
        height, width = min(case.height, given.crop), min(case.width, given.crop)
        top, left = (case.height - height) // 2, (case.width - width) // 2
        window = (..., slice(top, top + height), slice(left, left + width))
        images, probabilities = images[window].contiguous(), probabilities[window].contiguous()
        truth = torch.stack([brute_force(case, *pair) for pair in zip(images, probabilities, strict=True)])
        results = {name: method() for name, method in methods(case, images, probabilities, given.peer).items()}
        results["unrefined"] = probabilities
        for name, marginals in results.items():
            marginals = marginals.to(device).double()
            agree = (marginals.argmax(1) == truth.argmax(1)).double().mean((1, 2))
            records.append(
                {
                    "case": case.name,
                    "method": name,
                    "agreement": 100 * float(agree.mean()),
                    "worst_image": 100 * float(agree.min()),
                    "mean_difference": float((marginals - truth).abs().mean()),
                    "largest_difference": float((marginals - truth).abs().max()),
                }
            )
    return records


def peak(given: argparse.Namespace, case: Case, name: str, device: torch.device) -> float | None:
    """Peak in MiB of one call above what the process held; in a process that has run nothing else."""
    images, probabilities = (t.to(device) for t in photographs(case, given.images))
    small = Case("", 8, 8, 2, methods=tuple(METHODS))
    warm = methods(small, *(t.to(device) for t in photographs(small, [])), name == PEER)[name]
    warm()  # what a library itself takes is not counted
    case = Case(case.name, case.height, case.width, case.labels, methods=tuple(METHODS))
    method = methods(case, images, probabilities, name == PEER)[name]
    if device.type == "cuda":
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        method()
        return (torch.cuda.max_memory_allocated() - held) / measure.MIB
    measure.reset_peak()
    before = measure.resident()
    method()
    after = measure.peak()
    return None if before is None or after is None else after - before


def measure_memory(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A process for each."""
    records = []
    for name in (OURS, PEER) if given.peer else (OURS,):
        command = [sys.executable, __file__, "--one", name, "--device", given.device, "--threads", str(given.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        records.append({"case": MEMORY.name, "method": name, "mebibytes": json.loads(done.stdout.splitlines()[-1])})
    return records


def sizes(given: argparse.Namespace) -> tuple[Case, ...]:
    """Squares on both sides of the size at which ``auto`` changes over."""
    return tuple(Case(f"{n}×{n}, 21 labels", n, n, 21, methods=(EXACT, LATTICE)) for n in given.sides)


TABLES = {
    "speed": ("ms an image", "times pydensecrf2's speed"),
    "accuracy": ("same label, %", "worst image, %", "mean |ΔQ|", "largest |ΔQ|"),
    "memory": ("MiB above the start",),
    "sizes": ("ms an image", "times pydensecrf2's speed"),
}
COLUMNS = {
    "speed": ("milliseconds", "faster"),
    "accuracy": ("agreement", "worst_image", "mean_difference", "largest_difference"),
    "memory": ("mebibytes",),
    "sizes": ("milliseconds", "faster"),
}


def show(part: str, records: list[dict[str, Any]], *, markdown: bool) -> str:
    """One part's table."""
    rows = [[r["case"], r["method"], *(_rounded(part, r[key]) for key in COLUMNS[part])] for r in records]
    return measure.table(["", "method", *TABLES[part]], rows, markdown=markdown)


def _rounded(part: str, value: float | None) -> object:
    return f"{value:.2f}" if part == "accuracy" and value is not None and value > 1 else value


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to measure")
    options.add_argument("--images", nargs="*", default=[], metavar="FILE", help="photographs, instead of drawn ones")
    options.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up")
    options.add_argument("--patience", type=float, default=60, help="seconds after which a slow method's rounds end")
    options.add_argument("--crop", type=int, default=CROP, help="side of the crops for the accuracy")
    options.add_argument("--sides", type=int, nargs="+", default=[32, 41, 64, 96, 128], help="of the part sizes")
    options.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone")
    options.add_argument("--one", help=argparse.SUPPRESS)  # the process of one method's memory
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if the peer agrees better with the definition than ours."""
    given = parse(arguments)
    device = measure.prepare(given)
    if given.one is not None:
        print(json.dumps(peak(given, MEMORY, given.one, device)))
        return 0
    if given.peer and find_spec("pydensecrf") is None:
        print("without pydensecrf2, which is not installed (pip install pydensecrf2; it needs a C++ compiler)")
        given.peer = False
    facts = measure.machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    parts: dict[str, list[dict[str, Any]]] = {}
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "speed": lambda: measure_speed(given, SPEED, device),
        "accuracy": lambda: measure_accuracy(given, ACCURACY, device),
        "memory": lambda: measure_memory(given),
        "sizes": lambda: measure_speed(given, sizes(given), device),
    }
    for part in given.parts:
        parts[part] = measures[part]()
        print(f"\n{part}\n{show(part, parts[part], markdown=given.markdown)}", flush=True)
    if given.json:
        settings = {key: value for key, value in vars(given).items() if key != "one"}
        write_json(given.json, {"settings": settings, "machine": facts, **parts})
    return 0 if as_good(parts.get("accuracy", [])) else 1


def as_good(records: list[dict[str, Any]]) -> bool:
    """Whether each of ours agrees with the definition at least as well as the peer."""
    theirs = {r["case"]: r["agreement"] for r in records if r["method"] == PEER}
    own = [r for r in records if r["method"] in METHODS and r["case"] in theirs]
    worse = [r for r in own if r["agreement"] < theirs[r["case"]]]
    for record in worse:
        print(f"LESS ACCURATE than {PEER}: {record['method']}, {record['case']}")
    if own and not worse:
        print(f"\nat least as accurate as {PEER} everywhere")
    return not worse


if __name__ == "__main__":
    sys.exit(main())
