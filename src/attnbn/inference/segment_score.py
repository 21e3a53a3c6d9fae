"""A segmentation network and a data set with masks to mIoU, with and without the CRF in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnbn.data.dataset import ImageDataset
from attnbn.evaluation.confusion import confusion_matrix, figures_of, in_truth
from attnbn.inference.segment import Segmentation, segment_photographs
from attnbn.inference.shards import Shard, own_batches
from attnbn.io.atomic import without_nan
from attnbn.io.errors import InputError


@dataclass(frozen=True)
class SegmentationScore:
    """A data set segmented and counted.

    Attributes:
        before: Confusion matrix without the CRF, int64 ``(N+1)×(N+1)``, rows the truth, background first.
        after: With it; equal to ``before`` where none was asked for.
        images: Photographs counted.
        broken: One line for each that could not be read.
    """

    before: Tensor
    after: Tensor
    images: int
    broken: list[str]

    def figures(self, classes: Sequence[str]) -> dict[str, Any]:
        """The figures as they stand in JSON: fractions, and None where a figure does not exist.

        Args:
            classes: Names of the N classes.

        Returns:
            ``miou``, ``iou``, ``precision`` and ``recall`` by class name; ``before_crf``, the same without the CRF;
            ``mean_over``, the names that both ``miou`` are means over: those that the true masks show, the background among
            them, for a class that is only ever predicted would enter one mean and not the other; ``images``.
        """
        over = in_truth(self.after)
        names = [name for name, there in zip(("background", *classes), over.tolist(), strict=True) if there]
        figures: dict[str, Any] = without_nan(
            figures_of(self.after, classes, over) | {"before_crf": figures_of(self.before, classes, over)}
        )
        return figures | {"mean_over": names, "images": self.images}


def score_segmentation(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    each: Callable[[Segmentation], None] | None = None,
    batch_size: int = 8,
    shard: Shard = Shard(),  # noqa: B008  immutable
    **how: Any,
) -> SegmentationScore:
    """Segment a data set and count its pixels, with and without the CRF in one pass.

    Args:
        net: The network.
        dataset: With masks.
        each: Called with every photograph's segmentation, to keep it.
        batch_size: Photographs a forward pass.
        shard: Look at this process's share of the batches alone; :func:`added` puts the shares together.
        **how: As :func:`segment_photographs`.

    Raises:
        InputError: The data set has no masks, no photograph that can be read, or a mask of other classes.
    """
    if not dataset.has_masks:
        raise InputError(f"expected a data set with masks, to score a segmentation, got none: {dataset.title}")
    classes = len(dataset.classes) + 1
    before, after = torch.zeros(2, classes, classes, dtype=torch.int64)
    images = 0
    broken: list[str] = []
    mine = own_batches(len(dataset), batch_size, shard)
    for one in segment_photographs(net, dataset, indices=mine, batch_size=batch_size, broken=broken, **how):
        assert one.truth is not None
        try:
            before += confusion_matrix(one.before, one.truth, classes)
            after += confusion_matrix(one.mask, one.truth, classes)
        except ValueError as error:
            raise InputError(f"{error}: the mask of {one.name}") from error
        if each is not None:
            each(one)
        images += 1
    part = SegmentationScore(before, after, images, broken)
    return added([part], dataset) if shard.world == 1 else part


def added(parts: Sequence[SegmentationScore], dataset: ImageDataset) -> SegmentationScore:
    """The scores of all shards as the one that a single process would have counted.

    Args:
        parts: From :func:`score_segmentation`, one for each shard.
        dataset: What they were made of.

    Raises:
        InputError: There is no photograph in any.
    """
    images = sum(part.images for part in parts)
    if not images:
        raise InputError(f"expected photographs to evaluate, got none that can be read: {dataset.title}")
    before, after = (torch.stack([getattr(part, name) for part in parts]).sum(0) for name in ("before", "after"))
    return SegmentationScore(before, after, images, [line for part in parts for line in part.broken])
