"""Attention bridging (Eq. 7): one classifier on two domains, attention on the source held to the foreground prior.

Every row of the paper's Tables 1, 2, 6 and 7 is a choice of weights; a term of weight 0 is not computed, nor its data read.
How the domains' features are brought together is :mod:`attnbn.tasks.alignment`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from attnbn.attention import Activation, activated
from attnbn.config import ALIGNMENTS, LOSS_TERMS, LossConfig, Phase, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.data.transforms import normalize
from attnbn.losses import (
    Mean,
    Normalize,
    attention_loss,
    background_loss,
    classification_loss,
    suppression_loss,
)
from attnbn.models.network import Output
from attnbn.tasks.alignment import Alignment
from attnbn.training.task import Terms


def active_terms(loss: LossConfig, phase: Phase) -> set[str]:
    """Terms that a phase trains: weight not 0, and named by the phase if it names any."""
    return {name for name in LOSS_TERMS if getattr(loss, name) and (phase.terms is None or name in phase.terms)}


class Bridge:
    """The bridge as a task for :class:`attnbn.training.loop.Loop`.

    Args:
        network: The classifier; attention is taken inside its forward pass.
        alignment: Needed where one of the alignments' terms is on.
        fresh: The classifier's newly initialised layers.
        loss: Weights and definitions.
        training: Optimiser settings.
    """

    def __init__(
        self,
        network: nn.Module,
        alignment: Alignment | None,
        fresh: Sequence[nn.Module],
        loss: LossConfig,
        training: TrainingConfig,
    ) -> None:
        self.modules: dict[str, nn.Module] = {"network": network} | ({} if alignment is None else alignment.modules)
        self.network, self.alignment = network, alignment
        self.fresh, self.weights, self.training = list(fresh), loss, training

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """SGD for the classifier, fresh layers at a higher rate; the alignment's own where its term is trained."""
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
        alignment = self._aligned(active_terms(self.weights, phase))
        return optimizers if alignment is None else optimizers | alignment.optimizers(self.training)

    def stream_names(self, phase: Phase) -> list[str]:
        """The source for its two terms, the target for its own, both for an alignment."""
        terms = active_terms(self.weights, phase)
        needs = {"source": {"source_cl", "attention", *ALIGNMENTS}, "target": {"target_cl", *ALIGNMENTS}}
        return [name for name, users in needs.items() if terms & users]

    def losses(self, batch: Mapping[str, Batch], phase: Phase, step: int) -> Iterator[tuple[str, Terms]]:
        """Eq. 7 for the network, then what the alignment trains of its own (Eq. 5), on the same features."""
        on = active_terms(self.weights, phase)
        outputs: dict[str, Output] = {}
        terms: Terms = {}
        if "source" in batch:
            outputs["source"], found = self._source(batch["source"], on)
            terms |= found
        if "target" in batch:
            outputs["target"], found = self._target(batch["target"], on)
            terms |= found
        alignment = self._aligned(on)
        if alignment is not None:
            terms |= alignment.pull(outputs["source"].features, outputs["target"].features, step)  # Eq. 6, or a peer's
        yield "network", terms if on & {"source_cl", "target_cl"} else reaching_all(terms, outputs)
        if alignment is not None:
            yield from alignment.own(outputs["source"].features, outputs["target"].features)  # Eq. 5

    def counts(self, batch: Mapping[str, Batch], phase: Phase) -> dict[str, Tensor]:
        """Known labels, images that Eq. 3 speaks of, or all images, as each term is a mean over these."""
        on, w = active_terms(self.weights, phase), self.weights
        counts = {f"{name}_cl": self._labelled(batch[name]) for name in batch if f"{name}_cl" in on}
        if "attention" in on:
            guided = single_with_prior(batch["source"])
            counts["attention"] = guided.sum()
            if w.other_classes:
                counts["other_classes"] = (given(batch["source"].labels)[guided] == 0).sum()
            if w.background:
                counts["background"] = guided.sum()
        for name in on & set(ALIGNMENTS):
            images = torch.tensor(len(batch["target"].image), device=batch["target"].image.device)
            counts |= {name: images, "domain": images}
        return counts

    def _labelled(self, batch: Batch) -> Tensor:
        """What L_cl of a batch is a mean over."""
        known = ~given(batch.labels).isnan()
        return known.sum() if self.weights.over_classes == "mean" else torch.tensor(len(known), device=known.device)

    def _source(self, batch: Batch, on: set[str]) -> tuple[Output, Terms]:
        """The labelled single-object images: classification, and attention held to the prior."""
        guided = single_with_prior(batch) if "attention" in on else None
        wanted = None if guided is None else self._attended(batch, guided)
        output = through(self.modules["network"], batch, wanted, "none" if wanted is not None else None)
        terms: Terms = {}
        if "source_cl" in on:  # Eq. 4
            terms["source_cl"] = self.weights.source_cl * self._classification(output, batch)
        if guided is not None:  # Eq. 3
            terms |= self._guidance(given(output.attention), batch, guided)
        return output, terms

    def _target(self, batch: Batch, on: set[str]) -> tuple[Output, Terms]:
        """The complex images, whose labels are read for their classification alone."""
        output = through(self.modules["network"], batch)
        if "target_cl" not in on:
            return output, {}
        return output, {"target_cl": self.weights.target_cl * self._classification(output, batch)}  # Eq. 4

    def _classification(self, output: Output, batch: Batch) -> Mean:
        labels, over = given(batch.labels), self.weights.over_classes
        return classification_loss(output.scores, labels, over_classes=over, reduction="parts")

    def _aligned(self, on: set[str]) -> Alignment | None:
        """The alignment, where its term is on, with the modules that the loop has put in its own's places."""
        wanted = on & set(ALIGNMENTS)
        if not wanted:
            return None
        if self.alignment is None or {self.alignment.term} != wanted:
            raise ValueError(f"expected an alignment for the term {', '.join(sorted(wanted))}")
        self.alignment.modules = {name: self.modules[name] for name in self.alignment.modules}
        return self.alignment

    def _attended(self, batch: Batch, guided: Tensor) -> Tensor:
        """The maps that the source's terms read, ``B×N`` bool: the true class's, or every class's of the guided images."""
        positive = given(batch.labels) == 1
        every = self.weights.other_classes or self.weights.background
        return (torch.ones_like(positive) if every else positive) & guided[:, None]

    def _guidance(self, evidence: Tensor, batch: Batch, guided: Tensor) -> Terms:
        """L_ac of the true class's maps and, where asked for, what presses all classes' maps."""
        w = self.weights
        terms: Terms = {}
        # a batch, or a process's share of one, may hold no image with a map
        prior = evidence.new_zeros(0, 1, 1, 1) if batch.saliency is None else batch.saliency[guided]
        if w.other_classes or w.background:
            labels = given(batch.labels)[guided]
            evidence = evidence.reshape(*labels.shape, *evidence.shape[-2:])
            terms |= self._pressed(evidence, labels, prior)
            evidence = evidence[labels == 1]
        scale: Normalize = "none" if w.normalize == "sigmoid" else w.normalize
        attention = activated(evidence, self._activation())  # Eq. 2
        loss = attention_loss(attention, prior, normalize=scale, resolution=w.resolution, reduction="parts")
        return {"attention": w.attention * loss} | terms

    def _pressed(self, evidence: Tensor, labels: Tensor, prior: Tensor) -> Terms:
        """The terms beyond the paper, of every class's evidence ``B×N×h×w``."""
        w = self.weights
        terms: Terms = {}
        if w.other_classes:  # labels that are unknown are left alone
            attention = activated(evidence, self._activation())
            terms["other_classes"] = w.attention * w.other_classes * suppression_loss(attention, labels == 0)
        if w.background:
            terms["background"] = w.attention * w.background * background_loss(evidence, prior)
        return terms

    def _activation(self) -> Activation:
        return "sigmoid" if self.weights.normalize == "sigmoid" else "relu"


def reaching_all(terms: Terms, outputs: Mapping[str, Output]) -> Terms:
    """The terms, whose gradient is 0 in place of none for parameters that no term reads (the last bias, for Eq. 3).

    Where no term reads the scores. A wrapper around the network waits for every parameter's gradient, and weight decay shall
    depend neither on the number of processes nor on which images a process was given.
    """
    name, term = next(iter(terms.items()))
    nothing = sum((0 * output.scores.sum() for output in outputs.values()), torch.zeros_like(term.total))
    return terms | {name: replace(term, total=term.total + nothing)}


def through(net: nn.Module, batch: Batch, attend: Tensor | None = None, activation: Activation | None = None) -> Output:
    """The network on a batch of images, or on what its frozen layers gave for them earlier."""
    if batch.layers:
        output: Output = net(batch.image, attend=attend, layers=batch.layers, activation=activation)
    else:
        output = net(normalize(batch.image), attend=attend, activation=activation)
    return output


def single_with_prior(batch: Batch) -> Tensor:
    """Which images Eq. 3 speaks of: exactly one positive label, and a saliency map. ``B`` booleans."""
    return ((given(batch.labels) == 1).sum(1) == 1) & batch.has_saliency


def given(part: Tensor | None) -> Tensor:
    """A tensor that a term reads, and that its data set was therefore opened with."""
    if part is None:
        raise ValueError("expected labels and saliency in the batches of terms that need them")
    return part
