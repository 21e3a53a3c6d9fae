"""Batches: stacked, pickled, and complete without saliency or labels."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from attnbn.data.collate import Batch, collate
from attnbn.data.sample import Saliency, Sample


def sample(value: int, *, labels: bool = True, saliency: bool = True, size: int = 4) -> Sample:
    return Sample(
        tv_tensors.Image(torch.full((3, size, size), value, dtype=torch.uint8)),
        torch.tensor([1.0, torch.nan]) if labels else None,
        Saliency(torch.full((size, size), value / 10)) if saliency else None,
        tv_tensors.Mask(torch.zeros(size, size, dtype=torch.uint8)),
        f"name{value}",
    )


class Samples(Dataset[Sample]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        return sample(index, saliency=index % 2 == 0)


def test_batch() -> None:
    batch = collate([sample(1), sample(2, saliency=False)])
    assert type(batch.image) is Tensor and batch.image.dtype == torch.uint8 and batch.image.shape == (2, 3, 4, 4)
    assert batch.image[:, 0, 0, 0].tolist() == [1, 2] and batch.image.is_contiguous()
    assert batch.labels is not None and batch.labels.shape == (2, 2) and batch.labels[0, 1].isnan()
    assert type(batch.saliency) is Tensor and batch.saliency.shape == (2, 1, 4, 4)
    torch.testing.assert_close(batch.saliency[:, 0, 0, 0], torch.tensor([0.1, 0.0]))
    assert batch.has_saliency.tolist() == [True, False] and batch.has_saliency.dtype == torch.bool
    assert batch.names == ["name1", "name2"]


def test_without_labels_and_saliency() -> None:
    batch = collate([sample(1, labels=False, saliency=False)] * 2)
    assert batch.labels is None and batch.saliency is None and batch.has_saliency.tolist() == [False, False]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least one"),
        ([sample(1), sample(2, size=5)], "one size"),
        ([sample(1), sample(2, labels=False)], "labels for all"),
    ],
)
def test_refusals(samples: list[Sample], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate(samples)


def test_pickle() -> None:
    batch = collate([sample(1), sample(2)])
    again = pickle.loads(pickle.dumps(batch))
    assert isinstance(again, Batch) and torch.equal(again.image, batch.image) and again.names == batch.names


def test_loader_with_a_worker() -> None:
    batches = list(DataLoader(Samples(), batch_size=2, num_workers=1, collate_fn=collate))
    assert [len(batch.names) for batch in batches] == [2, 2, 1]
    assert all(isinstance(batch, Batch) for batch in batches)
    assert batches[0].has_saliency.tolist() == [True, False] and batches[2].names == ["name4"]
