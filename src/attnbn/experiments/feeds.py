"""A run's streams: new random crops each time, fixed ones, or what the frozen layers gave for fixed ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from attnbn.config import RunConfig
from attnbn.data.collate import collate
from attnbn.data.sample import Sample
from attnbn.data.transforms import SampleTransform, seeded, train_transform
from attnbn.experiments.domains import Domains
from attnbn.io.errors import InputError
from attnbn.models.build import feature_shape
from attnbn.models.network import AttnBN
from attnbn.training.devices import together
from attnbn.training.frozen import Keeper, choose_kept, collate_kept, frozen_part
from attnbn.training.streams import Stream
from attnbn.training.views import FixedViews, choose_view


class Augment:
    """``(sample, seed) -> augmented sample``; a class, so that loader processes can be sent it."""

    def __init__(self, transform: SampleTransform) -> None:
        self.transform = transform

    def __call__(self, sample: Sample, seed: int) -> Sample:
        return seeded(self.transform, seed)(sample)


def make_streams(
    config: RunConfig, domains: Domains, network: nn.Module, fabric: Any, say: Callable[[str], None]
) -> dict[str, Stream]:
    """The streams of the domains that the run reads.

    With ``data.cache`` one process of each machine computes what is missing there, the others wait.

    Args:
        config: The run's settings.
        domains: Its data sets.
        network: The classifier, before any wrapper.
        fabric: Launched.
        say: Told what is computed.
    """
    opened = {"source": domains.source, "target": domains.target}
    datasets = {name: dataset for name, dataset in opened.items() if dataset is not None}
    data = config.data
    transform = train_transform(data.size, data.scale, data.flip)
    common = {"seed": config.seed, "batch_size": config.training.batch_size}
    if data.cache is not None:
        keeper = _keeper(config, Path(data.cache), network, transform, fabric, say)
        kept = together(fabric, lambda: {name: keeper.keep(dataset) for name, dataset in datasets.items()})
        return {name: Stream(name, views, choose_kept, collate_kept, **common) for name, views in kept.items()}
    if data.views:
        fixed = {name: FixedViews(dataset, transform, data.views) for name, dataset in datasets.items()}
        return {name: Stream(name, views, choose_view, collate, **common) for name, views in fixed.items()}
    augment = Augment(transform)
    return {name: Stream(name, dataset, augment, collate, **common) for name, dataset in datasets.items()}


def check_cache(folder: str | None) -> None:
    """Refuse a place that no cache can be in, before anything is read.

    Raises:
        InputError: It is no folder, cannot be made, or cannot be written to.
    """
    if folder is None:
        return
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"expected a folder that can be made ({error.strerror}), give another --data.cache: {path}"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"expected a folder that can be written to, give another --data.cache: {path}")


def _keeper(
    config: RunConfig,
    folder: Path,
    network: nn.Module,
    transform: SampleTransform,
    fabric: Any,
    say: Callable[[str], None],
) -> Keeper:
    if not isinstance(network, AttnBN):
        raise InputError("data.cache needs a backbone with a built-in split; leave it out with model.layer")
    data = config.data
    _, height, width = feature_shape(network, data.size)
    times = config.loss.resolution
    return Keeper(
        folder.expanduser(),
        frozen_part(network.trunk, config.model.freeze).to(fabric.device).eval(),
        config.model.freeze,
        data.views,
        transform,
        f"{config.model.backbone} {data.size} {data.scale} {data.flip} {config.model.dilate} {config.precision}",
        (height * times, width * times),
        fabric.autocast,
        say,
    )
