"""Photographs to masks on disk, with overlays to look at.

``overlays/NAME.jpg`` is written last and so stands for the whole of a photograph's results. It carries, as its comment, a
digest of the run and the settings that made it: what is complete is passed over when the work goes on, what another run
left is done anew.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import nn

from attnbn.data.dataset import ImageDataset
from attnbn.data.images import write_mask
from attnbn.inference.claim import Done, claim
from attnbn.inference.gather import by_name, look_round
from attnbn.inference.overlay import segmentation_overlay
from attnbn.inference.passes import Passes
from attnbn.inference.photographs import check_name
from attnbn.inference.segment import Segmentation, segment_photographs
from attnbn.inference.shards import Shard, current_shard, own, remaining
from attnbn.io.atomic import remove_parts, write_bytes
from attnbn.io.inside import check_inside
from attnbn.segment_config import CrfConfig

MANIFEST = "segment.json"
"""Says which run and settings made the folder, and the classes of its masks."""

MASKS, OVERLAYS, PROBABILITIES = "masks", "overlays", "probabilities"


def segment_to_files(
    net: nn.Module,
    dataset: ImageDataset,
    output: str | Path,
    *,
    size: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crf: CrfConfig | None = None,
    given_labels: bool = False,
    probabilities: bool = False,
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    skip_broken: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    device: str | None = None,
    shard: Shard | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Done:
    """Write the mask of each photograph of a data set.

    ``masks/NAME.png`` (palette PNG of the photograph's size, 0 = background), ``overlays/NAME.jpg`` (the photograph in the
    mask's colours, with a legend) and, where asked for, ``probabilities/NAME.npz``.

    Args:
        net: The network; see :func:`~attnbn.inference.segment.segment_photographs`, as for the settings that follow.
        dataset: The photographs.
        output: The folder to write to.
        size: Side of the square that the network sees at scale 1.
        scales: Factors on it.
        flip: Look at the mirror image too.
        crf: Its settings; None: no CRF.
        given_labels: Keep to the classes that the data set's labels name.
        probabilities: Write ``probabilities``, float16 ``(N+1)×H×W`` before the CRF, and ``classes``, their names from the
            background on; readable by ``attnbn crf``.
        identity: What tells this run from others (its folder, its checkpoint's checksum), kept in ``segment.json``.
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
        InputError: An unreadable photograph, a folder that another run made, or settings that cannot be used.
        RunError: The disk is full, or the network gives no finite numbers.
    """
    folder = Path(output)
    passes = Passes(scales, flip)
    how: dict[str, Any] = {"scales": list(passes.scales), "flip": flip}
    made_by = {"identity": dict(identity or {}), "classes": list(dataset.classes), "size": size} | how
    made_by |= {"crf": None if crf is None else asdict(crf), "given_labels": dataset.title if given_labels else None}
    shard = current_shard() if shard is None else shard
    with claim(
        folder / MANIFEST, made_by, command="attnbn segment predict", overwrite=overwrite, shard=shard
    ) as claimed:
        files = _Files(folder, ("background", *dataset.classes), probabilities, claimed.digest)
        wanted, skipped = remaining(dataset.names, files.complete, shard)
        done = Done(skipped=skipped)
        files.tidy(dataset.names[index] for index in wanted)
        for one in segment_photographs(
            net, dataset, size=size, **how, crf=crf, indices=own(dataset.names, shard), only=wanted, given_labels=given_labels,
            probabilities=probabilities, batch_size=batch_size, workers=workers, device=device, skip_broken=skip_broken,
            broken=done.broken, progress=progress,
        ):  # fmt: skip
            if not done.written:
                claimed.announce()
            files.write(one)
            done.written += 1
        broken = by_name([dataset.names[index] for index in wanted], files.complete, done.broken)
        done.missing = look_round(folder, dataset.names, files.complete, claimed.digest, shard, broken).missing
        return done


@dataclass(frozen=True)
class _Files:
    """The files of a photograph: whether they are complete, and writing them.

    Attributes:
        folder: The output folder.
        names: Of all classes, the background first.
        probabilities: Whether these are wanted.
        digest: Marks what this run made.
    """

    folder: Path
    names: tuple[str, ...]
    probabilities: bool
    digest: str

    def complete(self, name: str) -> bool:
        mask, overlay, probabilities = self._paths(check_name(name))
        if not mask.is_file() or (self.probabilities and not probabilities.is_file()):
            return False
        try:
            with Image.open(overlay, formats=("JPEG",)) as picture:
                return picture.info.get("comment") == self.digest.encode()
        except (OSError, UnidentifiedImageError):
            return False

    def tidy(self, names: Iterable[str]) -> None:
        """Remove what a killed process had begun to write of these photographs."""
        files = chain.from_iterable(self._paths(name) for name in names)
        rooms = [self.folder / kind for kind in (MASKS, OVERLAYS, PROBABILITIES)]
        check_inside(self.folder, *(room / "any" for room in rooms))
        remove_parts(rooms, files)

    def write(self, one: Segmentation) -> None:
        mask, overlay, probabilities = self._paths(one.name)
        check_inside(self.folder, mask, overlay, probabilities)
        overlay.unlink(missing_ok=True)  # another run's: it must not vouch for the mask that is written next
        probabilities.unlink(missing_ok=True)
        if one.probabilities is not None:
            buffer = io.BytesIO()
            values = one.probabilities.numpy().astype(np.float16)
            np.savez_compressed(buffer, probabilities=values, classes=np.array(self.names, dtype=str))
            write_bytes(probabilities, buffer.getvalue())
        write_mask(mask, one.mask)
        buffer = io.BytesIO()
        picture = Image.fromarray(segmentation_overlay(one.image, one.mask, self.names[1:]))
        picture.save(buffer, "JPEG", quality=90, subsampling=0, comment=self.digest.encode())
        write_bytes(overlay, buffer.getvalue())

    def _paths(self, name: str) -> tuple[Path, Path, Path]:
        mask, overlay = self.folder / MASKS / f"{name}.png", self.folder / OVERLAYS / f"{name}.jpg"
        return mask, overlay, self.folder / PROBABILITIES / f"{name}.npz"
