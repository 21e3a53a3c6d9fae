"""Memory while a lot is done: 100,000 files read, or looked at; ``attend`` over 10,000 photographs; 10,000 calls of attention;
2,000 steps of training.

``attend`` and the training run the very functions behind ``attnbn attend`` and ``attnbn train`` on a small network, on both
domains and with all four terms. The calls take attention in every way there is, in turns: the public function with its graph, a
step back through it, passes without gradients and in inference mode, several layers, any classifier by a hook. Memory must not
grow: the slope of a straight line through the samples, the first fifth (warming up) left out, stays below ``--bound`` MiB per
1,000.

The first two walk through ``--files`` small photographs (links to a few) with ``--readers`` processes that read: an epoch of the
training's loader, and the prediction behind ``attend``, ``evaluate`` and ``cues``. Their memory is counted with that of the
readers, and from the first tenth to the end it grows by less than ``--most`` MiB.
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
import torchvision
from PIL import Image

from attnbn.attention import class_attention
from attnbn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from attnbn.data.collate import collate
from attnbn.data.open import open_dataset
from attnbn.data.transforms import train_transform
from attnbn.experiments.feeds import Augment
from attnbn.experiments.train import train
from attnbn.inference.attend import attend
from attnbn.inference.layers import LAST, captured
from attnbn.inference.photographs import Photographs, list_photographs
from attnbn.inference.predict import predict
from attnbn.io.atomic import write_json
from attnbn.models.build import build_network
from attnbn.models.network import TappedClassifier
from attnbn.training.streams import Stream

Sample = tuple[int, float]
CLASSES = ("cat", "dog", "sheep")
BATCH = 32
LINKS = 50_000
"""Of one file; file systems allow 65,000."""
PHOTOGRAPHS, STEPS, READ, PREDICTED = "photographs", "steps", "files read", "files predicted"
CALLS = "attention calls"


class Sampler:
    """Notes the process's memory each time a count passes a multiple of ``every``.

    Args:
        what: What is counted.
        every: Interval.
        device: Its memory is watched too where it is a GPU.
        readers: Count the processes that read for it too.
    """

    def __init__(self, what: str, every: int, device: torch.device, *, readers: bool = False) -> None:
        self.what, self.every, self.device, self.readers = what, every, device, readers
        self.process: list[Sample] = []
        self.gpu: list[Sample] = []

    def at(self, count: int) -> None:
        """Tell how far the work is."""
        if count // self.every <= len(self.process):
            return
        now = measure.with_children() if self.readers else measure.resident()
        if now is None:
            raise SystemExit("this system does not tell a process's memory (no /proc): run the benchmark on Linux")
        self.process.append((count, now))
        gpu = ""
        if self.device.type == "cuda":
            self.gpu.append((count, torch.cuda.memory_allocated(self.device) / measure.MIB))
            gpu = f", {self.gpu[-1][1]:.1f} MiB on the GPU"
        print(f"{count:>6} {self.what}: {now:.1f} MiB{gpu}", flush=True)

    def record(self) -> dict[str, Any]:
        """All samples, how fast they rise, and by how much from the first tenth to the end."""
        slopes = [measure.slope(samples) for samples in (self.process, self.gpu) if len(samples) > 2]
        grown = max(
            samples[-1][1] - samples[max(len(samples) // 10 - 1, 0)][1]
            for samples in (self.process, self.gpu)
            if samples
        )
        return {"what": self.what, "process": self.process, "gpu": self.gpu, "slopes": slopes, "grown": grown}


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


def read_many(given: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """An epoch of the training's loader, from opening the folder on."""
    write_photographs(folder / "photographs", given.files, -(-given.files // LINKS), given.little)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # the list of so many files is kept; not beyond this run
    dataset = open_dataset(f"folders:{folder / 'photographs'}", split="train")
    augment = Augment(train_transform(given.size))
    stream = Stream("target", dataset, augment, collate, seed=0, batch_size=BATCH)
    sampler = Sampler(READ, given.every_files, device, readers=True)
    for number, _ in enumerate(stream.batches(0, given.files // BATCH, workers=given.readers), 1):
        sampler.at(number * BATCH)
    return sampler.record()


def predict_many(given: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """What ``attend``, ``evaluate`` and ``cues`` do before they write."""
    write_photographs(folder / "photographs", given.files, -(-given.files // LINKS), given.little)
    dataset = Photographs(list_photographs([folder / "photographs"]), CLASSES)
    network = build_network(ModelConfig(backbone="small"), len(CLASSES)).network.to(device)
    sampler = Sampler(PREDICTED, given.every_files, device, readers=True)
    predictions = predict(network, dataset, size=given.size, batch_size=BATCH, workers=given.readers)
    for number, _ in enumerate(predictions, 1):
        sampler.at(number)
    return sampler.record()


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


def attention_calls(given: argparse.Namespace, device: torch.device, _folder: Path) -> dict[str, Any]:
    """Each way to take attention in turns, two images and three classes a call; what is returned is dropped."""
    network = build_network(ModelConfig(backbone="small"), len(CLASSES)).network.to(device)
    tapped = TappedClassifier(torchvision.models.resnet18(num_classes=len(CLASSES)), "layer4").to(device).eval()
    images = torch.rand(2, 3, given.size, given.size, device=device)
    wanted = torch.ones(2, len(CLASSES), device=device)

    def without(mode: Callable[[], Any], net: torch.nn.Module) -> None:
        with mode():
            net(images, wanted)

    ways = (
        lambda: class_attention(network.trunk(images), network.head, wanted),
        lambda: network(images, wanted).attention.sum().backward(),
        lambda: without(torch.no_grad, network),
        lambda: without(torch.inference_mode, network),
        lambda: captured(network, images, ("trunk.1", LAST)).maps(wanted),
        lambda: without(torch.no_grad, tapped),
    )
    sampler = Sampler(CALLS, given.every_calls, device)
    for call in range(given.calls):
        ways[call % len(ways)]()
        sampler.at(call + 1)
    return sampler.record()


def train_long(given: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """``train`` on the embedded scenes with all of Eq. 7, checkpoints included."""
    config = RunConfig(
        # few enough pictures that all are drawn, and kept, before the samples count
        data=DataConfig(source="scenes:source?count=48", target="scenes:target?count=48", size=given.size),
        model=ModelConfig(backbone="small", discriminator_width=16),
        training=TrainingConfig(
            steps=given.steps, batch_size=4, checkpoint_every=max(1, given.every_steps // 2), checkpoint_share=1
        ),
        output=str(folder / "run"),
        device=device.type,
        workers=given.workers,
    )
    sampler = Sampler(STEPS, given.every_steps, device)
    train(config, watch=lambda progress: sampler.at(progress.step))
    return sampler.record()


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "read": read_many,
    "predict": predict_many,
    "attend": attend_many,
    "attention": attention_calls,
    "training": train_long,
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    options.add_argument("--files", type=int, default=100_000, help="files read, and predicted")
    options.add_argument("--little", type=int, default=64, help="width of these")
    options.add_argument("--readers", type=int, default=2, help="processes that read these")
    options.add_argument("--every-files", type=int, default=5_000)
    options.add_argument("--most", type=float, default=16.0, help="most growth in MiB from the first tenth of these on")
    options.add_argument("--count", type=int, default=10_000, help="photographs")
    options.add_argument("--distinct", type=int, default=300, help="different ones; the others are links to them")
    options.add_argument("--side", type=int, default=160, help="width of the photographs")
    options.add_argument("--calls", type=int, default=10_000, help="calls of attention")
    options.add_argument("--every-calls", type=int, default=500)
    options.add_argument("--steps", type=int, default=2_000, help="training steps")
    options.add_argument("--size", type=int, default=64, help="side of what the network sees")
    options.add_argument("--workers", type=int, default=0, help="reading processes (their memory is not counted)")
    options.add_argument("--every-photographs", type=int, default=1_000)
    options.add_argument("--every-steps", type=int, default=200)
    options.add_argument("--bound", type=float, default=2.0, help="most growth in MiB per 1,000")
    return options.parse_args(arguments)


def grows(record: dict[str, Any], given: argparse.Namespace) -> bool:
    """Whether a part's memory grows beyond what was said."""
    if record["what"] in (READ, PREDICTED):
        return bool(record["grown"] > given.most)
    return bool(max(record["slopes"], default=float("inf")) > given.bound)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if memory grows faster than the bound."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    records = []
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            records.append(PARTS[part](given, device, Path(folder)))
    rows = []
    for r in records:
        sizes = [size for _, size in r["process"]]
        done = f"{r['process'][-1][0]:,} {r['what']}"
        rows.append([done, sizes[0], sizes[-1], r["grown"], max(r["slopes"], default=None)])
    header = ["work", "first MiB", "last MiB", "after the first tenth", "MiB per 1,000"]
    print(measure.table(header, rows, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "parts": records})
    growing = [r["what"] for r in records if grows(r, given)]
    bounds = f"{given.bound} MiB per 1,000; of the files {given.most} MiB in all"
    print(f"memory {'GROWS with ' + ' and '.join(growing) if growing else 'is flat'} (bound {bounds})")
    return 1 if growing else 0


if __name__ == "__main__":
    sys.exit(main())
