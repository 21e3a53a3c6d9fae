"""What a segmentation run reads: photographs with cues, or with masks that an earlier stage predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from attnbn.data.cue_files import CueFolder
from attnbn.data.dataset import ImageDataset
from attnbn.data.images import read_mask
from attnbn.data.sample import Sample
from attnbn.data.transforms import eval_transform
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_object
from attnbn.io.pictures import list_pictures
from attnbn.tasks.dsrg import CueBatch


class Seeded(NamedTuple):
    """A photograph with its cues, bool ``(N+1)×h×w``."""

    sample: Sample
    cues: Tensor


class SeededPhotographs(Dataset[Seeded]):
    """A data set's photographs with their cues, brought to the network's grid.

    Args:
        dataset: With labels.
        cues: Of all its photographs.
        grid: ``(h, w)`` of the network's logits; cues of another grid are read at its nearest places.

    Raises:
        InputError: a photograph has no cues.
    """

    def __init__(self, dataset: ImageDataset, cues: CueFolder, grid: tuple[int, int]) -> None:
        self.dataset, self.cues, self.grid, self.names = dataset, cues, grid, dataset.names
        known = set(cues.names)
        missing = [name for name in dataset.names if name not in known]
        if missing:
            more = f" ({len(missing):,} photographs have none)" if len(missing) > 1 else ""
            raise InputError(
                f"expected cues of the photograph {missing[0]!r}, found none{more}; make the cues of this split "
                f"(attnbn cues RUN --target ... --split ...): {cues.path}"
            )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Seeded:
        cues = self.cues.read(self.dataset.names[index])
        if tuple(cues.shape[-2:]) != self.grid:
            cues = F.interpolate(cues[None].float(), size=self.grid, mode="nearest-exact")[0] > 0
        return Seeded(self.dataset[index], cues)


class Squash:
    """``(seeded, seed) -> seeded``: the whole photograph squashed into a square, it and its cues mirrored together.

    Args:
        size: Of the square.
        flip: Mirror half of them.
    """

    def __init__(self, size: int, flip: bool) -> None:
        self.transform, self.flip = eval_transform(size), flip

    def __call__(self, item: Seeded, seed: int) -> Seeded:
        sample, cues = self.transform(item.sample), item.cues
        if self.flip and seed & 1:  # the seed is a hash: its lowest bit is a fair coin
            return Seeded(replace(sample, image=tv_tensors.Image(sample.image.flip(-1))), cues.flip(-1))
        return Seeded(sample, cues)


def collate_cues(items: Sequence[Seeded]) -> CueBatch:
    """Seeded photographs to a batch; an unknown label counts as absent.

    Raises:
        ValueError: a sample has no labels.
    """
    labels = [item.sample.labels for item in items if item.sample.labels is not None]
    if len(labels) != len(items):
        raise ValueError("expected labels of every sample")
    return CueBatch(
        torch.stack([item.sample.image.as_subclass(Tensor) for item in items]).contiguous(),
        (torch.stack(labels) == 1).float(),
        torch.stack([item.cues for item in items]),
    )


def classes_of_masks(folder: str | Path) -> tuple[str, ...] | None:
    """The classes that a folder of masks was predicted with, as ``attnbn segment predict`` notes them; None where nobody did.

    Raises:
        InputError: The note is damaged.
    """
    place = Path(folder).expanduser()
    for note in (place / "segment.json", place.parent / "segment.json"):
        if note.is_file():
            try:
                return tuple(str(name) for name in read_object(note, "the classes of the masks")["classes"])
            except (KeyError, TypeError) as error:
                raise InputError(f"expected the classes of the masks, could not read them ({error}): {note}") from error
    return None


class MaskedPhotographs(ImageDataset):
    """A data set's photographs with masks from a folder in place of their own, if they have any.

    Args:
        dataset: The photographs.
        folder: ``NAME.png`` for each, class ids as in the data set; what ``attnbn segment predict`` writes below ``masks``.

    Raises:
        InputError: the folder is missing, or a photograph has no mask in it.
    """

    def __init__(self, dataset: ImageDataset, folder: str | Path) -> None:
        super().__init__(
            dataset.classes, dataset.names, dataset.labels, has_masks=True, notes=dataset.notes, title=dataset.title
        )
        self.dataset = dataset
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise InputError(f"expected a folder of masks, found none; check --masks: {place}")
        self.folder = place / "masks" if (place / "masks").is_dir() else place
        there = set(list_pictures(self.folder))
        missing = [name for name in self.names if f"{name}.png" not in there]
        if missing:
            more = f" ({len(missing):,} photographs have none)" if len(missing) > 1 else ""
            raise InputError(
                f"expected a mask of the photograph {missing[0]!r}, found none{more}; make the masks of this split "
                f"(attnbn segment predict SEG --target ... --split ...): {self.folder / (missing[0] + '.png')}"
            )

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        height, width = sample.image.shape[-2:]
        mask = read_mask(self.folder / f"{self.names[index]}.png", len(self.classes), (height, width))
        return replace(sample, mask=mask)
