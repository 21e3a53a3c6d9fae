"""Images of exactly one class: what accuracy speaks of, what a single-label task trains on, and the simple images of a
complex data set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attnbn.data.dataset import ImageDataset, Subset
from attnbn.io.errors import InputError


def only_single(dataset: ImageDataset) -> ImageDataset:
    """The images with exactly one class, and no class that may be there (NaN, VOC's "difficult").

    Args:
        dataset: With labels.

    Returns:
        The data set itself if all images are such, else a :class:`~attnbn.data.dataset.Subset` whose note counts the rest.

    Raises:
        InputError: None is left.
        ValueError: The data set was opened without labels.
    """
    single = _single(_labels(dataset))
    if bool(single.all()):
        return dataset
    note = f"left out {_rest(dataset)} (data.single_label)"
    if not bool(single.any()):
        raise InputError(
            f"expected images of exactly one of the classes, {note}; correct data.classes: {dataset.title}"
        )
    return Subset(dataset, single.nonzero()[:, 0].tolist(), note)


def only_single_of_own(dataset: ImageDataset, whole: ImageDataset) -> ImageDataset:
    """The images with exactly one of all the classes that their data set has, and no class that may be there.

    A dog beside a person is one class of a run about animals, and no simple picture of a dog: its saliency may cover
    the person. Only image-level labels are looked at: two dogs are one class.

    Args:
        dataset: With labels of the run's classes.
        whole: The same images, with labels of all classes that the data set has, under their names in the run.

    Returns:
        The data set itself if all images are such, else a :class:`~attnbn.data.dataset.Subset` whose note counts the rest.

    Raises:
        InputError: None is left.
        ValueError: A data set was opened without labels, or ``whole`` lacks an image.
    """
    single = dict(zip(whole.names, _single(_labels(whole)).tolist(), strict=True))
    lacking = next((name for name in dataset.names if name not in single), None)
    if lacking is not None:
        raise ValueError(f"expected labels of all images, got none of {lacking}: {whole.title}")
    run = _single(_labels(dataset)).tolist()
    kept = [i for i, name in enumerate(dataset.names) if run[i] and single[name]]
    if len(kept) == len(dataset):
        return dataset
    beside = sum(run) - len(kept)
    reasons = _reasons(dataset)
    reasons += [f"{beside:,} that show, or may show, another class of the data set"] if beside else []
    note = f"left out {len(dataset) - len(kept):,} of {len(dataset):,} images: {', '.join(reasons)} (data.single_label own)"
    if not kept:
        raise InputError(
            f"expected images of exactly one of the {len(whole.classes):,} classes of the data set, {note}; set "
            f"data.single_label true to count the run's classes alone: {dataset.title}"
        )
    return Subset(dataset, kept, note)


def check_single(dataset: ImageDataset, remedy: str = "leave the others out with --data.single_label true") -> None:
    """Refuse images of several classes where accuracy, a single class each, is asked for.

    Args:
        dataset: With labels.
        remedy: What to do about it, for the message.

    Raises:
        InputError: Naming the data set and how many images do not show exactly one class.
        ValueError: The data set was opened without labels.
    """
    if not bool(_single(_labels(dataset)).all()):
        raise InputError(f"expected images of exactly one class each, got {_rest(dataset)}; {remedy}: {dataset.title}")


def _labels(dataset: ImageDataset) -> Tensor:
    if dataset.labels is None:
        raise ValueError(f"expected a data set with labels, got one without: {dataset.title}")
    return dataset.labels


def _single(labels: Tensor) -> Tensor:
    """``len`` bool: one positive, nothing unknown."""
    return ((labels == 1).sum(1) == 1) & ~labels.isnan().any(1)


def _rest(dataset: ImageDataset) -> str:
    """How many images are not of exactly one class, and why."""
    rest = len(dataset) - int(torch.count_nonzero(_single(_labels(dataset))))
    return f"{rest:,} of {len(dataset):,} images: {', '.join(_reasons(dataset))}"


def _reasons(dataset: ImageDataset) -> list[str]:
    """Why images are not of exactly one class, each reason with their number."""
    labels = _labels(dataset)
    positives, unknown = (labels == 1).sum(1), labels.isnan().any(1)
    reasons = {
        "of several classes": positives > 1,
        "of none": (positives == 0) & ~unknown,
        "of a class that is unknown (difficult)": unknown & (positives < 2),
    }
    counts = {reason: int(torch.count_nonzero(these)) for reason, these in reasons.items()}
    return [f"{count:,} {reason}" for reason, count in counts.items() if count]
