"""Memory while a lot is done: ``attend`` over 10,000 photographs, and 2,000 steps of training.

Both run the very functions behind ``attnbn attend`` and ``attnbn train`` on a small network, on both domains and with
all four terms, and look at the memory of the process on the way. It must not grow: the slope of a straight line
through the samples, the first fifth (warming up) left out, stays below ``--bound`` MiB per 1,000.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from PIL import Image

from attnbn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from attnbn.experiments.train import train
from attnbn.inference.attend import attend
from attnbn.io.atomic import write_json
from attnbn.models.build import build_network

Sample = tuple[int, float]
CLASSES = ("cat", "dog", "sheep")
PHOTOGRAPHS, STEPS = "photographs", "steps"


class Sampler:
    """Notes the process's memory each time a count passes a multiple of ``every``.

    Args:
        what: What is counted.
        every: Interval.
        device: Its memory is watched too where it is a GPU.
    """

    def __init__(self, what: str, every: int, device: torch.device) -> None:
        self.what, self.every, self.device = what, every, device
        self.process: list[Sample] = []
        self.gpu: list[Sample] = []

    def at(self, count: int) -> None:
        """Tell how far the work is."""
        if count // self.every <= len(self.process):
            return
        now = measure.resident()
        if now is None:
            raise SystemExit("this system does not tell a process's memory (no /proc): run the benchmark on Linux")
        self.process.append((count, now))
        gpu = ""
        if self.device.type == "cuda":
            self.gpu.append((count, torch.cuda.memory_allocated(self.device) / measure.MIB))
            gpu = f", {self.gpu[-1][1]:.1f} MiB on the GPU"
        print(f"{count:>6} {self.what}: {now:.1f} MiB{gpu}", flush=True)

    def record(self) -> dict[str, Any]:
        """All samples and how fast they rise."""
        slopes = [measure.slope(samples) for samples in (self.process, self.gpu) if len(samples) > 2]
        return {"what": self.what, "process": self.process, "gpu": self.gpu, "slopes": slopes}


def write_photographs(folder: Path, count: int, distinct: int, side: int) -> None:
    """``distinct`` small JPEG files, then links to them up to ``count``."""
    generator = np.random.default_rng(0)
    for i in range(count):
        file = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if i < distinct:
            coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((side, side * 3 // 4)).save(file)
        else:
            os.link(folder / f"{i % distinct // 1000:03d}" / f"{i % distinct:06d}.jpg", file)


def attend_many(given: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """``attend`` with masks; counted where photographs pass the network."""
    write_photographs(folder / "photographs", given.count, min(given.distinct, given.count), given.side)
    network = build_network(ModelConfig(backbone="small"), len(CLASSES)).network.to(device)
    sampler = Sampler(PHOTOGRAPHS, given.every_photographs, device)
    seen = 0

    def count(_module: object, inputs: tuple[torch.Tensor, ...], _output: object) -> None:
        nonlocal seen
        seen += len(inputs[0])
        sampler.at(seen)

    network.register_forward_hook(count)
    done = attend(
        network, [folder / "photographs"], folder / "out", CLASSES, size=given.size, masks=True, workers=given.workers
    )
    assert done.written == given.count
    return sampler.record()


def train_long(given: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """``train`` on the embedded scenes with all of Eq. 7, checkpoints included."""
    config = RunConfig(
        # few enough pictures that all are drawn, and kept, before the samples count
        data=DataConfig(source="scenes:source?count=48", target="scenes:target?count=48", size=given.size),
        model=ModelConfig(backbone="small", discriminator_width=16),
        training=TrainingConfig(steps=given.steps, batch_size=4, checkpoint_every=max(1, given.every_steps // 2)),
        output=str(folder / "run"),
        device=device.type,
        workers=given.workers,
    )
    sampler = Sampler(STEPS, given.every_steps, device)
    train(config, watch=lambda progress: sampler.at(progress.step))
    return sampler.record()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--parts", nargs="+", choices=["attend", "training"], default=["attend", "training"])
    options.add_argument("--count", type=int, default=10_000, help="photographs")
    options.add_argument("--distinct", type=int, default=300, help="different ones; the others are links to them")
    options.add_argument("--side", type=int, default=160, help="width of the photographs")
    options.add_argument("--steps", type=int, default=2_000, help="training steps")
    options.add_argument("--size", type=int, default=64, help="side of what the network sees")
    options.add_argument("--workers", type=int, default=0, help="reading processes (their memory is not counted)")
    options.add_argument("--every-photographs", type=int, default=1_000)
    options.add_argument("--every-steps", type=int, default=200)
    options.add_argument("--bound", type=float, default=2.0, help="most growth in MiB per 1,000")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if memory grows faster than the bound."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    parts: dict[str, Callable[..., dict[str, Any]]] = {"attend": attend_many, "training": train_long}
    records = []
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            records.append(parts[part](given, device, Path(folder)))
    rows = []
    for r in records:
        sizes = [size for _, size in r["process"]]
        rows.append([f"{r['process'][-1][0]} {r['what']}", sizes[0], sizes[-1], max(r["slopes"], default=None)])
    print(measure.table(["work", "first MiB", "last MiB", "MiB per 1,000"], rows, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "parts": records})
    growing = [r["what"] for r in records if max(r["slopes"], default=float("inf")) > given.bound]
    print(
        f"memory {'GROWS with ' + ' and '.join(growing) if growing else 'is flat'} (bound {given.bound} MiB per 1,000)"
    )
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
