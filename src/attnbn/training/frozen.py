"""What the frozen layers give for fixed views, computed once and kept on disk.

Where the trunk's lower layers are frozen (``model.freeze``) and each image is shown in a few fixed crops (``data.views``), their
outputs never change: they are most of a step's work and none of its learning. The files are named by a hash of all they
depend on, so that the rows and seeds of a study share them and nothing else takes them for its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from attnbn.data.collate import Batch
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.transforms import SampleTransform, normalize
from attnbn.io.atomic import explained
from attnbn.io.errors import InputError, RunError
from attnbn.io.reading import check_file
from attnbn.training.views import FixedViews

CHUNK = 16
"""Views that go through the frozen layers at a time."""


class KeptViews(Dataset["_Kept"]):
    """What the frozen layers give for all views, read from disk.

    Args:
        dataset: The images, for names and labels.
        places: Where each of them is in the files.
        features: File of float16 ``n×K×h×w×C``.
        saliency: File of float32 ``n×K×u×v``, NaN for images without a map; None where no term reads it.
        layers: How many layers of the trunk are done.
    """

    def __init__(
        self, dataset: ImageDataset, places: Tensor, features: Path, saliency: Path | None, layers: int
    ) -> None:
        self.names, self.labels, self.places = dataset.names, dataset.labels, places
        self.files, self.layers = (features, saliency), layers
        self._open()
        last = int(places.max()) if len(places) else -1
        for file, array in ((features, self.features), (saliency, self.saliency)):
            if array is not None and not last < len(array):
                raise InputError(f"expected views of {last + 1} images, got {len(array)}; delete the file: {file}")

    def _open(self) -> None:
        features, saliency = self.files
        self.features: NDArray[np.float16] = _mapped(features, np.float16, 5)
        self.saliency: NDArray[np.float32] | None = None
        if saliency is not None:
            self.saliency = _mapped(saliency, np.float32, 4)

    def __getstate__(self) -> dict[str, Any]:
        # a mapped file would be sent to a loader process as a copy of all it holds
        return {key: value for key, value in self.__dict__.items() if key not in ("features", "saliency")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> _Kept:
        labels = None if self.labels is None else self.labels[index]
        place = int(self.places[index])
        saliency = None if self.saliency is None else self.saliency[place]
        return _Kept(self.features[place], saliency, labels, self.names[index], self.layers)


def _mapped(file: Path, dtype: type[np.generic], dimensions: int) -> NDArray[Any]:
    """An array on disk; never one of pickled objects, and none that says it is larger than its file.

    Raises:
        InputError: It is damaged, or of another kind.
    """
    check_file(file, "file of kept features")
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a header is a Python literal, and what is wrong with it comes out as any exception
        raise InputError(f"expected kept features, could not read them ({error}); delete the file: {file}") from None
    if not isinstance(array, np.memmap) or array.dtype != dtype or array.ndim != dimensions or 0 in array.shape:
        raise InputError(
            f"expected {dtype.__name__} of {dimensions} dimensions, got another array; delete the file: {file}"
        )
    return array


class _Kept(NamedTuple):
    """All kept views of one image, or after :func:`choose_kept` one of them."""

    features: NDArray[np.float16]
    saliency: NDArray[np.float32] | None
    labels: Tensor | None
    name: str
    layers: int


def choose_kept(item: _Kept, seed: int) -> _Kept:
    """The sample's view under its augmentation seed."""
    view = seed % len(item.features)
    saliency = None if item.saliency is None else item.saliency[view]
    return item._replace(features=item.features[view], saliency=saliency)


def collate_kept(items: Sequence[_Kept]) -> Batch:
    """Kept features to a batch that enters the network behind its frozen layers."""
    # stored with the channels innermost, which is how the tensor then lies in memory, too
    features = torch.from_numpy(np.stack([item.features for item in items])).permute(0, 3, 1, 2)
    labels = [item.labels for item in items if item.labels is not None]
    maps = [item.saliency for item in items if item.saliency is not None]
    saliency, has = None, torch.zeros(len(items), dtype=torch.bool)
    if maps:
        stacked = torch.from_numpy(np.stack(maps))[:, None]
        has = ~stacked.isnan().flatten(1).any(1)
        saliency = stacked.nan_to_num()
    return Batch(
        image=features.float(),
        labels=torch.stack(labels) if labels else None,
        saliency=saliency,
        has_saliency=has,
        names=[item.name for item in items],
        layers=items[0].layers,
    )


@dataclass(frozen=True)
class Keeper:
    """Makes the files of :class:`KeptViews`, unless they are there.

    Attributes:
        folder: Where they are kept.
        frozen: The trunk's frozen layers, on their device.
        layers: How many those are.
        views: Views of each image.
        transform: Draws a view.
        settings: All else that the views depend on (size, scale, flip, precision), for the files' names.
        saliency_size: Height and width at which saliency is compared.
        autocast: Precision of the frozen layers.
        say: Told what is computed.
    """

    folder: Path
    frozen: nn.Module
    layers: int
    views: int
    transform: SampleTransform
    settings: str
    saliency_size: tuple[int, int]
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    say: Callable[[str], None] = lambda line: None

    def keep(self, dataset: ImageDataset) -> KeptViews:
        """The data set's views, computed now or at an earlier time.

        Of a part of a data set that is most of it the whole is kept, for the parts of other seeds to share.

        Raises:
            InputError: for an image that cannot be read.
            RunError: where they do not fit on the disk.
        """
        whole, places = _whole(dataset)
        views = FixedViews(whole, self.transform, self.views)
        images, maps = _contents(whole)
        crops = f"{self.views} {self.settings}"
        features = self._file("features", images, crops, _weights(self.frozen))
        with _alone(features, self.say) as ours:
            if ours:
                self._features(views, features)
        saliency = None
        if dataset.has_saliency:
            saliency = self._file("saliency", images, maps, crops, str(self.saliency_size))
            with _alone(saliency, self.say) as ours:
                if ours:
                    self._saliency(views, saliency)
        return KeptViews(dataset, places, features, saliency, self.layers)

    def _file(self, kind: str, *parts: str) -> Path:
        return self.folder / f"{kind}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]}.npy"

    def _features(self, views: FixedViews, path: Path) -> None:
        device = next(self.frozen.parameters()).device
        first = views.view(views.dataset.names[0], views.dataset[0], 0).image
        with torch.no_grad(), self.autocast():
            like = self.frozen(normalize(first[None].to(device)))
        shape = (len(views), self.views, *like.shape[2:], like.shape[1])
        self._check_space(path, 2 * int(np.prod(shape)))
        gigabytes = 2e-9 * float(np.prod(shape))
        self.say(
            f"frozen layers, once: {len(views):,} images × {self.views} views, {gigabytes:.2g} GB in {self.folder}"
        )
        with _new_array(path, shape, np.float16) as array, torch.no_grad(), self.autocast():
            for index in range(len(views)):
                name, sample = views.dataset.names[index], views.dataset[index]
                images = torch.stack([views.view(name, sample, view).image for view in range(self.views)])
                for at in range(0, self.views, CHUNK):
                    out = self.frozen(normalize(images[at : at + CHUNK].as_subclass(Tensor).to(device)))
                    array[index, at : at + CHUNK] = _half(out, name).permute(0, 2, 3, 1).cpu().numpy()

    def _saliency(self, views: FixedViews, path: Path) -> None:
        with _new_array(path, (len(views), self.views, *self.saliency_size), np.float32) as array:
            for index in range(len(views)):
                name, sample = views.dataset.names[index], views.dataset[index]
                array[index] = np.nan
                if sample.saliency is not None:
                    for view in range(self.views):
                        shown = views.view(name, sample, view).saliency
                        assert shown is not None
                        small = F.adaptive_avg_pool2d(shown.as_subclass(Tensor), self.saliency_size)
                        array[index, view] = small[0].numpy()

    def _check_space(self, path: Path, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise RunError(
                f"expected {needed / 1e9:.1f} GB free for the frozen layers' features, got {free / 1e9:.1f}: use another "
                f"--data.cache or fewer --data.views: {self.folder}"
            )


def _half(out: Tensor, name: str) -> Tensor:
    half = out.half()
    if not half.isfinite().all():
        raise RunError(f"features exceed what half precision holds: train without data.cache ({name})")
    return half


def _whole(dataset: ImageDataset) -> tuple[ImageDataset, Tensor]:
    """The data set that this one is most of (itself, if of none), and where its images are in it."""
    places = torch.arange(len(dataset))
    while isinstance(dataset, Subset) and 2 * len(places) >= len(dataset.dataset):
        places = dataset.indices[places]
        dataset = dataset.dataset
    return dataset, places


def _contents(dataset: ImageDataset) -> tuple[str, str]:
    """Which images and which saliency maps these are: hashes of their names and of every pixel.

    A millisecond or two an image, against the harm of training on what was there before a file was made anew.
    """
    images, maps = hashlib.sha256(), hashlib.sha256()
    for index, name in enumerate(dataset.names):
        sample = dataset[index]
        for digest, part in ((images, sample.image), (maps, sample.saliency)):
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
            if part is not None:
                digest.update(str(tuple(part.shape)).encode())
                digest.update(np.ascontiguousarray(part.as_subclass(Tensor).numpy()).tobytes())
    return images.hexdigest(), maps.hexdigest()


def _weights(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Whether the file is ours to make; where another process makes it just now, wait until it is there."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = (path.parent / f".{path.name}.lock").open("a")
    with lock:  # let go when the file closes, however the process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that computes {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield not path.exists()


@contextmanager
def _new_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[NDArray[Any]]:
    """A mapped array that takes its name when the block ends without an exception."""
    for stale in path.parent.glob(f".{path.name}.{socket.gethostname()}-*.part"):
        stale.unlink(missing_ok=True)  # left behind by a kill: on this machine nobody else is at it now
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
    try:
        with explained(path):
            array: NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                temporary, mode="w+", dtype=dtype, shape=shape
            )
            with temporary.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    # a mapped file grows as it is written, and a full disk would then end the process without a word
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield array
        with explained(path):
            array.flush()  # type: ignore[attr-defined]
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def frozen_part(trunk: nn.Module, layers: int) -> nn.Sequential:
    """The trunk's first ``layers`` children."""
    children: Iterator[nn.Module] = iter(trunk.children())
    return nn.Sequential(*[next(children) for _ in range(layers)])
