"""The two Gaussian kernels of the dense CRF, and what both ways of applying them share.

Krähenbühl and Koltun, *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials* (2011). With place x
(pixels) and colour c (0..255), pixels i and j are tied by

    w_b · k_b(i, j) + w_g · k_g(i, j),
    k_b = exp(-|x_i - x_j|² / 2σ_xy² - |c_i - c_j|² / 2σ_rgb²),   k_g = exp(-|x_i - x_j|² / 2σ_g²),

each k normalised symmetrically to k(i, j) / √(n_i n_j), n_i = Σ_j k(i, j) with j = i included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NEGLIGIBLE = 1e-5
"""A label whose probability is above this at no pixel sends no message in this iteration: its own exponent would grow by no more
than this times K 1 (about the sum of the weights), and by that it stays as good as nothing. It may send again in the next."""


@dataclass(frozen=True)
class Kernels:
    """Weights and standard deviations, as :func:`attnbn.segmentation.crf.dense_crf` takes them."""

    bilateral_weight: float
    bilateral_xy: float
    bilateral_rgb: float
    gaussian_weight: float
    gaussian_xy: float


def sending(largest: Tensor) -> Tensor | None:
    """Indices of the labels that have a message to send, or None if all have.

    Args:
        largest: Each label's largest probability.
    """
    loud = largest > NEGLIGIBLE
    return None if bool(loud.all()) else loud.nonzero()[:, 0]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32, whatever autocast and the process's settings say; they are restored at the end."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
