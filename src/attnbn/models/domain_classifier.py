"""The small perceptron that tells the domains apart from pooled features, for domain-adversarial training (DANN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 256


class DomainClassifier(nn.Module):
    """C -> 256 -> 256 -> 1, ReLU between; no dropout, so that network and classifier are shown the same function.

    Always computed in at least float32, as :class:`attnbn.models.discriminator.Discriminator`. (Ganin et al. have 1024 units
    a layer; the size is ours.)

    Args:
        channels: C of the pooled features.
        width: Units of the two hidden layers.
    """

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``B×1`` of pooled features ``B×C``; positive means source."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.layers(features.to(next(self.parameters()).dtype))
            return logits
