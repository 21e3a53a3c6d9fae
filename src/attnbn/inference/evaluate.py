"""A network and a data set to the figures of Sec. 4.2: mIoU of its attention maps, mean AP of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnbn.data.dataset import ImageDataset
from attnbn.evaluation.average_precision import average_precision
from attnbn.evaluation.confusion import confusion_matrix, figures_of, in_truth, mean_iou
from attnbn.evaluation.direct import THRESHOLDS, ThresholdCurve, combine, predicted_classes
from attnbn.inference.layers import LAST
from attnbn.inference.maps import Fuse, full_size
from attnbn.inference.predict import Prediction, predict
from attnbn.inference.shards import Shard, own_batches
from attnbn.io.atomic import without_nan
from attnbn.io.errors import InputError

DEFAULT_THRESHOLD = 0.2
"""The threshold where none was chosen: the share of a map's maximum that the field's cues use."""


@dataclass(frozen=True)
class Evaluation:
    """A data set predicted and counted.

    Attributes:
        classes: Names of the N classes.
        curve: Confusion matrices (background first) at every threshold; None where the data set has no masks.
        scores: Logits, float32 ``S×N``, in the data set's order.
        labels: float32 ``S×N`` in {0, 1}, NaN = unknown; None where the data set has none.
        broken: One line for each photograph that could not be read.
        names: Of the photographs, as ``scores`` has them.
        given: As ``curve``, but of the maps of the classes that the labels say are there: what the maps would be worth if
            recognition were perfect. None without masks or labels.
    """

    classes: tuple[str, ...]
    curve: ThresholdCurve | None
    scores: Tensor
    labels: Tensor | None
    broken: list[str]
    names: list[str]
    given: ThresholdCurve | None = None


def evaluate(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    size: int,
    threshold: float | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    layers: Sequence[str] = (LAST,),
    fuse: Fuse = "mean",
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_broken: bool = False,
    shard: Shard = Shard(),  # noqa: B008  immutable
) -> Evaluation:
    """Predict a data set and count its pixels at every threshold.

    Args:
        net: The network; see :func:`~attnbn.inference.predict.predict`.
        dataset: With masks, labels or both.
        size: Side of the square that the network sees.
        threshold: A further threshold to count at, in (0, 1], if it is none of 0.01, 0.02, …, 0.99.
        scales: This and the next three as in :func:`~attnbn.inference.predict.predict`.
        flip: Look at the mirror image too.
        layers: Whose attention is taken.
        fuse: The ``mean`` or the ``product`` of the layers' maps.
        batch_size: Photographs a forward pass.
        workers: Processes that read.
        device: Where the network is; None: where its weights are.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        shard: Look at this process's share of the batches alone; :func:`merged` puts the shares together.

    Raises:
        InputError: There is no photograph, one or mask cannot be read, or the threshold is out of range.
        RunError: The network gives no finite numbers.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"expected a threshold in (0, 1], got {threshold:g}: --threshold")
    thresholds = THRESHOLDS if threshold is None else _with(THRESHOLDS, threshold)
    both = dataset.has_masks and dataset.labels is not None
    curve = ThresholdCurve(len(dataset.classes) + 1, thresholds) if dataset.has_masks else None
    given = ThresholdCurve(len(dataset.classes) + 1, thresholds) if both else None
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    broken: list[str] = []
    names: list[str] = []
    for prediction in predict(
        net,
        dataset,
        size=size,
        indices=own_batches(len(dataset), batch_size, shard),
        attend="both" if both else "predicted",
        scales=scales,
        flip=flip,
        layers=layers,
        fuse=fuse,
        batch_size=batch_size,
        workers=workers,
        device=device,
        skip_broken=skip_broken,
        broken=broken,
    ):
        scores.append(prediction.scores)
        names.append(prediction.name)
        if prediction.labels is not None:
            labels.append(prediction.labels)
        if curve is not None and prediction.mask is not None:
            maps = full_size(prediction.maps, prediction.size)
            _count(curve, prediction, maps, predicted_classes(prediction.scores[None])[0])
            if given is not None and prediction.labels is not None:
                _count(given, prediction, maps, prediction.labels == 1)
    shape = (len(scores), len(dataset.classes))
    known = torch.cat([*labels, torch.zeros(0)]).reshape(shape) if len(labels) == len(scores) else None
    part = Evaluation(
        dataset.classes, curve, torch.cat([*scores, torch.zeros(0)]).reshape(shape), known, broken, names, given
    )
    return merged([part], dataset) if shard.world == 1 else part


def merged(parts: Sequence[Evaluation], dataset: ImageDataset) -> Evaluation:
    """The evaluations of all shards as the one that a single process would have made.

    Args:
        parts: From :func:`evaluate`, one for each shard; the first one's curves are added to.
        dataset: What they were made of.

    Raises:
        InputError: There is no photograph in any.
    """
    place = {name: index for index, name in enumerate(dataset.names)}
    names = [name for part in parts for name in part.names]
    if not names:
        raise InputError(f"expected photographs to evaluate, got none that can be read: {dataset.title}")
    order = sorted(range(len(names)), key=lambda index: place[names[index]])
    first = parts[0]
    for part in parts[1:]:
        for whole, more in ((first.curve, part.curve), (first.given, part.given)):
            if whole is not None and more is not None:
                whole.merge(more)
    # a share without photographs does not know that its labels are none
    labels = [part.labels for part in parts if part.names]
    known = [one for one in labels if one is not None]
    return replace(
        first,
        scores=torch.cat([part.scores for part in parts])[order],
        labels=torch.cat(known)[order] if len(known) == len(labels) else None,
        broken=[line for part in parts for line in part.broken],
        names=[names[index] for index in order],
    )


def _count(curve: ThresholdCurve, prediction: Prediction, maps: Tensor, wanted: Tensor) -> None:
    """Count a photograph by those of its maps whose classes are wanted, ``N`` bool."""
    assert prediction.mask is not None
    kept = wanted[prediction.classes]
    chosen = prediction.classes[kept]
    curve.update(maps[kept], prediction.scores[chosen], chosen, prediction.mask, prediction.name)


def summary(
    evaluation: Evaluation,
    *,
    threshold: float | None = None,
    threshold_split: str | None = None,
    cross_fit: bool = False,
) -> dict[str, Any]:
    """The figures as they stand in JSON: fractions, and None where a figure does not exist.

    Args:
        evaluation: From :func:`evaluate`.
        threshold: The threshold chosen elsewhere; None: 0.2, or under ``cross_fit`` the one best on the whole split.
        threshold_split: Where it was chosen; None: nowhere.
        cross_fit: This is the split the threshold was chosen on. Score each half of it at the threshold that is best on
            the other half, and say so (``cross_fitted``, ``thresholds``).

    Returns:
        ``miou``, ``iou``, ``precision`` and ``recall`` by class name (``background`` included), ``threshold``,
        ``threshold_split``, ``cross_fitted``, ``thresholds``, ``curve`` (``threshold`` and ``miou`` of each point),
        ``mean_ap``, ``ap`` by class name, ``images``, ``broken``, ``unseen``: the names of the classes that photographs are
        labelled with and no mask has a pixel of, and ``given_labels``: ``miou``, ``iou``, ``precision`` and ``recall`` as above,
        of the maps of the labelled classes (cross-fitted by themselves, else at the same threshold).

        Where a half is empty nothing can be cross-fitted: ``miou``, ``iou``, ``precision`` and ``recall`` are None, for
        at the split's own best threshold they would flatter.

    Raises:
        InputError: The data set has masks and no image.
        ValueError: The evaluation was not taken at that threshold.
    """
    curve = evaluation.curve
    result: dict[str, Any] = dict.fromkeys(("miou", "iou", "precision", "recall", "threshold", "threshold_split"))
    result |= {"cross_fitted": False, "thresholds": None, "curve": None, "given_labels": None}
    if curve is not None:
        matrix: Tensor | None = None
        given: Tensor | None = None
        if not cross_fit:
            threshold = DEFAULT_THRESHOLD if threshold is None else threshold
            matrix = curve.at(threshold)
            given = None if evaluation.given is None else evaluation.given.at(threshold)
        elif curve.can_cross_fit():
            matrix, thresholds = curve.cross_fitted()
            result |= {"cross_fitted": True, "thresholds": list(thresholds)}
            given = None if evaluation.given is None else evaluation.given.cross_fitted().matrix
        if given is not None:
            result["given_labels"] = figures_of(given, evaluation.classes)
        threshold = curve.best()[0] if threshold is None else threshold
        result |= {"threshold": threshold, "threshold_split": threshold_split}
        points = zip(curve.thresholds, curve.curve().tolist(), strict=True)
        result["curve"] = [{"threshold": t, "miou": value} for t, value in points]
        if matrix is not None:
            result |= figures_of(matrix, evaluation.classes)
    result |= {"mean_ap": None, "ap": None}
    if evaluation.labels is not None:
        ap = average_precision(evaluation.scores, evaluation.labels)
        result |= {"mean_ap": float(ap.nanmean()), "ap": _by_name(evaluation.classes, ap)}
    result |= {"images": len(evaluation.scores), "broken": len(evaluation.broken), "unseen": _unseen(evaluation)}
    cleaned: dict[str, Any] = without_nan(result)
    return cleaned


def _unseen(evaluation: Evaluation) -> list[str]:
    """Names of the classes that photographs are labelled with and no mask shows: empty or binary masks, most likely."""
    if evaluation.curve is None or evaluation.labels is None:
        return []
    labelled = (evaluation.labels == 1).any(0)
    shown = in_truth(evaluation.curve.at(evaluation.curve.thresholds[0]))[1:]
    return [name for name, lost in zip(evaluation.classes, (labelled & ~shown).tolist(), strict=True) if lost]


def segment(prediction: Prediction, threshold: float) -> Tensor:
    """A photograph's predicted mask at its own resolution, uint8 ``H×W``: 0 = background, i + 1 = class i."""
    chosen = prediction.classes
    return combine(full_size(prediction.maps, prediction.size), prediction.scores[chosen], chosen, threshold)


def image_miou(prediction: Prediction, threshold: float) -> float:
    """Mean IoU over the classes in one photograph's true mask or in its own; NaN if it has no true mask.

    To compare photographs with one another. The mIoU of a data set is not the mean of these.
    """
    if prediction.mask is None:
        return float("nan")
    matrix = confusion_matrix(segment(prediction, threshold), prediction.mask, len(prediction.scores) + 1)
    return float(mean_iou(matrix))


def _by_name(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _with(thresholds: tuple[float, ...], further: float) -> tuple[float, ...]:
    """The thresholds and a further one; one that equals another in float32, as they are compared, is no new one."""
    known = bool((torch.tensor(thresholds, dtype=torch.float32) == torch.tensor(further, dtype=torch.float32)).any())
    return thresholds if known else tuple(sorted((*thresholds, further)))
