"""A run's masks packed as VOC's evaluation server takes them: of attention maps (Table 1) or of a segmentation (Table 3).

The masks are collected in a folder beside the archive, whose name carries a digest of the run and its settings: a command
that was stopped goes on there. When all photographs are done the archive is written in one go and the folder removed.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.dataset import ImageDataset, Subset
from attnbn.data.images import write_mask
from attnbn.data.open import open_dataset, place_of
from attnbn.data.voc_labels import read_lines
from attnbn.inference.claim import digest_of
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.load_segmenter import is_segmenter, load_segmenter
from attnbn.inference.passes import Passes
from attnbn.inference.predict import predict
from attnbn.inference.segment import segment_photographs
from attnbn.io.atomic import atomic_file
from attnbn.io.errors import InputError, RunError
from attnbn.io.run_folder import RunFolder
from attnbn.training.devices import check_device

Competition = Literal["comp5", "comp6"]
"""VOC's two segmentation competitions: comp5 for what was trained on VOC's own train and val alone, comp6 for all else,
such as weights of ImageNet or photographs of another data set."""

ENDINGS = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Submitted:
    """What :func:`submit` did.

    Attributes:
        path: The archive.
        folder: Where the masks lie in it.
        images: How many there are.
        resumed: How many of them an earlier, stopped command had made.
        notes: What a person should know of it.
    """

    path: Path
    folder: str
    images: int
    resumed: int
    notes: list[str]


def submit(
    run: str | os.PathLike[str],
    target: str,
    output: str | os.PathLike[str],
    *,
    split: str = "test",
    competition: Competition = "comp6",
    checkpoint: str = "last",
    threshold: float | None = None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    crf: bool = True,
    device: str = "auto",
    workers: int = 0,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Submitted:
    """Write the archive for VOC's evaluation server.

    Args:
        run: A classifier's run (its attention maps at its threshold, of the classes it predicts) or a segmentation's.
        target: ``voc:PATH``; neither labels nor masks are read.
        output: The archive, ``.tar``, ``.tar.gz`` or ``.tgz``.
        split: A list of ``ImageSets/Segmentation``.
        competition: ``comp5`` or ``comp6``.
        checkpoint: ``last`` or ``best``.
        threshold: Of attention maps, instead of the run's own.
        scales: Factors on the run's size; None: 1 for a classifier, a segmentation's own.
        flip: Look at the mirror image too; None: not, or as the segmentation's settings say.
        crf: Refine a segmentation by its CRF.
        device: Where to compute.
        workers: Processes that read.
        batch_size: Photographs a forward pass.
        progress: Called with the number of photographs done and to do.

    Raises:
        InputError: Another ending, data that are not VOC's, a photograph that is missing or cannot be read (the server wants
            them all), or a run whose classes are not VOC's.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    path = Path(output)
    if not path.name.endswith(ENDINGS) or path.name in ENDINGS:
        raise InputError(f"expected --output ending in {', '.join(ENDINGS)}, got {path.name!r}: {path}")
    if path.is_dir():
        raise InputError(f"expected --output to be a file, got a folder: {path}")
    dataset = _listed(target, split)
    masks = _masks_of(
        run, checkpoint, threshold, scales, flip, crf, check_device(device), workers=workers, batch_size=batch_size
    )
    made_by = masks.made_by | {"target": place_of(target), "split": split}
    work = path.with_name(f"{path.name}.{digest_of(made_by)[:12]}.work")
    files = {name: work / f"{name}.png" for name in dataset.names}
    missing = [index for index, name in enumerate(dataset.names) if not files[name].is_file()]
    for number, (name, mask) in enumerate(masks.of(dataset, missing), start=1):
        write_mask(files[name], mask)
        if progress is not None:
            progress(number, len(missing))
    folder = f"results/VOC2012/Segmentation/{competition}_{split}_cls"
    _pack(path, folder, files)
    shutil.rmtree(work, ignore_errors=True)
    return Submitted(path, folder, len(files), len(files) - len(missing), masks.notes)


def _listed(target: str, split: str) -> ImageDataset:
    """The photographs of ``ImageSets/Segmentation/SPLIT.txt``; that of ``Main``, which is longer, is another competition's."""
    kind, place = place_of(target)
    if kind != "voc":
        raise InputError(f"expected VOC's own photographs, voc:PATH, got {kind}: {target}")
    file = Path(place, "ImageSets", "Segmentation", f"{split}.txt")
    if Path(split).name != split or not file.is_file():
        there = ", ".join(sorted(one.stem for one in file.parent.glob("*.txt"))) or "none"
        raise InputError(f"expected the list of the split {split!r}, found none; splits there: {there}: {file}")
    everything = open_dataset(target, split="all", labels=False)
    if everything.classes != VOC_CLASSES:
        raise InputError(f"expected VOC's own 20 classes, which the server scores, got those of {place}/classes.txt")
    index = {name: number for number, name in enumerate(everything.names)}
    names = [name for name in dict.fromkeys(read_lines(file)) if name]
    if not names:
        raise InputError(f"expected photographs in the split {split!r}, got an empty list: {file}")
    for name in names:
        if name not in index:
            raise InputError(
                f"expected a photograph for every name of {file.name}, found none for {name!r}; the server wants them all: "
                f"{place}/JPEGImages/{name}.jpg"
            )
    return Subset(everything, [index[name] for name in names])


@dataclass(frozen=True)
class _Masks:
    """Where masks with VOC's class ids come from.

    Attributes:
        of: From a data set and indices to names and masks, uint8 ``H×W``.
        made_by: The run and its settings.
        notes: What a person should know.
    """

    of: Callable[[ImageDataset, Sequence[int]], Iterator[tuple[str, Tensor]]]
    made_by: dict[str, Any]
    notes: list[str]


def _masks_of(
    run: str | os.PathLike[str],
    checkpoint: str,
    threshold: float | None,
    scales: Sequence[float] | None,
    flip: bool | None,
    crf: bool,
    device: str,
    **reading: Any,
) -> _Masks:
    if is_segmenter(RunFolder(run).config()):
        if threshold is not None:
            raise InputError(f"--threshold cuts attention maps, this run is a segmentation's: {run}")
        return _of_segmenter(run, checkpoint, device, {"scales": scales, "flip": flip, "crf": crf}, reading)
    if not crf:
        raise InputError(f"--no-crf belongs to a segmentation, this run is a classifier's: {run}")
    return _of_attention(run, checkpoint, device, threshold, Passes(scales or (1.0,), bool(flip)), reading)


def _of_segmenter(
    run: str | os.PathLike[str], checkpoint: str, device: str, look: dict[str, Any], reading: dict[str, Any]
) -> _Masks:
    trained = load_segmenter(run, checkpoint=checkpoint, device=device)
    ids, notes = voc_ids(trained.classes, trained.config.data.class_map, run)
    how = trained.look(**look)

    def masks(dataset: ImageDataset, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        for one in segment_photographs(trained.network, dataset, indices=indices, **how, **reading):
            yield one.name, ids[one.mask.long()]

    crf = None if how["crf"] is None else asdict(how["crf"])
    return _Masks(masks, {"identity": trained.identity, **how, "crf": crf}, notes)


def _of_attention(
    run: str | os.PathLike[str],
    checkpoint: str,
    device: str,
    threshold: float | None,
    passes: Passes,
    reading: dict[str, Any],
) -> _Masks:
    trained = load(run, checkpoint=checkpoint, device=device)
    ids, notes = voc_ids(trained.classes, trained.config.data.class_map, run)
    cut = trained.threshold if threshold is None else threshold
    chosen = "as given" if threshold is not None else f"chosen on {trained.threshold_split}"
    if threshold is None and trained.threshold_split is None:
        chosen = "the default: the run had no split to choose it on"
    notes = [f"attention maps cut at {cut:.2f}, {chosen}", *notes]
    size = trained.config.data.size

    def masks(dataset: ImageDataset, indices: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        for one in predict(
            trained.network, dataset, size=size, indices=indices, scales=passes.scales, flip=passes.flip, **reading
        ):
            yield one.name, ids[segment(one, cut).long()]

    return _Masks(masks, {"identity": trained.identity, "size": size, "threshold": cut, **passes.settings()}, notes)


def voc_ids(
    classes: Sequence[str], class_map: Mapping[str, str] | None, run: str | os.PathLike[str]
) -> tuple[Tensor, list[str]]:
    """From a run's mask ids to VOC's.

    Args:
        classes: The run's.
        class_map: VOC's names -> names of the run, as in its settings.
        run: For messages.

    Returns:
        uint8 ``N+1``, VOC's id of each of the run's, background first; and a line on VOC's classes that the run does not
        know, if there are any.

    Raises:
        InputError: A class is none of VOC's, or several of them in one.
    """
    ids = [0]
    for name in classes:
        meant = [own for own in VOC_CLASSES if (class_map or {}).get(own, own) == name]
        if len(meant) != 1:
            came = f"{name!r}, which is {' and '.join(meant)} in one" if meant else f"{name!r}"
            raise InputError(
                f"expected a run on VOC's own classes, which the server scores, got the class {came}: {run}"
            )
        ids.append(VOC_CLASSES.index(meant[0]) + 1)
    never = [own for number, own in enumerate(VOC_CLASSES, start=1) if number not in ids]
    notes = [f"the run does not know {len(never)} of VOC's classes, which it never predicts: {', '.join(never)}"]
    return torch.tensor(ids, dtype=torch.uint8), notes if never else []


def _pack(path: Path, folder: str, files: Mapping[str, Path]) -> None:
    """Write the archive whole or not at all; equal masks make equal bytes."""
    absent = [name for name, file in files.items() if not file.is_file()]
    if absent:
        raise RunError(f"expected a mask of every photograph, {absent[0]!r} has none; run the command again: {path}")
    with atomic_file(path) as file:
        if path.name.endswith(".tar"):
            _write_tar(file, folder, files)
            return
        # neither name nor time in its header
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            _write_tar(packed, folder, files)


def _write_tar(file: IO[bytes] | gzip.GzipFile, folder: str, files: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in _folders(folder):
            archive.addfile(_entry(entry, tarfile.DIRTYPE, 0o755))
        for name in sorted(files):
            data = files[name].read_bytes()
            archive.addfile(_entry(f"{folder}/{name}.png", tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))


def _folders(folder: str) -> Iterable[str]:
    return accumulate(folder.split("/"), lambda above, name: f"{above}/{name}")


def _entry(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, size, 0
    return info
