"""Scoring that the processes of a run share: each looks at some of the batches, and all end with the whole.

What comes out is what one process finds, to the last bit: batches are shared whole, and what they are counted into is added up.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from attnbn.data.dataset import ImageDataset
from attnbn.inference.evaluate import Evaluation, evaluate, merged
from attnbn.inference.segment_score import SegmentationScore, added, score_segmentation
from attnbn.inference.shards import Shard
from attnbn.training.devices import exchanged


def evaluate_together(fabric: Any, net: nn.Module, dataset: ImageDataset, **how: Any) -> Evaluation:
    """Maps and scores of a classifier.

    Args:
        fabric: Launched; all its processes call this with the same weights.
        net: The network, on this process's device.
        dataset: The same in all processes.
        **how: As :func:`attnbn.inference.evaluate.evaluate`.
    """
    return merged(exchanged(fabric, lambda: evaluate(net, dataset, shard=_share(fabric), **how)), dataset)


def score_together(fabric: Any, net: nn.Module, dataset: ImageDataset, **how: Any) -> SegmentationScore:
    """Masks of a segmentation network.

    Args:
        fabric: As for :func:`evaluate_together`.
        net: As for :func:`evaluate_together`.
        dataset: As for :func:`evaluate_together`.
        **how: As :func:`attnbn.inference.segment_score.score_segmentation`.
    """
    parts = exchanged(fabric, lambda: score_segmentation(net, dataset, shard=_share(fabric), **how))
    return added(parts, dataset)


def _share(fabric: Any) -> Shard:
    return Shard(fabric.global_rank, fabric.world_size)
