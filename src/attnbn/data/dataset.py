"""The contract of every data set here, and how a share of one is taken or kept apart.

A data set knows its classes, names and labels without reading an image, so that samplers, checks and tables cost
nothing; images, masks and saliency are read one sample at a time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from attnbn.data.sample import Sample
from attnbn.io.errors import InputError


class ImageDataset(Dataset[Sample]):
    """Base of all data sets: photographs with names and, unless left out, image-level labels.

    Subclasses implement ``__getitem__``, which raises :class:`~attnbn.io.errors.InputError` for a file it cannot read.

    Attributes:
        classes: Class names; ``labels[:, i]`` and the mask value ``i + 1`` belong to ``classes[i]``.
        names: A unique name per sample, ``/`` between its parts.
        labels: float32 ``len×N`` in {0, 1}, NaN = unknown (VOC's "difficult"); None if built without labels, and
            then no source of labels was opened.
        has_masks: Samples carry masks.
        has_saliency: Samples may carry saliency maps.
        notes: One line each about what was left out or assumed, and why, for people to read.
        title: What the data set is called in messages, e.g. ``voc:data/VOC2012 train``.
    """

    classes: tuple[str, ...]
    names: list[str]
    labels: Tensor | None
    has_masks: bool
    has_saliency: bool
    notes: list[str]
    title: str

    def __init__(
        self,
        classes: Sequence[str],
        names: list[str],
        labels: Tensor | None,
        *,
        has_masks: bool = False,
        has_saliency: bool = False,
        notes: Sequence[str] = (),
        title: str = "",
    ) -> None:
        if labels is not None and tuple(labels.shape) != (len(names), len(classes)):
            raise ValueError(f"expected labels of shape {len(names)}×{len(classes)}, got {tuple(labels.shape)}")
        self.classes = tuple(classes)
        self.names = names
        self.labels = labels
        self.has_masks = has_masks
        self.has_saliency = has_saliency
        self.notes = list(notes)
        self.title = title

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def describe(self) -> str:
        """One line: the title, the number of images, images per class, and what comes with them."""
        parts = [f"{len(self):,} image{'' if len(self) == 1 else 's'}"]
        if self.labels is None:
            parts.append(f"{len(self.classes)} classes, labels not read")
        else:
            counts = (self.labels == 1).sum(0).tolist()
            shown = [f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)]
            # a thousand classes would fill the screen; the extremes tell whether something is wrong
            summary = f"{len(shown)} classes of {min(counts, default=0):,} to {max(counts, default=0):,}"
            parts.append(", ".join(shown) if 0 < len(shown) <= 20 else summary)
        parts += ["masks"] * self.has_masks + ["saliency"] * self.has_saliency
        return f"{self.title}: {'; '.join(parts)}" if self.title else "; ".join(parts)


class Subset(ImageDataset):
    """Some samples of a data set, in the order given.

    Args:
        dataset: The whole.
        indices: Which samples, each in ``[0, len(dataset))``.
        note: A line on what was left out and why.
    """

    def __init__(self, dataset: ImageDataset, indices: Sequence[int], note: str | None = None) -> None:
        chosen = torch.as_tensor(list(indices), dtype=torch.long)
        super().__init__(
            dataset.classes,
            [dataset.names[i] for i in chosen.tolist()],
            None if dataset.labels is None else dataset.labels[chosen],
            has_masks=dataset.has_masks,
            has_saliency=dataset.has_saliency,
            notes=[*dataset.notes, *([note] if note else [])],
            title=dataset.title,
        )
        self.dataset = dataset
        self.indices = chosen  # a tensor: a million of them are 8 MB, and workers share them

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[index])]


def take_share(dataset: ImageDataset, fraction: float, seed: int) -> ImageDataset:
    """Take a seeded, stratified share of a data set; smaller shares are subsets of larger ones (Table 2 of the paper).

    Within each class the images are ordered by a hash of seed and name and the first ``fraction`` of them, at least
    one, is taken. So the choice depends on the names alone: it is the same on every machine and survives a
    change of order. An image of several classes counts for the rarest of them.

    Args:
        dataset: The whole; without labels it is one stratum.
        fraction: Share in (0, 1].
        seed: Of the order.

    Returns:
        The data set itself for 1.0, else a :class:`Subset` in the data set's own order.

    Raises:
        InputError: The fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InputError(f"expected a share of the images in (0, 1], got {fraction:g}: data.source_fraction")
    if fraction == 1:
        return dataset
    chosen: list[int] = []
    for members in _strata(dataset).values():
        members.sort(key=lambda index: hashed(seed, dataset.names[index]))
        chosen += members[: max(1, math.floor(fraction * len(members) + 0.5))]
    note = f"{len(chosen):,} of {len(dataset):,} images: a share of {fraction:.3g} within each class, seed {seed}"
    return Subset(dataset, sorted(chosen), note)


def hold_out(
    dataset: ImageDataset, share: float, seed: int, *, stratify: bool = True
) -> tuple[ImageDataset, ImageDataset]:
    """Part a data set in two: what is kept and what is held apart.

    The images of each class are ordered by a hash of seed and name, and the first ``share`` of them is held apart: of two
    images or more at least one and never all, of a single image none. So the choice depends on the names alone, is the
    same on every machine and survives a change of order. An image of several classes counts for the rarest of them.

    Args:
        dataset: The whole.
        share: To be held apart, in (0, 1).
        seed: Of the order; another one than :func:`take_share` makes of it, so that the two choices are independent.
        stratify: Part each class by itself where there are labels. False: no label is looked at, so the parts are the
            same for a data set that was opened without.

    Returns:
        The images kept and those held apart, each in the data set's own order.

    Raises:
        InputError: The share is outside (0, 1), or so few images that none can be held apart.
    """
    if not 0 < share < 1:
        raise InputError(f"expected a share of the images to hold out in (0, 1), got {share:g}: {dataset.title}")
    apart: set[int] = set()
    for members in _strata(dataset).values() if stratify else [list(range(len(dataset)))]:
        members.sort(key=lambda index: hashed(seed, f"held out\0{dataset.names[index]}"))
        apart.update(members[: min(max(1, math.floor(share * len(members) + 0.5)), len(members) - 1)])
    if not apart:
        raise InputError(
            f"expected two images of a class, one of them to hold out, got {len(dataset)}: {dataset.title}"
        )
    within = "within each class" if stratify and dataset.labels is not None else "of all, labels not looked at"
    note = f"of {len(dataset):,} images, a share of {share:.3g} {within}, seed {seed}"
    kept = [index for index in range(len(dataset)) if index not in apart]
    return (
        Subset(dataset, kept, f"the {len(kept):,} not held out {note}"),
        Subset(dataset, sorted(apart), f"the {len(apart):,} held out {note}"),
    )


def _strata(dataset: ImageDataset) -> dict[int, list[int]]:
    """The images of each class, those of several classes with their rarest one; N: of none; without labels one stratum."""
    strata: dict[int, list[int]] = {}
    for index, stratum in enumerate(rarest_class(dataset)):
        strata.setdefault(stratum, []).append(index)
    return strata


def rarest_class(dataset: ImageDataset) -> list[int]:
    """For each image the index of its rarest positive class, or N where it has none."""
    if dataset.labels is None or not dataset.classes:
        return [0] * len(dataset)
    positive = dataset.labels == 1
    counts = positive.sum(0)
    rank = counts.argsort(stable=True)
    # argmax over columns sorted from rare to frequent finds the first, hence rarest, positive one
    rarest = rank[positive[:, rank].to(torch.uint8).argmax(1)]
    return torch.where(positive.any(1), rarest, len(dataset.classes)).tolist()


def hashed(seed: int, name: str) -> bytes:
    """What images are ordered by: the same on every machine, and independent of the data set's own order."""
    return hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
