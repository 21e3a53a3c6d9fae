"""Common to all tests: determinism, and small networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnbn.models.heads import PooledHead
from attnbn.models.network import AttnBN

# small networks gain nothing from threads, and lose much where the cores are shared
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def tiny_network(
    classes: int = 3, *, hidden: int | None = None, dropout: float = 0.0, seed: int = 0, width: int = 8
) -> AttnBN:
    """A trunk of two convolutions with a pooled head, hidden layer and dropout as wanted."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU()
    )
    if hidden is None:
        return AttnBN(trunk, PooledHead(nn.AdaptiveAvgPool2d(1), nn.Linear(width, classes), width, dropout=dropout))
    pool = nn.Sequential(nn.MaxPool2d(2, 2), nn.AdaptiveAvgPool2d(2))
    rest = nn.Sequential(nn.Softplus(), nn.Dropout(dropout), nn.Linear(hidden, classes))
    return AttnBN(trunk, PooledHead(pool, nn.Linear(width * 4, hidden), width, rest))
