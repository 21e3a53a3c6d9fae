"""Joint transforms: image, saliency and mask move together, as a pure function of a seed.

Importing this module teaches torchvision's v2 transforms how a :class:`~attnbn.data.sample.Saliency` follows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import register_kernel

from attnbn.data.sample import Saliency, Sample

SampleTransform = Callable[[Sample], Sample]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _resize(saliency: Saliency, size: list[int] | None, max_size: int | None = None, **_: Any) -> Saliency:
    # the interpolation asked for is the image's; a soft map is always resized bilinearly, with antialiasing
    resized = F.resize_image(saliency.as_subclass(Tensor), size=size, max_size=max_size, antialias=True)
    return Saliency(resized.clamp(0, 1))  # bilinear weights sum to one only up to rounding


def _crop(saliency: Saliency, top: int, left: int, height: int, width: int) -> Saliency:
    # beyond the photograph nothing is salient: zeros, as torchvision pads
    return Saliency(F.crop_image(saliency.as_subclass(Tensor), top, left, height, width))


def _resized_crop(
    saliency: Saliency, top: int, left: int, height: int, width: int, size: list[int], **_: Any
) -> Saliency:
    return _resize(_crop(saliency, top, left, height, width), size)


def _pad(saliency: Saliency, padding: list[int], fill: Any = None, padding_mode: str = "constant") -> Saliency:
    # the fill is the image's colour; beyond the photograph nothing is salient
    padded = F.pad_image(saliency.as_subclass(Tensor), padding=padding, fill=0, padding_mode=padding_mode)
    return Saliency(padded)


def _horizontal_flip(saliency: Saliency) -> Saliency:
    return Saliency(saliency.as_subclass(Tensor).flip(-1))


for _functional, _kernel in (
    (F.resize, _resize),
    (F.crop, _crop),
    (F.resized_crop, _resized_crop),
    (F.pad, _pad),
    (F.horizontal_flip, _horizontal_flip),
):
    register_kernel(_functional, Saliency)(_kernel)


class JointTransform:
    """Applies one v2 transform to image, saliency and, where wanted, mask of a sample, with the same random numbers.

    Args:
        transform: A v2 transform made of resizing, cropping, padding and mirroring; colour transforms are fine too.
        mask: Whether the mask follows; otherwise it keeps its own resolution.
    """

    def __init__(self, transform: nn.Module, *, mask: bool) -> None:
        self.transform = transform
        self.mask = mask

    def __call__(self, sample: Sample) -> Sample:
        moving: dict[str, Tensor] = {"image": sample.image}
        if sample.saliency is not None:
            moving["saliency"] = sample.saliency
        if self.mask and sample.mask is not None:
            moving["mask"] = sample.mask
        moved = self.transform(moving)
        if "saliency" in moved and moved["saliency"].shape[-2:] != moved["image"].shape[-2:]:
            # torchvision passes tensor classes through a function that has no kernel for them
            raise ValueError(f"the transform leaves the saliency behind; register a kernel for it: {self.transform}")
        return replace(sample, **moved)


def train_transform(size: int, scale: tuple[float, float] = (0.5, 1.0), flip: bool = True) -> SampleTransform:
    """Random resized crop and mirror image.

    Args:
        size: Side of the square result, in pixels.
        scale: Lowest and highest area of the crop, as a share of the image.
        flip: Mirror half of the samples.

    Returns:
        Sample -> sample with all parts ``size×size``; the crop's aspect ratio is between 3/4 and 4/3.
    """
    crop = v2.RandomResizedCrop((size, size), scale=scale, ratio=(3 / 4, 4 / 3), antialias=True)
    return JointTransform(v2.Compose([crop, v2.RandomHorizontalFlip()]) if flip else crop, mask=True)


def eval_transform(size: int) -> SampleTransform:
    """The whole image resized to a square, so that a map covers all of it; the mask keeps its own resolution."""
    return JointTransform(v2.Resize((size, size), antialias=True), mask=False)


def normalize(image: Tensor) -> Tensor:
    """Pixels to the network's input: ``(image/255 - mean)/std`` with ImageNet's mean and standard deviation.

    Args:
        image: uint8 ``...×3×H×W``, RGB.

    Returns:
        float32 of the same shape, on the same device.
    """
    if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"expected uint8 images ...×3×H×W, got {tuple(image.shape)} {image.dtype}")
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(3, 1, 1)
    return image.as_subclass(Tensor).float().div_(255).sub_(mean).div_(std)


def seeded(transform: SampleTransform, seed: int) -> SampleTransform:
    """The transform under its own random numbers: what comes out depends on the seed alone.

    The global generators are left as they were, those of accelerators included.

    Args:
        transform: Draws from PyTorch's default CPU generator, as all v2 transforms do.
        seed: In [0, 2^63).
    """

    def run(sample: Sample) -> Sample:
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: that would reseed the accelerators too, which are not forked
            torch.default_generator.manual_seed(seed)
            return transform(sample)

    return run
