"""What each loss term adds to a training step, and whether the loader keeps up with the network.

Steps: forward, backward and optimiser of the task that ``attnbn train`` trains, on batches already at hand, one row of
the paper's Table 1 after the other in turns. The goal: L_ac costs at most 1.05 times the step without. GFLOP are
counted, not timed, so that they say the same on any machine.

Loader: photographs of 375×500 with saliency maps of the same size, written by this program, read, decoded and
augmented as in training; images a second for several numbers of worker processes, beside what the step consumes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from attnbn.config import LossConfig, ModelConfig, Phase, TrainingConfig
from attnbn.data.collate import Batch, collate
from attnbn.data.open import open_dataset
from attnbn.data.transforms import train_transform
from attnbn.experiments.feeds import Augment
from attnbn.io.atomic import write_json
from attnbn.models.build import build_discriminator, build_network
from attnbn.saliency.files import SaliencyFolder
from attnbn.tasks.alignment import Adversarial
from attnbn.tasks.bridge import Bridge
from attnbn.training.streams import Stream

CLASSES = 20
ROWS = {
    "L_s-cl": ["source_cl"],
    "L_s-cl + L_ac": ["source_cl", "attention"],
    "L_s-cl + L_t-cl": ["source_cl", "target_cl"],
    "L_s-cl + L_ac + L_t-cl": ["source_cl", "attention", "target_cl"],
    "L_s-cl + L_ac + L_t-cl + L_adv, L_d": ["source_cl", "attention", "target_cl", "adversarial"],
}
BASES = {"L_s-cl": "L_s-cl", "L_s-cl + L_ac": "L_s-cl"}
"""A row is compared with classification alone on the same streams; by default on both."""
BOTH = "L_s-cl + L_t-cl"
GOAL = 1.05
HEIGHT, WIDTH = 375, 500
WARM = 4


def random_batch(size: int, images: int, device: torch.device) -> Batch:
    """Single-label images with saliency, of random numbers: what is computed does not depend on them."""
    labels = torch.eye(CLASSES)[torch.randint(CLASSES, (images,))]
    image = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8)
    known = torch.ones(images, dtype=torch.bool)
    names = [f"image{i}" for i in range(images)]
    saliency = torch.rand(images, 1, size, size)
    return Batch(image.to(device), labels.to(device), saliency.to(device), known.to(device), names)


def steps(model: str, size: int, images: int, device: torch.device) -> dict[str, Callable[[], None]]:
    """A training step for each row, all on the same network, optimisers and batches."""
    config = ModelConfig(backbone=model)
    built = build_network(config, CLASSES)
    discriminator = build_discriminator(config, built.network, size).to(device)
    built.network.to(device).train()
    loss = LossConfig()
    task = Bridge(built.network, Adversarial(discriminator, loss), built.fresh, loss, TrainingConfig())
    # a rate at which random weights stay finite however long one measures
    optimizers = task.optimizers(Phase(), 1e-7)
    batches = {name: random_batch(size, images, device) for name in ("source", "target")}

    def step(terms: list[str]) -> None:
        phase = Phase(terms=terms)
        batch = {name: batches[name] for name in task.stream_names(phase)}
        for name, losses in task.losses(batch, phase, 0):
            loss = torch.stack([term.weight * term.value() for term in losses.values()]).sum()
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()

    return {row: lambda terms=terms: step(terms) for row, terms in ROWS.items()}  # type: ignore[misc]


def gigaflops(method: Callable[[], None]) -> float:
    """Multiplications and additions of one call, in 10^9."""
    with FlopCounterMode(display=False) as counter:
        method()
    return counter.get_total_flops() / 1e9


def measure_steps(given: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """A record for each row of :data:`ROWS`."""
    methods = steps(given.model, given.size, given.batch, device)
    flops = {name: gigaflops(method) for name, method in methods.items()}
    times = measure.interleaved(methods, given.repeats, device, patience=float("inf"))
    records = []
    for name in methods:
        base, seconds = BASES.get(name, BOTH), statistics.median(times[name])
        images = given.batch * (1 if name in BASES else 2)
        records.append(
            {
                "row": name,
                "seconds": seconds,
                "times": times[name],
                "base": base,
                "of_base": measure.ratio(times, name, base),
                "gflop": flops[name],
                "gflop_of_base": flops[name] / flops[base],
                "images_per_second": images / seconds,
            }
        )
    return records


def write_photographs(folder: Path, count: int) -> None:
    """``photos/CLASS/NAME.jpg`` with ``saliency/CLASS/NAME.png``: soft blobs and grain, as large as real ones on disk."""
    generator = np.random.default_rng(0)
    for i in range(count):
        name = f"{'ab'[i % 2]}/{i:05d}"
        blobs = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        grain = generator.normal(0, 8, (HEIGHT, WIDTH, 3))
        photo = Image.fromarray(np.clip(np.asarray(blobs) + grain, 0, 255).astype(np.uint8))
        blob = Image.fromarray(generator.integers(0, 256, (4, 5), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        for kind, ending, picture in (("photos", "jpg", photo), ("saliency", "png", blob)):
            file = folder / kind / f"{name}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file, quality=75)


def measure_loader(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Images a second of the stream with saliency (source) and without (target)."""
    write_photographs(folder, given.photographs)
    records = []
    for workers in given.workers:
        for domain, saliency in (("source", SaliencyFolder(folder / "saliency")), ("target", None)):
            dataset = open_dataset(f"folders:{folder / 'photos'}", split="train", saliency=saliency)
            augment = Augment(train_transform(given.size))
            stream = Stream(domain, dataset, augment, collate, seed=0, batch_size=given.batch)
            # what the workers have read ahead by the first batch must not count as read in no time
            warm = WARM * max(1, workers)
            batches = stream.batches(0, warm + given.loader_batches, workers=workers)
            for _ in range(warm):
                next(batches)
            began = time.perf_counter()
            read = sum(len(batch.image) for batch in batches)
            records.append(
                {"stream": domain, "workers": workers, "images_per_second": read / (time.perf_counter() - began)}
            )
    return records


def show(rows: list[dict[str, Any]], loader: list[dict[str, Any]], *, markdown: bool) -> str:
    """Both tables."""
    header = ["step", "s", "of classification alone", "GFLOP", "of classification alone", "images/s"]
    lines: list[list[object]] = [
        [r["row"], r["seconds"], f"{r['of_base']:.3f}", r["gflop"], f"{r['gflop_of_base']:.3f}", r["images_per_second"]]
        for r in rows
    ]
    text = measure.table(header, lines, markdown=markdown)
    if loader:
        lines = [[r["stream"], r["workers"], r["images_per_second"]] for r in loader]
        text += "\n\n" + measure.table(["loader", "workers", "images/s"], lines, markdown=markdown)
    return text


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="vgg16", help="a built-in backbone")
    options.add_argument("--size", type=int, default=224, help="side of the images")
    options.add_argument("--batch", type=int, default=4, help="images per domain")
    options.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up")
    options.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], help="loader processes; none: no loader")
    options.add_argument("--photographs", type=int, default=64, help="files to read from, over and over")
    options.add_argument("--loader-batches", type=int, default=50, help="batches to time")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if L_ac costs more than its goal."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(f"{given.model} at {given.size}², batch {given.batch}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    rows = measure_steps(given, device)
    loader = []
    if given.workers:
        with tempfile.TemporaryDirectory() as folder:
            loader = measure_loader(given, Path(folder))
    print(show(rows, loader, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "steps": rows, "loader": loader})
    cost = next(r["of_base"] for r in rows if r["row"] == "L_s-cl + L_ac")
    within = cost <= GOAL
    print(f"L_ac costs {cost:.3f} times the step without; the goal of {GOAL} is {'reached' if within else 'MISSED'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
