"""Deep seeded region growing: a segmentation network learned from localisation cues (Huang et al., CVPR 2018; Sec. 4.3).

At each step the network's probabilities are refined by a small CRF, the cues grow on what is refined, the network learns the
grown regions (seeding loss) and to agree with the refined probabilities (boundary loss).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from attnbn.config import Phase, TrainingConfig
from attnbn.data.transforms import normalize
from attnbn.segment_config import CrfConfig, DsrgConfig
from attnbn.segmentation.crf import dense_crf
from attnbn.segmentation.growing import grow_seeds
from attnbn.segmentation.losses import boundary_loss, floored, seeding_loss, smoothed, through_crf
from attnbn.training.task import Terms

BIAS_RATE = 2.0
"""The original trains biases at twice the rate and without decay, as was the custom of its framework."""


class CueBatch(NamedTuple):
    """Photographs with their labels and cues.

    Attributes:
        image: uint8 ``B×3×S×S``.
        labels: float32 ``B×N``, 1 = present.
        cues: bool ``B×(N+1)×h×w`` at the logits' size, background first.
    """

    image: Tensor
    labels: Tensor
    cues: Tensor


class Dsrg:
    """Seeded region growing as a task for :class:`attnbn.training.loop.Loop`.

    Args:
        network: Images -> logits ``B×(N+1)×h×w``.
        fresh: Its newly initialised layers.
        dsrg: Weights, thresholds and the CRF.
        training: Optimiser settings.
    """

    def __init__(
        self, network: nn.Module, fresh: Sequence[nn.Module], dsrg: DsrgConfig, training: TrainingConfig
    ) -> None:
        self.modules: dict[str, nn.Module] = {"network": network}
        self.network, self.fresh, self.dsrg, self.training = network, list(fresh), dsrg, training

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """SGD; fresh layers at a higher rate, biases at twice the rate and without decay."""
        return {"network": segmentation_sgd(self.network, self.fresh, lr, self.training)}

    def stream_names(self, phase: Phase) -> list[str]:
        """The target alone."""
        return ["target"]

    def losses(self, batch: Mapping[str, CueBatch], phase: Phase, step: int) -> Iterator[tuple[str, Terms]]:
        """The seeding and the boundary loss."""
        images, labels, cues = batch["target"]
        dsrg = self.dsrg
        logits = self.modules["network"](normalize(images))
        # the logarithms of small probabilities are no matter for half precision
        with torch.autocast(images.device.type, enabled=False):
            probabilities = smoothed(logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1))
            terms: Terms = {}
            refined = None
            # what is not finite the CRF would refuse; the loop names it, with the step and the terms
            finite = bool(probabilities.isfinite().all())
            if dsrg.boundary or dsrg.grow:
                refined = probabilities.detach()
                refined = refine(images, refined, dsrg.crf) if finite else refined
            if dsrg.seeding:
                seeds = cues
                if dsrg.grow and finite and refined is not None:
                    seeds = grow_seeds(cues, refined, labels, foreground=dsrg.foreground, background=dsrg.background)
                terms["seeding"] = dsrg.seeding * seeding_loss(probabilities, seeds, reduction="parts")
            if dsrg.boundary and refined is not None:
                target = through_crf(probabilities, refined) if dsrg.refined_gradient else refined
                terms["boundary"] = dsrg.boundary * boundary_loss(probabilities, target, reduction="parts")
        yield "network", terms

    def counts(self, batch: Mapping[str, CueBatch], phase: Phase) -> dict[str, Tensor]:
        """Both losses are means over images."""
        images = torch.tensor(len(batch["target"].image), device=batch["target"].image.device)
        weights = {"seeding": self.dsrg.seeding, "boundary": self.dsrg.boundary}
        return {name: images for name, weight in weights.items() if weight}


def refine(images: Tensor, probabilities: Tensor, crf: CrfConfig) -> Tensor:
    """Probabilities after the CRF, at their own resolution.

    Args:
        images: uint8 ``B×3×S×S``; shrunk to the probabilities' size.
        probabilities: ``B×C×h×w``.
        crf: Its standard deviations in place are divided by ``crf.shrink``.

    Returns:
        ``B×C×h×w``, none below 1e-4, without a graph.
    """
    small = F.interpolate(
        images.float(), size=probabilities.shape[-2:], mode="bilinear", antialias=True, align_corners=False
    )
    refined = dense_crf(small.round().clamp(0, 255).to(torch.uint8), probabilities, **crf.arguments())
    return floored(refined)


def segmentation_sgd(network: nn.Module, fresh: Sequence[nn.Module], lr: float, training: TrainingConfig) -> Optimizer:
    """SGD with the original's four kinds of parameters: weights and biases, of pretrained and of fresh layers."""
    new = {id(p) for layer in fresh for p in layer.parameters()}
    groups = []
    for is_fresh in (False, True):
        for is_bias in (False, True):
            chosen = [
                p
                for name, p in network.named_parameters()
                if p.requires_grad and (id(p) in new) == is_fresh and name.endswith("bias") == is_bias
            ]
            rate = lr * (training.head_lr if is_fresh else 1.0) * (BIAS_RATE if is_bias else 1.0)
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": 0.0 if is_bias else training.weight_decay})
    return SGD(groups, lr=lr, momentum=training.momentum)
