"""Compare a folder with the bench's composition: ``verify.py DIR``. Names, sizes, labels, classes in the masks."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from composition import ANIMALS, LISTS, MASKED, Composition, read_composition
from PIL import Image

from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import read_mask
from attnbn.data.voc_labels import read_lines
from attnbn.io.errors import AttnbnError, InputError
from attnbn.io.pictures import list_pictures, open_picture

SHOWN = 10
"""Differences that are printed; the rest are counted."""
NO_SALIENCY = (
    "no saliency maps: build again with --saliency-model u2netp.onnx, or write one grey map for each photograph of "
    "source/ into source_saliency/ (same relative name, .png, any size of the same shape)"
)


def differences(root: Path, composition: Composition) -> Iterator[str]:
    """What of a folder is not as in the bench, a line each that names the file."""
    voc = root / "VOC2012"
    yield from _lists(voc / "ImageSets", composition)
    sizes = {name: facts.size for name, facts in composition.facts.items()}
    photographs = {f"{name}.jpg": sizes[name] for name in composition.targets}
    yield from _pictures(voc / "JPEGImages", photographs)
    masks = {f"{name}.png": sizes[name] for name in composition.splits[MASKED]}
    expected = {f"{name}.png": composition.facts[name].mask for name in composition.splits[MASKED]}
    yield from _pictures(voc / "SegmentationClass", masks, lambda path: _mask(path, expected[path.name]))
    yield from _pictures(root / "source", {f"{name}.jpg": sizes[name] for name in composition.source})
    if (root / "source_saliency").is_dir():
        half = {f"{name}.png": (sizes[name][0] // 2, sizes[name][1] // 2) for name in composition.source}
        yield from _pictures(root / "source_saliency", half)


def _lists(sets: Path, composition: Composition) -> Iterator[str]:
    """The names of the splits, in order, and every class's labels."""
    for split, names in composition.splits.items():
        for folder in ("Main", "Segmentation"):
            yield from _lines(sets / folder / f"{split}.txt", names)
        for label in VOC_CLASSES:
            marks = [f"{name} {1 if label in composition.facts[name].labels else -1}" for name in names]
            yield from _lines(sets / "Main" / f"{label}_{split}.txt", marks)


def _lines(file: Path, expected: Sequence[str]) -> Iterator[str]:
    """The first line that differs, blanks aside."""
    if not file.is_file():
        yield f"expected a list of {len(expected):,} images, found no file: {file}"
        return
    got = [" ".join(line.split()) for line in read_lines(file) if line]
    if len(got) != len(expected):
        yield f"expected {len(expected):,} lines, got {len(got):,}: {file}"
        return
    wrong = [(want, have) for want, have in zip(expected, got, strict=True) if want != have]
    if wrong:
        more = f" ({len(wrong):,} lines differ)" if len(wrong) > 1 else ""
        yield f"expected {wrong[0][0]!r}, got {wrong[0][1]!r}{more}: {file}"


def _pictures(
    folder: Path, expected: dict[str, tuple[int, int]], check: Callable[[Path], Iterable[str]] | None = None
) -> Iterator[str]:
    """Exactly these pictures, each readable and of its size ``(width, height)``; then what ``check`` finds."""
    found = set(list_pictures(folder)) if folder.is_dir() else set()
    if missing := sorted(set(expected) - found):
        yield f"expected {len(expected):,} pictures, {len(missing):,} are missing, first {missing[0]}: {folder}"
    if extra := sorted(found - set(expected)):
        yield f"expected {len(expected):,} pictures, got {len(extra):,} others, first {extra[0]}: {folder}"
    for name in sorted(found & set(expected)):
        try:
            size = open_picture(folder / name, "picture").size
        except InputError as error:
            yield str(error)
            continue
        if size != expected[name]:
            (w, h), (got_w, got_h) = expected[name], size
            yield f"expected {w}×{h} pixels (width × height), got {got_w}×{got_h}: {folder / name}"
        elif check:
            yield from check(folder / name)


def _mask(path: Path, expected: frozenset[int]) -> Iterator[str]:
    try:
        got = frozenset(map(int, np.unique(np.asarray(read_mask(path, len(VOC_CLASSES)))))) - {0}
    except InputError as error:
        yield str(error)
        return
    if got != expected:
        want, have = (" ".join(map(str, sorted(ids))) or "none" for ids in (expected, got))
        yield f"expected the ids {want} in the mask, got {have}: {path}"


def table(root: Path, composition: Composition) -> str:
    """Photographs a class in each part, those with two or more animals, and the masks' pixels."""
    counts: dict[str, Counter[str]] = {part: Counter() for part in (*composition.splits, "source")}
    for part, names in {**composition.splits, "source": composition.source}.items():
        for name in names:
            counts[part].update(composition.facts[name].labels)
    pixels: Counter[int] = Counter()
    for name in composition.splits[MASKED]:
        with Image.open(root / "VOC2012" / "SegmentationClass" / f"{name}.png") as mask:
            ids, times = np.unique(np.asarray(mask), return_counts=True)
        pixels.update(dict(zip(ids.tolist(), times.tolist(), strict=True)))
    lines = [f"{'images':<8}" + "".join(f"{part:>8}" for part in counts) + f"{f'pixels of {MASKED}':>16}"]
    for label in ANIMALS:
        share = pixels[VOC_CLASSES.index(label) + 1] / max(pixels.total(), 1)
        lines.append(f"{label:<8}" + "".join(f"{counts[part][label]:>8,}" for part in counts) + f"{share:>16.2%}")
    totals = [len(names) for names in composition.splits.values()] + [len(composition.source)]
    return "\n".join([*lines, f"{'all':<8}" + "".join(f"{total:>8,}" for total in totals)])


def report(root: Path, composition: Composition) -> int:
    """Print the table, or the first differences; 1 if there are any."""
    found = list(differences(root, composition))
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN:,} more")
    if found:
        print(f"not the bench, {len(found):,} differences: {root}")
        return 1
    print(table(root, composition))
    if not (root / "source_saliency").is_dir():
        print(NO_SALIENCY)
    print(f"names, sizes, labels and masks are those of the bench: {root}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; 1 if the folder differs from the bench, 2 if there is none."""
    options = argparse.ArgumentParser(prog="verify.py", description="Compare a folder with the small bench of animals.")
    options.add_argument("folder", type=Path, help="the folder that holds VOC2012 and source")
    options.add_argument(
        "--lists", type=Path, default=LISTS, help="names, sizes and labels (default: beside this file)"
    )
    given = options.parse_args(arguments)
    try:
        if not given.folder.is_dir():
            raise InputError(f"expected the bench's folder, found none; check the path: {given.folder}")
        return report(given.folder, read_composition(given.lists))
    except AttnbnError as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
