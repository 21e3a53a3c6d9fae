"""Fixed random views: each image is shown in a few crops that are drawn once, the same in every run.

Which of them a sample shows is still a pure function of (seed, stream, j). Fixed views are what makes the outputs of frozen
layers worth keeping (:mod:`attnbn.training.frozen`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.data import Dataset

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.data.transforms import SampleTransform, seeded
from attnbn.training.streams import fold


class FixedViews(Dataset["ViewedImage"]):
    """Images by index, each still to be shown in one of its views.

    Args:
        dataset: The images.
        transform: Draws the crop.
        views: How many each image has.
    """

    def __init__(self, dataset: ImageDataset, transform: SampleTransform, views: int) -> None:
        self.dataset, self.transform, self.views = dataset, transform, views

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ViewedImage:
        return ViewedImage(self, self.dataset.names[index], self.dataset[index])

    def view(self, name: str, sample: Sample, view: int) -> Sample:
        """One view of an image that was read already."""
        return seeded(self.transform, fold("view", name, view))(sample)


@dataclass(frozen=True)
class ViewedImage:
    """An image of which a view is still to be chosen."""

    views: FixedViews
    name: str
    sample: Sample


def choose_view(item: ViewedImage, seed: int) -> Sample:
    """The sample's view under its augmentation seed."""
    return item.views.view(item.name, item.sample, seed % item.views.views)
