"""Photographs to saliency maps in a folder, for cues and for Eq. 3: ``FOLDER/NAME.png``, as ``SaliencyFolder`` reads them.

Reading, inference and writing overlap: the decoder, a model and the compressor all let other threads run; a detector of
pixels and arithmetic alone does not, and reads in processes. Each map carries a digest of the detector, its settings and the
scale: what is there already is passed over when the work goes on, what another detector left is done anew. Several processes
share the work by :mod:`~attnbn.inference.shards`; the last of them sums up.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.utils.data import Dataset

from attnbn.data.images import read_image
from attnbn.data.readers import read_ahead
from attnbn.inference.claim import Claim, Done, claim
from attnbn.inference.photographs import Photograph
from attnbn.inference.saliency_summary import (
    DIGEST_KEY,
    FIGURES_KEY,
    SUMMARY,
    MapFigures,
    Summary,
    figures_of,
    figures_text,
    read_figures,
    read_left_out,
    write_left_out,
)
from attnbn.inference.shards import Shard, current_shard, remaining
from attnbn.io.atomic import remove_parts, write_bytes, write_json
from attnbn.io.errors import InputError
from attnbn.io.inside import check_inside
from attnbn.saliency.detector import Detector
from attnbn.saliency.onnx import OnnxDetector, resized

T = TypeVar("T")
R = TypeVar("R")

MANIFEST = "saliency.json"
"""Says which detector and settings made the folder."""

_CONSTANT = 1.5 / 255
"""A smaller spread says nothing; as :func:`attnbn.saliency.files.is_constant`."""


@dataclass
class Detected(Done):
    """What :func:`write_saliency` did.

    Attributes:
        constant: How many of the maps made now are the same everywhere: nothing in their photographs stands out.
        summary: Of all maps; None as long as photographs are missing.
    """

    constant: int = 0
    summary: Summary | None = None


class _Read(NamedTuple):
    """A photograph as the detector takes it, with the size ``(H, W)`` of its map."""

    name: str
    input: Tensor
    size: tuple[int, int]


class _Broken(NamedTuple):
    """A photograph that cannot be read, and why."""

    name: str
    line: str


@dataclass
class _Work:
    """What is known of the maps so far: those that are there, and the photographs that could not be read."""

    figures: dict[str, MapFigures] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


def write_saliency(
    detector: Detector,
    photographs: Sequence[Photograph],
    output: str | Path,
    *,
    scale: float = 1.0,
    overwrite: bool = False,
    skip_broken: bool = False,
    batch_size: int = 1,
    workers: int = 2,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Detected:
    """Write the saliency map of each photograph, an 8-bit grey PNG, ``saliency.json``, and in the end ``summary.json``.

    Args:
        detector: The detector; see :func:`~attnbn.saliency.open.open_detector`.
        photographs: From :func:`~attnbn.inference.saliency_sources.list_sources`; all of them, whatever the shard.
        output: The folder to write to.
        scale: Width and height of a map as a share of its photograph's.
        overwrite: Take over a folder that another detector made.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        batch_size: Photographs a forward pass, for models that take more than one.
        workers: Threads that read photographs and write maps; of a detector that is no model, processes that read.
        shard: This process's share; None: as the launcher says.
        progress: Called with the number of maps made and to make.

    Returns:
        What was done by this process, and the summary if nothing is left to others.

    Raises:
        InputError: An unreadable photograph, a folder that another detector made, or one where maps would take the place
            of photographs.
        RunError: The disk is full, or the detector fails.
    """
    if not 0 < scale <= 1:
        raise InputError(f"expected a scale of the maps in (0, 1], got {scale:g}")
    shard = current_shard() if shard is None else shard
    folder = Path(output)
    made_by = {**detector.identity(), "scale": scale}
    made_by.pop("model", None)  # a file that was renamed is the same model
    with claim(folder / MANIFEST, made_by, command="attnbn saliency", overwrite=overwrite, shard=shard) as claimed:
        work, sources = _Work(), {source.name: source for source in photographs}
        indices, skipped = remaining(list(sources), lambda name: _complete(folder, sources[name], claimed, work), shard)
        wanted = [photographs[index] for index in indices]
        remove_parts([folder], (folder / f"{source.name}.png" for source in wanted))
        done = Detected(skipped=skipped)

        def write(job: tuple[_Read, Tensor]) -> tuple[str, MapFigures]:
            item, saliency = job[0], resized(job[1], job[0].size)
            pixels = (saliency[0] * 255).round().byte().numpy()
            figures = figures_of(pixels)
            file = folder / f"{item.name}.png"
            check_inside(folder, file)
            write_bytes(file, _png(pixels, claimed.digest, figures))
            return item.name, figures

        pool = ThreadPoolExecutor(workers)
        try:
            items = _readable(_read(detector, wanted, scale, pool, workers, batch_size), skip_broken, work.broken)
            jobs = _detected(detector, items, batch_size)
            for name, figures in _in_order(pool, write, _announced(jobs, claimed), workers + 1):
                work.figures[name] = figures
                done.written += 1
                done.constant += figures.spread < _CONSTANT
                if progress is not None:
                    progress(done.written + len(work.broken), len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)
        done.broken = list(work.broken.values())
        _sum_up(folder, list(sources), claimed.digest, shard, work, done)
        return done


def _sum_up(folder: Path, names: Sequence[str], digest: str, shard: Shard, work: _Work, done: Detected) -> None:
    """Write the summary if every photograph has its map or is known to be broken."""
    alone = shard.world == 1
    if not folder.is_dir() and (alone or not work.broken):  # nothing could be read, or nothing is this process's
        done.missing = 0 if alone else len(names)
        return
    write_left_out(folder, shard, digest, work.broken)
    found = {name: work.figures.get(name) or read_figures(folder / f"{name}.png", digest) for name in names}
    broken = read_left_out(folder, digest) | work.broken
    without = [name for name in names if found[name] is None]
    done.missing = sum(name not in broken for name in without)
    figures = {name: one for name, one in found.items() if one is not None}
    if done.missing == 0 and figures:
        done.summary = Summary(figures, [broken[name] for name in without])
        write_json(folder / SUMMARY, done.summary.as_json())


def _read(
    detector: Detector, wanted: Sequence[Photograph], scale: float, pool: Executor, workers: int, batch_size: int
) -> Iterator[_Read | _Broken]:
    """The photographs as the detector takes them, in order, read ahead of their use."""
    read = _Reader(detector, wanted, scale)
    if workers == 1 or len(wanted) <= workers or isinstance(detector, OnnxDetector):
        yield from _in_order(pool, read.__getitem__, range(len(wanted)), workers + batch_size)
        return
    for one in read_ahead(read, workers, batch_size=1, collate_fn=list, prefetch_factor=1 + batch_size):
        yield from one


class _Reader(Dataset[_Read | _Broken]):
    """Photographs prepared one by one, by this process or by others."""

    def __init__(self, detector: Detector, sources: Sequence[Photograph], scale: float) -> None:
        self.detector, self.sources, self.scale = detector, sources, scale

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> _Read | _Broken:
        source = self.sources[index]
        try:
            image = read_image(source.path)
            height, width = (max(1, round(side * self.scale)) for side in image.shape[-2:])
            # as a tensor it crosses to this process in shared memory; a pipe that nobody reads any more would hold its writer
            return _Read(source.name, torch.from_numpy(self.detector.prepare(image)), (height, width))
        except InputError as error:
            return _Broken(source.name, str(error))


def _in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Results in the items' order, with at most ``ahead`` of them under way or waiting to be taken."""
    items = iter(items)
    begun = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        result = begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
        yield result


def _readable(items: Iterable[_Read | _Broken], skip_broken: bool, broken: dict[str, str]) -> Iterator[_Read]:
    for item in items:
        if isinstance(item, _Read):
            yield item
        elif skip_broken:
            broken[item.name] = item.line
        else:
            raise InputError(item.line)


def _detected(detector: Detector, items: Iterable[_Read], batch_size: int) -> Iterator[tuple[_Read, Tensor]]:
    """Each photograph with its map ``1×h×w`` at the detector's resolution, which may differ where it takes one at a time."""
    items = iter(items)
    batch_size = min(batch_size, detector.batch or batch_size)
    while batch := list(islice(items, batch_size)):
        maps = detector.maps([item.input.numpy() for item in batch], [item.name for item in batch])
        yield from zip(batch, maps, strict=True)


def _announced(jobs: Iterable[T], claimed: Claim) -> Iterator[T]:
    """The jobs; when the first is there, the manifest is written."""
    for number, job in enumerate(jobs):
        if number == 0:
            claimed.announce()
        yield job


def _complete(folder: Path, source: Photograph, claimed: Claim, work: _Work) -> bool:
    """Whether the photograph's map is there and made by the same detector; its figures are noted.

    Raises:
        InputError: The file in its place is the photograph itself.
    """
    path = folder / f"{source.name}.png"
    figures = read_figures(path, claimed.digest)
    if figures is not None:
        work.figures[source.name] = figures
    elif path.exists() and os.path.samefile(path, source.path):
        raise InputError(f"expected an output folder other than the photographs' own: {path}")
    return figures is not None


def _png(pixels: NDArray[np.uint8], digest: str, figures: MapFigures) -> bytes:
    """A map uint8 ``H×W`` as grey PNG with what made it and its figures."""
    info = PngInfo()
    info.add_text(DIGEST_KEY, digest)
    info.add_text(FIGURES_KEY, figures_text(figures))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
