"""Classification heads that pool first and are linear next: the shape for which attention has a closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KEPT_FROM = 2**18
"""A weight of fewer numbers is summed anew each time: that takes less than a millisecond."""


def _stride(rows: int, columns: int) -> int:
    """The largest step through a matrix that comes by every row and, having no divisor with its length, every column."""
    return next(step for step in range(min(rows, columns), 0, -1) if math.gcd(step, columns) == 1)


class _LinearAndSum(torch.autograd.Function):
    """A linear layer together with its weight summed over positions, one node for both.

    Apart, the sum's gradient would be spread over the positions in a second tensor as large as the weight (411 MB for
    VGG16's fc6) and then added to the first; here it is added in place. Differentiable once, which is all that
    training needs: the inner gradient of Eq. 1 ends at this layer's output.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, channels: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(inputs, weight)
        ctx.channels = channels
        return F.linear(inputs, weight, bias), weight.reshape(len(weight), channels, -1).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, hidden: Tensor, summed: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        gradient = hidden.T @ inputs
        gradient.view(len(weight), ctx.channels, -1).add_(summed[:, :, None])
        to_inputs = hidden @ weight if ctx.needs_input_grad[0] else None
        return to_inputs, gradient, hidden.sum(0) if ctx.needs_input_grad[2] else None, None


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
        self._summed: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``B×N`` of features ``B×C×h×w``."""
        return self.rest(self.hidden(features))

    def hidden(self, features: Tensor) -> Tensor:
        """Output of the first linear layer, ``B×K``."""
        hidden: Tensor = self.first(self.pool(self.dropout(features)).flatten(1))
        return hidden

    def hidden_and_summed_weight(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`hidden` and :meth:`summed_weight` at once, which makes their backward pass one."""
        first = self.first
        if not (torch.is_grad_enabled() and first.weight.requires_grad):
            return self.hidden(features), self.summed_weight()
        pooled = self.pool(self.dropout(features)).flatten(1)
        self._summed = None
        both: tuple[Tensor, Tensor] = _LinearAndSum.apply(pooled, first.weight, first.bias, self.channels)
        return both

    def rest(self, hidden: Tensor) -> Tensor:
        """Scores of the first layer's output; ``hidden`` itself where nothing follows."""
        return hidden if self.after is None else self.after(hidden)

    def pools_first(self) -> bool:
        """False while single features are dropped: a place's own mask then weighs its gradient."""
        return not (self.training and self.dropout.p > 0)

    def summed_weight(self) -> Tensor:
        """The first layer's weight summed over pooled positions, ``K×C``; kept between calls where nothing is trained.

        For VGG16 that is a sum over 4096×512×49 numbers, as long as a good part of the forward pass. It is made anew once
        the weight was changed. A change through ``weight.data`` is not counted by PyTorch: it is known by a sample of the
        numbers, some of every row and every column.
        """
        weight = self.first.weight
        if torch.is_grad_enabled() and weight.requires_grad:
            self._summed = None
            return self._sum(weight)
        if weight.is_inference() or weight.numel() < _KEPT_FROM:  # the former keeps no count of its changes
            return self._sum(weight)
        state = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        sample = weight.detach().flatten()[:: _stride(*weight.shape)]
        if self._summed is None or self._summed[0] != state or not torch.equal(self._summed[1], sample):
            with torch.no_grad():
                self._summed = (state, sample.clone(), self._sum(weight))
        return self._summed[2]

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
