"""Every file of a data set looked at once: photographs, masks, saliency maps. All problems are collected, none stops it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbn.data.check.findings import Finding, Part, Problem, from_error
from attnbn.data.check.fingerprints import Fingerprint, fingerprint
from attnbn.data.images import VOID, read_mask
from attnbn.io.errors import InputError
from attnbn.io.pictures import open_picture, to_rgb


@dataclass(frozen=True)
class Look:
    """What one photograph turned out to be.

    Attributes:
        part: Index of the part that it was read for, the first that lists it.
        index: Its index there.
        parts: All parts that list it.
        size: ``(H, W)``, or None if it cannot be read.
        fingerprint: What it is compared by, or None likewise.
        problems: What is wrong with it, its mask and its saliency map.
        mask_ids: The ids of its mask in VOC's manner, or None where there is none or its ids are of no use.
    """

    part: int
    index: int
    parts: frozenset[int]
    size: tuple[int, int] | None
    fingerprint: Fingerprint | None
    problems: tuple[Problem, ...]
    mask_ids: frozenset[int] | None = None


def look_at(
    parts: Sequence[Part], *, workers: int = 4, progress: Callable[[int, int], None] | None = None
) -> list[Look]:
    """Read every photograph of the parts with its mask and its saliency map; one that several parts list, once.

    Args:
        parts: The splits.
        workers: Threads; decoding, resizing and hashing run beside each other.
        progress: Called with the photographs done and all of them.

    Returns:
        One look a photograph, in the order of the parts.
    """
    lists: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        for index in range(len(part.names)):
            mask = part.masks[index] if part.masks else None
            job = (part.key(index), mask, len(part.selection.index), part.saliency)
            lists.setdefault(job, []).append((number, index))
    jobs = list(lists.values())

    def look(places: list[tuple[int, int]]) -> Look:
        number, index = places[0]
        seen = _look(parts[number], number, index)
        return replace(seen, parts=frozenset(number for number, _ in places))

    looks = []
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        for seen in pool.map(look, jobs):
            looks.append(seen)
            if progress is not None:
                progress(len(looks), len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)  # at Ctrl-C, not only after the last of thousands
    return looks


def findings_of(parts: Sequence[Part], looks: Sequence[Look]) -> list[Finding]:
    """The problems of the looks, each under the part that was read."""
    return [parts[look.part].finding(problem) for look in looks for problem in look.problems]


def _look(part: Part, number: int, index: int) -> Look:
    if part.drawn is not None:
        pixels = part.drawn[index].image.numpy().transpose(1, 2, 0)
        return Look(number, index, frozenset(), pixels.shape[:2], fingerprint(pixels), ())
    path = part.images[index]
    try:
        pixels = to_rgb(open_picture(path), path)
        content = path.read_bytes()
    except (InputError, OSError) as error:
        return Look(number, index, frozenset(), None, None, (_unreadable(path, error),))
    size = pixels.shape[0], pixels.shape[1]
    problems, ids = _look_at_mask(part, index, size)
    if part.saliency is not None and (problem := part.saliency(part.names[index], size)) is not None:
        problems.append(problem)
    return Look(number, index, frozenset(), size, fingerprint(pixels, content), tuple(problems), ids)


def _unreadable(path: Path, error: InputError | OSError) -> Problem:
    if not os.path.lexists(path):
        kind = "image-missing"
    elif path.is_file() and path.stat().st_size == 0:
        return Problem(
            "image-empty", str(path), "a photograph", "an empty file (0 bytes)", "fetch it again or take it out"
        )
    else:
        kind = "image-unreadable"
    if isinstance(error, OSError):
        return Problem(kind, str(path), "a photograph", f"an error while reading ({error.strerror})", "try again")
    return from_error(kind, error, path)


def _look_at_mask(part: Part, index: int, size: tuple[int, int]) -> tuple[list[Problem], frozenset[int] | None]:
    """All that is wrong with a photograph's mask, which is decoded once for it, and its ids if each is of a class."""
    if part.reader is not None:
        try:
            part.reader.read_mask(index, size)
        except InputError as error:
            return [from_error("mask-unreadable", error, part.images[index])], None
        return [], None
    path = part.masks[index] if part.masks else None
    if path is None:
        return [], None
    try:
        ids = read_mask(path, VOID).numpy()  # any id: those outside the classes are counted below
    except InputError as error:
        kind = "mask-unreadable" if path.is_file() else "mask-missing"
        return [from_error(kind, error, path, "make it anew")], None
    shown = np.flatnonzero(np.bincount(ids.ravel(), minlength=VOID + 1))
    wrong = list(_id_problems(part, path, shown))
    problems = [*_size_problems(path, ids.shape, size), *wrong, *_label_problems(part, index, path, shown)]
    return problems, None if wrong else frozenset(shown.tolist())


def _size_problems(path: Path, got: tuple[int, ...], size: tuple[int, int]) -> Iterator[Problem]:
    if got != size:
        turned = " (turned by a quarter)" if got == size[::-1] else ""
        yield Problem(
            "mask-size",
            str(path),
            f"a mask of {size[0]}×{size[1]} like its image",
            f"{got[0]}×{got[1]}{turned}",
            "make it anew over the upright photograph",
        )


def _id_problems(part: Part, path: Path, shown: NDArray[np.int_]) -> Iterator[Problem]:
    known = len(part.selection.index)
    wrong = shown[(shown > known) & (shown != VOID)]
    if len(wrong):
        yield Problem(
            "mask-ids",
            str(path),
            f"mask ids 0 to {known} (0 = background) or {VOID} (void)",
            ", ".join(map(str, wrong[:5])) + (", …" if len(wrong) > 5 else ""),
            "correct the mask or the list of classes",
        )


def _label_problems(part: Part, index: int, path: Path, shown: NDArray[np.int_]) -> Iterator[Problem]:
    """Classes that the mask shows and the labels deny; the other way round: :mod:`attnbn.data.check.mask_classes`."""
    places = [part.selection.index[i - 1] for i in shown if 0 < i <= len(part.selection.index)]
    denied = sorted({place for place in places if place is not None and part.labels[index, place] == 0})
    if denied:
        names = ", ".join(part.selection.classes[place] for place in denied)
        yield Problem(
            "mask-label",
            str(path),
            "only classes that the photograph is labelled with",
            f"pixels of {names}, labelled as absent",
            "correct the labels or the mask",
            "warning",
        )
