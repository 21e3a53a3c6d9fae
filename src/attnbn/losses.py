"""The paper's losses, Eq. 3 to 6, from logits and raw attention maps; and Deep CORAL's, a peer of Eq. 6.

Each returns the mean as a scalar. With ``reduction="parts"`` it returns a :class:`Mean`, the total and the count apart,
for a training loop that divides by the count over *all* processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

Normalize = Literal["max", "max_detached", "none"]
Reduction = Literal["mean", "parts"]


@dataclass(frozen=True)
class Mean:
    """A mean that is still to be taken: ``weight * total / count``.

    Attributes:
        total: Sum over this process's items, a scalar with a graph.
        count: How many items that were, a scalar without one.
        weight: Factor in the objective, e.g. λ1.
    """

    total: Tensor
    count: Tensor
    weight: float = 1.0

    def __rmul__(self, weight: float) -> Mean:
        return replace(self, weight=weight * self.weight)

    def value(self) -> Tensor:
        """The unweighted mean over this process; 0 over no items."""
        return self.total / self.count.clamp(min=1)


def _at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision, in which sums overflow and differences of like numbers vanish, ends where a loss begins."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _count(count: Tensor | int, like: Tensor) -> Tensor:
    return torch.as_tensor(count, dtype=like.dtype, device=like.device)


def _reduced(total: Tensor, count: Tensor | int, reduction: Reduction) -> Tensor | Mean:
    mean = Mean(total, _count(count, total))
    return mean if reduction == "parts" else mean.value()


def normalize_by_max(attention: Tensor, eps: float = 1e-8, *, through: bool = True) -> Tensor:
    """Each map divided by its own maximum; an all-zero map stays zero.

    Args:
        attention: ``P×h×w``, not negative.
        eps: Maxima below count as this one.
        through: The gradient flows through the maximum too; else it is taken for a constant.

    Returns:
        ``P×h×w`` in [0, 1].
    """
    maximum = attention.amax((-2, -1), keepdim=True).clamp(min=eps)
    return attention / (maximum if through else maximum.detach())


@overload
def attention_loss(
    attention: Tensor,
    saliency: Tensor,
    *,
    normalize: Normalize = ...,
    resolution: int = ...,
    reduction: Literal["mean"] = ...,
) -> Tensor: ...
@overload
def attention_loss(
    attention: Tensor,
    saliency: Tensor,
    *,
    normalize: Normalize = ...,
    resolution: int = ...,
    reduction: Literal["parts"],
) -> Mean: ...
def attention_loss(
    attention: Tensor,
    saliency: Tensor,
    *,
    normalize: Normalize = "max",
    resolution: int = 1,
    reduction: Reduction = "mean",
) -> Tensor | Mean:
    """L_ac (Eq. 3): squared difference of the true class's attention and the saliency map.

    The saliency comes to the attention's size by area averaging. Mean over pixels, then over maps.

    Args:
        attention: ``P×h×w``, the map of each image's only class.
        saliency: ``P×H×W`` or ``P×1×H×W`` in [0, 1], for the same images.
        normalize: ``max`` divides each map by its maximum, since raw maps have the scale of score/(h*w) and saliency
            that of a probability; ``max_detached`` takes the maximum for a constant; ``none`` compares them as they are.
        resolution: Compare at this many times the attention's side, the map up-sampled bilinearly.
        reduction: ``mean``, or ``parts`` for a :class:`Mean` over maps.

    Raises:
        ValueError: if the number of maps differs.
    """
    if saliency.ndim == 3:
        saliency = saliency[:, None]
    if attention.ndim != 3 or saliency.ndim != 4 or saliency.shape[:2] != (len(attention), 1):
        raise ValueError(
            f"expected a saliency map for each attention map, got attention {tuple(attention.shape)} "
            f"and saliency {tuple(saliency.shape)}"
        )
    attention = _at_least_float32(attention)
    if len(attention) == 0:
        return _reduced(attention.sum(), 0, reduction)
    maps = attention if normalize == "none" else normalize_by_max(attention, through=normalize == "max")
    if resolution > 1:
        maps = F.interpolate(maps[:, None], scale_factor=resolution, mode="bilinear", align_corners=False).squeeze(1)
    prior = F.adaptive_avg_pool2d(saliency.to(maps.dtype), (maps.shape[-2], maps.shape[-1])).squeeze(1)
    return _reduced((maps - prior).square().mean((-2, -1)).sum(), len(attention), reduction)


def suppression_loss(attention: Tensor, absent: Tensor) -> Mean:
    """Beyond the paper: the other classes' maps on single-label images, pressed to zero.

    Eq. 3 speaks of the true class alone; a map of another class that lights up on the same object costs nothing there.
    Each is divided by the largest value of all the image's maps, so that, as in Eq. 3, the loss is blind to their common
    scale: it dims the others against the true one. Squared, mean over pixels, then over maps.

    Args:
        attention: ``B×N×h×w``, not negative.
        absent: ``B×N`` bool: classes that are known not to be there.

    Returns:
        Over the absent classes' maps.
    """
    attention = _at_least_float32(attention)
    peak = attention.flatten(1).amax(1) if attention.numel() else attention.new_zeros(len(attention))
    others = (attention / peak.clamp(min=1e-8)[:, None, None, None])[absent]
    return Mean(others.square().mean((-2, -1)).sum(), torch.tensor(float(len(others)), device=others.device))


def background_loss(evidence: Tensor, saliency: Tensor) -> Mean:
    """Beyond the paper: no class finds evidence outside the object, neither for itself nor against itself.

    Eq. 3 sees the ReLU's side alone: evidence *against* a class costs nothing there, and where scores are averages over
    places, a background that speaks against its class sinks the score of every small object. Here the maps before the ReLU
    are pressed to zero where the prior is, for all classes, each divided by the largest magnitude in the image's maps, taken
    for a constant. Squared, mean over pixels and classes, then over images.

    Args:
        evidence: ``B×N×h×w``, the sum of Eq. 2 before its ReLU, of every class.
        saliency: ``B×1×H×W`` in [0, 1].

    Returns:
        Over the images.

    Raises:
        ValueError: if the number of images differs.
    """
    if evidence.ndim != 4 or saliency.ndim != 4 or saliency.shape[:2] != (len(evidence), 1):
        raise ValueError(
            f"expected a saliency map for each image, got evidence {tuple(evidence.shape)} and saliency {tuple(saliency.shape)}"
        )
    evidence = _at_least_float32(evidence)
    count = torch.tensor(float(len(evidence)), device=evidence.device)
    if len(evidence) == 0:
        return Mean(evidence.sum(), count)
    prior = F.adaptive_avg_pool2d(saliency.to(evidence.dtype), (evidence.shape[-2], evidence.shape[-1]))
    peak = evidence.detach().abs().flatten(1).amax(1).clamp(min=1e-8)[:, None, None, None]
    outside = (1 - prior) * evidence / peak
    return Mean(outside.square().mean((1, 2, 3)).sum(), count)


@overload
def classification_loss(
    scores: Tensor, labels: Tensor, *, over_classes: Literal["mean", "sum"] = ..., reduction: Literal["mean"] = ...
) -> Tensor: ...
@overload
def classification_loss(
    scores: Tensor, labels: Tensor, *, over_classes: Literal["mean", "sum"] = ..., reduction: Literal["parts"]
) -> Mean: ...
def classification_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    over_classes: Literal["mean", "sum"] = "mean",
    reduction: Reduction = "mean",
) -> Tensor | Mean:
    """L_cl (Eq. 4): multi-label soft margin from logits.

    Args:
        scores: Logits ``B×N``.
        labels: ``B×N`` in {0, 1}; NaN is ignored (VOC's "difficult").
        over_classes: ``mean`` over all known labels (PyTorch's convention) or, as Eq. 4 stands, the ``sum`` over an image's
            classes, then the mean over images.
        reduction: ``mean``, or ``parts`` for a :class:`Mean`.

    Raises:
        ValueError: if the shapes differ.
    """
    if scores.shape != labels.shape:
        raise ValueError(f"expected labels of shape {tuple(scores.shape)}, got {tuple(labels.shape)}")
    scores = _at_least_float32(scores)
    known = ~labels.isnan()
    targets = torch.where(known, labels, 0).to(scores.dtype)
    # where, not a product: it keeps an ignored entry out of the gradient even if its score is infinite
    each = torch.where(known, F.binary_cross_entropy_with_logits(scores, targets, reduction="none"), 0)
    return _reduced(each.sum(), known.sum() if over_classes == "mean" else len(scores), reduction)


@overload
def domain_loss(
    discriminator: Callable[[Tensor], Tensor], source: Tensor, target: Tensor, *, reduction: Literal["mean"] = ...
) -> Tensor: ...
@overload
def domain_loss(
    discriminator: Callable[[Tensor], Tensor], source: Tensor, target: Tensor, *, reduction: Literal["parts"]
) -> Mean: ...
def domain_loss(
    discriminator: Callable[[Tensor], Tensor], source: Tensor, target: Tensor, *, reduction: Reduction = "mean"
) -> Tensor | Mean:
    """L_d (Eq. 5): cross entropy of the discriminator, -log D(F_s) - log(1 - D(F_t)), mean over places and images.

    D(x) is the probability of the source; the discriminator returns its logits. (Eq. 5 as printed has d both as the
    domain's index and with the signs exchanged; this is the usual loss that its text describes.)

    Args:
        discriminator: From features to logits ``B×1×u×v``.
        source: F_s, ``B×C×h×w``; detached here, since this loss never trains the network.
        target: F_t, as many as the source.
        reduction: ``mean``, or ``parts`` for a :class:`Mean` over images.

    Raises:
        ValueError: if the batches differ in size (their mean would weigh the domains unequally).
    """
    mean = domain_cross_entropy(discriminator(source.detach()), discriminator(target.detach()))
    return mean if reduction == "parts" else mean.value()


def domain_cross_entropy(source: Tensor, target: Tensor) -> Mean:
    """Eq. 5 from what the discriminator says of each domain.

    Args:
        source: Its logits on the source's features, ``B×...``; positive means source.
        target: Those on as many of the target's.

    Returns:
        Mean over places, then images, with the logits' graph.

    Raises:
        ValueError: if the batches differ in size (their mean would weigh the domains unequally).
    """
    if len(source) != len(target):
        raise ValueError(f"expected as many target features as source features, got {len(source)} and {len(target)}")
    source, target = _at_least_float32(source), _at_least_float32(target)
    on_source = F.softplus(-source).flatten(1).mean(1)
    on_target = F.softplus(target).flatten(1).mean(1)
    return Mean((on_source + on_target).sum(), _count(len(source), on_source))


def domain_accuracy(source: Tensor, target: Tensor) -> Mean:
    """Share of places whose domain the discriminator names right: to be looked at, so without graph and of weight 0.

    1/2 is what guessing gives, and what features that the discriminator cannot tell apart give.

    Args:
        source: Its logits on the source's features, ``B×...``; positive means source, 0 and less the target.
        target: Those on the target's.

    >>> float(domain_accuracy(torch.tensor([[2.0], [-1.0]]), torch.tensor([[-3.0], [-0.5]])).value())
    0.75
    """
    right = ((source > 0).sum() + (target <= 0).sum()).to(torch.promote_types(source.dtype, torch.float32))
    return Mean(right, _count(source.numel() + target.numel(), right), weight=0.0)


@overload
def adversarial_loss(
    discriminator: Callable[[Tensor], Tensor], target: Tensor, *, reduction: Literal["mean"] = ...
) -> Tensor: ...
@overload
def adversarial_loss(
    discriminator: Callable[[Tensor], Tensor], target: Tensor, *, reduction: Literal["parts"]
) -> Mean: ...
def adversarial_loss(
    discriminator: Callable[[Tensor], Tensor], target: Tensor, *, reduction: Reduction = "mean"
) -> Tensor | Mean:
    """L_adv (Eq. 6): -log D(F_t), mean over places and images: the target's features shall look like the source's.

    Args:
        discriminator: From features to logits; pass it frozen, this loss trains the network alone.
        target: F_t, ``B×C×h×w``, with its graph.
        reduction: ``mean``, or ``parts`` for a :class:`Mean` over images.
    """
    logits = _at_least_float32(discriminator(target))
    return _reduced(F.softplus(-logits).flatten(1).mean(1).sum(), len(target), reduction)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the domains' covariances (Sun and Saenko, "Deep CORAL", 2016, Eq. 1 to 3).

    ``|C_S - C_T|^2 / (4 d^2)`` in the Frobenius norm, with each batch's unbiased covariance. It is of the whole batch: the
    mean over a batch's parts is another figure. Computed in at least float32, outside autocast.

    Args:
        source: Pooled features, ``n×d``.
        target: ``m×d``; the number of images may differ.

    Raises:
        ValueError: if these are no two batches of vectors of one length, or one has a single image.
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(
            f"expected features n×d and m×d of two domains, got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    with torch.autocast(source.device.type, enabled=False):
        gap = _covariance(source) - _covariance(target)
        return gap.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(features: Tensor) -> Tensor:
    """``d×d``, unbiased. Centred first, which is the paper's ``D'D - (1'D)'(1'D)/n`` without its cancellation."""
    if len(features) < 2:
        raise ValueError(f"expected at least 2 images of each domain for a covariance, got {len(features)}")
    wide = _at_least_float32(features)
    centred = wide - wide.mean(0)
    return centred.T @ centred / (len(features) - 1)
