"""What every salient-object detector offers, be it a network from a file or pixels and arithmetic alone.

The work falls in two halves, so that it can be spread: :meth:`Detector.prepare` takes one photograph and runs in any number
of threads or processes; :meth:`Detector.maps` takes what came of it, several at a time, in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Detector(Protocol):
    """A photograph to how much each pixel stands out, in [0, 1]; it may be pickled.

    Attributes:
        batch: Photographs that :meth:`maps` takes at a time; None: any number. Of one that takes one at a time, maps may
            differ in size.
    """

    batch: int | None

    def identity(self) -> dict[str, Any]:
        """What tells it and its settings from others: plain values, for manifests."""

    def prepare(self, image: Tensor) -> NDArray[np.float32]:
        """What :meth:`maps` needs of a photograph, uint8 ``3×H×W``, RGB."""

    def maps(self, inputs: Sequence[NDArray[np.float32]], names: Sequence[str]) -> Tensor:
        """The maps of prepared photographs, whose names are for messages.

        Returns:
            float32 ``B×1×h×w`` in [0, 1], at the detector's own resolution.
        """

    def of(self, image: Tensor, name: str) -> Tensor:
        """The map of a photograph, uint8 ``3×H×W``, at its own size: float32 ``1×H×W`` in [0, 1]."""
