"""Mean field with the whole kernel matrix in memory: exact, for maps of some thousand pixels.

Both kernels have the same (Potts) compatibility, so they are added into one matrix per image once, and an iteration is one
matrix product. What depends on place alone is computed once for all images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnbn.segmentation.crf_kernels import Kernels, sending

_TINY = 1e-30
"""Kernel values below are set to 0: they carry nothing, and denormal numbers make products ten times slower."""

_SMALLEST = 1e-15
"""Smaller deviations give the same kernel, 1 at the pixel itself and 0 elsewhere, but no finite float32."""

_LARGEST = 1e15
"""Larger ones give the same kernel, 1 everywhere, but their square may be no finite number."""

_CACHE = 2**20

_MEMORY = 2**30
"""Bytes for the matrices of the images that are refined at once on an accelerator."""


def exact_mean_field(images: Tensor, energies: Tensor, kernels: Kernels, iterations: int) -> Tensor:
    """Marginals after some iterations.

    Args:
        images: uint8 ``B×3×H×W``.
        energies: Minus the unary energy, float32 ``B×C×N``, N = H·W; -inf where a label takes no part.
        kernels: Weights and standard deviations.
        iterations: Mean-field updates.

    Returns:
        float32 ``B×C×N``.
    """
    place = _squared_distances(images.shape[-2], images.shape[-1], images.device)
    smooth = kernels.gaussian_weight * _normalised(_gaussian(place, kernels.gaussian_xy))
    bilateral = place.mul_(_exponent(kernels.bilateral_xy))
    marginals = torch.empty_like(energies)
    at_once = _images_at_once(images)
    for begin in range(0, len(images), at_once):
        chunk = slice(begin, begin + at_once)
        matrix = kernel_matrix(images[chunk], bilateral, smooth, kernels)
        taking_part = energies[chunk].isfinite().any(2).any(0).nonzero()[:, 0]
        refined = _iterate(matrix, energies[chunk, taking_part], iterations)
        marginals[chunk] = 0
        marginals[chunk, taking_part] = refined
    return marginals


def _images_at_once(images: Tensor) -> int:
    """One on the CPU, where a matrix that stays in the cache is worth more than a batch."""
    pixels = images.shape[-2] * images.shape[-1]
    return 1 if images.device.type == "cpu" else max(1, _MEMORY // (3 * 4 * pixels**2))


def kernel_matrix(images: Tensor, bilateral: Tensor, smooth: Tensor, kernels: Kernels) -> Tensor:
    """Both kernels, normalised, weighted and added.

    Args:
        images: uint8 ``B×3×H×W``.
        bilateral: Logarithm to base 2 of the bilateral kernel's part over place, ``N×N``.
        smooth: The Gaussian kernel, normalised and weighted, ``N×N``.
        kernels: Weights and standard deviations.

    Returns:
        float32 ``B×N×N``.
    """
    colours = images.flatten(2).transpose(1, 2).float()
    squares, ones = colours.square().sum(2, keepdim=True), torch.ones_like(colours[..., :1])
    left, right = torch.cat([colours, squares, ones], 2), torch.cat([-2 * colours, ones, squares], 2).transpose(1, 2)
    matrix = left.new_empty(len(left), *bilateral.shape)
    sums = left.new_empty(left.shape[:2])
    blocks = _row_blocks(len(bilateral), images.device)
    for rows in blocks:
        # |a|² + |b|² - 2ab: of whole numbers below 2²⁴ this is exact, as it would not be of scaled colours
        block = left[:, rows] @ right
        torch.add(bilateral[rows], block, alpha=_exponent(kernels.bilateral_rgb), out=block)
        matrix[:, rows] = torch.threshold_(block.exp2_(), _TINY, 0.0)
        sums[:, rows] = block.sum(2)
    norm = sums.rsqrt_()
    weighted = kernels.bilateral_weight * norm
    for rows in blocks:
        block = matrix[:, rows].mul_(weighted[:, rows, None])
        torch.addcmul(smooth[rows], block, norm[:, None, :], out=block)
    return matrix


def _row_blocks(pixels: int, device: torch.device) -> list[slice]:
    """Parts of the matrix that a CPU's cache can hold, so that the steps of its making do not each wait for the memory."""
    rows = max(1, _CACHE // (4 * pixels)) if device.type == "cpu" else pixels
    return [slice(first, first + rows) for first in range(0, pixels, rows)]


def _iterate(matrix: Tensor, energies: Tensor, iterations: int) -> Tensor:
    """Q = softmax(-U), then Q = softmax(-U + K Q) again and again (the paper's algorithm 1)."""
    marginals = energies.softmax(1)
    for _ in range(iterations):
        labels = sending(marginals.amax((0, 2)))
        if labels is None:
            marginals = torch.baddbmm(energies, marginals, matrix).softmax(1)
        else:
            marginals = energies.index_add(1, labels, marginals[:, labels] @ matrix).softmax(1)
    return marginals


def _squared_distances(height: int, width: int, device: torch.device) -> Tensor:
    """Between all pixels, ``N×N``."""
    rows, columns = (torch.arange(n, dtype=torch.float32, device=device) for n in (height, width))
    down, across = ((axis[:, None] - axis).square() for axis in (rows, columns))
    return (down[:, None, :, None] + across[None, :, None, :]).reshape(height * width, height * width)


def _exponent(deviation: float) -> float:
    """exp(-d² / 2σ²) = 2^(this · d²); powers of two are the quicker ones."""
    return -0.5 / (min(max(deviation, _SMALLEST), _LARGEST) ** 2 * math.log(2))


def _gaussian(squared: Tensor, deviation: float) -> Tensor:
    return torch.threshold_((squared * _exponent(deviation)).exp2_(), _TINY, 0.0)


def _normalised(matrix: Tensor) -> Tensor:
    norm = matrix.sum(1).rsqrt_()
    return matrix.mul_(norm[:, None]).mul_(norm)
