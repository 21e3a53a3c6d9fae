"""A forward pass whose maps can be asked for later, of the last layer or of others on the way.

What the layers give is read by forward hooks, and a graph is kept from the lowest of them to the scores. So the classes
may be chosen after the pass, even after other passes, without a second one. A layer that is followed by an operation in
place (``ReLU(inplace=True)``) is read after that operation, as F is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnbn.attention import Activation, layer_attention
from attnbn.io.errors import InputError
from attnbn.models.network import AttnBN, TappedClassifier

LAST = "last"
"""F itself, the layer that the network was trained with."""


@dataclass(frozen=True)
class Pass:
    """A forward pass that has been made.

    Attributes:
        scores: Logits ``B×N``, with the graph.
        features: What each layer gave, ``B×C×h×w``.
        activation: The network's.
    """

    scores: Tensor
    features: tuple[Tensor, ...]
    activation: Activation

    def maps(self, wanted: Tensor) -> list[Tensor]:
        """For each layer the maps ``P×h×w`` of the wanted pairs ``B×N``, in the order of ``nonzero()``."""
        with torch.inference_mode(False), torch.no_grad():
            return layer_attention(self.features, self.scores, wanted, activation=self.activation)


def find_layers(net: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The layers of those names; :data:`LAST` is F.

    Args:
        net: An :class:`AttnBN` (names as in its ``named_modules()``, e.g. ``trunk.10``) or a :class:`TappedClassifier`
            (names as in the classifier's own).
        names: Dotted names.

    Raises:
        InputError: The network is neither, or has no such layer.
    """
    if not isinstance(net, AttnBN | TappedClassifier):
        raise InputError(
            f"expected an AttnBN network, to take the attention of its layers (--layers), got {type(net).__name__}"
        )
    inside: nn.Module = net if isinstance(net, AttnBN) else net.classifier
    known = dict(inside.named_modules())
    last = "trunk" if isinstance(net, AttnBN) else net.layer
    layers = []
    for name in names:
        layer = known.get(last if name == LAST else name)
        if not name or layer is None:
            parts = [part for part, _ in known["trunk" if last == "trunk" else ""].named_children()]
            some = ", ".join(f"trunk.{part}" if last == "trunk" else part for part in parts[-3:])
            raise InputError(f"expected --layers to name layers of the network (last, or such as {some}), got {name!r}")
        layers.append(layer)
    return layers


def captured(net: nn.Module, images: Tensor, names: Sequence[str] = (LAST,)) -> Pass:
    """Pass images through the network and keep what its maps need.

    No parameter gets a gradient; hooks are gone and the gradient mode is as before when it returns or raises. The graph
    is kept as long as the :class:`Pass`, and holds what lies between the lowest layer and the scores.

    Args:
        net: As in :func:`find_layers`; in the mode (evaluation) that it is to be used in.
        images: ``B×3×S×S``, normalised.
        names: Whose attention may be asked for.

    Raises:
        InputError: No such layer, or one that does not give features once in a pass.
    """
    taps = [_Tap() for _ in names]
    hooks = []
    with torch.inference_mode(False), torch.no_grad():
        if images.is_inference():
            images = images.clone()  # inference tensors can be part of no graph
        try:
            for tap, layer in zip(taps, find_layers(net, names), strict=True):
                hooks.append(layer.register_forward_hook(tap))
            scores = _scores(net, images)
        finally:
            for hook in hooks:
                hook.remove()
    for tap, name in zip(taps, names, strict=True):
        if len(tap.outputs) != 1 or tap.outputs[0].ndim != 4:
            raise InputError(f"expected a layer that gives features B×C×h×w once in a pass, got --layers {name}")
    assert isinstance(net, AttnBN | TappedClassifier)
    return Pass(scores, tuple(tap.outputs[0] for tap in taps), net.activation)


def _scores(net: nn.Module, images: Tensor) -> Tensor:
    # from inside a tapped classifier: its own forward pass would cut the scores from the graph
    scores: Tensor = net.classifier(images) if isinstance(net, TappedClassifier) else net(images).scores
    return scores


class _Tap:
    """A forward hook that notes what a layer gives, and begins the graph there if none has begun below."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def __call__(self, _layer: nn.Module, _inputs: object, output: object) -> object:
        if not isinstance(output, Tensor):
            return output
        torch.set_grad_enabled(True)  # from here to the scores; the block around the pass ends it
        if not output.requires_grad:
            # a copy that is no leaf: what follows may work in place (DenseNet's ReLU does)
            output = output.detach().requires_grad_().clone()
        self.outputs.append(output)
        return output
