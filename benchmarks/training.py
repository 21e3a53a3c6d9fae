"""What each loss term adds to a training step.

Forward, backward and optimiser of the task that ``attnbn train`` trains, on batches already at hand, one row of the paper's
Table 1 after the other in turns. The goal: L_ac costs at most 1.05 times the step without. GFLOP are counted, not timed, so
that they say the same on any machine. What reading costs, ``loader.py`` says.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import measure
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnbn.config import LossConfig, ModelConfig, Phase, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.io.atomic import write_json
from attnbn.models.build import build_discriminator, build_network
from attnbn.tasks.alignment import Adversarial
from attnbn.tasks.bridge import Bridge

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


def show(rows: list[dict[str, Any]], *, markdown: bool) -> str:
    """The table."""
    header = ["step", "s", "of classification alone", "GFLOP", "of classification alone", "images/s"]
    lines: list[list[object]] = [
        [r["row"], r["seconds"], f"{r['of_base']:.3f}", r["gflop"], f"{r['gflop_of_base']:.3f}", r["images_per_second"]]
        for r in rows
    ]
    return measure.table(header, lines, markdown=markdown)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="vgg16", help="a built-in backbone")
    options.add_argument("--size", type=int, default=224, help="side of the images")
    options.add_argument("--batch", type=int, default=4, help="images per domain")
    options.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if L_ac costs more than its goal."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(f"{given.model} at {given.size}², batch {given.batch}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    rows = measure_steps(given, device)
    print(show(rows, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "steps": rows})
    cost = next(r["of_base"] for r in rows if r["row"] == "L_s-cl + L_ac")
    within = cost <= GOAL
    print(f"L_ac costs {cost:.3f} times the step without; the goal of {GOAL} is {'reached' if within else 'MISSED'}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
