"""Batch normalisation over the batch of all processes, so that several with a share of it each equal one with the whole.

Ours, where PyTorch's own ``SyncBatchNorm`` runs on GPUs alone: the equality is proven on the CPU, by the code that GPUs run.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norms(module: nn.Module) -> None:
    """Put a :class:`SharedBatchNorm` of the same parameters and statistics in the place of every batch normalisation."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
                setattr(parent, name, SharedBatchNorm.of(child))


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation whose mean and variance in training are those of all processes' items together.

    In evaluation no process waits for another. Attention that differentiates through it (a tapped layer *before* it) would
    need its second derivative, which is refused.
    """

    @classmethod
    def of(cls, other: _BatchNorm) -> SharedBatchNorm:
        """In another's place: its parameters, its statistics, its mode."""
        new = cls(other.num_features, other.eps, other.momentum, affine=False, track_running_stats=False)
        new.affine, new.track_running_stats = other.affine, other.track_running_stats
        new.weight, new.bias = other.weight, other.bias
        for name, buffer in other.named_buffers(recurse=False):
            new.register_buffer(name, buffer)
        new.train(other.training)
        return new

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - the name is PyTorch's
        if input.ndim < 2:
            raise ValueError(f"expected items of shape B×C×…, got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is PyTorch's
        """``B×C×…`` normalised per channel."""
        self._check_input_dim(input)
        if not self.training:
            mean, variance, none = self.running_mean, self.running_var, self.running_mean is None
            return F.batch_norm(input, mean, variance, self.weight, self.bias, training=none, eps=self.eps)
        output: Tensor
        output, mean, variance, count = _Normalized.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self._remember(mean, variance * (count / (count - 1).clamp(min=1)))
        return output

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _Normalized(torch.autograd.Function):
    """The output; and, without a gradient, mean, biased variance and number of the items of all processes."""

    @staticmethod
    def forward(
        ctx: Any, items: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = items.to(torch.promote_types(items.dtype, torch.float32))
        over = [axis for axis in range(items.ndim) if axis != 1]
        number = wide.new_tensor([items.numel() // items.shape[1]])
        own = wide.mean(over)
        spread = (wide - _per_channel(own, wide)).square().sum(over)
        count, mean, variance = _combined(number, own, spread)
        scale = (variance + eps).rsqrt()
        normalized = (wide - _per_channel(mean, wide)) * _per_channel(scale, wide)
        ctx.save_for_backward(normalized, weight, scale, count)
        ctx.over, ctx.kind, ctx.has_bias = over, items.dtype, bias is not None
        output = normalized if weight is None else normalized * _per_channel(weight.to(wide.dtype), wide)
        output = output if bias is None else output + _per_channel(bias.to(wide.dtype), wide)
        ctx.mark_non_differentiable(mean, variance, count)
        # a copy: saved as it is, it must not be handed out too
        return (output if output is not normalized else output.clone()).to(items.dtype), mean, variance, count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        normalized, weight, scale, count = ctx.saved_tensors
        gradient = gradients[0].to(normalized.dtype)
        sums = torch.stack([gradient.sum(ctx.over), (gradient * normalized).sum(ctx.over)])
        # the parameters' gradients stay this process's share, like those of all other layers
        own_bias, own_weight = sums.clone()
        _all_reduce(sums)
        mean, along = (_per_channel(part / count, gradient) for part in sums)
        factor = scale if weight is None else scale * weight.to(scale.dtype)
        to_items = (gradient - mean - normalized * along) * _per_channel(factor, gradient)
        to_weight = None if weight is None else own_weight.to(weight.dtype)
        return to_items.to(ctx.kind), to_weight, own_bias if ctx.has_bias else None, None


def _combined(number: Tensor, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number, mean and biased variance of all processes' items, from each one's number, mean and sum of squared deviations.

    By deviations (Chan, Golub and LeVeque, 1979), for the difference of large squares would cancel.
    """
    parts = [torch.cat([number, mean, spread])]
    if dist.is_initialized():
        parts = [torch.empty_like(parts[0]) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, torch.cat([number, mean, spread]))
    rows = torch.stack(parts)
    numbers, means, spreads = rows[:, :1], rows[:, 1 : 1 + len(mean)], rows[:, 1 + len(mean) :]
    count = numbers.sum()
    whole = (numbers * means).sum(0) / count
    variance = (spreads + numbers * (means - whole).square()).sum(0) / count
    return count, whole, variance


def _all_reduce(tensor: Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(tensor)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (like.ndim - 2))
