"""What checkpoints cost: their share of a training's time at its default interval.

The networks and optimisers of ``attnbn train``'s defaults (VGG16 with its hidden layers, momentum, the discriminator and Adam's
moments) take a step, then their checkpoint is written, to ``--folder``, as in a training: copied, serialised, hashed, flushed
to disk. The goal: less than 2 % of the time at one checkpoint every 500 steps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import torch

from attnbn.config import LossConfig, ModelConfig, Phase, TrainingConfig
from attnbn.io.atomic import write_json
from attnbn.models.build import build_discriminator, build_network
from attnbn.tasks.alignment import Adversarial
from attnbn.tasks.bridge import Bridge
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder, module_tensors, optimizer_tensors
from training import CLASSES, ROWS, random_batch

GOAL = 0.02


class Trained:
    """A task with its optimisers, after a step: what a checkpoint holds then.

    Args:
        model: A built-in backbone.
        size: Side of the images.
        batch: Images per domain and step.
        device: Where.
    """

    def __init__(self, model: str, size: int, batch: int, device: torch.device) -> None:
        config, loss = ModelConfig(backbone=model), LossConfig()
        built = build_network(config, CLASSES)
        discriminator = build_discriminator(config, built.network, size).to(device)
        built.network.to(device).train()
        self.task = Bridge(built.network, Adversarial(discriminator, loss), built.fresh, loss, TrainingConfig())
        self.phase, self.device = Phase(terms=list(ROWS.values())[-1]), device
        self.optimizers = self.task.optimizers(self.phase, 1e-7)
        self.batch = {name: random_batch(size, batch, device) for name in ("source", "target")}

    def step(self) -> None:
        """One step on batches at hand."""
        for name, terms in self.task.losses(self.batch, self.phase, 0):
            loss = torch.stack([term.weight * term.value() for term in terms.values()]).sum()
            self.optimizers[name].zero_grad()
            loss.backward()
            self.optimizers[name].step()
        measure.synchronize(self.device)

    def checkpoint(self, step: int) -> Checkpoint:
        """What the loop hands over."""
        tensors: dict[str, torch.Tensor] = {}
        plain: dict[str, Any] = {}
        for name, module in self.task.modules.items():
            tensors |= module_tensors(name, module)
        for name, optimizer in self.optimizers.items():
            moving, fixed = optimizer_tensors(name, optimizer)
            tensors |= moving
            plain |= fixed
        return Checkpoint(step, tensors, {"optimizers": plain})


def seconds(work: Any, repeats: int) -> list[float]:
    """Of each of several calls, after one that warms up."""
    found = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        work(number)
        found.append(time.perf_counter() - began)
    return found[1:]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="vgg16", help="a built-in backbone")
    options.add_argument("--size", type=int, default=224, help="side of the images")
    options.add_argument("--batch", type=int, default=16, help="images per domain and step")
    options.add_argument(
        "--step-batch", type=int, help="measure a step of so many instead, and scale it (for slow machines)"
    )
    options.add_argument(
        "--every", type=int, default=TrainingConfig().checkpoint_every, help="steps between checkpoints"
    )
    options.add_argument("--repeats", type=int, default=5, help="after the warm-up")
    options.add_argument("--folder", help="where checkpoints are written (a temporary folder)")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if checkpoints take more than their goal."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(f"{given.model} at {given.size}², batch {given.batch}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    batch = given.step_batch or given.batch
    trained = Trained(given.model, given.size, batch, device)
    step = statistics.median(seconds(lambda _: trained.step(), given.repeats)) * given.batch / batch
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = CheckpointFolder(Path(place))
        saved = seconds(lambda number: folder.save(trained.checkpoint(number)), given.repeats)
        size = sum(file.stat().st_size for file in next(iter(folder)).iterdir()) / measure.MIB
    save = statistics.median(saved)
    share = save / (given.every * step + save)
    row = [given.model, size, step, save, given.every, f"{100 * share:.2f} %"]
    header = ["network", "MiB", "s a step", "s a checkpoint", "steps between", "share of the time"]
    print(measure.table(header, [row], markdown=given.markdown))
    if given.json:
        found = {"step": step, "saves": saved, "mib": size, "share": share}
        write_json(given.json, {"settings": vars(given), "machine": facts, **found})
    print(f"the goal of {100 * GOAL:.0f} % is {'reached' if share < GOAL else 'MISSED'}")
    return 0 if share < GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
