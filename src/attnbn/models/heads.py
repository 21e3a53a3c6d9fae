"""Classification heads that pool first and are linear next: the shape for which attention has a closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledHead(nn.Module):
    """``rest(first(flatten(pool(dropout(F)))))``.

    Global average pooling with one linear layer (ResNet, SqueezeNet) and VGG's pool5-fc6-fc7-fc8 are both of this shape.
    It satisfies :class:`attnbn.attention.PoolsFirst`.

    Args:
        pool: From ``B×C×h×w`` to ``B×C×u×v``; any pooling (its output is a share or a choice of its input per channel).
        first: Linear layer on the flattened pooled features, ``C*u*v`` inputs.
        channels: C.
        rest: What follows it; None: the first layer gives the scores.
        dropout: Probability of dropping single features before pooling (SqueezeNet's place for it).
    """

    def __init__(
        self, pool: nn.Module, first: nn.Linear, channels: int, rest: nn.Sequential | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dropout = nn.Dropout(dropout)
        self.pool = pool
        self.first = first
        self.after = rest
        self._summed: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``B×N`` of features ``B×C×h×w``."""
        return self.rest(self.hidden(features))

    def hidden(self, features: Tensor) -> Tensor:
        """Output of the first linear layer, ``B×K``."""
        hidden: Tensor = self.first(self.pool(self.dropout(features)).flatten(1))
        return hidden

    def rest(self, hidden: Tensor) -> Tensor:
        """Scores of the first layer's output; ``hidden`` itself where nothing follows."""
        return hidden if self.after is None else self.after(hidden)

    def pools_first(self) -> bool:
        """False while single features are dropped: a place's own mask then weighs its gradient."""
        return not (self.training and self.dropout.p > 0)

    def summed_weight(self) -> Tensor:
        """The first layer's weight summed over pooled positions, ``K×C``; kept between calls where nothing is trained.

        For VGG16 that is a sum over 4096×512×49 numbers, as long as a good part of the forward pass.
        """
        weight = self.first.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            self._summed = None
            return self._sum(weight)
        state = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        if self._summed is None or self._summed[0] != state:
            with torch.no_grad():
                self._summed = (state, self._sum(weight))
        return self._summed[1]

    def _sum(self, weight: Tensor) -> Tensor:
        return weight.reshape(weight.shape[0], self.channels, -1).sum(-1)

    def renew(self, num_classes: int, *, whole: bool) -> list[nn.Module]:
        """Put a fresh last layer for ``num_classes`` (or a fresh head of the same shape); returns the fresh layers."""
        layers = [m for m in self.modules() if isinstance(m, nn.Linear)]
        last = layers[-1]
        fresh = nn.Linear(last.in_features, num_classes)
        nn.init.normal_(fresh.weight, std=0.01)
        nn.init.zeros_(fresh.bias)
        if last is self.first:
            self.first = fresh
        elif self.after is not None:
            self.after[-1] = fresh
        renewed: list[nn.Module] = [fresh]
        if whole:
            for layer in layers[:-1]:
                layer.reset_parameters()
                renewed.append(layer)
        return renewed
