"""A small network with the library's call, and data sets made of tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.io.errors import InputError

CLASSES = ("cat", "dog", "sheep")


class Output(NamedTuple):
    features: Tensor
    scores: Tensor
    attention: Tensor | None


class TinyNet(nn.Module):
    """One convolution, mean, linear; attention written out as Eq. 1-2 for that head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Conv2d(3, 6, 8, stride=8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, len(CLASSES))

    def forward(self, images: Tensor, attend: Tensor | Callable[[Tensor], Tensor] | None = None) -> Output:
        features = self.drop(self.trunk(images).relu())
        scores = self.last(features.mean((-2, -1)))
        if attend is None:
            return Output(features, scores, None)
        chosen = attend(scores) if callable(attend) else attend
        image, label = (chosen != 0).nonzero(as_tuple=True)
        maps = torch.einsum("pc,pchw->phw", self.last.weight[label], features[image]).relu()
        return Output(features, scores, maps)


class Pictures(ImageDataset):
    """Random photographs with labels and masks; those in ``bad`` cannot be read, ``deadly`` ends the reader."""

    def __init__(
        self, count: int, masks: bool = True, labels: bool = True, bad: tuple[int, ...] = (), deadly: bool = False
    ) -> None:
        rng = np.random.default_rng(5)
        values = torch.tensor((rng.random((count, len(CLASSES))) < 0.5).astype(np.float32))
        if count:
            values[:, 0], values[0, 1] = 1, float("nan")
        names = [f"picture{i}" for i in range(count)]
        super().__init__(CLASSES, names, values if labels else None, has_masks=masks, title="pictures")
        self.bad = bad
        self.deadly = deadly

    def __getitem__(self, index: int) -> Sample:
        if self.deadly:
            os._exit(9)
        if index in self.bad:
            raise InputError(f"expected a photograph, got rubbish: folder/{self.names[index]}.jpg")
        rng = np.random.default_rng(index)
        height, width = int(rng.integers(20, 50)), int(rng.integers(20, 50))
        image = tv_tensors.Image(torch.tensor(rng.integers(0, 256, (3, height, width)).astype(np.uint8)))
        mask = rng.integers(0, len(CLASSES) + 1, (height, width)).astype(np.uint8)
        mask[:2] = 255
        labels = None if self.labels is None else self.labels[index]
        true = tv_tensors.Mask(torch.tensor(mask)) if self.has_masks else None
        return Sample(image, labels, None, true, self.names[index])


@pytest.fixture
def make_pictures() -> type[Pictures]:
    """The data set's class: conftest modules of several folders cannot be imported by name."""
    return Pictures


@pytest.fixture
def net() -> TinyNet:
    return TinyNet()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of five small photographs in sub-folders."""
    rng = np.random.default_rng(1)
    for i, name in enumerate(("a.jpg", "b.png", "zoo/c.png", "zoo/d.webp", "zoo/deep/e.jpg")):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(file)
    return tmp_path / "photos"
