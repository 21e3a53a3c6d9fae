"""How good localisation cues are: precision, recall and coverage of each class, from counts summed over a split.

The mean IoU of cues does not predict that of the network trained on them: few but right seeds may teach more than many. So
both sides are counted apart, at the true mask's resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attnbn.evaluation.direct import VOID
from attnbn.io.errors import InputError


@dataclass(frozen=True)
class CueCounts:
    """Pixels of one or more images that have a true mask; those of several are added with ``+``.

    Attributes:
        right: int64 ``C``, the background first: seeds of the class on true pixels of the class.
        seeds: int64 ``C``: seeds of the class.
        true: int64 ``C``: true pixels of the class.
        pixels: All pixels that count.
        covered: Those with a seed of any class.
        images: Images counted.
    """

    right: Tensor
    seeds: Tensor
    true: Tensor
    pixels: int = 0
    covered: int = 0
    images: int = 0

    @classmethod
    def zero(cls, num_classes: int) -> CueCounts:
        """The counts of no image.

        Args:
            num_classes: C, the background included.
        """
        return cls(*torch.zeros(3, num_classes, dtype=torch.int64))

    def __add__(self, other: CueCounts) -> CueCounts:
        return CueCounts(
            self.right + other.right,
            self.seeds + other.seeds,
            self.true + other.true,
            self.pixels + other.pixels,
            self.covered + other.covered,
            self.images + other.images,
        )

    def precision(self) -> Tensor:
        """Share of each class's seeds that are right, float64 ``C`` in [0, 1]; NaN for a class without seeds."""
        return self.right.double() / self.seeds

    def recall(self) -> Tensor:
        """Share of each class's true pixels that are its seeds, float64 ``C``; NaN for a class absent from the truth."""
        return self.right.double() / self.true

    def coverage(self) -> Tensor:
        """Share of all pixels that are seeds of each class, float64 ``C``; NaN where there is no pixel."""
        return self.seeds.double() / self.pixels


def cue_counts(cues: Tensor, mask: Tensor, *, name: str = "an image") -> CueCounts:
    """Count the cues of one image against its true mask.

    The cues come to the mask's resolution by nearest neighbour. A pixel with seeds of several classes counts for each.

    Args:
        cues: bool ``C×h×w``, channel 0 the background, channel i + 1 class i.
        mask: Integer ``H×W``: 0 … C - 1, 255 = void, which does not count.
        name: The image's, for messages.

    Raises:
        ValueError: A shape or type is another.
        InputError: The mask has a value outside the classes.

    >>> counts = cue_counts(torch.tensor([[[True, False]], [[False, True]]]), torch.tensor([[0, 1, 0, 255]]))
    >>> counts.precision().tolist(), counts.recall().tolist()
    ([0.5, 0.0], [0.5, 0.0])
    """
    if cues.ndim != 3 or cues.dtype != torch.bool or not cues.numel():
        raise ValueError(f"expected boolean cues C×h×w, got {cues.dtype} {[*cues.shape]}: {name}")
    if mask.ndim != 2:
        raise ValueError(f"expected a true mask H×W, got {[*mask.shape]}: {name}")
    counts = mask != VOID
    true = mask[counts].long()
    if true.numel() and not 0 <= int(true.min()) <= int(true.max()) < len(cues):
        wrong = int(true.min()) if int(true.min()) < 0 else int(true.max())
        raise InputError(f"expected mask values 0 … {len(cues) - 1} or {VOID}, got {wrong}: the mask of {name}")
    rows, columns = (_nearest(n, m, mask.device) for n, m in zip(mask.shape, cues.shape[1:], strict=True))
    seeded = cues.to(mask.device)[:, rows[:, None], columns][:, counts]
    right = seeded.gather(0, true[None])[0]
    return CueCounts(
        right=torch.bincount(true[right], minlength=len(cues)),
        seeds=seeded.sum(1),
        true=torch.bincount(true, minlength=len(cues)),
        pixels=len(true),
        covered=int(seeded.any(0).sum()),
        images=1,
    )


def _nearest(length: int, cells: int, device: torch.device) -> Tensor:
    """For each pixel of a side the cell that its centre lies in, int64 ``length``."""
    return (2 * torch.arange(length, device=device) + 1) * cells // (2 * length)
