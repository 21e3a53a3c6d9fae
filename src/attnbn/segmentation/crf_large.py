"""Mean field on whole photographs: both kernels filtered on lattices, memory linear in the number of pixels."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from attnbn.segmentation.crf_kernels import Kernels, sending
from attnbn.segmentation.crf_lattice import Bags, Lattice

_LOG2E = math.log2(math.e)

_TOP, _RANGE = 100.0, 200.0
"""Exponents (of 2) are shifted so that none is above the first; between an upper and a lower bound of a pixel's largest there may
be so much that the lower is still far from float32's smallest number, 2^-126."""


_TOGETHER = 64


def lattice_mean_field(images: Tensor, energies: Tensor, kernels: Kernels, iterations: int) -> Tensor:
    """Marginals after some iterations, image by image.

    Args:
        images: uint8 ``B×3×H×W``.
        energies: Minus the unary energy, float32 ``B×C×N``, N = H·W; -inf where a label takes no part.
        kernels: Weights and standard deviations.
        iterations: Mean-field updates.

    Returns:
        float32 ``B×C×N``.

    Raises:
        ValueError: A standard deviation is too small for the lattice; naming it.
    """
    place = _place(images.shape[-2], images.shape[-1], images.device)
    smooth = _smooth(*images.shape[-2:], kernels.gaussian_xy, kernels.gaussian_weight, images.device)
    marginals = torch.zeros_like(energies)
    for image, energy, refined in zip(images, energies, marginals, strict=True):
        lattices = [] if smooth is None else [smooth]
        if kernels.bilateral_weight:
            deviations = {"bilateral_xy": kernels.bilateral_xy, "bilateral_rgb": kernels.bilateral_rgb}
            lattices.append(_normalised([place, image.flatten(1)], deviations, kernels.bilateral_weight))
        taking_part = energy.isfinite().any(1)
        if bool(taking_part.all()):
            refined.copy_(_iterate(lattices, energy, iterations))
        else:
            refined[taking_part] = _iterate(lattices, energy[taking_part], iterations)
    return marginals


@lru_cache(maxsize=4)
def _smooth(height: int, width: int, deviation: float, weight: float, device: torch.device) -> Lattice | None:
    """The Gaussian kernel's lattice, None if it has no weight.

    It does not depend on what is in an image, and photographs of a data set come in few sizes: some are kept, 10 MB each.
    """
    return _normalised([_place(height, width, device)], {"gaussian_xy": deviation}, weight) if weight else None


def _place(height: int, width: int, device: torch.device) -> Tensor:
    """Column and row of each pixel, ``2×N``."""
    axes = (torch.arange(n, dtype=torch.float32, device=device) for n in (height, width))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()])


def _normalised(features: list[Tensor], deviations: dict[str, float], weight: float) -> Lattice:
    """A lattice that applies √w n^-½ K n^-½ √w, n = K 1.

    Args:
        features: Tensors ``d×N``.
        deviations: The standard deviation of each, under its setting's name.
        weight: w.

    Raises:
        ValueError: A deviation is too small; naming the one that cuts its feature into most pieces.
    """
    parts = list(zip(features, deviations.items(), strict=True))
    try:
        lattice = Lattice(torch.cat([feature / deviation for feature, (_, deviation) in parts]))
    except ValueError as error:
        _, name, value = max((float(feature.amax()) / value, name, value) for feature, (name, value) in parts)
        raise ValueError(f"expected a larger {name} for an image of this size, got {value:g}: {error}") from error
    ones = torch.ones(features[0].shape[1], 1, device=features[0].device)
    sums = lattice.slice(lattice.blur(lattice.splat(ones)))[:, 0]
    lattice.scale((weight / sums).sqrt_())
    return lattice


def _iterate(lattices: list[Lattice], energies: Tensor, iterations: int) -> Tensor:
    """Q = softmax(-U), then Q = softmax(-U + K Q) again and again; ``C×N`` to ``C×N``.

    Inside, channels are innermost: all labels of a pixel lie side by side, and are gathered together.
    """
    if not lattices or not iterations:
        return energies.softmax(0)
    back = _slice_all(lattices)

    def messages(sent: Tensor) -> Tensor:
        return back(torch.cat([lattice.blur(lattice.splat(sent)) for lattice in lattices]))

    ones = torch.ones(energies.shape[1], device=energies.device)
    # A pixel's messages are not negative and their sum over labels is K 1, always. So its largest exponent lies between that
    # without messages and that with all of them on one label: a shift is known once for all, and softmax need not look for it.
    spread, largest = messages(ones[:, None])[:, 0], energies.amax(0) * _LOG2E
    shifted = bool(spread.max() <= _RANGE)
    exponents = (energies * _LOG2E - (largest + spread - _TOP if shifted else 0)).T.contiguous()
    marginals = _normalise(exponents.clone(), shifted=shifted)
    for _ in range(iterations):
        labels = sending(_largest(marginals))
        if labels is None:
            marginals = _normalise(messages(marginals).add_(exponents), shifted=shifted)
        else:
            message = messages(marginals.index_select(1, labels))
            marginals = _normalise(exponents.index_add(1, labels, message), shifted=shifted)
    return marginals.T


def _slice_all(lattices: list[Lattice]) -> Bags:
    """One matrix from the corners of all lattices, one lattice's below the other's, to exponents of 2 at the pixels."""
    rows, first = [], 0
    for lattice in lattices:
        rows.append(lattice.slice.rows + first)
        first += lattice.size
    weights = torch.cat([lattice.slice.weights for lattice in lattices], 1)
    return Bags(torch.cat(rows, 1), weights * _LOG2E)


def _largest(marginals: Tensor) -> Tensor:
    """Each label's largest probability. Pixels are taken together first: torch is slow at reducing to so short a row."""
    pixels, labels = marginals.shape
    whole = pixels // _TOGETHER * _TOGETHER
    parts = marginals[:whole].view(-1, _TOGETHER * labels).amax(0).view(_TOGETHER, labels) if whole else marginals[:0]
    return torch.cat([parts, marginals[whole:]]).amax(0)


def _normalise(exponents: Tensor, *, shifted: bool) -> Tensor:
    """Softmax of exponents of 2, ``N×C``, along the labels; overwrites its argument."""
    if not shifted:
        return exponents.mul_(1 / _LOG2E).softmax(1)
    powers = exponents.exp2_()
    return powers.div_(powers.sum(1, keepdim=True))
