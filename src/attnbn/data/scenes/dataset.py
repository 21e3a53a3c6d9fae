"""The scenes as a data set: ``source`` and ``target``, and the three of :mod:`trio`; their splits never share a picture."""

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
from attnbn.data.scenes.trio import LOOKS, TRIO_NAMES, trio_present, trio_scene
from attnbn.io.errors import InputError

BIAS = 0.9
"""How often a class comes with its own backdrop: at home well worth leaning on, and away the way to be wrong."""

COUNTS = {"train": 900, "dev": 200, "test": 300}
"""Splits and how many pictures each has unless ``count`` says otherwise."""

DOMAINS = ("source", "target", *LOOKS)
"""A domain's place here is one of its seeds: new ones come last."""

OPTIONS: dict[str, tuple[float, float]] = {
    "count": (1, 10_000_000),
    "seed": (0, 2**32 - 1),
    "difficulty": (0, 1),
    "bias": (0, 1),
}
"""What may follow the question mark, with its lowest and highest value; the shares are of some domains alone."""

_SHARES = {"difficulty": ("target",), "bias": tuple(LOOKS)}
_KEPT = 4096
"""Pictures kept in memory once drawn: 190 MB at most at 96×96, and all that a demo trains on."""


@dataclass(frozen=True)
class Domain:
    """A parsed specification.

    Attributes:
        name: One of :data:`DOMAINS`.
        count: Pictures in the split.
        seed: Another seed is another world; splits of one seed are disjoint.
        difficulty: Of the target, in [0, 1]: see :mod:`attnbn.data.scenes.compose`.
        bias: Of the three: how often a class comes with its own backdrop, see :mod:`attnbn.data.scenes.trio`.
    """

    name: str
    count: int
    seed: int = 0
    difficulty: float = 1.0
    bias: float = BIAS


class Scenes(ImageDataset):
    """Pictures drawn when first asked for; picture i is a pure function of (seed, domain, split, i, size) and the share.

    Args:
        domain: Which domain, how many pictures, and its share.
        split: One of :data:`COUNTS`.
        classes: Indices into the domain's names of the classes wanted, in order.
        labels: Yield labels.
        masks: Yield masks.
        size: Side in pixels.
    """

    def __init__(
        self, domain: Domain, split: str, classes: Sequence[int], *, labels: bool, masks: bool, size: int
    ) -> None:
        self._seeds = (domain.seed, DOMAINS.index(domain.name), list(COUNTS).index(split))
        self._domain, self._size, self._with_masks = domain, size, masks
        present = {"source": source_present, "target": target_present}.get(domain.name, trio_present)
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
            [names_of(domain.name)[c] for c in classes],
            [f"{domain.name}/{split}/{i:05d}" for i in self._order],
            table if labels else None,
            has_masks=masks,
            has_saliency=domain.name != "target",
            notes=[f"{left_out:,} of {domain.count:,} pictures show none of the classes and are left out"]
            * bool(left_out),
            title=f"scenes:{domain.name} {split}",
        )

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index``: 96×96 by default, exact saliency in all domains but the target, exact masks where asked for."""
        scene = _drawn(self._domain, self._seeds, self._order[index], self._size)
        saliency = Saliency(torch.from_numpy(scene.coverage.astype(np.float32) / 255)) if self.has_saliency else None
        mask = tv_tensors.Mask(torch.from_numpy(self._ids[scene.mask])) if self._with_masks else None
        image = tv_tensors.Image(torch.from_numpy(scene.image.transpose(2, 0, 1).copy()))
        labels = None if self.labels is None else self.labels[index].clone()
        return Sample(image, labels, saliency, mask, self.names[index])


@lru_cache(maxsize=_KEPT)
def _drawn(domain: Domain, seeds: tuple[int, int, int], i: int, size: int) -> Scene:
    """Kept for all data sets of the process: trainings that follow one another there show the same pictures."""
    dice = Dice(*seeds, i)
    if domain.name == "source":
        return source_scene(dice, size)
    if domain.name == "target":
        return target_scene(dice, size, domain.difficulty)
    return trio_scene(dice, size, domain.name, domain.bias)


def names_of(domain: str) -> tuple[str, ...]:
    """The classes of a domain, in order."""
    return TRIO_NAMES if domain in LOOKS else NAMES


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
        spec: ``source``, ``target``, ``studio``, ``dusk`` or ``print``, with options after a question mark:
            ``target?count=600&difficulty=0.5&seed=3``, ``dusk?bias=0.5``.
        split: ``train``, ``dev`` or ``test``.
        classes: Names of the classes wanted, in order; None: all of the domain's. Pictures with none of them are left out,
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
    own = names_of(domain.name)
    wanted = own if classes is None else tuple(classes)
    unknown = [name for name in wanted if name not in own]
    if unknown:
        raise InputError(
            f"the scenes have no class {unknown[0]!r}; they have {', '.join(own)}: scenes:{spec}, data.classes"
        )
    if not wanted or len(set(wanted)) != len(wanted):
        raise InputError(f"expected one or more classes, each once, got {', '.join(wanted) or 'none'}: data.classes")
    if size < 16:
        raise InputError(f"expected pictures of at least 16 pixels, got {size}: scenes:{spec}")
    return Scenes(domain, split, [own.index(name) for name in wanted], labels=labels, masks=masks, size=size)


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
        known = [f"scenes:{domain}" for domain in DOMAINS]
        raise InputError(f"expected {', '.join(known[:-1])} or {known[-1]}, got scenes:{spec}")
    options = [option for option in OPTIONS if name in _SHARES.get(option, DOMAINS)]
    values: dict[str, float] = {"count": count, "seed": 0, "difficulty": 1.0, "bias": BIAS}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in options:
            raise InputError(f"expected an option among {', '.join(options)}, got {key!r}: scenes:{spec}")
        low, high = OPTIONS[key]
        try:
            value = float(text) if key in _SHARES else int(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            kind = "number" if key in _SHARES else "whole number"
            raise InputError(f"expected a {kind} from {low} to {high} for {key}, got {text!r}: scenes:{spec}")
        values[key] = value
    return Domain(name, int(values["count"]), int(values["seed"]), values["difficulty"], values["bias"])
