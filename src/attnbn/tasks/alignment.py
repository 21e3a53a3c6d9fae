"""How the features of two domains are brought together: the paper's L_adv (Eq. 5 and 6), or a peer in its place.

Each way reads F of both domains and no label. ``pull`` gives the term that moves the network; where the way trains a network of
its own, ``own`` gives that one's objective, on the features of the same forward pass and after the network's step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from attnbn.config import LossConfig, ModelConfig, RunConfig, TrainingConfig, expect
from attnbn.losses import Mean, adversarial_loss, coral_loss, domain_accuracy, domain_cross_entropy
from attnbn.models.build import build_discriminator, feature_shape
from attnbn.models.discriminator import Frozen
from attnbn.models.domain_classifier import DomainClassifier
from attnbn.training.devices import gathered
from attnbn.training.task import Terms

DISCRIMINATOR_BETAS = (0.9, 0.99)
GAMMA = 10.0


class Alignment(Protocol):
    """A way to bring two domains' features together, as :class:`attnbn.tasks.bridge.Bridge` uses it."""

    term: str
    """Its name in :data:`attnbn.config.ALIGNMENTS`."""

    modules: dict[str, nn.Module]
    """Networks that it trains, by name; the bridge puts wrapped ones in their places."""

    def optimizers(self, training: TrainingConfig) -> dict[str, Optimizer]:
        """Fresh optimisers for those."""

    def pull(self, source: Tensor, target: Tensor, step: int) -> Terms:
        """The network's terms from F of both domains, ``B×C×h×w`` with their graph; ``step`` counts over the whole run."""

    def own(self, source: Tensor, target: Tensor) -> Iterator[tuple[str, Terms]]:
        """For each of its optimisers the terms, from the same features, whose graph is cut here."""


class Adversarial:
    """The paper's: the target's features shall look like the source's to a discriminator of places (Eq. 5 and 6).

    Args:
        discriminator: From F to logits ``B×1×u×v``; positive means source.
        loss: ``adversarial`` is λ_adv, reached linearly over ``adversarial_warmup`` steps.
    """

    term = "adversarial"

    def __init__(self, discriminator: nn.Module, loss: LossConfig) -> None:
        self.discriminator, self.frozen = discriminator, Frozen(discriminator)
        self.modules: dict[str, nn.Module] = {"discriminator": discriminator}
        self.weight, self.warmup = loss.adversarial, loss.adversarial_warmup

    def optimizers(self, training: TrainingConfig) -> dict[str, Optimizer]:
        """Adam."""
        return {"discriminator": _adam(self.discriminator, training)}

    def pull(self, source: Tensor, target: Tensor, step: int) -> Terms:
        """Eq. 6: through the target's features alone."""
        weight = self.weight * warmed_up(step, self.warmup)
        return {"adversarial": weight * adversarial_loss(self.frozen, target, reduction="parts")}

    def own(self, source: Tensor, target: Tensor) -> Iterator[tuple[str, Terms]]:
        """Eq. 5."""
        yield "discriminator", telling_apart(self.modules["discriminator"], source.detach(), target.detach())


class Dann:
    """Domain-adversarial training (Ganin et al., JMLR 2016): a classifier of pooled features, its gradient reversed.

    Theirs: the reversal, on the features of *both* domains (Eq. 6 above moves the target's alone); the loss, the two domains'
    mean cross entropies added (their Eq. 9); the weight's rise with the run's progress. The reversal layer is written out in
    two steps: the network descends on minus the loss of a frozen classifier, then the classifier on the loss itself, on the same
    features with the same weights, which are the gradients that one pass through the layer gives.

    Ours: F averaged over places in place of a fully connected layer's features, the classifier's size, Adam for it where theirs
    learns by the network's SGD.

    Args:
        classifier: From pooled features ``B×C`` to logits ``B×1``; positive means source.
        loss: ``dann`` is the weight in the end.
        steps: Length of the run's schedule. With ``adversarial_warmup`` the weight rises linearly over that many steps instead.
    """

    term = "dann"

    def __init__(self, classifier: nn.Module, loss: LossConfig, steps: int) -> None:
        self.discriminator, self.frozen = classifier, Frozen(classifier)
        self.modules: dict[str, nn.Module] = {"discriminator": classifier}
        self.weight, self.warmup, self.steps = loss.dann, loss.adversarial_warmup, steps

    def optimizers(self, training: TrainingConfig) -> dict[str, Optimizer]:
        """Adam."""
        return {"discriminator": _adam(self.discriminator, training)}

    def pull(self, source: Tensor, target: Tensor, step: int) -> Terms:
        """Minus the classifier's loss; its value is logged as it is, the sign is the weight's."""
        risen = warmed_up(step, self.warmup) if self.warmup else progressive(step, self.steps)
        reversed_loss = domain_cross_entropy(self.frozen(pooled(source)), self.frozen(pooled(target)))
        return {"dann": (-self.weight * risen) * reversed_loss}

    def own(self, source: Tensor, target: Tensor) -> Iterator[tuple[str, Terms]]:
        """The classifier's loss."""
        features = pooled(source.detach()), pooled(target.detach())
        yield "discriminator", telling_apart(self.modules["discriminator"], *features)


class Coral:
    """Deep CORAL (Sun and Saenko, 2016): the covariances of pooled features shall agree. Nothing of its own is trained.

    Theirs is on the last layer's scores; ours on F averaged over places, where the other ways align, too.

    Args:
        loss: ``coral`` is the weight, reached linearly over ``adversarial_warmup`` steps.
    """

    term = "coral"

    def __init__(self, loss: LossConfig) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.weight, self.warmup = loss.coral, loss.adversarial_warmup

    def optimizers(self, training: TrainingConfig) -> dict[str, Optimizer]:
        """None."""
        return {}

    def pull(self, source: Tensor, target: Tensor, step: int) -> Terms:
        """The covariances' distance, of the whole batch of all processes (one item)."""
        distance = coral_loss(gathered(pooled(source)), gathered(pooled(target)))
        return {"coral": (self.weight * warmed_up(step, self.warmup)) * Mean(distance, torch.ones_like(distance))}

    def own(self, source: Tensor, target: Tensor) -> Iterator[tuple[str, Terms]]:
        """Nothing."""
        return iter(())


def build_alignment(
    loss: LossConfig, model: ModelConfig, network: nn.Module, size: int, steps: int
) -> Alignment | None:
    """The alignment whose weight is above 0, with new networks for the classifier's features; None where there is none.

    Args:
        loss: Weights, one of the alignments' at most.
        model: Sizes of the discriminator.
        network: The classifier.
        size: Side of its images.
        steps: Length of the run's schedule.

    Raises:
        InputError: if the features are too small for a discriminator.
    """
    if loss.adversarial:
        return Adversarial(build_discriminator(model, network, size), loss)
    if loss.dann:
        channels, _, _ = feature_shape(network, size)
        return Dann(DomainClassifier(channels), loss, steps)
    return Coral(loss) if loss.coral else None


def check_alignment(config: RunConfig) -> None:
    """Refuse what no covariance can be taken of, before anything is read.

    Raises:
        InputError: for ``loss.coral`` on batches in parts or of one image.
    """
    if config.loss.coral:
        whole = "of 1 with loss.coral, which is of the whole batch and no mean over its parts"
        expect(config.training.accumulate == 1, "training.accumulate", whole, config.training.accumulate)
        images = config.training.batch_size
        expect(images >= 2, "training.batch_size", "of at least 2 with loss.coral (a covariance)", images)


def pooled(features: Tensor) -> Tensor:
    """F averaged over places: ``B×C×h×w`` -> ``B×C``, in at least float32."""
    return features.mean((-2, -1), dtype=torch.promote_types(features.dtype, torch.float32))


def telling_apart(discriminator: nn.Module, source: Tensor, target: Tensor) -> Terms:
    """A discriminator's objective on features without graph, and, of weight 0, how often it is right."""
    on_source, on_target = discriminator(source), discriminator(target)
    return {
        "domain": domain_cross_entropy(on_source, on_target),
        "domain_accuracy": domain_accuracy(on_source, on_target),
    }


def warmed_up(step: int, warmup: int) -> float:
    """Factor on a weight that rises linearly from 0 over ``warmup`` steps; without any it is 1."""
    return min(1.0, step / warmup) if warmup else 1.0


def progressive(step: int, steps: int) -> float:
    """Ganin et al.'s factor ``2 / (1 + exp(-10 p)) - 1`` at progress ``p = step / steps``: from 0 towards 1.

    >>> [round(progressive(step, 100), 3) for step in (0, 10, 50, 100)]
    [0.0, 0.462, 0.987, 1.0]
    """
    return 2 / (1 + math.exp(-GAMMA * step / steps)) - 1


def _adam(module: nn.Module, training: TrainingConfig) -> Optimizer:
    return Adam(module.parameters(), lr=training.discriminator_lr, betas=DISCRIMINATOR_BETAS)
