"""Data sets whose photographs are files: naming them, reading one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset
from attnbn.data.images import read_image
from attnbn.data.packed import Packed
from attnbn.data.sample import Saliency, Sample

SaliencySource = Callable[[str, tuple[int, int]], Tensor | None]
"""(name, (H, W) of the upright photograph) -> float ``1×H×W`` in [0, 1], or None where there is no map."""


class PhotoDataset(ImageDataset):
    """Photographs in files, with labels known beforehand.

    Args:
        root: The folder that ``files`` are relative to.
        files: Path of each photograph.
        names: Name of each.
        classes: Class names.
        labels: ``len×N``, or None.
        saliency: Where saliency maps come from, or None.
        has_masks: Whether the subclass reads masks.
        notes: See :class:`ImageDataset`.
        title: See :class:`ImageDataset`.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        names: list[str],
        classes: Sequence[str],
        labels: Tensor | None,
        *,
        saliency: SaliencySource | None = None,
        has_masks: bool = False,
        notes: Sequence[str] = (),
        title: str = "",
    ) -> None:
        super().__init__(
            classes, names, labels, has_masks=has_masks, has_saliency=saliency is not None, notes=notes, title=title
        )
        self.root = root
        # both are what reading processes look at; see attnbn.data.packed
        self.files = Packed(files) if isinstance(files, list) else files
        self._names = Packed(names)
        self.saliency = saliency

    def path(self, index: int) -> Path:
        """The photograph's file."""
        return self.root / self.files[index]

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self.path(index))
        size = (image.shape[-2], image.shape[-1])
        name = self._names[index]
        saliency = self.saliency(name, size) if self.saliency is not None else None
        return Sample(
            image=image,
            # a copy: sending a row to another process would send the whole table's memory
            labels=None if self.labels is None else self.labels[index].clone(),
            saliency=None if saliency is None else Saliency(saliency),
            mask=self.read_mask(index, size) if self.has_masks else None,
            name=name,
        )

    def read_mask(self, index: int, size: tuple[int, int]) -> tv_tensors.Mask:
        """The mask of a photograph of ``(H, W)``, in data sets that have masks."""
        raise NotImplementedError


def unique_names(files: Sequence[str]) -> list[str]:
    """Names of photographs: the path without its extension, which stays only where two would collide.

    Args:
        files: Relative paths, each once.
    """
    names = [os.path.splitext(file)[0] for file in files]
    # Again where a restored extension collides in turn (a.jpg and a.png beside a.jpg.png); ends, as paths are unique.
    while len(counts := Counter(names)) < len(names):
        names = [file if counts[name] > 1 else name for file, name in zip(files, names, strict=True)]
    return names
