"""What the loop asks of whatever is trained: networks, optimisers and losses, batch by batch.

A term is a :class:`attnbn.losses.Mean`: a sum and the number of items it is over, so that parts of a batch and processes
can be put together exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from attnbn.config import Phase
from attnbn.losses import Mean

Terms = dict[str, Mean]


class Task(Protocol):
    """Which networks, which losses, which batches. Nothing about devices, files or steps."""

    modules: dict[str, nn.Module]
    """Networks by name; the loop puts wrapped ones in their places before the first step."""

    def optimizers(self, phase: Phase, lr: float) -> dict[str, Optimizer]:
        """Fresh optimisers for a phase, by name; their learning rates are those at factor 1."""

    def stream_names(self, phase: Phase) -> list[str]:
        """Streams whose batches the phase needs; no other is read."""

    def losses(self, batch: Mapping[str, Any], phase: Phase, step: int) -> Iterator[tuple[str, Terms]]:
        """For each optimiser in turn the terms of its objective; the next is computed after the step of the one before.

        ``step`` counts from 0 over all phases.
        """

    def counts(self, batch: Mapping[str, Any], phase: Phase) -> dict[str, Tensor]:
        """The ``count`` of each term of :meth:`losses` whose weight is not 0, known without computing any."""
