"""Where the originals lie in the public data sets: VOC 2012, SBD and Animal-Pose.

Everything the bench needs is looked for before anything is written, so that a missing file is named in a second.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from composition import MASKED, Composition
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import read_mask
from attnbn.data.voc_labels import read_annotation
from attnbn.data.voc_layout import find_root, index_pictures, mask_index
from attnbn.io.errors import InputError
from attnbn.io.pictures import list_pictures

_SBD_MASKS = (".", "SegmentationClassAug", "cls", "dataset/cls", "benchmark_RELEASE/dataset/cls")
"""Where SBD's masks lie below the folder that is given: PNGs as commonly re-packed, or the original MATLAB files."""


@dataclass(frozen=True)
class Originals:
    """Paths of everything the bench is made of.

    Attributes:
        photographs: VOC id -> photograph.
        annotations: VOC id -> XML file.
        masks: VOC id -> PNG or ``.mat`` file, for the split with masks.
        source: ``class/name`` -> photograph.
    """

    photographs: dict[str, Path]
    annotations: dict[str, Path]
    masks: dict[str, Path]
    source: dict[str, Path]


def find_originals(composition: Composition, voc: Path, sbd: Path | None, animal_pose: Path) -> Originals:
    """Find every file that the composition needs.

    Args:
        composition: The bench.
        voc: ``VOC2012``, or a folder that holds it (``VOCdevkit``).
        sbd: The folder of SBD's masks, or one that holds it; None: VOC's own folders only.
        animal_pose: The folder of Animal-Pose's photographs, or one that holds it.

    Raises:
        InputError: Files are missing; it counts them, names the first and says what to give.
    """
    root, targets = find_root(voc), composition.targets
    files = index_pictures(root / "JPEGImages")
    photographs = {name: root / "JPEGImages" / files[name] for name in targets if name in files}
    _complete(targets, photographs, "VOC 2012's photographs", "give the full set (train and val) with --voc", root)
    xml = {name: root / "Annotations" / f"{name}.xml" for name in targets}
    annotations = {name: file for name, file in xml.items() if file.is_file()}
    _complete(targets, annotations, "VOC 2012's Annotations", "give the full set (train and val) with --voc", root)
    masks = _find_masks(root, sbd)
    remedy = "give SBD's masks (dataset/cls or SegmentationClassAug) with --sbd"
    _complete(composition.splits[MASKED], masks, "VOC's and SBD's masks", remedy, sbd or root / "SegmentationClass")
    source = _find_source(composition.source, animal_pose)
    remedy = "give the folder animalpose_image_part2 with --animal-pose"
    _complete(composition.source, source, "Animal-Pose's photographs", remedy, animal_pose)
    return Originals(photographs, annotations, masks, source)


def _complete(names: Sequence[str], found: dict[str, Path], what: str, remedy: str, place: Path) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"expected {len(names):,} of {what}, {len(missing):,} are missing, first {missing[0]!r}; {remedy}: {place}"
        )


def _find_masks(root: Path, sbd: Path | None) -> dict[str, Path]:
    """VOC's own masks where there are some, else SBD's."""
    masks = {name: root / file for name, file in mask_index(root).items()}
    if sbd is None:
        return masks
    if not sbd.is_dir():
        raise InputError(f"expected SBD's folder, found none; check --sbd: {sbd}")
    for folder in (sbd / below for below in _SBD_MASKS if (sbd / below).is_dir()):
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in (".png", ".mat") and not file.name.startswith("."):
                masks.setdefault(file.stem, file)
    return masks


def _find_source(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """``class/name`` -> photograph, by the name without its ending: some are .jpeg, others .jpg, one .png."""
    if not folder.is_dir():
        raise InputError(f"expected Animal-Pose's folder, found none; check --animal-pose: {folder}")
    wanted = {name.rpartition("/")[2]: name for name in names}
    found: dict[str, Path] = {}
    for file in map(Path, list_pictures(folder)):
        name = wanted.get(file.stem)
        if name is None:
            continue
        if name in found:
            raise InputError(
                f"expected one photograph {file.stem!r}, got {found[name].relative_to(folder)} and {file}; "
                f"name the folder that holds one of them: {folder}"
            )
        found[name] = folder / file
    return found


def read_labels(annotation: Path) -> frozenset[str]:
    """The classes of an annotation, those of objects marked difficult too: the bench's lists know no third mark.

    Raises:
        InputError: The file is damaged or names a class that is not VOC's.
    """
    labels = frozenset(label for label, _ in read_annotation(annotation))
    if strange := sorted(labels - set(VOC_CLASSES)):
        raise InputError(f"expected VOC's twenty classes, got {strange[0]!r}; is it VOC 2012's own file? {annotation}")
    return labels


def read_original_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask of VOC or SBD as class ids.

    Args:
        path: PNG, or SBD's ``.mat``.
        size: ``(height, width)`` of its photograph.

    Returns:
        uint8 ``H×W``; 0 background, 1 to 20 the classes, 255 void.

    Raises:
        InputError: The file is damaged, or of another size, or has other ids.
    """
    if path.suffix.lower() != ".mat":
        return np.asarray(read_mask(path, len(VOC_CLASSES), size))
    try:
        ids = np.asarray(loadmat(path)["GTcls"]["Segmentation"][0, 0])
    except (
        MatReadError,
        OSError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        zlib.error,
        NotImplementedError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"expected SBD's GTcls.Segmentation, got a damaged or other file ({reason}); fetch it again: {path}"
        ) from None
    if ids.shape != size:
        raise InputError(
            f"expected a mask of {size[0]}×{size[1]} like its image, got {'×'.join(map(str, ids.shape))}: {path}"
        )
    if ids.max() > len(VOC_CLASSES):
        raise InputError(f"expected mask ids 0 to {len(VOC_CLASSES)}, got {ids.max()}: {path}")
    return ids.astype(np.uint8)
