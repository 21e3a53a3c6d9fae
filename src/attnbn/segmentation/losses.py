"""DSRG's two losses (Huang et al., CVPR 2018, Eq. 1 and 2), from probabilities.

Each returns the mean over images, or with ``reduction="parts"`` a :class:`~attnbn.losses.Mean` over them, like
:mod:`attnbn.losses`. Probabilities may be as small as the type can write: they count as its smallest normal number, so
that no loss and no gradient becomes NaN.
"""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import torch
from torch import Tensor

from attnbn.losses import Mean, Reduction

MIN_PROBABILITY = 1e-4
"""The original's floor, of probabilities and of counts."""

RATIO = (0.05, 20.0)
"""Lowest and highest q/p in the boundary loss."""


def smoothed(probabilities: Tensor, eps: float = MIN_PROBABILITY) -> Tensor:
    """(p + eps), divided by its sum over classes: what the original's softmax layer gives.

    Args:
        probabilities: ``B×C×…``, not negative.
        eps: Added to each.

    Returns:
        ``B×C×…``, positive, summing to one over C.
    """
    lifted = probabilities + eps
    return lifted / lifted.sum(1, keepdim=True)


def floored(probabilities: Tensor, eps: float = MIN_PROBABILITY) -> Tensor:
    """max(p, eps), divided by its sum over classes: what the original does to a CRF's probabilities before they are used.

    Args:
        probabilities: ``B×C×…``.
        eps: The floor.

    Returns:
        ``B×C×…``, positive, summing to one over C.
    """
    lifted = probabilities.clamp(min=eps)
    return lifted / lifted.sum(1, keepdim=True)


@overload
def seeding_loss(
    probabilities: Tensor, seeds: Tensor, *, balanced: bool = ..., reduction: Literal["mean"] = ...
) -> Tensor: ...
@overload
def seeding_loss(
    probabilities: Tensor, seeds: Tensor, *, balanced: bool = ..., reduction: Literal["parts"]
) -> Mean: ...
def seeding_loss(
    probabilities: Tensor, seeds: Tensor, *, balanced: bool = True, reduction: Reduction = "mean"
) -> Tensor | Mean:
    """The balanced seeding loss (Eq. 1): the seeds' cross entropy, background and foreground each by its own count.

    An image's loss is ``-Σ_bg log p / max(|bg|, 1e-4) - Σ_fg log p / max(|fg|, 1e-4)``, where bg are the seeds of the
    background and fg those of all other classes together. An image without seeds has loss 0 and counts.

    Args:
        probabilities: ``B×C×h×w``, summing to one over C; channel 0 is the background.
        seeds: bool ``B×C×h×w``; a pixel may have several classes.
        balanced: False: one term over all seeds, as in SEC (Kolesnikov and Lampert, ECCV 2016).
        reduction: ``mean``, or ``parts`` for a :class:`~attnbn.losses.Mean` over images.

    Raises:
        ValueError: The shapes differ or the seeds are not boolean.
    """
    _check_alike("seeds", seeds, probabilities)
    if seeds.dtype != torch.bool:
        raise ValueError(f"expected boolean seeds, got {seeds.dtype}")
    # where, not a product: the probability of a class that is no seed stays out of the gradient even at 0
    surprise = -_log(torch.where(seeds, probabilities, 1))
    total = probabilities.new_zeros(())
    for part in (slice(0, 1), slice(1, None)) if balanced else (slice(None),):
        count = seeds[:, part].sum((1, 2, 3)).clamp(min=MIN_PROBABILITY)
        total = total + (surprise[:, part].sum((1, 2, 3)) / count).sum()
    return _over_images(total, probabilities, reduction)


@overload
def boundary_loss(probabilities: Tensor, refined: Tensor, *, reduction: Literal["mean"] = ...) -> Tensor: ...
@overload
def boundary_loss(probabilities: Tensor, refined: Tensor, *, reduction: Literal["parts"]) -> Mean: ...
def boundary_loss(probabilities: Tensor, refined: Tensor, *, reduction: Reduction = "mean") -> Tensor | Mean:
    """The constrain-to-boundary loss (Eq. 2): mean over pixels of Σ_c q·log(clip(q/p, 0.05, 20)).

    The divergence of the network's probabilities p from those that a CRF made of them, q. The gradient flows through both;
    pass ``refined.detach()`` to take q for a constant, or ``through_crf(probabilities, refined)`` for the original's.

    Args:
        probabilities: p, ``B×C×h×w``, summing to one over C.
        refined: q, likewise.
        reduction: ``mean``, or ``parts`` for a :class:`~attnbn.losses.Mean` over images.

    Raises:
        ValueError: The shapes differ.
    """
    _check_alike("refined probabilities", refined, probabilities)
    # the ratio as a difference of logarithms: q/p itself can overflow, and then its gradient is NaN
    ratio = (_log(refined) - _log(probabilities)).clamp(*map(math.log, RATIO))
    return _over_images((refined * ratio).sum(1).mean((1, 2)).sum(), probabilities, reduction)


def through_crf(probabilities: Tensor, refined: Tensor) -> Tensor:
    """The CRF's probabilities q, with the gradient to its input p that the original gives its CRF.

    The original's CRF layer takes p to log q and passes (1 - q)·∂L/∂log q back to p. Since ∂L/∂log q = q·∂L/∂q, the
    gradient that reaches p from here is (1 - q)·q·∂L/∂q, element by element. It is the diagonal of the last update's, log q =
    log softmax(p - messages), which the unary energy -p makes so, with the messages taken for constants.

    Args:
        probabilities: p, ``B×C×h×w``, the CRF's input, with its graph.
        refined: q, ``B×C×h×w``, what the CRF made of it.

    Returns:
        ``B×C×h×w``, equal to ``refined``.

    Raises:
        ValueError: The shapes differ.
    """
    _check_alike("refined probabilities", refined, probabilities)
    result: Tensor = _ThroughCrf.apply(probabilities, refined.detach())
    return result


class _ThroughCrf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, refined: Tensor) -> Tensor:
        ctx.save_for_backward(refined)
        ctx.kind = probabilities.dtype
        return refined.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (refined,) = ctx.saved_tensors
        return ((1 - refined) * refined * gradients[0]).to(ctx.kind), None


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=torch.finfo(values.dtype).tiny).log()


def _over_images(total: Tensor, probabilities: Tensor, reduction: Reduction) -> Tensor | Mean:
    mean = Mean(total, torch.tensor(float(len(probabilities)), dtype=total.dtype, device=total.device))
    return mean if reduction == "parts" else mean.value()


def _check_alike(what: str, values: Tensor, probabilities: Tensor) -> None:
    if probabilities.ndim != 4 or values.shape != probabilities.shape:
        raise ValueError(
            f"expected {what} and probabilities of one shape B×C×h×w, got {[*values.shape]} and {[*probabilities.shape]}"
        )
