"""Backbones split into trunk and head, by name.

The trunk ends where the paper takes F: after the ReLU of the last convolution, before any pooling. The head is a
:class:`attnbn.models.heads.PooledHead`, so that attention has its closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torchvision
from torch import Tensor, nn

from attnbn.io.errors import InputError
from attnbn.models.heads import PooledHead
from attnbn.models.small import small_trunk


@dataclass(frozen=True)
class Backbone:
    """A trunk with its head, still with the classes it was built for.

    Attributes:
        trunk: Images -> F.
        head: F -> logits.
        rename: Names of a torchvision state dict -> names here, by prefix; empty: the names are equal.
    """

    trunk: nn.Module
    head: PooledHead
    rename: dict[str, str]


class _PooledTo7(nn.AdaptiveAvgPool2d):
    """VGG's pooling to 7×7, left out where pool5 gives that already, as for images of 224 pixels: it would change nothing.

    On GPUs PyTorch has no deterministic gradient of it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is PyTorch's
        return input if input.shape[-2:] == (7, 7) else super().forward(input)


def _vgg(model: torchvision.models.VGG) -> Backbone:
    layers = list(model.features)
    fc6, *rest = list(model.classifier)
    # not in place: attention needs the gradient at fc6's own output, before its ReLU
    rest = [nn.ReLU() if isinstance(m, nn.ReLU) else m for m in rest]
    head = PooledHead(nn.Sequential(layers[-1], _PooledTo7(7)), fc6, 512, nn.Sequential(*rest))
    rename = {"features.": "trunk.", "classifier.0.": "head.first."}
    rename |= {f"classifier.{i + 1}.": f"head.after.{i}." for i in range(len(rest))}
    return Backbone(nn.Sequential(*layers[:-1]), head, rename)


def _resnet(model: torchvision.models.ResNet) -> Backbone:
    children = dict(model.named_children())
    fc, pool = children.pop("fc"), children.pop("avgpool")
    if not isinstance(fc, nn.Linear):
        raise TypeError("expected a ResNet whose fc is linear")
    trunk = nn.Sequential()
    for name, child in children.items():
        trunk.add_module(name, child)
    head = PooledHead(pool, fc, fc.in_features)
    return Backbone(trunk, head, {"fc.": "head.first.", "": "trunk."})


def _squeezenet(model: torchvision.models.SqueezeNet) -> Backbone:
    dropout, conv = model.classifier[0], model.classifier[1]
    if not (isinstance(conv, nn.Conv2d) and isinstance(dropout, nn.Dropout)):
        raise TypeError("expected a SqueezeNet whose classifier is dropout, convolution, ReLU, pooling")
    # A 1×1 convolution and global averaging commute, hence the pooled form. The ReLU that torchvision puts before the
    # pooling is left out: with it a score is never negative and its sigmoid never below a half.
    first = nn.Linear(conv.in_channels, conv.out_channels)
    first.weight.data.copy_(conv.weight.data.flatten(1))
    if conv.bias is not None:
        first.bias.data.copy_(conv.bias.data)
    head = PooledHead(nn.AdaptiveAvgPool2d(1), first, conv.in_channels, dropout=dropout.p)
    return Backbone(model.features, head, {"features.": "trunk.", "classifier.1.": "head.first."})


def _small() -> Backbone:
    trunk = small_trunk()
    channels = [m.out_channels for m in trunk.modules() if isinstance(m, nn.Conv2d)][-1]
    head = PooledHead(nn.AdaptiveAvgPool2d(1), nn.Linear(channels, 1000), channels)
    return Backbone(trunk, head, {})


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vgg16": lambda: _vgg(torchvision.models.vgg16()),
    "vgg16_bn": lambda: _vgg(torchvision.models.vgg16_bn()),
    "resnet18": lambda: _resnet(torchvision.models.resnet18()),
    "resnet50": lambda: _resnet(torchvision.models.resnet50()),
    "squeezenet1_1": lambda: _squeezenet(torchvision.models.squeezenet1_1()),
    "small": _small,
}
"""Backbones with a built-in split. Others come from torchvision with ``model.layer``."""


def build_backbone(name: str) -> Backbone:
    """The backbone with random weights.

    Raises:
        InputError: for a name that is not in :data:`BACKBONES`.
    """
    if name not in BACKBONES:
        raise InputError(
            f"expected model.backbone to be one of {', '.join(BACKBONES)}, or a torchvision classifier together with "
            f"model.layer (the layer whose output is F), got {name!r}"
        )
    return BACKBONES[name]()
