"""The scenes as a data set: ``source`` and ``target``, each with three splits that never share a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

import numpy as np
import torch
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Saliency, Sample
from attnbn.data.scenes.compose import NAMES, Scene, source_present, source_scene, target_present, target_scene
from attnbn.data.scenes.dice import Dice
from attnbn.io.errors import InputError

COUNTS = {"train": 900, "dev": 200, "test": 300}
"""Splits and how many pictures each has unless ``count`` says otherwise."""

DOMAINS = ("source", "target")
_KEPT = 2048
"""Pictures kept in memory once drawn: 55 MB at most at 96×96, and all of the demo's."""


@dataclass(frozen=True)
class Domain:
    """A parsed specification.

    Attributes:
        name: ``source`` or ``target``.
        count: Pictures in the split.
        seed: Another seed is another world; splits of one seed are disjoint.
        difficulty: Of the target, in [0, 1]: see :mod:`attnbn.data.scenes.compose`.
    """

    name: str
    count: int
    seed: int = 0
    difficulty: float = 1.0


class Scenes(ImageDataset):
    """Pictures drawn when first asked for; picture i is a pure function of (seed, domain, split, i, difficulty, size).

    Args:
        domain: Which domain, how many pictures and how hard.
        split: One of :data:`COUNTS`.
        classes: Indices into :data:`NAMES` of the classes wanted, in order.
        labels: Yield labels.
        masks: Yield masks.
        size: Side in pixels.
    """

    def __init__(
        self, domain: Domain, split: str, classes: Sequence[int], *, labels: bool, masks: bool, size: int
    ) -> None:
        self._seeds = (domain.seed, DOMAINS.index(domain.name), list(COUNTS).index(split))
        self._domain, self._size, self._with_masks = domain, size, masks
        present = source_present if domain.name == "source" else target_present
        contents = [present(Dice(*self._seeds, i)) for i in range(domain.count)]
        self._order = [i for i, found in enumerate(contents) if any(c in found for c in classes)]
        table = torch.zeros(len(self._order), len(classes))
        for row, i in enumerate(self._order):
            table[row] = torch.tensor([float(c in contents[i]) for c in classes])
        # what the ids 0..255 of the drawing become: other classes' toys are background, void stays void
        self._ids = np.zeros(256, dtype=np.uint8)
        self._ids[255] = 255
        for new, old in enumerate(classes):
            self._ids[old + 1] = new + 1
        left_out = domain.count - len(self._order)
        super().__init__(
            [NAMES[c] for c in classes],
            [f"{domain.name}/{split}/{i:05d}" for i in self._order],
            table if labels else None,
            has_masks=masks,
            has_saliency=domain.name == "source",
            notes=[f"{left_out:,} of {domain.count:,} pictures show none of the classes and are left out"]
            * bool(left_out),
            title=f"scenes:{domain.name} {split}",
        )
        self._drawn = lru_cache(maxsize=_KEPT)(self._draw)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index``: 96×96 by default, with exact saliency in the source and exact masks where asked for."""
        scene = self._drawn(self._order[index])
        saliency = Saliency(torch.from_numpy(scene.coverage.astype(np.float32) / 255)) if self.has_saliency else None
        mask = tv_tensors.Mask(torch.from_numpy(self._ids[scene.mask])) if self._with_masks else None
        image = tv_tensors.Image(torch.from_numpy(scene.image.transpose(2, 0, 1).copy()))
        labels = None if self.labels is None else self.labels[index].clone()
        return Sample(image, labels, saliency, mask, self.names[index])

    def _draw(self, i: int) -> Scene:
        dice = Dice(*self._seeds, i)
        if self._domain.name == "source":
            return source_scene(dice, self._size)
        return target_scene(dice, self._size, self._domain.difficulty)


def open_scenes(
    spec: str,
    *,
    split: str,
    classes: Sequence[str] | None = None,
    labels: bool = True,
    masks: bool = False,
    size: int = 96,
) -> ImageDataset:
    """Open a split of the embedded scenes.

    Args:
        spec: ``source`` or ``target``, with options after a question mark: ``target?count=600&difficulty=0.5&seed=3``.
        split: ``train``, ``dev`` or ``test``.
        classes: Names of the classes wanted, in order; None: all six. Pictures with none of them are left out,
            toys of other classes are background.
        labels: Yield labels.
        masks: Yield masks: uint8, 0 background, i + 1 class i, 255 pixels that two things share.
        size: Side of the pictures in pixels.

    Returns:
        A data set whose picture i is the same in every process and on every machine.

    Raises:
        InputError: An unknown domain, option, split or class, or a value out of range.
    """
    if split not in COUNTS:
        raise InputError(f"expected a split of the scenes, one of {', '.join(COUNTS)}, got {split!r}: scenes:{spec}")
    domain = parse_spec(spec, COUNTS[split])
    wanted = NAMES if classes is None else tuple(classes)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise InputError(f"the scenes have no class {unknown[0]!r}; they have {', '.join(NAMES)}: data.classes")
    if not wanted or len(set(wanted)) != len(wanted):
        raise InputError(f"expected one or more classes, each once, got {', '.join(wanted) or 'none'}: data.classes")
    if size < 16:
        raise InputError(f"expected pictures of at least 16 pixels, got {size}: scenes:{spec}")
    return Scenes(domain, split, [NAMES.index(name) for name in wanted], labels=labels, masks=masks, size=size)


def parse_spec(spec: str, count: int) -> Domain:
    """Read ``target?count=600&difficulty=0.5&seed=3``.

    Args:
        spec: The domain and its options.
        count: Pictures where the specification names no ``count``.

    Raises:
        InputError: An unknown domain or option, or a value out of range.
    """
    name, _, query = spec.partition("?")
    if name not in DOMAINS:
        raise InputError(f"expected scenes:source or scenes:target, got scenes:{spec}")
    values: dict[str, float] = {"count": count, "seed": 0, "difficulty": 1.0}
    limits = {"count": (1, 10_000_000), "seed": (0, 2**32 - 1), "difficulty": (0, 1)}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in values:
            raise InputError(f"expected an option among {', '.join(values)}, got {key!r}: scenes:{spec}")
        low, high = limits[key]
        try:
            value = float(text) if key == "difficulty" else int(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            kind = "number" if key == "difficulty" else "whole number"
            raise InputError(f"expected a {kind} from {low} to {high} for {key}, got {text!r}: scenes:{spec}")
        values[key] = value
    return Domain(name, int(values["count"]), int(values["seed"]), values["difficulty"])
