"""Dense conditional random field: probabilities are drawn to the edges of the photograph.

Krähenbühl and Koltun, *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials* (2011): every pixel is tied
to every other by two Gaussian kernels (:mod:`attnbn.segmentation.crf_kernels`), labels are compatible with themselves alone
(Potts), inference is mean field. In plain tensor operations, on any device; nothing is compiled.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from attnbn.segment_config import Unary
from attnbn.segmentation.crf_exact import exact_mean_field
from attnbn.segmentation.crf_kernels import Kernels, full_precision
from attnbn.segmentation.crf_large import lattice_mean_field

Method = Literal["auto", "exact", "lattice"]

EXACT_PIXELS = 64 * 64
"""Maps of at most so many pixels get the exact kernel: 64 MiB and some tenths of a second an image on a CPU. Both grow with the
square."""

SMALLEST = 1e-5
"""Probabilities below count as this in -log p, as is usual."""

_TOLERANCE = 1e-3
"""How far from one probabilities may sum; of a type with fewer digits, its rounding of one."""


@torch.no_grad()
def dense_crf(
    images: Tensor,
    probabilities: Tensor,
    *,
    iterations: int = 10,
    bilateral_weight: float = 10.0,
    bilateral_xy: float = 80.0,
    bilateral_rgb: float = 13.0,
    gaussian_weight: float = 3.0,
    gaussian_xy: float = 3.0,
    unary: Unary = "log",
    method: Method = "auto",
) -> Tensor:
    """Marginals of a fully connected CRF with Potts labels.

    A label takes part in an image where its probability is above 0 at any pixel; one that is 0 everywhere stays 0 and costs
    nothing. No gradient flows.

    Args:
        images: uint8 ``B×3×H×W``.
        probabilities: ``B×C×H×W``, summing to one over C.
        iterations: Mean-field updates.
        bilateral_weight: Of the kernel over place and colour.
        bilateral_xy: Its standard deviation in place, in pixels.
        bilateral_rgb: Its standard deviation in colour, in units of 0..255.
        gaussian_weight: Of the kernel over place alone.
        gaussian_xy: Its standard deviation, in pixels.
        unary: Energy of a probability p: ``log`` (-log p, p at least 1e-5) or ``linear`` (-p).
        method: ``exact``: the whole kernel matrix, memory 4·(H·W)² bytes. ``lattice``: both kernels approximated at linear
            cost. ``auto``: exact up to 64×64 pixels.

    Returns:
        ``B×C×H×W``, summing to one over C, of the probabilities' dtype; computed in float32.

    Raises:
        TypeError: Images or probabilities that are no tensors.
        ValueError: Shapes that do not fit, images that are not uint8, probabilities that are not finite, negative or do not
            sum to one within 1e-3 (of bfloat16, its rounding of one), or a setting out of its range.

    Example:
        >>> images = torch.tensor([[10, 10, 240, 240]]).expand(1, 3, 1, 4).to(torch.uint8)
        >>> foreground = torch.tensor([0.9, 0.4, 0.1, 0.1]).view(1, 1, 1, 4)
        >>> refined = dense_crf(images, torch.cat([1 - foreground, foreground], 1))
        >>> refined.argmax(1)[0, 0].tolist()  # the second pixel goes with the first, which has its colour
        [1, 1, 0, 0]
    """
    _check_settings(iterations, unary, method, weights=(bilateral_weight, gaussian_weight),
                    deviations=(bilateral_xy, bilateral_rgb, gaussian_xy))  # fmt: skip
    _check_tensors(images, probabilities)
    if not len(images):
        return probabilities.detach().clone()
    kernels = Kernels(bilateral_weight, bilateral_xy, bilateral_rgb, gaussian_weight, gaussian_xy)
    flat = probabilities.flatten(2).float()
    energies = flat.clamp(min=SMALLEST).log() if unary == "log" else flat
    energies = energies.masked_fill((flat == 0).all(2, keepdim=True), -torch.inf)
    exact = method == "exact" or (method == "auto" and flat.shape[2] <= EXACT_PIXELS)
    mean_field = exact_mean_field if exact else lattice_mean_field
    with full_precision(images.device):
        marginals = mean_field(images, energies, kernels, iterations)
    return marginals.view_as(probabilities).to(probabilities.dtype)


def _check_settings(
    iterations: int, unary: str, method: str, *, weights: tuple[float, ...], deviations: tuple[float, ...]
) -> None:
    if iterations < 0:
        raise ValueError(f"expected iterations of at least 0, got {iterations}")
    if not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"expected weights of at least 0, got {weights[0]} (bilateral) and {weights[1]} (gaussian)")
    if not all(0 < deviation < float("inf") for deviation in deviations):
        names = ("bilateral_xy", "bilateral_rgb", "gaussian_xy")
        came = ", ".join(f"{name}={value}" for name, value in zip(names, deviations, strict=True))
        raise ValueError(f"expected standard deviations above 0, got {came}")
    for name, value, choices in (("unary", unary, get_args(Unary)), ("method", method, get_args(Method))):
        if value not in choices:
            raise ValueError(f"expected {name} to be one of {', '.join(choices)}, got {value}")


def _check_tensors(images: object, probabilities: object) -> None:
    for name, value in (("images", images), ("probabilities", probabilities)):
        if not isinstance(value, Tensor):
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"expected {name} as a torch.Tensor, got {kind}; torch.from_numpy makes one of an array")
    assert isinstance(images, Tensor) and isinstance(probabilities, Tensor)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images uint8 B×3×H×W, got {images.dtype} {_shape(images)}")
    if not probabilities.is_floating_point() or probabilities.ndim != 4:
        raise ValueError(
            f"expected floating-point probabilities B×C×H×W, got {probabilities.dtype} {_shape(probabilities)}"
        )
    batch, _, height, width = images.shape
    if (probabilities.shape[0], *probabilities.shape[2:]) != (batch, height, width) or 0 in probabilities.shape[1:]:
        raise ValueError(
            f"expected probabilities {batch}×C×{height}×{width} like the images, got {_shape(probabilities)}"
        )
    if probabilities.device != images.device:
        raise ValueError(f"expected probabilities on {images.device} like the images, got {probabilities.device}")
    if not bool(probabilities.isfinite().all()):
        raise ValueError("expected finite probabilities, got NaN or infinity")
    if bool((probabilities < 0).any()):
        raise ValueError(f"expected probabilities of at least 0, got {probabilities.min().item():.4g}")
    sums = probabilities.float().sum(1)
    tolerance = max(_TOLERANCE, torch.finfo(probabilities.dtype).eps)
    if len(sums) and float((sums - 1).abs().max()) > tolerance:
        raise ValueError(
            f"expected probabilities that sum to one over the labels (within {tolerance:.1g}), "
            f"got sums from {sums.min().item():.4g} to {sums.max().item():.4g}; use softmax"
        )


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))
