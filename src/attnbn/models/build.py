"""From a configuration to networks: the classifier for N classes, and the discriminator for its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchvision
from torch import nn

from attnbn.attention import Activation
from attnbn.config import ModelConfig
from attnbn.io.errors import InputError
from attnbn.models.backbones import BACKBONES, build_backbone
from attnbn.models.dilation import undo_last_halving
from attnbn.models.discriminator import Discriminator
from attnbn.models.network import AttnBN, TappedClassifier
from attnbn.models.weights import WeightsReport, load_weights, read_state_dict


@dataclass(frozen=True)
class BuiltNetwork:
    """A classifier ready to train.

    Attributes:
        network: Images -> :class:`attnbn.models.network.Output`.
        fresh: Its newly initialised layers, which train at ``head_lr`` times the rate.
        report: What the weights gave; None where no weights were asked for.
    """

    network: AttnBN | TappedClassifier
    fresh: list[nn.Module]
    report: WeightsReport | None


def build_network(config: ModelConfig, num_classes: int, activation: Activation = "relu") -> BuiltNetwork:
    """The classification network with its weights and a last layer for ``num_classes``.

    Raises:
        InputError: for an unknown backbone, a missing layer name, or weights that do not fit.
    """
    if config.backbone not in BACKBONES or config.layer is not None:
        return _tapped(config, num_classes, activation)
    backbone = build_backbone(config.backbone)
    if config.dilate:
        undo_last_halving(backbone.trunk)
    layers = len(list(backbone.trunk.children()))
    if config.freeze >= layers:
        raise InputError(
            f"expected model.freeze below the {layers} layers of {config.backbone}'s trunk, got {config.freeze}"
        )
    network = AttnBN(backbone.trunk, backbone.head, activation, config.freeze)
    state = None if config.weights is None else read_state_dict(config.weights, config.backbone)
    # Weights for these very classes (our own checkpoints) bring the last layer too; ImageNet's gets a fresh one.
    last = _last_rows(state, network)
    if last == num_classes:
        backbone.head.renew(num_classes, whole=False)
    report = None if state is None else load_weights(network, state, str(config.weights), backbone.rename)
    fresh = [] if last == num_classes else backbone.head.renew(num_classes, whole=config.head == "new")
    return BuiltNetwork(network, fresh, report)


def _last_rows(state: dict[str, torch.Tensor] | None, network: AttnBN) -> int | None:
    """Classes of a state dict in our own names (a trained network), else None."""
    if state is None or not all(name.startswith(("trunk.", "head.")) for name in state):
        return None
    last = [name for name in network.state_dict() if name.startswith("head.") and name.endswith(".weight")][-1]
    return int(state[last].shape[0]) if last in state else None


def _tapped(config: ModelConfig, num_classes: int, activation: Activation) -> BuiltNetwork:
    if config.layer is None or config.backbone not in torchvision.models.list_models():
        raise InputError(
            f"expected model.backbone to be one of {', '.join(BACKBONES)}, or a torchvision classifier together with "
            f"model.layer (the layer whose output is F), got {config.backbone!r}"
        )
    if config.freeze or config.dilate:
        raise InputError(
            "model.freeze and model.dilate need a backbone with a built-in split; leave them out with model.layer"
        )
    # auxiliary heads would make its output a tuple while training
    options = {"aux_logits": False, "init_weights": False} if config.backbone in ("googlenet", "inception_v3") else {}
    classifier = torchvision.models.get_model(config.backbone, **options)
    report = None
    if config.weights is not None:
        state = read_state_dict(config.weights, config.backbone)
        report = load_weights(classifier, state, config.weights, {})
    linear = [(n, m) for n, m in classifier.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise InputError(f"expected a classifier that ends in a linear layer, got {config.backbone}")
    name, last = linear[-1]
    fresh = nn.Linear(last.in_features, num_classes)
    nn.init.normal_(fresh.weight, std=0.01)
    nn.init.zeros_(fresh.bias)
    classifier.set_submodule(name, fresh)
    try:
        return BuiltNetwork(TappedClassifier(classifier, config.layer, activation), [fresh], report)
    except ValueError as error:
        raise InputError(f"model.layer: {error}") from error


def feature_shape(network: nn.Module, size: int) -> tuple[int, int, int]:
    """``(C, h, w)`` of F for images of ``size×size``, found by one forward pass.

    Raises:
        InputError: if the network cannot take images of that size.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            channels, height, width = network(torch.zeros(1, 3, size, size)).features.shape[1:]
    except RuntimeError as error:
        raise InputError(f"expected data.size large enough for the backbone, got {size}: {error}") from error
    finally:
        network.train(training)
    return channels, height, width


def build_discriminator(config: ModelConfig, network: nn.Module, size: int) -> Discriminator:
    """The discriminator for the network's features at ``size×size`` images."""
    channels, height, width = feature_shape(network, size)
    try:
        return Discriminator(channels, (height, width), config.upsample, config.discriminator_width)
    except ValueError as error:
        raise InputError(f"data.size {size}: {error}") from error
