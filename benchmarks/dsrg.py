"""What CRF and growing cost in a step of seeded region growing: the whole step, and each of the two by itself.

VGG16-LargeFOV on random photographs at 321×321 with blobs for cues, forward, backward and the optimiser's step. The parts are
measured in turns with the step, on the same batch, so that their share of it holds on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import measure
import torch
from torch import Tensor

from attnbn.config import Phase, TrainingConfig
from attnbn.io.atomic import write_json
from attnbn.models.segmenters import NETWORKS, build_segmenter, grid_of
from attnbn.segment_config import DsrgConfig, SegmenterConfig
from attnbn.segmentation.growing import grow_seeds
from attnbn.tasks.dsrg import CueBatch, Dsrg, refine

STEP, CRF, GROWING = "whole step", "CRF", "growing"
MOST = 0.10
"""CRF and growing together, of the step."""


def random_batch(images: int, size: int, grid: tuple[int, int], classes: int, device: torch.device) -> CueBatch:
    """Photographs of smooth noise, two classes each, cues on a tenth of the cells."""
    small = torch.rand(images, 3, 16, 16)
    smooth = torch.nn.functional.interpolate(small, size=(size, size), mode="bilinear")
    pictures = (255 * smooth + 10 * torch.randn(images, 3, size, size)).clamp(0, 255).to(torch.uint8)
    labels = torch.zeros(images, classes)
    cues = torch.zeros(images, classes + 1, *grid, dtype=torch.bool)
    for image in range(images):
        for place, label in enumerate(torch.randperm(classes)[:2].tolist()):
            labels[image, label] = 1
            top, left = grid[0] // 4 * (1 + place), grid[1] // 4 * (1 + place)
            cues[image, label + 1, top : top + grid[0] // 5, left : left + grid[1] // 5] = True
        cues[image, 0, : grid[0] // 10] = True
    return CueBatch(pictures.to(device), labels.to(device), cues.to(device))


def parts(given: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    built = build_segmenter(SegmenterConfig(network=given.network), given.classes)
    grid = grid_of(built.network, given.size)
    network = built.network.to(device, memory_format=torch.channels_last).train()
    training = TrainingConfig(lr=1e-6)  # the weights shall hardly move: what comes out must stay finite
    task = Dsrg(network, built.fresh, DsrgConfig(), training)
    optimizer = task.optimizers(Phase(), training.lr)["network"]
    batch = random_batch(given.batch, given.size, grid, given.classes, device)
    probabilities = torch.randn(given.batch, given.classes + 1, *grid, device=device).mul_(2).softmax(1)
    refined = refine(batch.image, probabilities, task.dsrg.crf)

    def step() -> None:
        ((_, terms),) = task.losses({"target": batch}, Phase(), 0)
        optimizer.zero_grad()
        total = torch.stack([term.weight * term.value() for term in terms.values()]).sum()
        total.backward()
        optimizer.step()

    def crf() -> Tensor:
        return refine(batch.image, probabilities, task.dsrg.crf)

    def growing() -> Tensor:
        return grow_seeds(batch.cues, refined, batch.labels)

    return {STEP: step, CRF: crf, GROWING: growing}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and say whether the share is kept."""
    options = measure.parser((__doc__ or "").partition("\n")[0])
    options.add_argument("--network", default="vgg16-largefov", choices=list(NETWORKS))
    options.add_argument("--size", type=int, default=321)
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--classes", type=int, default=20)
    options.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up")
    given = options.parse_args(arguments)
    device = measure.prepare(given)
    times = measure.interleaved(parts(given, device), given.repeats, device, patience=600)
    share = statistics.median(
        (crf + growing) / step for step, crf, growing in zip(times[STEP], times[CRF], times[GROWING], strict=True)
    )
    rows = [
        [name, 1000 * statistics.median(values) / given.batch, measure.ratio(times, name, STEP)]
        for name, values in times.items()
    ]
    print(measure.table(["part", "ms an image", "of the step"], rows, markdown=given.markdown))
    print(f"\nCRF and growing: {100 * share:.1f} % of the step (goal: below {100 * MOST:.0f} %)")
    if given.json:
        settings = {key: value for key, value in vars(given).items() if key not in ("json", "markdown")}
        write_json(
            given.json, {"settings": settings, "machine": measure.machine(device), "times": times, "share": share}
        )
    return int(share >= MOST)


if __name__ == "__main__":
    sys.exit(main())
