"""The data sets of a run, opened and held against each other before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnbn.config import ALIGNMENTS, LOSS_TERMS, DataConfig, RunConfig
from attnbn.data.broken import without_broken
from attnbn.data.class_maps import classes_of_map
from attnbn.data.classes import check_agreement, check_presence, parse_classes
from attnbn.data.dataset import ImageDataset, Subset, hold_out
from attnbn.data.open import open_dataset
from attnbn.experiments.source import of_one_class, open_each_source, open_source, sources_of
from attnbn.io.errors import InputError


@dataclass(frozen=True)
class Domains:
    """What a run reads.

    Attributes:
        classes: The classes, in order.
        source: None where no term needs it; without the images that are held out.
        target: None where no term needs it; without labels where none needs them, and without the images held out.
        selection: Split with masks on which the threshold is chosen, or None.
        validation: The source's held-out images, with labels and without saliency; None where none are held out.
    """

    classes: tuple[str, ...]
    source: ImageDataset | None
    target: ImageDataset | None
    selection: ImageDataset | None
    validation: ImageDataset | None = None

    def notes(self) -> list[str]:
        """What a person should know before the training starts."""
        lines = []
        for role in ("source", "target", "selection", "validation"):
            dataset: ImageDataset | None = getattr(self, role)
            if dataset is not None:
                lines.append(f"{role}: {dataset.describe()}")
                lines.extend(f"  {note}" for note in dataset.notes)
        return lines


def needed_terms(config: RunConfig) -> set[str]:
    """Terms of the loss that any phase of the run trains."""
    on = {name for name in LOSS_TERMS if getattr(config.loss, name)}
    phases = config.training.phases
    return on if not phases else {t for phase in phases for t in (on if phase.terms is None else phase.terms)} & on


def open_domains(config: RunConfig) -> Domains:
    """Open what the run's terms need, and nothing else.

    Raises:
        InputError: for a missing or broken data set, class lists that differ, or a class without images.
    """
    data, terms = config.data, needed_terms(config)
    wants_source = bool(terms & {"source_cl", "attention", *ALIGNMENTS})
    wants_target = bool(terms & {"target_cl", *ALIGNMENTS})
    for wanted, spec, key in ((wants_source, data.source, "source"), (wants_target, data.target, "target")):
        if wanted and not spec:
            raise InputError(
                f"expected data.{key} for the terms {', '.join(sorted(terms))}: give --data.{key} KIND:PATH"
            )
    source_labels = bool(
        terms & {"source_cl", "attention"} or data.hold_out or data.single_label or data.source_cap is not None
    )
    target_labels = "target_cl" in terms
    classes = _classes(data, source_labels if wants_source else None, target_labels if wants_target else None)
    source, validation = (
        open_source(config, classes, source_labels, "attention" in terms) if wants_source else (None, None)
    )
    target = None
    if wants_target:
        target = _open_target(data, classes, target_labels)
        if data.target_hold_out:
            target = _parts_of_target(config, target)[0]
    if data.skip_broken:
        source, target, validation = (None if d is None else without_broken(d) for d in (source, target, validation))
    if target is not None:
        check_presence(target, "target")
    return Domains(classes, source, target, _selection(data, classes), validation)


def open_test(config: RunConfig, classes: tuple[str, ...]) -> tuple[ImageDataset, list[str]]:
    """The target's test images with their labels, for scoring alone: no training asks for them.

    Beside them what to know before trusting figures of them: unreadable images, classes without any.

    Args:
        config: The run's settings: the split ``data.test_split``, or what ``data.target_hold_out`` keeps apart.
        classes: The run's classes, in order.

    Raises:
        InputError: for no target, neither or both of the two settings, class lists that differ, or a class without images.
    """
    data = config.data
    if data.target is None:
        raise InputError("expected data.target, whose images are tested on: give --data.target KIND:PATH")
    if (data.test_split is None) == (data.target_hold_out == 0):
        raise InputError(
            f"expected either data.test_split or data.target_hold_out to say which images of the target are tested on, got "
            f"{'neither' if data.test_split is None else 'both'}; give one, e.g. --data.target_hold_out 0.3: {data.target}"
        )
    if _wanted(data) is None:
        own = open_dataset(data.target, split=data.test_split or data.target_split, class_map=data.class_map).classes
        check_agreement({"source": classes, "target": own})
    test = _open_target(data, classes, True, data.test_split)
    if data.single_label:
        test = of_one_class(data, test, data.target, data.test_split or data.target_split)
    check_presence(test, "target")
    if data.target_hold_out:
        test = _parts_of_target(config, test)[1]
    doubts: list[str] = []
    if data.skip_broken:
        whole, test = test, without_broken(test)
        doubts = test.notes[len(whole.notes) :]
    assert test.labels is not None
    absent = [name for name, count in zip(classes, (test.labels == 1).sum(0).tolist(), strict=True) if count == 0]
    if len(absent) == len(classes):
        raise InputError(f"expected test images of the target, got none; raise --data.target_hold_out: {test.title}")
    if absent:
        # chosen without their labels, as it must be, a small part may lack a class
        doubts.append(f"no image of {', '.join(absent)}: the figures say nothing of {'them' if absent[1:] else 'it'}")
    return test, doubts


def each(value: Any, change: Callable[[Any], Any]) -> Any:
    """A setting that names one data set or folder, or a list of them, with each changed."""
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _open_target(
    data: DataConfig, classes: tuple[str, ...] | None, labels: bool, split: str | None = None
) -> ImageDataset:
    assert data.target is not None
    return open_dataset(
        data.target, split=split or data.target_split, classes=classes, class_map=data.class_map, labels=labels
    )


def _parts_of_target(config: RunConfig, target: ImageDataset) -> tuple[ImageDataset, ImageDataset]:
    """What may be trained on and what is tested on.

    Both are decided on the target as it is without labels: a reader that has labels may leave out images without any of
    the classes, and another list of images would be parted otherwise, so that some would lie on both sides.
    """
    data = config.data
    listed = target if target.labels is None else _open_target(data, target.classes, False)
    kept, apart = hold_out(listed, data.target_hold_out, config.seed, stratify=False)
    if listed is target:
        return kept, apart
    names = set(apart.names)
    sides: dict[bool, list[int]] = {True: [], False: []}
    for index, name in enumerate(target.names):
        sides[name in names].append(index)
    return Subset(target, sides[False], kept.notes[-1]), Subset(target, sides[True], apart.notes[-1])


def _wanted(data: DataConfig) -> tuple[str, ...] | None:
    """The classes wished for, by name or by the table that renames them."""
    return parse_classes(data.classes) or classes_of_map(data.class_map)


def _classes(data: DataConfig, source_labels: bool | None, target_labels: bool | None) -> tuple[str, ...]:
    """The classes wished for, or those of the data sets, which must then agree.

    Args:
        data: The settings.
        source_labels: Whether the source's labels are read; None: there is no source.
        target_labels: Likewise of the target.
    """
    wanted = _wanted(data)
    if wanted is not None:
        return wanted
    own: dict[str, tuple[str, ...]] = {}
    if source_labels is not None:
        specs, _ = sources_of(data)
        for spec in specs:
            title = "source" if len(specs) == 1 else spec
            own[title] = open_each_source(data, spec, None, source_labels, None).classes
    if target_labels is not None:
        own["target"] = _open_target(data, None, target_labels).classes
    # a list of photographs without labels names no classes that could differ
    own = {what: names for what, names in own.items() if names} or own
    check_agreement(own)
    return own.get("target") or next(iter(own.values()))


def _selection(data: DataConfig, classes: tuple[str, ...]) -> ImageDataset | None:
    if data.selection_split is None:
        return None
    if data.target is None:
        raise InputError(
            "expected data.target, whose split data.selection_split chooses the threshold: give --data.target"
        )
    return open_dataset(
        data.target, split=data.selection_split, classes=classes, class_map=data.class_map, labels=True, masks=True
    )
