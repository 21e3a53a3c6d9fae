"""A network and a data set to scores and attention maps, one photograph after the other in constant memory.

Everything that looks at photographs (attend, evaluate, cues) goes through :func:`predict`. It leaves no trace: neither
the network's modes nor the global random state change, so a validation amid training does not alter the training.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from attnbn.data.dataset import ImageDataset
from attnbn.data.transforms import normalize
from attnbn.evaluation.direct import predicted_classes
from attnbn.inference.layers import LAST
from attnbn.inference.maps import Fuse, full_size, max_normalized
from attnbn.inference.modes import evaluating, parameter
from attnbn.inference.passes import Passes, check_passes, look
from attnbn.inference.reading import Item, Reader, batches, readable, whole_batches
from attnbn.io.errors import InputError, RunError

__all__ = ["Attend", "Prediction", "full_size", "max_normalized", "predict"]

Attend = Literal["predicted", "labels", "both"]


@dataclass(frozen=True)
class Prediction:
    """What the network says about one photograph; all tensors are on the CPU.

    Attributes:
        name: The photograph's name in its data set.
        size: Its height and width in pixels.
        scores: Logits, float32 ``N``.
        classes: Indices of the classes attended to, int64 ``K``, rising: the predicted, the labelled, or both.
        maps: Their attention, float32 ``K×h×w`` in [0, 1], each divided by its own maximum; an all-zero map stays zero.
        mask: True mask ``H×W`` where the data set has one.
        labels: float32 ``N`` in {0, 1}, NaN = unknown, where the data set has them.
    """

    name: str
    size: tuple[int, int]
    scores: Tensor
    classes: Tensor
    maps: Tensor
    mask: Tensor | None
    labels: Tensor | None


def predict(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    size: int,
    indices: Sequence[int] | None = None,
    only: Collection[int] | None = None,
    attend: Attend = "predicted",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    layers: Sequence[str] = (LAST,),
    fuse: Fuse = "mean",
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_broken: bool = False,
    broken: list[str] | None = None,
) -> Iterator[Prediction]:
    """Predict the photographs of a data set, in order.

    Args:
        net: ``net(images, attend)`` gives features, scores and attention; used in ``eval`` mode, then put back.
        dataset: The photographs.
        size: Side of the square that the whole photograph is resized to.
        indices: Which photographs; None: all.
        only: Those of ``indices`` that are wanted; the others are looked at where they share a batch with one of them, so that
            what comes of a photograph does not depend on what was done before. None: all.
        attend: Take the maps of the ``predicted`` classes (sigmoid > 0.5, else the best one) or of those that the data
            set's ``labels`` say are there, or of ``both``.
        scales: Factors on ``size``, one pass for each; scores are averaged over the passes, maps fused.
        flip: Look at the mirror image too, at each scale.
        layers: Whose attention is taken and fused: ``last`` or dotted names such as ``trunk.10``; see
            :class:`~attnbn.inference.passes.Passes`.
        fuse: The ``mean`` or the ``product`` of the layers' maps.
        batch_size: Photographs a forward pass.
        workers: Processes that read; the result does not depend on it.
        device: Where the network is; None: where its weights are.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        broken: Collects one line for each photograph left out.

    Yields:
        A :class:`Prediction` for each photograph.

    Raises:
        InputError: A photograph cannot be read, ``attend`` asks for labels and it has none, or the network cannot be looked
            at so.
        RunError: The network gives numbers that are not finite, or a reading process died.
    """
    device = torch.device(device) if device is not None else parameter(net).device
    passes = Passes(scales, flip, layers, fuse)
    with evaluating(net):
        check_passes(net, passes, size)
    indices = range(len(dataset)) if indices is None else indices
    together = indices if only is None else whole_batches(indices, only, batch_size)
    asked = None if only is None else {dataset.names[index] for index in only}
    reader = Reader(dataset, passes.sides(size), together, only)
    groups = batches(reader, batch_size, workers, pin=device.type == "cuda")
    for items in readable(groups, skip_broken, broken):
        yield from (one for one in _forward(net, items, attend, passes, device) if asked is None or one.name in asked)


def _forward(
    net: nn.Module, items: list[Item], attend: Attend, passes: Passes, device: torch.device
) -> list[Prediction]:
    dtype = parameter(net).dtype
    labelled = None if attend == "predicted" else _labelled(items)

    def wished(scores: Tensor) -> Tensor:
        if labelled is None:
            return _predicted(scores)
        there = labelled.to(scores.device)
        return there if attend == "labels" else there | _predicted(scores)

    views = [
        normalize(torch.stack(same).to(device, non_blocking=True)).to(dtype)
        for same in zip(*(item.images for item in items), strict=True)
    ]
    with evaluating(net), torch.no_grad():
        scores, maps = look(net, views, wished, passes)
    scores, maps = scores.float().cpu(), maps.float().cpu()
    wanted = wished(scores)
    split = torch.split(maps, wanted.sum(1).tolist())
    predictions = []
    for i, item in enumerate(items):
        if not (scores[i].isfinite().all() and split[i].isfinite().all()):
            raise RunError(f"expected finite scores and attention, got NaN or infinity, check the weights: {item.name}")
        # Cloned: what came from a worker holds a file handle as long as it lives, a slice its whole batch.
        mask, labels = (None if t is None else t.clone() for t in (item.mask, item.labels))
        classes = wanted[i].nonzero().squeeze(1)
        predictions.append(
            Prediction(item.name, item.size, scores[i].clone(), classes, max_normalized(split[i]), mask, labels)
        )
    return predictions


def _predicted(scores: Tensor) -> Tensor:
    # NaN is reported after the pass, where the photograph's name is known.
    return predicted_classes(scores.nan_to_num(nan=0.0))


def _labelled(items: list[Item]) -> Tensor:
    rows = []
    for item in items:
        if item.labels is None:
            raise InputError(f"expected labels, to attend to the labelled classes, got none: {item.name}")
        rows.append(item.labels == 1)
    return torch.stack(rows)
