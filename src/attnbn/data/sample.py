"""What a data set yields: one photograph with whatever is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors


class Saliency(tv_tensors.TVTensor):
    """A saliency map, float32 ``1×H×W`` in [0, 1], that follows the geometry of its image.

    Neither ``Mask`` (resized by nearest neighbour) nor ``Image`` (colour-jittered) fits a soft map, so it is a
    class of its own with antialiased bilinear kernels (registered in :mod:`attnbn.data.transforms`).
    """

    def __new__(cls, data: Any, **kwargs: Any) -> Saliency:
        tensor = cls._to_tensor(data, dtype=torch.float32, device=None, requires_grad=False)
        if tensor.ndim == 2:
            tensor = tensor[None]
        if tensor.ndim != 3 or tensor.shape[0] != 1:
            raise ValueError(f"expected a saliency map of shape 1×H×W or H×W, got {tuple(tensor.shape)}")
        saliency: Saliency = tensor.as_subclass(cls)
        return saliency


@dataclass(frozen=True)
class Sample:
    """One photograph and what is known about it.

    Attributes:
        image: ``tv_tensors.Image`` uint8 ``3×H×W``, RGB.
        labels: float32 ``N`` in {0, 1}; NaN = unknown (VOC's "difficult"). None where labels were not asked for.
        saliency: :class:`Saliency` float32 ``1×H×W`` in [0, 1], or None.
        mask: ``tv_tensors.Mask`` ``H×W`` uint8, 0 = background, i + 1 = class i, 255 = void, or None.
        name: unique in its data set; a relative path without extension for files.
    """

    image: tv_tensors.Image
    labels: Tensor | None
    saliency: Saliency | None
    mask: tv_tensors.Mask | None
    name: str
