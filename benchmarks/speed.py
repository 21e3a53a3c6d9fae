"""What each means of speed brings to a training step: memory format, bf16, frozen layers, frozen layers done beforehand.

The step is AttnBN's (all four terms and the discriminator) on batches already at hand; the ways are measured in turns, so that
their ratios hold on a machine that does other things as well. For comparison with what reading costs, see
``loader.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import measure
import torch

from attnbn.config import LossConfig, ModelConfig, Phase, TrainingConfig
from attnbn.data.transforms import normalize
from attnbn.io.atomic import write_json
from attnbn.models.build import build_discriminator, build_network
from attnbn.tasks.alignment import Adversarial
from attnbn.tasks.bridge import Bridge
from attnbn.training.frozen import frozen_part
from training import random_batch

CLASSES = 20


@dataclass(frozen=True)
class Way:
    """A way of taking the same step.

    Attributes:
        frozen: The lower layers are not trained.
        channels_last: Channels innermost in memory.
        bf16: Under autocast.
        kept: What the frozen layers give is at hand.
    """

    frozen: bool = False
    channels_last: bool = False
    bf16: bool = False
    kept: bool = False


WAYS = {
    "all layers trained, float32": Way(),
    "… channels last": Way(channels_last=True),
    "… channels last, bf16": Way(channels_last=True, bf16=True),
    "lower layers frozen, float32": Way(frozen=True),
    "… channels last ": Way(frozen=True, channels_last=True),
    "… channels last, bf16 ": Way(frozen=True, channels_last=True, bf16=True),
    "frozen layers done beforehand, channels last": Way(frozen=True, channels_last=True, kept=True),
    "… bf16": Way(frozen=True, channels_last=True, bf16=True, kept=True),
}
BASE = "all layers trained, float32"


def step_of(way: Way, given: argparse.Namespace, device: torch.device) -> Callable[[], None]:
    """A training step taken that way."""
    config = ModelConfig(
        backbone=given.model, freeze=given.freeze if way.frozen else 0, upsample=2, discriminator_width=32
    )
    torch.manual_seed(0)
    built = build_network(config, CLASSES)
    discriminator = build_discriminator(config, built.network, given.size).to(device)
    network = built.network.to(device).train()
    if way.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = LossConfig()
    task = Bridge(network, Adversarial(discriminator, loss), built.fresh, loss, TrainingConfig())
    optimizers = task.optimizers(Phase(), 1e-7)  # random weights stay finite however long one measures
    batches = {name: random_batch(given.size, given.batch, device) for name in ("source", "target")}
    if way.kept:
        frozen = frozen_part(network.get_submodule("trunk"), given.freeze)
        with torch.no_grad():
            for name, batch in batches.items():
                done = frozen(normalize(batch.image)).contiguous(memory_format=torch.channels_last)
                batches[name] = batch._replace(image=done, layers=given.freeze)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=way.bf16):
            parts = task.losses(batches, Phase(), 0)
            for name, terms in parts:
                loss = torch.stack([term.weight * term.value() for term in terms.values()]).sum()
                optimizers[name].zero_grad()
                loss.backward()
                optimizers[name].step()

    return step


def records_of(given: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """A record for each of :data:`WAYS`."""
    times = measure.interleaved(
        {name: step_of(way, given, device) for name, way in WAYS.items()}, given.repeats, device, patience=float("inf")
    )
    return [
        {
            "way": name,
            "seconds": statistics.median(times[name]),
            "times": times[name],
            "faster": 1 / measure.ratio(times, name, BASE),
            "images_per_second": 2 * given.batch / statistics.median(times[name]),
        }
        for name in WAYS
    ]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="squeezenet1_1", help="a built-in backbone")
    options.add_argument("--freeze", type=int, default=9, help="layers of its trunk (default 9)")
    options.add_argument("--size", type=int, default=288, help="side of the images")
    options.add_argument("--batch", type=int, default=16, help="images per domain")
    options.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(f"{given.model} at {given.size}², batch {given.batch}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
    records = records_of(given, device)
    lines: list[list[object]] = [
        [r["way"], r["seconds"], f"{r['faster']:.2f}×", r["images_per_second"]] for r in records
    ]
    print(measure.table(["step", "s", "faster than the first", "images/s"], lines, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "steps": records})
    return 0


if __name__ == "__main__":
    sys.exit(main())
