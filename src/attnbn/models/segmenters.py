"""Segmentation networks: a trunk at output stride 8 and a head that classifies every place of its features.

All have one interface, images ``B×3×S×S`` to logits ``B×(N+1)×h×w`` at the features' own size (background first), and start
from a classifier's weights: ImageNet's or those of a trained AttnBN, whose trunks they share by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from attnbn.io.errors import InputError
from attnbn.models.backbones import build_backbone
from attnbn.models.dilation import undo_last_halving
from attnbn.models.weights import WeightsReport, load_weights, read_state_dict
from attnbn.segment_config import SegmenterConfig

DSRG_DILATIONS = (6, 12, 18, 24)
"""Of DSRG's four branches."""


class Segmenter(nn.Module):
    """A trunk and a head; the trunk's first layers may be frozen.

    Args:
        trunk: From images to features.
        head: From features to logits, at the same places.
        freeze: The trunk's first so many children are not trained; their batch statistics stay too.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, freeze: int = 0) -> None:
        super().__init__()
        self.trunk, self.head, self.freeze = trunk, head, freeze
        for layer in self._frozen():
            layer.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        return list(self.trunk.children())[: self.freeze]

    def train(self, mode: bool = True) -> Segmenter:
        """Training mode, for all but the frozen layers."""
        super().train(mode)
        for layer in self._frozen():
            layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``B×(N+1)×h×w`` of images ``B×3×S×S``, normalised as the trunk was trained."""
        logits: Tensor = self.head(self.trunk(images))
        return logits


class BranchedHead(nn.Module):
    """DSRG's head: fc6, fc7 and fc8 as convolutions, in branches of different dilation whose logits are added.

    Args:
        channels: Of the features.
        width: Of fc6 and fc7 (DSRG: 1024).
        classes: Of the logits, background included.
        dilations: Of each branch's 3×3 fc6.
        dropout: After fc6 and fc7.
    """

    def __init__(self, channels: int, width: int, classes: int, dilations: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, width, 1),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, classes, 1),
            )
            for dilation in dilations
        )
        for last in self.last_layers():
            nn.init.normal_(last.weight, std=0.01)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def last_layers(self) -> list[nn.Conv2d]:
        """Each branch's fc8."""
        return [layer for branch in self.branches for layer in list(branch.children())[-1:]]  # type: ignore[misc]

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``B×C×h×w``."""
        logits: Tensor = torch.stack([branch(features) for branch in self.branches]).sum(0)
        return logits


@dataclass(frozen=True)
class BuiltSegmenter:
    """A segmentation network ready to train.

    Attributes:
        network: Images -> logits.
        fresh: Its newly initialised layers, which train at ``head_lr`` times the rate.
        report: What the weights gave; None where none were asked for.
    """

    network: Segmenter
    fresh: list[nn.Module]
    report: WeightsReport | None


def build_segmenter(config: SegmenterConfig, num_classes: int) -> BuiltSegmenter:
    """The segmentation network for ``num_classes`` and the background, with its weights.

    Raises:
        InputError: for an unknown network, or weights that do not fit.
    """
    if config.network not in NETWORKS:
        raise InputError(f"expected model.network to be one of {', '.join(NETWORKS)}, got {config.network!r}")
    backbone, build = NETWORKS[config.network]
    trunk, head = build(num_classes + 1, config.dropout)
    layers = len(list(trunk.children()))
    if config.freeze >= layers:
        raise InputError(
            f"expected model.freeze below the {layers} layers of {config.network}'s trunk, got {config.freeze}"
        )
    network = Segmenter(trunk, head, config.freeze)
    if config.weights is None:
        return BuiltSegmenter(network, [head], None)
    state = read_state_dict(config.weights, backbone)
    if own := _of_a_segmenter(state, network):
        return BuiltSegmenter(network, [], load_weights(network, own, config.weights, {}))
    report = load_weights(trunk, state, config.weights, {"features.": "", "trunk.": ""})
    fresh: list[nn.Module] = [head]
    if isinstance(head, BranchedHead) and config.network == LARGEFOV:
        report.loaded += _decimated(head, state)
        fresh = list(head.last_layers()) if _fully_connected(state) is not None else fresh
        report.unused = [name for name in report.unused if not name.startswith(("classifier.", "head."))]
    return BuiltSegmenter(network, fresh, report)


def _of_a_segmenter(state: Mapping[str, Tensor], network: Segmenter) -> dict[str, Tensor]:
    """The state of a network of this very kind (a first stage), else nothing."""
    own = network.state_dict()
    return dict(state) if set(state) == set(own) and all(own[k].shape == v.shape for k, v in state.items()) else {}


def _fully_connected(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """VGG16's fc6 and fc7 (weight, bias, weight, bias), in torchvision's names or an AttnBN's."""
    for fc6, fc7 in (("classifier.0", "classifier.3"), ("head.first", "head.after.2")):
        names = (f"{fc6}.weight", f"{fc6}.bias", f"{fc7}.weight", f"{fc7}.bias")
        if all(name in state for name in names) and state[names[0]].numel() == 4096 * 512 * 49:
            return state[names[0]], state[names[1]], state[names[2]], state[names[3]]
    return None


def _decimated(head: BranchedHead, state: Mapping[str, Tensor]) -> list[str]:
    """Fill each branch's fc6 and fc7 from VGG16's: every fourth unit, the 7×7 places sampled at 3×3 (as DeepLab-LargeFOV)."""
    layers = _fully_connected(state)
    if layers is None:
        return []
    fc6, bias6, fc7, bias7 = layers
    kernel = fc6.reshape(4096, 512, 7, 7)[::4, :, ::3, ::3]
    square = fc7.reshape(4096, 4096)[::4, ::4, None, None]
    loaded = []
    for index, branch in enumerate(head.branches):
        first, second = (layer for layer in list(branch.children())[:-1] if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            for layer, weight, bias in ((first, kernel, bias6[::4]), (second, square, bias7[::4])):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)  # type: ignore[union-attr]
        loaded += [f"head.branches.{index}.{place}.{kind}" for place in (0, 3) for kind in ("weight", "bias")]
    return loaded


LARGEFOV = "vgg16-largefov"
Parts = tuple[nn.Module, nn.Module]


def _vgg16(classes: int, dropout: float) -> Parts:
    """VGG16 with 3×3 pools, the last two without stride, conv5 dilated by 2, and an average pool (DeepLab-LargeFOV)."""
    layers = list(torchvision.models.vgg16().features)
    pools = [index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for place, index in enumerate(pools):
        layers[index] = nn.MaxPool2d(3, stride=2 if place < 3 else 1, padding=1)
    for layer in layers[pools[3] :]:
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    trunk = nn.Sequential(*layers, nn.AvgPool2d(3, stride=1, padding=1))
    return trunk, BranchedHead(512, 1024, classes, DSRG_DILATIONS, dropout)


def _resnet50(classes: int, _dropout: float) -> Parts:
    """Torchvision's DeepLabV3: layers 3 and 4 dilated, atrous spatial pyramid pooling (its dropout is its own)."""
    model = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    trunk = nn.Sequential()
    for name, child in model.named_children():
        if name not in ("avgpool", "fc"):
            trunk.add_module(name, child)
    return trunk, DeepLabHead(2048, classes)


def _squeezenet(classes: int, dropout: float) -> Parts:
    """SqueezeNet 1.1 at stride 8, its 512 channels mixed into 128 before the branches: what two cores can train."""
    trunk = build_backbone("squeezenet1_1").trunk
    undo_last_halving(trunk)
    mixed = nn.Sequential(nn.Conv2d(512, 128, 1), nn.ReLU(), BranchedHead(128, 128, classes, (3, 6, 12), dropout))
    return trunk, mixed


def _small(classes: int, dropout: float) -> Parts:
    """The demonstration's trunk, which has stride 8 as it is."""
    return build_backbone("small").trunk, BranchedHead(64, 32, classes, (1, 2, 4), dropout)


NETWORKS: dict[str, tuple[str, Callable[[int, float], Parts]]] = {
    LARGEFOV: ("vgg16", _vgg16),
    "deeplabv3-resnet50": ("resnet50", _resnet50),
    "squeezenet1_1": ("squeezenet1_1", _squeezenet),
    "small": ("small", _small),
}
"""Network -> the classifier whose weights it starts from, and how its trunk and head are made."""


def grid_of(network: nn.Module, size: int) -> tuple[int, int]:
    """``(h, w)`` of the logits for images of ``size×size``, found by one forward pass.

    Raises:
        InputError: if the network cannot take images of that size.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            height, width = network(torch.zeros(1, 3, size, size)).shape[-2:]
    except RuntimeError as error:
        raise InputError(f"expected data.size large enough for the network, got {size}: {error}") from error
    finally:
        network.train(training)
    return height, width
