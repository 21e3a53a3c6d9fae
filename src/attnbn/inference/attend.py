"""Photographs to files one can look at and compute with: overlays, masks, maps.

``maps/NAME.npz`` is written last and so stands for the whole of a photograph's results. It carries, as the comment of
its zip archive, a digest of the run and the settings that made it: what is complete is passed over when the work goes
on, what another run left is done anew.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from attnbn.data.images import read_image, write_mask
from attnbn.evaluation.direct import combine
from attnbn.inference.claim import Done, claim
from attnbn.inference.gather import by_name, look_round
from attnbn.inference.layers import LAST
from attnbn.inference.maps import Fuse, full_size
from attnbn.inference.overlay import Picture, captioned, overlay
from attnbn.inference.passes import Passes
from attnbn.inference.photographs import Photographs, check_name, list_photographs
from attnbn.inference.predict import Prediction, predict
from attnbn.inference.shards import Shard, current_shard, own, remaining
from attnbn.io.atomic import remove_parts, write_bytes
from attnbn.io.inside import check_inside

MANIFEST = "attend.json"
"""Says which run and settings made the folder."""


def attend(
    net: nn.Module,
    photographs: Sequence[str | Path],
    output: str | Path,
    classes: Sequence[str],
    *,
    size: int,
    masks: bool = False,
    threshold: float = 0.2,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    layers: Sequence[str] = (LAST,),
    fuse: Fuse = "mean",
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    skip_broken: bool = False,
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device | None = None,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Write what the network sees in each photograph.

    ``overlays/NAME.CLASS.png`` per predicted class, ``masks/NAME.png`` (palette PNG, 0 = background) under ``masks``,
    and ``maps/NAME.npz`` with ``maps`` (float16 ``K×H×W`` in [0, 1]), ``names`` (``K`` strings) and ``scores`` (float32
    ``K`` logits).

    Args:
        net: The network; see :func:`~attnbn.inference.predict.predict`.
        photographs: Files and folders.
        output: The folder to write to.
        classes: Names of the network's classes.
        size: Side of the square that the network sees.
        masks: Write masks too.
        threshold: A pixel of a mask is foreground where a map is at least this, in (0, 1].
        scales: This and the next three as in :func:`~attnbn.inference.predict.predict`.
        flip: Look at the mirror image too.
        layers: Whose attention is taken.
        fuse: The ``mean`` or the ``product`` of the layers' maps.
        identity: What tells this run from others (its folder, its checkpoint's checksum), kept in ``attend.json``.
        overwrite: Take over a folder that another run or other settings made.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        batch_size: Photographs a forward pass.
        workers: Processes that read.
        device: Where the network is; None: where its weights are.
        shard: This process's share; None: as the launcher says.
        progress: Called with the number of photographs done and to do.

    Returns:
        What was done by this process.

    Raises:
        InputError: No photograph, an unreadable one, or a folder that another run made.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    folder = Path(output)
    dataset = Photographs(list_photographs(photographs, leave_out=folder), classes)
    passes = Passes(scales, flip, layers, fuse)
    made_by = {"identity": dict(identity or {}), "classes": list(classes), "size": size} | passes.changed()
    used = threshold if masks else None
    shard = current_shard() if shard is None else shard
    loose = {"threshold": used}
    # The threshold is no part of the digest: it changes the masks alone, and a folder without masks has none.
    with claim(folder / MANIFEST, made_by, command="attend", overwrite=overwrite, loose=loose, shard=shard) as claimed:
        files = _Files(folder, tuple(classes), used, claimed.digest)
        wanted, skipped = remaining(dataset.names, files.complete, shard)
        done = Done(skipped=skipped)
        files.tidy(dataset.names[i] for i in wanted)
        paths = {dataset.names[i]: dataset.paths[i] for i in wanted}
        for prediction in predict(
            net, dataset, size=size, indices=own(dataset.names, shard), only=wanted, **passes.settings(), batch_size=batch_size,
            workers=workers, device=device, skip_broken=skip_broken, broken=done.broken,
        ):  # fmt: skip
            if not done.written:
                claimed.announce()
            # Read a second time, rather than kept from the first: a batch of large photographs would fill the memory.
            files.write(prediction, read_image(paths[prediction.name]))
            done.written += 1
            if progress is not None:
                progress(done.written + len(done.broken), len(wanted))
        broken = by_name([dataset.names[i] for i in wanted], files.complete, done.broken)
        done.missing = look_round(folder, dataset.names, files.complete, claimed.digest, shard, broken).missing
        return done


def file_names(classes: Iterable[str]) -> list[str]:
    """The classes' names as parts of file names, all different, of letters, digits, ``-`` and ``_`` only."""
    result: list[str] = []
    for index, name in enumerate(classes):
        plain = re.sub(r"[^\w-]+", "_", name)
        result.append(plain if plain and plain not in result else f"{plain}_{index}")
    return result


@dataclass(frozen=True)
class _Files:
    """The files of a photograph: whether they are complete, and writing them.

    Attributes:
        folder: The output folder.
        classes: Names of all classes.
        threshold: Of the masks; None: no masks.
        digest: Marks what this run made.
    """

    folder: Path
    classes: tuple[str, ...]
    threshold: float | None
    digest: str

    def complete(self, name: str) -> bool:
        maps, mask = self._paths(check_name(name))
        if not maps.is_file() or (self.threshold is not None and not mask.is_file()):
            return False
        try:
            with zipfile.ZipFile(maps) as archive:
                digest, _, threshold = archive.comment.decode("ascii", "replace").partition(" ")
                return digest == self.digest and (self.threshold is None or threshold == repr(self.threshold))
        except (OSError, zipfile.BadZipFile):
            return False

    def tidy(self, names: Iterable[str]) -> None:
        """Remove what a killed process had begun to write of these photographs."""
        suffixes = file_names(self.classes)
        files = ((*self._paths(name), *(self._overlay(name, suffix) for suffix in suffixes)) for name in names)
        rooms = [self.folder / room for room in ("maps", "masks", "overlays")]
        check_inside(self.folder, *(room / "any" for room in rooms))
        remove_parts(rooms, chain.from_iterable(files))

    def write(self, prediction: Prediction, image: Tensor) -> None:
        maps_file, mask_file = self._paths(prediction.name)
        check_inside(self.folder, maps_file, mask_file, self._overlay(prediction.name, ""))
        suffixes = file_names(self.classes)
        if maps_file.exists():  # another run's, or without the mask wanted now: it may have seen other classes
            maps_file.unlink()
            mask_file.unlink(missing_ok=True)
            for suffix in suffixes:
                self._overlay(prediction.name, suffix).unlink(missing_ok=True)
        names = [self.classes[index] for index in prediction.classes.tolist()]
        maps, scores = full_size(prediction.maps, prediction.size), prediction.scores[prediction.classes]
        for name, index, score, attention in zip(names, prediction.classes.tolist(), scores, maps, strict=True):
            picture = captioned(overlay(image, attention), f"{name}  {float(score.sigmoid()):.0%}")
            write_bytes(self._overlay(prediction.name, suffixes[index]), _png(picture))
        if self.threshold is not None:
            mask_file.parent.mkdir(parents=True, exist_ok=True)
            write_mask(mask_file, combine(maps, scores, prediction.classes, self.threshold))
        write_bytes(maps_file, _npz(maps, names, scores, f"{self.digest} {self.threshold!r}"))

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / "maps" / f"{name}.npz", self.folder / "masks" / f"{name}.png"

    def _overlay(self, name: str, suffix: str) -> Path:
        return self.folder / "overlays" / f"{name}.{suffix}.png"


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _npz(maps: Tensor, names: Sequence[str], scores: Tensor, comment: str) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, maps=maps.numpy().astype(np.float16), names=np.array(names, dtype=str), scores=scores.numpy()
    )
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment.encode("ascii")
    return buffer.getvalue()
