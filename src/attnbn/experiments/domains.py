"""The data sets of a run, opened and held against each other before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnbn.config import LOSS_TERMS, DataConfig, RunConfig
from attnbn.data.broken import without_broken
from attnbn.data.classes import check_presence, match_classes, parse_classes
from attnbn.data.dataset import ImageDataset, take_share
from attnbn.data.open import open_dataset
from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder


@dataclass(frozen=True)
class Domains:
    """What a run reads.

    Attributes:
        classes: The classes, in order.
        source: None where no term needs it.
        target: None where no term needs it; without labels where none needs them.
        selection: Split with masks on which the threshold is chosen, or None.
    """

    classes: tuple[str, ...]
    source: ImageDataset | None
    target: ImageDataset | None
    selection: ImageDataset | None

    def notes(self) -> list[str]:
        """What a person should know before the training starts."""
        lines = []
        for role in ("source", "target", "selection"):
            dataset: ImageDataset | None = getattr(self, role)
            if dataset is not None:
                lines.append(f"{role}: {dataset.describe()}")
                lines.extend(f"  {note}" for note in dataset.notes)
        return lines


def needed_terms(config: RunConfig) -> set[str]:
    """Terms of Eq. 7 that any phase of the run trains."""
    on = {name for name in LOSS_TERMS if getattr(config.loss, name)}
    phases = config.training.phases
    return on if not phases else {t for phase in phases for t in (on if phase.terms is None else phase.terms)} & on


def open_domains(config: RunConfig) -> Domains:
    """Open what the run's terms need, and nothing else.

    Raises:
        InputError: for a missing or broken data set, class lists that differ, or a class without images.
    """
    data, terms = config.data, needed_terms(config)
    wants_source = bool(terms & {"source_cl", "attention", "adversarial"})
    wants_target = bool(terms & {"target_cl", "adversarial"})
    for wanted, spec, key in ((wants_source, data.source, "source"), (wants_target, data.target, "target")):
        if wanted and spec is None:
            raise InputError(
                f"expected data.{key} for the terms {', '.join(sorted(terms))}: give --data.{key} KIND:PATH"
            )

    source_labels = bool(terms & {"source_cl", "attention"})

    def source(classes: tuple[str, ...] | None) -> ImageDataset:
        return open_dataset(
            _spec(data.source),
            split=data.source_split,
            classes=classes,
            class_map=data.class_map,
            saliency=_saliency(data) if "attention" in terms else None,
            labels=source_labels,
        )

    def target(classes: tuple[str, ...] | None) -> ImageDataset:
        return open_dataset(
            _spec(data.target),
            split=data.target_split,
            classes=classes,
            class_map=data.class_map,
            labels="target_cl" in terms,
        )

    classes = _classes(data, source if wants_source else None, target if wants_target else None)
    opened_source = source(classes) if wants_source else None
    opened_target = target(classes) if wants_target else None
    if opened_source is not None:
        if source_labels:
            check_presence(opened_source, "source")
        if "attention" in terms and not opened_source.has_saliency:
            raise InputError(
                f"expected saliency maps for the source (loss.attention is {config.loss.attention:g}): give --data.saliency "
                f"FOLDER with a map for each photograph of {data.source}"
            )
        if isinstance(saliency := _saliency(data) if "attention" in terms else None, SaliencyFolder):
            saliency.check(opened_source.names)
        opened_source = take_share(opened_source, data.source_fraction, config.seed)
    if data.skip_broken:
        opened_source = None if opened_source is None else without_broken(opened_source)
        opened_target = None if opened_target is None else without_broken(opened_target)
    if opened_target is not None and "target_cl" in terms:
        check_presence(opened_target, "target")
    return Domains(classes, opened_source, opened_target, _selection(data, classes))


def _spec(spec: str | None) -> str:
    assert spec is not None
    return spec


def _saliency(data: DataConfig) -> SaliencyFolder | None:
    return None if data.saliency is None else SaliencyFolder(data.saliency)


Opener = Callable[[tuple[str, ...] | None], ImageDataset]


def _classes(data: DataConfig, source: Opener | None, target: Opener | None) -> tuple[str, ...]:
    """The classes wished for, or those of the data sets, which must then agree."""
    wanted = parse_classes(data.classes)
    if wanted is not None:
        return wanted
    own = {
        role: opener(None).classes for role, opener in (("source", source), ("target", target)) if opener is not None
    }
    if len(own) == 2:
        return match_classes(own["source"], own["target"])
    return next(iter(own.values()))


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
