"""The loader alone: images a second, beside torchvision's own, and where the time goes.

Ours is what trains: the data set, the training transforms and the collating behind the stream's loader. The peer is what one
would write by hand: torchvision's ``ImageFolder`` of the very same files, ``transforms.v2`` with the same crop and flip, a
``DataLoader`` with the same batch and number of processes. Both give uint8 batches. Without ``--data`` photographs of 500×375
with saliency maps of the same size are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from attnbn.data.collate import collate
from attnbn.data.images import read_image
from attnbn.data.open import open_dataset
from attnbn.data.photos import PhotoDataset
from attnbn.data.sample import Saliency, Sample
from attnbn.data.transforms import JointTransform, train_transform
from attnbn.experiments.feeds import Augment
from attnbn.io.atomic import write_json
from attnbn.saliency.files import SaliencyFolder
from attnbn.training.streams import Stream, augmentation_seed

HEIGHT, WIDTH = 375, 500
OURS, WITH_SALIENCY, PEER = "attnbn", "attnbn, with saliency", "torchvision ImageFolder"
SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
STAGES = ("decode", "saliency read", "crop and resize", "flip", "seed and the rest", "collate")
GOAL = 0.9
"""Of the peer's images a second, at each number of processes."""


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


def open_photographs(given: argparse.Namespace, saliency: str | None) -> PhotoDataset:
    """The data set, with saliency or without."""
    source = None if saliency is None else SaliencyFolder(saliency)
    dataset = open_dataset(given.data, split=given.split, saliency=source)
    if not isinstance(dataset, PhotoDataset):
        raise SystemExit(f"expected a data set of files, got {given.data}")
    return dataset


def ours(dataset: PhotoDataset, given: argparse.Namespace, batches: int, workers: int) -> Iterator[torch.Tensor]:
    """Batches as in training."""
    augment = Augment(train_transform(given.size, SCALE))
    stream = Stream("source", dataset, augment, collate, seed=0, batch_size=given.batch)
    return (batch.image for batch in stream.batches(0, batches, workers=workers))


def peers(folder: Path, given: argparse.Namespace, batches: int, workers: int) -> Iterator[torch.Tensor]:
    """Batches as one would write it by hand, epoch after epoch."""
    crop = v2.RandomResizedCrop((given.size, given.size), scale=SCALE, ratio=RATIO, antialias=True)
    transform = v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip()])
    sampler = torch.utils.data.RandomSampler(
        dataset := ImageFolder(str(folder), transform), replacement=False, num_samples=batches * given.batch
    )
    return (images for images, _ in DataLoader(dataset, given.batch, sampler=sampler, num_workers=workers))


def link_photographs(dataset: PhotoDataset, folder: Path) -> None:
    """The same files as one class of an ``ImageFolder``."""
    (folder / "all").mkdir(parents=True)
    for index in range(len(dataset)):
        path = dataset.path(index).absolute()
        (folder / "all" / f"{index:07d}{path.suffix}").symlink_to(path)


def seconds_of(batches: Callable[[int, int], Iterator[torch.Tensor]], count: int, workers: int) -> float:
    """Seconds for ``count`` batches amid others: what was read ahead by the first equals what is read ahead by the last."""
    ahead = 1 + 2 * workers
    source = batches(ahead + count + ahead, workers)
    for _ in islice(source, ahead):
        pass
    began = time.perf_counter()
    for _ in islice(source, count):
        pass
    return time.perf_counter() - began


def measure_speed(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A record for each loader and number of processes, measured in turns."""
    plain = open_photographs(given, None)
    link_photographs(plain, folder)
    methods: dict[str, Callable[[int, int], Iterator[torch.Tensor]]] = {
        OURS: lambda batches, workers: ours(plain, given, batches, workers),
        PEER: lambda batches, workers: peers(folder, given, batches, workers),
    }
    if given.saliency is not None:
        full = open_photographs(given, given.saliency)
        methods[WITH_SALIENCY] = lambda batches, workers: ours(full, given, batches, workers)
    count = max(1, given.images // given.batch)
    records = []
    for workers in given.workers:
        times: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(given.repeats):
            for name, method in methods.items():
                times[name].append(seconds_of(method, count, workers))
        for name, seconds in times.items():
            speed = count * given.batch / statistics.median(seconds)
            record = {"loader": name, "workers": workers, "images_per_second": speed, "times": seconds}
            records.append(record | {"of_peer": 1 / measure.ratio(times, name, PEER)})
    return records


def measure_stages(given: argparse.Namespace) -> dict[str, float]:
    """Milliseconds an image of each of :data:`STAGES`, and ``all``, in this process."""
    dataset = open_photographs(given, given.saliency)
    crop = v2.RandomResizedCrop((given.size, given.size), scale=SCALE, ratio=RATIO, antialias=True)
    cropping, flipping = JointTransform(crop, mask=True), JointTransform(v2.RandomHorizontalFlip(), mask=True)
    augment = Augment(train_transform(given.size, SCALE))
    rounds: list[dict[str, float]] = []
    for _ in range(given.repeats + 1):
        spent = dict.fromkeys((*STAGES, "all"), 0.0)

        def timed(stage: str, work: Callable[[], Any], spent: dict[str, float] = spent) -> Any:
            began = time.perf_counter()
            result = work()
            spent[stage] += time.perf_counter() - began
            return result

        indices = [index % len(dataset) for index in range(max(given.batch, given.images // 4))]
        kept: list[Sample] = []
        for j, index in enumerate(indices):
            image = timed("decode", lambda index=index: read_image(dataset.path(index)))
            name, size = dataset.names[index], (image.shape[-2], image.shape[-1])
            found = None
            if dataset.saliency is not None:
                found = timed("saliency read", lambda name=name, size=size: dataset.saliency(name, size))
            labels = None if dataset.labels is None else dataset.labels[index]
            sample = Sample(image, labels, None if found is None else Saliency(found), None, name)
            cropped = timed("crop and resize", lambda sample=sample: cropping(sample))
            timed("flip", lambda cropped=cropped: flipping(cropped))
            seed = augmentation_seed(0, "source", j)
            kept.append(timed("seed and the rest", lambda sample=sample, seed=seed: augment(sample, seed)))
            if len(kept) == given.batch:
                timed("collate", lambda kept=kept: collate(kept))
                kept = []
        spent["seed and the rest"] = max(0.0, spent["seed and the rest"] - spent["crop and resize"] - spent["flip"])
        spent["all"] = sum(spent[stage] for stage in STAGES)
        rounds.append({stage: 1000 * seconds / len(indices) for stage, seconds in spent.items()})
    return {stage: statistics.median(one[stage] for one in rounds[1:]) for stage in rounds[0]}


def show(records: list[dict[str, Any]], stages: dict[str, float], *, markdown: bool) -> str:
    """Both tables."""
    speeds = [[r["loader"], r["workers"], r["images_per_second"], f"{r['of_peer']:.2f}"] for r in records]
    parts = [[stage, stages[stage], f"{stages[stage] / stages['all']:.0%}"] for stage in (*STAGES, "all")]
    return "\n\n".join(
        (
            measure.table(["loader", "workers", "images/s", "of torchvision's"], speeds, markdown=markdown),
            measure.table(["one process, with saliency if there is any", "ms an image", "share"], parts, markdown=markdown),
        )
    )  # fmt: skip


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--data", metavar="KIND:PATH", help="a data set of photographs; none: written for the purpose")
    options.add_argument("--split", default="train", help="of --data")
    options.add_argument("--saliency", metavar="FOLDER", help="maps of --data")
    options.add_argument("--size", type=int, default=224, help="side of the images")
    options.add_argument("--batch", type=int, default=16, help="images a batch")
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes")
    options.add_argument("--images", type=int, default=512, help="images to time in each round")
    options.add_argument("--repeats", type=int, default=5, help="rounds")
    options.add_argument("--photographs", type=int, default=64, help="files to write where no --data is given")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if the loader is slower than its goal."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    with tempfile.TemporaryDirectory() as folder:
        if given.data is None:
            write_photographs(Path(folder), given.photographs)
            given.data, given.saliency = f"folders:{folder}/photos", f"{folder}/saliency"
        print(f"{given.size}², batch {given.batch}: " + ", ".join(f"{k} {v}" for k, v in facts.items()))
        records = measure_speed(given, Path(folder) / "links")
        stages = measure_stages(given)
    print(show(records, stages, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, "loaders": records, "stages": stages})
    worst = min(record["of_peer"] for record in records if record["loader"] == OURS)
    print(
        f"at the least {worst:.2f} of torchvision's speed; the goal of {GOAL} is {'reached' if worst >= GOAL else 'MISSED'}"
    )
    return 0 if worst >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
