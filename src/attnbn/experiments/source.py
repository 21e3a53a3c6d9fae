"""The source of a run: one data set or several, the images of one class, a cap and a share of them, parts held out."""

from __future__ import annotations

from collections.abc import Sequence

from attnbn.config import DataConfig, RunConfig
from attnbn.data.cap import take_at_most
from attnbn.data.classes import Partial, check_presence
from attnbn.data.combined import combine
from attnbn.data.dataset import ImageDataset, hold_out, take_share
from attnbn.data.open import open_dataset, place_of
from attnbn.data.single import only_single, only_single_of_own
from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder

ONE_LABEL = ("folders", "caltech101", "caltech256", "imagenet")
"""Kinds whose images have one label each, whatever classes there are."""


def sources_of(data: DataConfig) -> tuple[list[str], list[str | None]]:
    """The sources, and for each the folder of its saliency maps.

    Raises:
        InputError: The same source twice, or as many folders as do not fit.
    """
    sources = [data.source] if isinstance(data.source, str) else data.source or []
    places = [place_of(spec) for spec in sources]
    twice = [spec for i, spec in enumerate(sources) if places[i] in places[:i]]
    if twice:
        raise InputError(f"expected each source once, got {twice[0]} twice: data.source")
    if data.saliency is None:
        return sources, [None] * len(sources)
    folders = [data.saliency] if isinstance(data.saliency, str) else data.saliency
    if len(folders) != len(sources):
        raise InputError(
            f"expected as many folders of saliency maps as sources ({len(sources)}), got {len(folders)}; write null for a "
            f"source without: data.saliency"
        )
    return sources, list(folders)


def open_source(
    config: RunConfig, classes: tuple[str, ...], labels: bool, attention: bool
) -> tuple[ImageDataset, ImageDataset | None]:
    """The source's images to train on, with saliency where it is needed, and those held out, without.

    Of several sources a share of each is held out, the same images as if it were the only one (under a cap: of those
    that the cap leaves of it).
    """
    data = config.data
    specs, folders = sources_of(data)
    places = [place_of(spec)[1] for spec in specs]
    maps = [SaliencyFolder(folder) if attention and folder is not None else None for folder in folders]
    kept = _parts_of_source(config, specs, places, classes, labels, maps)
    apart: list[ImageDataset] = []
    if data.hold_out:
        blank: list[SaliencyFolder | None] = [None] * len(specs)
        plain = _parts_of_source(config, specs, places, classes, labels, blank) if any(maps) else kept
        kept, apart = ([_cut(part, config)[side] for part in parts] for side, parts in enumerate((kept, plain)))
    for part, folder_maps in zip(kept, maps, strict=True):
        if folder_maps is not None:
            folder_maps.check(part.names)
    source = combine(kept, places)
    check_presence(source, "source")
    if attention and not source.has_saliency:
        raise InputError(
            f"expected saliency maps for the source (loss.attention is {config.loss.attention:g}): give --data.saliency "
            f"FOLDER with a map for each photograph of {' + '.join(specs)}"
        )
    return take_share(source, data.source_fraction, config.seed), combine(apart, places) if apart else None


def _parts_of_source(
    config: RunConfig,
    specs: list[str],
    places: list[str],
    classes: tuple[str, ...],
    labels: bool,
    maps: Sequence[SaliencyFolder | None],
) -> list[ImageDataset]:
    """The images that a run uses of each source, those to be held out among them.

    Of several sources one may lack a class that others have (Caltech-256 has no cats, ImageNet has), which is told.
    """
    wanted = Partial(classes) if len(specs) > 1 else classes
    parts = [open_each_source(config.data, spec, wanted, labels, own) for spec, own in zip(specs, maps, strict=True)]
    for part in parts if len(specs) > 1 else []:
        counts = classes if part.labels is None else (part.labels == 1).sum(0).tolist()
        absent = [name for name, count in zip(classes, counts, strict=True) if not count]
        if absent:
            part.notes.append(f"no image of {', '.join(absent)}")
    if config.data.source_cap is None:
        return parts
    return take_at_most(parts, places, config.data.source_cap, config.seed)


def _cut(part: ImageDataset, config: RunConfig) -> tuple[ImageDataset, ImageDataset]:
    """What is kept of a source and what is held out; a cap may have left nothing of it."""
    return hold_out(part, config.data.hold_out, config.seed) if len(part) else (part, part)


def open_each_source(
    data: DataConfig, spec: str, classes: tuple[str, ...] | None, labels: bool, maps: SaliencyFolder | None
) -> ImageDataset:
    """One of the sources; its own classes for None, those of the run otherwise."""
    dataset = open_dataset(
        spec, split=data.source_split, classes=classes, class_map=data.class_map, saliency=maps, labels=labels
    )
    return of_one_class(data, dataset, spec, data.source_split) if data.single_label else dataset


def of_one_class(data: DataConfig, dataset: ImageDataset, spec: str, split: str) -> ImageDataset:
    """The images of one class: of the run's, or of all that the data set has."""
    if data.single_label != "own" or place_of(spec)[0] in ONE_LABEL:
        return only_single(dataset)
    return only_single_of_own(dataset, open_dataset(spec, split=split, class_map=data.class_map))
