"""AttnBN's classification network: images in, features, scores and trainable attention out, in one forward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbn.attention import Activation, Wanted, attention_from_scores, scores_and_attention


class Output(NamedTuple):
    """What one forward pass gives.

    Attributes:
        features: F, ``B×C×h×w``.
        scores: Logits, ``B×N``.
        attention: Raw maps ``P×h×w`` of the wanted pairs, or None where none were asked for.
    """

    features: Tensor
    scores: Tensor
    attention: Tensor | None


class AttnBN(nn.Module):
    """A classifier split into trunk and head; both domains pass through it (shared weights).

    Attention is taken inside ``forward``, so that a wrapper around the whole network (several processes, mixed precision)
    sees everything that is computed from the weights.

    Args:
        trunk: From images ``B×3×S×S`` to F.
        head: From F to logits.
        activation: ``relu`` (Eq. 2) or ``sigmoid`` in its place.
        freeze: The trunk's first so many children are not trained; their batch statistics stay too.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, activation: Activation = "relu", freeze: int = 0) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.activation: Activation = activation
        self.freeze = freeze
        for layer in self._frozen():
            layer.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        return list(self.trunk.children())[: self.freeze]

    def train(self, mode: bool = True) -> AttnBN:
        """Training mode, for all but the frozen layers."""
        super().train(mode)
        for layer in self._frozen():
            layer.eval()
        return self

    def forward(
        self, images: Tensor, attend: Wanted | None = None, layers: int = 0, activation: Activation | None = None
    ) -> Output:
        """Features, scores and, for the pairs that ``attend`` names, attention.

        Args:
            images: ``B×3×S×S``, normalised as the backbone was trained.
            attend: ``B×N`` (entries other than 0), ``B`` class indices, or a function of the scores that gives either.
            layers: The trunk's first so many children are done: ``images`` is their output.
            activation: Of the maps, where another than the network's own is wanted.
        """
        features = images
        for layer in list(self.trunk.children())[layers:] if layers else [self.trunk]:
            features = layer(features)
        if attend is None:
            return Output(features, self.head(features), None)
        activation = activation or self.activation
        scores, attention = scores_and_attention(features, self.head, attend, activation=activation)
        return Output(features, scores, attention)

    @staticmethod
    def from_classifier(classifier: nn.Module, layer: str, activation: Activation = "relu") -> TappedClassifier:
        """Any classifier by the name of the layer whose output is F, e.g. ``layer4`` of a ResNet."""
        return TappedClassifier(classifier, layer, activation)


class TappedClassifier(nn.Module):
    """Any classifier as it is; F is the output of one of its layers, read on the way.

    Same call as :class:`AttnBN`. Without gradients enabled, the graph is kept from that layer on only.

    Args:
        classifier: From images to logits.
        layer: Dotted name of the layer, as in ``named_modules()``.
        activation: ``relu`` or ``sigmoid``.

    Raises:
        ValueError: if there is no such layer.
    """

    def __init__(self, classifier: nn.Module, layer: str, activation: Activation = "relu") -> None:
        super().__init__()
        names = [name for name, _ in classifier.named_modules() if name]
        if layer not in names:
            top = ", ".join(name for name, _ in classifier.named_children())
            raise ValueError(
                f"expected the name of a layer of {type(classifier).__name__} (such as {top}), got {layer!r}"
            )
        self.classifier = classifier
        self.layer = layer
        self.activation: Activation = activation

    def forward(self, images: Tensor, attend: Wanted | None = None, activation: Activation | None = None) -> Output:
        """As :meth:`AttnBN.forward`."""
        activation = activation or self.activation
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad():
                output: Output = self(images.clone(), attend, activation)
                return output  # inference tensors can be part of no graph
        train = torch.is_grad_enabled()
        tapped: list[Tensor] = []

        def tap(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            if attend is not None and isinstance(output, Tensor) and not (train and output.requires_grad):
                torch.set_grad_enabled(True)  # from here to the scores; restored below
                # a copy that is no leaf: what follows may work in place (DenseNet's ReLU does)
                output = output.detach().requires_grad_().clone()
            tapped.append(output)
            return output

        hook = self.classifier.get_submodule(self.layer).register_forward_hook(tap)
        try:
            scores = self.classifier(images)
            if not isinstance(scores, Tensor):
                raise ValueError(
                    f"expected logits B×N of {type(self.classifier).__name__}, got {type(scores).__name__}: a network with "
                    "outputs beside them (aux_logits) gives the logits alone in evaluation or when built without"
                )
            if len(tapped) != 1 or not isinstance(tapped[0], Tensor) or tapped[0].ndim != 4:
                raise ValueError(f"expected layer {self.layer!r} to give features B×C×h×w once in a forward pass")
            attention = None
            if attend is not None:
                with torch.set_grad_enabled(train):
                    attention = attention_from_scores(tapped[0], scores, attend, activation=activation)
        finally:
            hook.remove()
            torch.set_grad_enabled(train)
        if train:
            return Output(tapped[0], scores, attention)
        return Output(tapped[0].detach(), scores.detach(), attention if attention is None else attention.detach())
