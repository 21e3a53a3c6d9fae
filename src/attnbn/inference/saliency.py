"""Photographs to saliency maps in a folder, for cues and for Eq. 3: ``FOLDER/NAME.png``, as ``SaliencyFolder`` reads them.

Reading, inference and writing overlap: the decoder, the network and the compressor all let other threads run. Each map
carries a digest of the detector, its settings and the scale: what is there already is passed over when the work goes on,
what another detector left is done anew. Several processes share the work by :mod:`~attnbn.inference.shards`.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from attnbn.data.images import read_image
from attnbn.inference.claim import Claim, Done, claim
from attnbn.inference.photographs import Photograph
from attnbn.inference.shards import Shard, remaining
from attnbn.io.atomic import write_bytes
from attnbn.io.errors import InputError
from attnbn.saliency.files import is_constant
from attnbn.saliency.onnx import OnnxDetector, resized

T = TypeVar("T")
R = TypeVar("R")

MANIFEST = "saliency.json"
"""Says which detector and settings made the folder."""
_KEY = "attnbn"
"""Of the text in each map's file that says what made it."""


@dataclass
class Detected(Done):
    """What :func:`write_saliency` did.

    Attributes:
        constant: How many of the maps made now are the same everywhere: nothing in their photographs stands out.
    """

    constant: int = 0


class _Read(NamedTuple):
    """A photograph as the network takes it, with the size ``(H, W)`` of its map."""

    name: str
    input: NDArray[np.float32]
    size: tuple[int, int]


def write_saliency(
    detector: OnnxDetector,
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
    """Write the saliency map of each photograph, an 8-bit grey PNG, and ``saliency.json``.

    Args:
        detector: The model.
        photographs: From :func:`~attnbn.inference.saliency_sources.list_sources`.
        output: The folder to write to.
        scale: Width and height of a map as a share of its photograph's.
        overwrite: Take over a folder that another detector made.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        batch_size: Photographs a forward pass, for models that take more than one.
        workers: Threads that read photographs and write maps.
        shard: This process's share; None: as the launcher says.
        progress: Called with the number of maps made and to make.

    Returns:
        What was done by this process.

    Raises:
        InputError: An unreadable photograph, a folder that another detector made, or one where maps would take the place
            of photographs.
        RunError: The disk is full, or the model fails.
    """
    if not 0 < scale <= 1:
        raise InputError(f"expected a scale of the maps in (0, 1], got {scale:g}")
    folder = Path(output)
    made_by = {**detector.identity(), "scale": scale}
    del made_by["model"]  # a file that was renamed is the same model
    claimed = claim(folder / MANIFEST, made_by, command="attnbn saliency", overwrite=overwrite)
    digest = claimed.digest
    sources = {source.name: source for source in photographs}
    indices, skipped = remaining(list(sources), lambda name: _complete(folder, sources[name], digest), shard)
    wanted = [photographs[index] for index in indices]
    done = Detected(skipped=skipped)

    def read(source: Photograph) -> _Read | str:
        try:
            image = read_image(source.path)
        except InputError as error:
            return str(error)
        height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
        return _Read(source.name, detector.prepare(image), (height, width))

    def write(job: tuple[_Read, Tensor]) -> bool:
        item, saliency = job[0], resized(job[1], job[0].size)
        write_bytes(folder / f"{item.name}.png", _png(saliency, digest))
        return is_constant(saliency)

    pool = ThreadPoolExecutor(workers)
    try:
        items = _readable(_in_order(pool, read, wanted, workers + batch_size), skip_broken, done.broken)
        jobs = _detected(detector, items, batch_size)
        for constant in _in_order(pool, write, _announced(jobs, claimed), workers + 1):
            done.written += 1
            done.constant += constant
            if progress is not None:
                progress(done.written + len(done.broken), len(wanted))
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _in_order(pool: Executor, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Results in the items' order, with at most ``ahead`` of them under way or waiting to be taken."""
    items = iter(items)
    begun = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        result = begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
        yield result


def _readable(items: Iterable[_Read | str], skip_broken: bool, broken: list[str]) -> Iterator[_Read]:
    for item in items:
        if not isinstance(item, str):
            yield item
        elif skip_broken:
            broken.append(item)
        else:
            raise InputError(item)


def _detected(detector: OnnxDetector, items: Iterable[_Read], batch_size: int) -> Iterator[tuple[_Read, Tensor]]:
    """Each photograph with its map ``1×h×w`` at the network's resolution."""
    items = iter(items)
    while batch := list(islice(items, batch_size)):
        maps = detector.maps([item.input for item in batch], [item.name for item in batch])
        yield from zip(batch, maps, strict=True)


def _announced(jobs: Iterable[T], claimed: Claim) -> Iterator[T]:
    """The jobs; when the first is there, the manifest is written."""
    for number, job in enumerate(jobs):
        if number == 0:
            claimed.announce()
        yield job


def _complete(folder: Path, source: Photograph, digest: str) -> bool:
    """Whether the photograph's map is there and made by the same detector.

    Raises:
        InputError: The file in its place is the photograph itself.
    """
    path = folder / f"{source.name}.png"
    try:
        with Image.open(path) as picture:
            if picture.info.get(_KEY) == digest:
                return True
    except FileNotFoundError:
        return False
    except (OSError, UnidentifiedImageError):  # a broken file: written anew
        pass
    if os.path.samefile(path, source.path):
        raise InputError(f"expected an output folder other than the photographs' own: {path}")
    return False


def _png(saliency: Tensor, digest: str) -> bytes:
    """A map ``1×H×W`` in [0, 1] as 8-bit grey PNG."""
    info = PngInfo()
    info.add_text(_KEY, digest)
    buffer = io.BytesIO()
    Image.fromarray((saliency[0] * 255).round().byte().numpy()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
