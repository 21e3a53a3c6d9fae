"""Small trainings of every kind, by one process or several: what ``tests/training/test_process_groups.py`` compares.

Started with a folder, a number of processes and the name of a run's settings, it writes what each training ended with there,
then trains without end, for the test to kill one of the processes.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed
from torch import Tensor, nn
from torchvision import tv_tensors

from attnbn.config import LossConfig, Phase, TrainingConfig
from attnbn.data.collate import collate
from attnbn.data.sample import Saliency, Sample
from attnbn.models.discriminator import Discriminator
from attnbn.models.domain_classifier import DomainClassifier
from attnbn.segment_config import CrfConfig, DsrgConfig
from attnbn.tasks.alignment import Adversarial, Alignment, Coral, Dann
from attnbn.tasks.bridge import Bridge
from attnbn.tasks.dsrg import CueBatch, Dsrg
from attnbn.tasks.supervised import Supervised, collate_masks
from attnbn.training.checkpoint import Checkpoint, CheckpointFolder
from attnbn.training.devices import make_fabric
from attnbn.training.loop import Every, Loop, Progress
from attnbn.training.schedules import Stretch
from attnbn.training.streams import Stream
from attnbn.training.task import Task
from conftest import tiny_network

CLASSES, SIDE, BATCH, STEPS = 3, 16, 12, 6
PARENT = os.getppid()
TRAINING = TrainingConfig(batch_size=BATCH, weight_decay=1e-2, discriminator_lr=1e-2)
OFF = LossConfig(source_cl=0, attention=0, target_cl=0, adversarial=0)
LOSSES = {
    "bridge": LossConfig(1, 2, 1, 0.1, other_classes=0.3, background=0.4),
    "attention": dataclasses.replace(OFF, attention=2.0),  # which no last bias has a part in
    "adversarial": dataclasses.replace(OFF, source_cl=1.0, adversarial=0.5),
    "dann": dataclasses.replace(OFF, source_cl=1.0, dann=0.5, over_classes="sum"),
    "coral": dataclasses.replace(OFF, source_cl=1.0, coral=3000.0),
    "norm": LossConfig(1, 2, 1, 0.1),
}
CASES = (*LOSSES, "dsrg", "masks")


class Samples:
    """Images of noise; some without a saliency map, some with a label that is unknown, some with two."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        draw = torch.Generator().manual_seed(1000 * self.seed + index)
        labels = torch.eye(CLASSES)[index % CLASSES]
        if index % 4 == 1:
            labels[(index + 1) % CLASSES] = float("nan") if index % 8 == 1 else 1.0
        saliency = Saliency(torch.rand(1, SIDE, SIDE, generator=draw)) if index % 3 == 0 else None
        mask = torch.randint(0, CLASSES + 1, (SIDE, SIDE), generator=draw, dtype=torch.uint8)
        mask[: index % SIDE] = 255
        image = torch.randint(0, 256, (3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
        return Sample(tv_tensors.Image(image), labels, saliency, tv_tensors.Mask(mask), f"{self.seed}/{index}")


def collate_cues(samples: Sequence[Sample]) -> CueBatch:
    cues = []
    for sample in samples:
        draw = torch.Generator().manual_seed(int(sample.name.split("/")[1]))
        wanted = torch.cat([torch.ones(1), torch.nan_to_num(sample.labels)]) > 0
        cues.append((torch.rand(CLASSES + 1, SIDE // 4, SIDE // 4, generator=draw) < 0.3) & wanted[:, None, None])
    images = torch.stack([sample.image.as_subclass(Tensor) for sample in samples])
    return CueBatch(images, torch.nan_to_num(torch.stack([s.labels for s in samples])), torch.stack(cues))


def task_of(case: str, dropout: float = 0.0) -> tuple[Task, Callable[[list[Sample]], Any]]:
    torch.manual_seed(7)
    if case in ("dsrg", "masks"):
        norm = nn.BatchNorm2d(8) if case == "dsrg" else nn.Identity()
        net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), norm, nn.ReLU(), nn.Conv2d(8, CLASSES + 1, 1))
        if case == "masks":
            return Supervised(net, [net[-1]], TRAINING), collate_masks
        crf = CrfConfig(iterations=2, unary="linear", shrink=4.0)
        return Dsrg(net, [], DsrgConfig(foreground=0.3, background=0.3, crf=crf), TRAINING), collate_cues
    network, loss = tiny_network(CLASSES, hidden=6, dropout=dropout), LOSSES[case]
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2.5)
    if case == "norm":
        trunk = network.trunk
        network.trunk = nn.Sequential(trunk[0], nn.BatchNorm2d(8), trunk[1:3], nn.BatchNorm2d(8), nn.ReLU())
    alignment: Alignment | None = None
    if loss.adversarial:
        alignment = Adversarial(Discriminator(8, (8, 8), width=4, upsample=2), loss)
    elif loss.dann:
        alignment = Dann(DomainClassifier(8, 16), loss, STEPS)
    elif loss.coral:
        alignment = Coral(loss)
    return Bridge(network, alignment, [network.head.first], loss, TRAINING), collate


def train(
    fabric: Any, case: str, folder: Path, accumulate: int = 1, *, steps: int = STEPS, workers: int = 0,
    dropout: float = 0.0, resume: Checkpoint | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Train; what the first process has written in the end, and the last step's terms."""
    task, together = task_of(case, dropout)
    streams = {
        name: Stream(name, Samples(count, seed), lambda item, _: item, together, seed=3, batch_size=BATCH)
        for name, count, seed in (("source", 17, 0), ("target", 19, 1))
    }
    terms: dict[str, float] = {}

    def told(progress: Progress) -> None:
        terms.update(progress.terms)
        if fabric.is_global_zero and os.getppid() != PARENT:  # the test has gone: nobody will end this
            sys.exit(1)

    loop = Loop(
        task, streams, [Stretch(Phase(), 0, steps, steps, 0.05)], lambda stretch, step: 1.0, fabric,
        seed=3, checkpoints=CheckpointFolder(folder), metrics=lambda *_: None, every=Every(0, 0, 0),  # type: ignore[arg-type,return-value]
        accumulate=accumulate, workers=workers, watch=told,
    )  # fmt: skip
    loop._write = lambda line: None  # type: ignore[method-assign]
    loop.run(resume)
    if not fabric.is_global_zero:
        return {}
    last: Checkpoint = CheckpointFolder(folder).named("last")
    return last.tensors | {f"terms.{name}": torch.tensor(value).double() for name, value in terms.items()}


def main(folder: Path, processes: int, settings: str | None) -> None:
    fabric = make_fabric(device="cpu", precision="64-true", devices=processes)
    fabric.join()
    (folder / f"pid-{fabric.global_rank}").write_text(str(os.getpid()))
    if settings is not None:
        from attnbn.cli.train import parse
        from attnbn.experiments.train import train as whole

        whole(parse(settings.split("\n")).config)
    for case in CASES:
        for accumulate in (1, 2) if case in ("bridge", "masks") else (1,):
            done = train(fabric, case, folder / f"{case}-{accumulate}", accumulate)
            if fabric.is_global_zero:
                safetensors.torch.save_file(done, folder / f"{case}-{accumulate}.safetensors")
    fabric.barrier()
    if fabric.is_global_zero:
        (folder / "done").touch()
    train(fabric, "bridge", folder / "endless", steps=10**6)


if __name__ == "__main__":
    from attnbn.io.errors import AttnbnError
    from attnbn.training.launch import ended_together

    torch.set_num_threads(1)
    try:
        place, number, *more = sys.argv[1:]
        with ended_together(make_fabric(device="cpu", devices=int(number))):
            main(Path(place), int(number), more[0] if more else None)
    except AttnbnError as error:  # as the command line does
        if "LOCAL_RANK" not in os.environ:
            print(f"attnbn: {error}", file=sys.stderr)
            sys.exit(error.exit_status)
