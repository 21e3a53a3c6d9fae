"""Seeded region growing of a batch: ours against the original's formulation, two-pass labelling with union-find.

The original grows an image at a time: for each of its classes, a mask of the pixels of that class is labelled by a first
pass that gives labels and notes which are equal in a forest, and a second that replaces each by its root. It labels both
values of the mask, and reads its arrays pixel by pixel. This is transcribed here in plain Python from the definition. Left
out, in its favour: the table of neighbouring regions that the original also keeps while labelling (``--tables`` puts it in)
and never reads, and the processes that it starts.

Both get the same cues and probabilities, and their results are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import measure
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbn.io.atomic import write_json
from attnbn.segmentation.growing import grow_seeds

ORIGINAL, OURS = "union-find in Python", "attnbn"
FOREGROUND, BACKGROUND = 0.85, 0.99


class Forest:
    """Labels known to be equal: a tree for each set of them."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.rank: list[int] = []

    def new(self) -> int:
        """A label of its own."""
        self.parent.append(len(self.parent))
        self.rank.append(0)
        return len(self.parent) - 1

    def root(self, label: int) -> int:
        """The label that stands for all equal to this one; paths are shortened on the way."""
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def unite(self, one: int, other: int) -> None:
        """Two labels are equal; the shallower tree goes under the deeper."""
        one, other = self.root(one), self.root(other)
        if one == other:
            return
        if self.rank[one] < self.rank[other]:
            one, other = other, one
        self.parent[other] = one
        self.rank[one] += self.rank[one] == self.rank[other]


def two_pass_labels(values: np.ndarray, *, tables: bool = False) -> list[list[int]]:
    """The 8-connected regions of equal value, each pixel with its region's label.

    Args:
        values: Integer ``h×w``.
        tables: Keep which regions are neighbours, as the original does.
    """
    height, width = values.shape
    labels = [[0] * width for _ in range(height)]
    forest = Forest()
    neighbours: dict[int, np.ndarray] = {}
    for y in range(height):
        for x in range(width):
            value, before, others = values[y, x], [], []
            for v, u in ((y, x - 1), (y - 1, x), (y - 1, x - 1), (y - 1, x + 1)):
                if v >= 0 and 0 <= u < width:
                    (before if values[v, u] == value else others).append(labels[v][u])
            labels[y][x] = min(before) if before else forest.new()
            for one, other in pairwise(before):
                forest.unite(one, other)
            if tables:
                for other in others:
                    _note(neighbours, labels[y][x], other)
    return [[forest.root(label) for label in row] for row in labels]


def _note(neighbours: dict[int, np.ndarray], one: int, other: int) -> None:
    for a, b in ((one, other), (other, one)):
        neighbours[a] = np.unique([*neighbours.get(a, ()), b])


def grow_one(cues: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, *, tables: bool = False) -> np.ndarray:
    """Growing of one image by the original's steps.

    Args:
        cues: bool ``(N+1)×h×w``.
        probabilities: ``(N+1)×h×w``.
        labels: ``N``.
        tables: As in :func:`two_pass_labels`.
    """
    classes = [0, *(np.flatnonzero(labels == 1) + 1)]
    best, highest = probabilities[classes].argmax(0), probabilities[classes].max(0)
    class_of = np.full(best.shape, -1)
    channel, rows, columns = np.nonzero(cues)
    class_of[rows, columns] = channel
    for (y, x), value in np.ndenumerate(highest):
        c = classes[best[y, x]]
        if value > (FOREGROUND if c else BACKGROUND):
            class_of[y, x] = c
    grown = cues.copy()
    for c in classes:
        mask = (class_of == c).astype(int)
        regions = two_pass_labels(mask, tables=tables)
        seeded = set()
        for (y, x), value in np.ndenumerate(mask):
            if value and cues[c, y, x]:
                seeded.add(regions[y][x])
            elif value and np.sum(cues[:, y, x]) == 1:
                regions[y][x] = -1
        for y, row in enumerate(regions):
            for x, label in enumerate(row):
                if label in seeded:
                    grown[c, y, x] = True
    return grown


def blobs(batch: int, classes: int, grid: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Cues, probabilities and labels such as training meets: smooth regions of a few classes among 20, cues inside them."""
    scores = F.interpolate(torch.randn(batch, 21, 6, 6), (grid, grid), mode="bicubic") * 8
    labels = torch.zeros(batch, 20)
    for image in labels:
        image[torch.randperm(20)[:classes]] = 1
    present = F.pad(labels, (1, 0), value=1)[:, :, None, None] == 1
    probabilities = scores.masked_fill(~present, -30).softmax(1)
    # attention seeds the heart of a region and misses part of it, and sometimes claims what belongs to another class
    patches = F.interpolate(torch.rand(batch, 21, 9, 9), (grid, grid), mode="nearest") < 0.4
    cues = patches & (probabilities > 0.9)
    wrong = F.interpolate(torch.rand(batch, 21, 12, 12), (grid, grid), mode="nearest") < 0.02
    cues |= wrong & present
    return cues.to(device), probabilities.to(device), labels.to(device)


def measured(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Times an image, and whether the results are equal."""
    case = blobs(given.batch, given.classes, given.grid, device)
    arrays = [part.cpu().numpy() for part in case]

    def original() -> np.ndarray:
        return np.stack([grow_one(*image, tables=given.tables) for image in zip(*arrays, strict=True)])

    def ours() -> Tensor:
        return grow_seeds(*case, foreground=FOREGROUND, background=BACKGROUND)

    grown = ours().cpu()
    differ = int((grown != torch.from_numpy(original())).sum())
    methods: dict[str, Callable[[], Any]] = {ORIGINAL: original, OURS: ours}
    times = measure.interleaved(methods, given.repeats, device, given.patience)
    return {
        "milliseconds": {name: 1000 * statistics.median(each) / given.batch for name, each in times.items()},
        "times": times,
        "ratio": measure.ratio(times, ORIGINAL, OURS),
        "seeds": int(case[0].sum()),
        "grown": int(grown.sum()),
        "differ": differ,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    options = measure.parser((__doc__ or "").splitlines()[0])
    options.add_argument("--batch", type=int, default=20, help="images")
    options.add_argument("--classes", type=int, default=4, help="of 20 classes that an image has")
    options.add_argument("--grid", type=int, default=41, help="side of the network's output")
    options.add_argument("--repeats", type=int, default=7, help="rounds after the warm-up")
    options.add_argument("--patience", type=float, default=60, help="seconds after which a slow method's rounds end")
    options.add_argument("--tables", action="store_true", help="with the original's tables of neighbouring regions")
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print; 1 if the results differ."""
    given = parse(arguments)
    device = measure.prepare(given)
    facts = measure.machine(device)
    title = f"{given.batch} images of {given.classes} classes at {given.grid}²: "
    print(title + ", ".join(f"{key} {value}" for key, value in facts.items()))
    figures = measured(given, device)
    rows = [
        [name, value, figures["ratio"] if name == ORIGINAL else 1.0] for name, value in figures["milliseconds"].items()
    ]
    print(measure.table(["method", "ms an image", "of attnbn"], rows, markdown=given.markdown))
    if given.json:
        write_json(given.json, {"settings": vars(given), "machine": facts, **figures})
    same = figures["differ"] == 0
    verdict = "identical" if same else f"DIFFER at {figures['differ']} places"
    print(
        f"{figures['seeds']} seeds grew to {figures['grown']}; results {verdict}; {figures['ratio']:.0f} times as fast"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
