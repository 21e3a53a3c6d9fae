"""Class attention that can be trained: Grad-CAM's maps with a graph to every parameter (Eq. 1-2).

``w_i^c`` is the spatial mean of ``dy^c/dF_i`` and ``M^c = ReLU(sum_i w_i^c F_i)``. The inner gradient runs through the
head only, never through the trunk, so that maps cost little more than the forward pass that made F. Two ways lead to
the same weights:

* any head: one batched vector-Jacobian product from the scores to F (:func:`gradient_weights`);
* a head that pools first and is linear next (:class:`PoolsFirst`): pooling only distributes a gradient, it keeps the
  gradient's sum over space, so that ``w = (1/hw) * delta^T sum_p W[:, i, p]`` with ``delta`` the gradient at the first linear
  layer's output (:func:`pooled_weights`). Exact to rounding, in value and in second order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Activation = Literal["relu", "sigmoid", "none"]
"""Eq. 2's non-linearity; ``none`` leaves the sum as it is: evidence for the class where positive, against it where negative."""
Wanted = Tensor | Callable[[Tensor], Tensor]
"""Which (image, class) pairs: a ``B×N`` tensor (not 0 = wanted), or a function of the scores that gives one."""


@runtime_checkable
class PoolsFirst(Protocol):
    """A head ``rest(first(pool(F)))`` whose first layer with weights is linear in the pooled features."""

    def hidden_and_summed_weight(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the first linear layer, ``B×K``, and its weight summed over the pooled positions, ``K×C``."""

    def rest(self, hidden: Tensor) -> Tensor:
        """From there to the scores, ``B×N``. May return ``hidden`` itself."""

    def pools_first(self) -> bool:
        """Whether the closed form holds now (not while the features themselves are being dropped out)."""


class _Pairs(NamedTuple):
    """The wanted pairs, padded to K per image: pair p is the ``rank[p]``-th wanted class of image ``image[p]``."""

    image: Tensor
    label: Tensor
    rank: Tensor
    most: int


def class_attention(
    features: Tensor,
    head: nn.Module,
    classes: Tensor,
    scores: Tensor | None = None,
    *,
    activation: Activation = "relu",
) -> Tensor:
    """Attention maps of the wanted classes (Eq. 1-2), differentiable to all parameters of trunk and head.

    Args:
        features: F, the last convolution's output after its ReLU, ``B×C×h×w``. Not detached.
        head: From F to the scores *before* the sigmoid, ``B×N``.
        classes: ``B`` class indices (one map an image) or a ``B×N`` tensor whose entries other than 0 are wanted.
        scores: ``head(features)`` where it was computed already. Then the weights come from that very pass, with its
            dropout masks, and ``features`` must be part of its graph.
        activation: ``relu`` (Eq. 2), ``sigmoid`` in its place, or ``none``.

    Returns:
        ``P×h×w``, not negative (but for ``none``), in the order of ``classes.nonzero()``. Not normalised: the scale is that
        of score/(h*w).

    Raises:
        ValueError: on shapes that do not fit, or scores without a graph to ``features``.

    Example:
        >>> trunk, head = nn.Conv2d(3, 8, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> features = trunk(torch.rand(2, 3, 9, 9)).relu()
        >>> class_attention(features, head, torch.tensor([4, 0])).shape
        torch.Size([2, 7, 7])
    """
    if scores is not None:
        return attention_from_scores(features, scores, classes, activation=activation)
    return scores_and_attention(features, head, classes, activation=activation)[1]


def scores_and_attention(
    features: Tensor, head: nn.Module, wanted: Wanted, *, activation: Activation = "relu"
) -> tuple[Tensor, Tensor]:
    """Scores and attention from one pass of the head, in at least float32 whatever autocast says.

    Outside ``no_grad`` both carry a graph to every parameter. Inside, only the head's inner gradient is computed.

    Returns:
        Scores ``B×N`` and maps ``P×h×w`` as :func:`class_attention`.
    """
    if features.ndim != 4:
        raise ValueError(f"expected features of shape B×C×h×w, got {tuple(features.shape)}")
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            # its tensors can never be part of a graph, not even of the head's own; copies can
            return scores_and_attention(features.clone(), head, wanted, activation=activation)
    train = torch.is_grad_enabled()
    with torch.autocast(features.device.type, enabled=False):
        features = _at_least_float32(features)
        if isinstance(head, PoolsFirst) and head.pools_first():
            hidden, summed = head.hidden_and_summed_weight(features)
            hidden = _leaf(hidden, train)
            with torch.enable_grad():
                scores = head.rest(hidden)
            pairs = _pairs(wanted, scores, features.shape[0])
            weights = pooled_weights(summed, hidden, scores, pairs, features.shape[-2] * features.shape[-1], train)
        else:
            features = _leaf(features, train)
            with torch.enable_grad():
                scores = head(features)
            pairs = _pairs(wanted, scores, features.shape[0])
            weights = gradient_weights(features, scores, pairs, train)
        maps = _maps(features, weights, pairs, activation)
    return (scores, maps) if train else (scores.detach(), maps.detach())


def attention_from_scores(
    features: Tensor, scores: Tensor, wanted: Wanted, *, activation: Activation = "relu"
) -> Tensor:
    """Attention for scores that were computed from ``features`` elsewhere, by whatever lies between.

    Raises:
        ValueError: if ``scores`` has no graph to ``features``.
    """
    pairs = _pairs(wanted, scores, features.shape[0])
    with torch.autocast(features.device.type, enabled=False):
        weights = gradient_weights(features, scores, pairs, torch.is_grad_enabled())
        return _maps(_at_least_float32(features), weights.to(_wide(features.dtype)), pairs, activation)


def layer_attention(
    layers: Sequence[Tensor], scores: Tensor, wanted: Wanted, *, activation: Activation = "relu"
) -> list[Tensor]:
    """Eq. 1-2 with the outputs of several layers in the place of F, from one batched vector-Jacobian product.

    The gradient on its way to the lowest layer passes through the others, so that all together cost what it costs alone.

    Args:
        layers: Outputs of layers, each ``B×C×h×w`` with a C, h and w of its own, all in the graph of ``scores``.
        scores: ``B×N``.
        wanted: As in :func:`class_attention`, or a function of the scores.
        activation: ``relu`` or ``sigmoid``.

    Returns:
        For each layer ``P×h×w``, not normalised, the pairs in the order of :func:`class_attention`.

    Raises:
        ValueError: if ``scores`` has no graph to the layers.
    """
    pairs = _pairs(wanted, scores, len(scores))
    _expect_graph(scores, layers)
    if pairs.most == 0:
        return [features.new_zeros(0, *features.shape[-2:], dtype=_wide(features.dtype)) for features in layers]
    with torch.autocast(scores.device.type, enabled=False):
        weights = _mean_gradients(scores, layers, pairs, torch.is_grad_enabled())
        return [
            _maps(_at_least_float32(features), w.to(_wide(features.dtype)), pairs, activation)
            for features, w in zip(layers, weights, strict=True)
        ]


def gradient_weights(features: Tensor, scores: Tensor, pairs: _Pairs, create_graph: bool) -> Tensor:
    """``w_i^c`` of Eq. 1 for any head, ``B×K×C``: one vector-Jacobian product from the scores to F.

    An image's score depends on its own features alone, so the k-th wanted class of every image shares a product.
    """
    _expect_graph(scores, [features])
    if pairs.most == 0:
        return features.new_zeros(features.shape[0], 0, features.shape[1])
    return _mean_gradients(scores, [features], pairs, create_graph)[0]


def _mean_gradients(scores: Tensor, layers: Sequence[Tensor], pairs: _Pairs, create_graph: bool) -> list[Tensor]:
    """The wanted scores' gradients at each layer, averaged over its places: ``B×K×C``, in at least float32."""
    # one place's gradient is small, of the order of a weight over h*w: float16 would round it to nothing
    lift = 256.0 if torch.float16 in (scores.dtype, *(features.dtype for features in layers)) else 1.0
    chosen = scores.new_zeros(pairs.most, *scores.shape)
    chosen[pairs.rank, pairs.image, pairs.label] = lift
    gradients = _products(scores, layers, chosen, create_graph)
    return [_at_least_float32(gradient).mean((-2, -1)).transpose(0, 1) / lift for gradient in gradients]


def pooled_weights(
    summed_weight: Tensor, hidden: Tensor, scores: Tensor, pairs: _Pairs, positions: int, create_graph: bool
) -> Tensor:
    """``w_i^c`` of Eq. 1 in closed form for a head that pools first, ``B×K×C``.

    ``sum_q dy/dF_i(q) = sum_p dy/dpool_i(p) = sum_k delta_k sum_p W_kip``: pooling, whatever its kind, hands a gradient on in
    shares that sum to one.
    """
    if pairs.most == 0:
        return summed_weight.new_zeros(scores.shape[0], 0, summed_weight.shape[1])
    ones = scores.new_zeros(pairs.most, *scores.shape)
    ones[pairs.rank, pairs.image, pairs.label] = 1
    # a head without hidden layers: the scores are the first layer's output and the gradient is the choice itself
    delta = ones if scores is hidden else _product(scores, hidden, ones, create_graph)
    return (delta @ summed_weight).transpose(0, 1) / positions


def _product(outputs: Tensor, inputs: Tensor, vectors: Tensor, create_graph: bool) -> Tensor:
    """``K`` vector-Jacobian products at once, ``K×inputs.shape``."""
    return _products(outputs, [inputs], vectors, create_graph)[0]


def _products(outputs: Tensor, inputs: Sequence[Tensor], vectors: Tensor, create_graph: bool) -> tuple[Tensor, ...]:
    """The same to several inputs on one walk; the graph is kept for the loss that follows."""
    if len(vectors) == 1:
        gradients = torch.autograd.grad(outputs, inputs, vectors[0], create_graph=create_graph, retain_graph=True)
        return tuple(gradient[None] for gradient in gradients)
    return torch.autograd.grad(
        outputs, inputs, vectors, create_graph=create_graph, retain_graph=True, is_grads_batched=True
    )


def _expect_graph(scores: Tensor, layers: Sequence[Tensor]) -> None:
    if not (scores.requires_grad and all(features.requires_grad for features in layers)):
        raise ValueError(
            "expected scores with a graph to the features: compute both with gradients enabled, "
            "scores = head(features), or leave the scores out"
        )


def _maps(features: Tensor, weights: Tensor, pairs: _Pairs, activation: Activation) -> Tensor:
    """Eq. 2 for padded weights ``B×K×C``; the padding is dropped at the end."""
    height, width = features.shape[2:]
    maps = torch.bmm(weights, features.flatten(2))[pairs.image, pairs.rank]
    maps = maps.reshape(-1, height, width)
    return activated(maps, activation)


def activated(evidence: Tensor, activation: Activation) -> Tensor:
    """Eq. 2's non-linearity of its sum over channels."""
    if activation == "none":
        return evidence
    return evidence.sigmoid() if activation == "sigmoid" else evidence.relu()


def _pairs(wanted: Wanted, scores: Tensor, batch: int) -> _Pairs:
    if scores.ndim != 2 or scores.shape[0] != batch:
        raise ValueError(f"expected scores of shape {batch}×N, got {tuple(scores.shape)}")
    chosen = wanted(scores.detach()) if callable(wanted) else wanted
    if chosen.ndim == 1 and not chosen.is_floating_point() and chosen.dtype != torch.bool:
        if chosen.shape[0] != batch or (batch and not 0 <= int(chosen.min()) <= int(chosen.max()) < scores.shape[1]):
            raise ValueError(f"expected {batch} class indices in 0..{scores.shape[1] - 1}, got {chosen.tolist()}")
        image = torch.arange(batch, device=scores.device)
        return _Pairs(image, chosen.to(scores.device), torch.zeros_like(image), 1 if batch else 0)
    if chosen.shape != scores.shape:
        raise ValueError(
            f"expected classes of shape {tuple(scores.shape)} (or {batch} indices), got {tuple(chosen.shape)}"
        )
    image, label = (chosen != 0).nonzero(as_tuple=True)
    count = torch.bincount(image, minlength=batch)
    first = count.cumsum(0) - count
    rank = torch.arange(len(image), device=image.device) - first[image]
    return _Pairs(image, label, rank, int(count.max()) if len(image) else 0)


def _leaf(tensor: Tensor, train: bool) -> Tensor:
    """The tensor itself while training; else a leaf, so that the inner gradient stops here and keeps nothing below."""
    if train and tensor.requires_grad:
        return tensor
    return tensor.detach().requires_grad_()


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(_wide(tensor.dtype))
