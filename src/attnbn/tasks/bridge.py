"""Attention bridging (Eq. 7): one classifier on two domains, attention on the source held to the foreground prior.

Every row of the paper's Tables 1, 2, 6 and 7 is a choice of weights; a term of weight 0 is not computed, nor its data read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from attnbn.config import LossConfig, Phase, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.data.transforms import normalize
from attnbn.losses import (
    Mean,
    Normalize,
    adversarial_loss,
    attention_loss,
    classification_loss,
    domain_loss,
    suppression_loss,
)
from attnbn.models.discriminator import Discriminator, Frozen
from attnbn.models.network import Output

DISCRIMINATOR_BETAS = (0.9, 0.99)
Terms = dict[str, Mean]


def active_terms(loss: LossConfig, phase: Phase) -> set[str]:
    """Terms of Eq. 7 that a phase trains: weight not 0, and named by the phase if it names any."""
    weights = {
        "source_cl": loss.source_cl,
        "attention": loss.attention,
        "target_cl": loss.target_cl,
        "adversarial": loss.adversarial,
    }
    return {name for name, weight in weights.items() if weight and (phase.terms is None or name in phase.terms)}


class Bridge:
    """The bridge as a task for :class:`attnbn.training.loop.Loop`.

    Args:
        network: The classifier; attention is taken inside its forward pass.
        discriminator: Needed where the adversarial term is on.
        fresh: The classifier's newly initialised layers.
        loss: Weights and definitions.
        training: Optimiser settings.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: Discriminator | None,
        fresh: Sequence[nn.Module],
        loss: LossConfig,
        training: TrainingConfig,
    ) -> None:
        self.modules: dict[str, nn.Module] = {"network": network}
        if discriminator is not None:
            self.modules["discriminator"] = discriminator
            self.frozen_discriminator = Frozen(discriminator)
        self.network, self.discriminator = network, discriminator
        self.fresh, self.weights, self.training = list(fresh), loss, training

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """SGD for the classifier, fresh layers at a higher rate; Adam for the discriminator where it is trained."""
        fresh = {id(p) for layer in self.fresh for p in layer.parameters()}
        trained = [p for p in self.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if id(p) not in fresh], "lr": lr},
            {
                "params": [p for p in trained if id(p) in fresh],
                "lr": lr * self.training.head_lr,
            },
        ]
        optimizers: dict[str, Optimizer] = {
            "network": SGD(
                [group for group in groups if group["params"]],
                lr=lr,
                momentum=self.training.momentum,
                weight_decay=self.training.weight_decay,
            )
        }
        if self.discriminator is not None and "adversarial" in active_terms(self.weights, phase):
            optimizers["discriminator"] = Adam(
                self.discriminator.parameters(), lr=self.training.discriminator_lr, betas=DISCRIMINATOR_BETAS
            )
        return optimizers

    def stream_names(self, phase: Phase) -> list[str]:
        """The source for its two terms, the target for its own, both for the adversarial one."""
        terms = active_terms(self.weights, phase)
        needs = {"source": {"source_cl", "attention", "adversarial"}, "target": {"target_cl", "adversarial"}}
        return [name for name, users in needs.items() if terms & users]

    def losses(self, batch: Mapping[str, Batch], phase: Phase, step: int) -> Iterator[tuple[str, Terms]]:
        """Eq. 7 for the network, then Eq. 5 for the discriminator on the same features."""
        on, w = active_terms(self.weights, phase), self.weights
        over = w.over_classes
        net = self.modules["network"]
        terms: Terms = {}
        if "source" in batch:
            s = batch["source"]
            guided = single_with_prior(s) if "attention" in on else None
            source = through(net, s, None if guided is None else self._attended(s, guided))
            if "source_cl" in on:  # Eq. 4
                terms["source_cl"] = w.source_cl * classification_loss(
                    source.scores, given(s.labels), over_classes=over, reduction="parts"
                )
            if guided is not None:  # Eq. 3
                terms |= self._guidance(given(source.attention), s, guided)
        if "target" in batch:
            t = batch["target"]
            target = through(net, t)
            if "target_cl" in on:  # Eq. 4
                terms["target_cl"] = w.target_cl * classification_loss(
                    target.scores, given(t.labels), over_classes=over, reduction="parts"
                )
            if "adversarial" in on:  # Eq. 6
                risen = min(1.0, step / w.adversarial_warmup) if w.adversarial_warmup else 1.0
                terms["adversarial"] = (w.adversarial * risen) * adversarial_loss(
                    self.frozen_discriminator, target.features, reduction="parts"
                )
        yield "network", terms
        if "adversarial" in on:  # Eq. 5
            discriminator = self.modules["discriminator"]
            features = source.features.detach(), target.features.detach()
            yield "discriminator", {"domain": domain_loss(discriminator, *features, reduction="parts")}

    def _attended(self, batch: Batch, guided: Tensor) -> Tensor:
        """The maps that the source's terms read, ``B×N`` bool: the true class's, or every class's of the guided images."""
        positive = given(batch.labels) == 1
        return (torch.ones_like(positive) if self.weights.other_classes else positive) & guided[:, None]

    def _guidance(self, attention: Tensor, batch: Batch, guided: Tensor) -> Terms:
        """L_ac of the true class's maps and, where asked for, the pressing of the others."""
        w = self.weights
        scale: Normalize = "none" if w.normalize == "sigmoid" else w.normalize
        terms: Terms = {}
        if w.other_classes:
            labels = given(batch.labels)[guided]
            positive, absent = labels == 1, labels == 0  # neither: unknown, left alone
            attention = attention.reshape(*positive.shape, *attention.shape[-2:])
            terms["other_classes"] = w.attention * w.other_classes * suppression_loss(attention, absent)
            attention = attention[positive]
        prior = given(batch.saliency)[guided]
        loss = attention_loss(attention, prior, normalize=scale, resolution=w.resolution, reduction="parts")
        return {"attention": w.attention * loss} | terms


def through(net: nn.Module, batch: Batch, attend: Tensor | None = None) -> Output:
    """The network on a batch of images, or on what its frozen layers gave for them earlier."""
    if batch.layers:
        output: Output = net(batch.image, attend=attend, layers=batch.layers)
    else:
        output = net(normalize(batch.image), attend=attend)
    return output


def single_with_prior(batch: Batch) -> Tensor:
    """Which images Eq. 3 speaks of: exactly one positive label, and a saliency map. ``B`` booleans."""
    return ((given(batch.labels) == 1).sum(1) == 1) & batch.has_saliency


def given(part: Tensor | None) -> Tensor:
    """A tensor that a term reads, and that its data set was therefore opened with."""
    if part is None:
        raise ValueError("expected labels and saliency in the batches of terms that need them")
    return part
