"""Small photographs and a small data set in VOC's layout, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnbn.data.images import voc_palette

Make = Callable[..., Path]


@pytest.fixture
def photo() -> Make:
    """Writes a photograph of random colours: ``photo(path, height=…, width=…, seed=…)``."""

    def make(path: Path, height: int = 12, width: int = 16, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return make


def save_palette(path: Path, ids: np.ndarray, palette: np.ndarray | None = None) -> Path:
    """Write a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids.astype(np.uint8))
    picture.putpalette((voc_palette() if palette is None else palette).ravel().tolist())
    picture.save(path)
    return path


@pytest.fixture
def palette_png() -> Make:
    """Writes ids as a palette PNG, in VOC's colours unless told otherwise."""
    return save_palette


@pytest.fixture
def voc(tmp_path: Path, photo: Make) -> Path:
    """Four photographs: a (cat), b (dog and person), c (person), d (cat, difficult); masks for a and b."""
    root = tmp_path / "VOC2012"
    objects = {"a": {"cat": "1"}, "b": {"dog": "1", "person": "1"}, "c": {"person": "1"}, "d": {"cat": "0"}}
    for seed, name in enumerate(objects):
        photo(root / "JPEGImages" / f"{name}.jpg", seed=seed)
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("a\nb\nc\nd\n")
    for label in ("cat", "dog", "person"):
        rows = [f"{name} {found.get(label, '-1'):>2}" for name, found in objects.items()]
        (main / f"{label}_train.txt").write_text("\n".join(rows) + "\n")
    (root / "ImageSets" / "Segmentation").mkdir()
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    mask = np.zeros((12, 16))
    mask[:6, :8], mask[6, :8] = 8, 255  # cat
    save_palette(root / "SegmentationClass" / "a.png", mask)
    mask[mask == 8], mask[:6, 8:] = 12, 15  # dog, person
    save_palette(root / "SegmentationClass" / "b.png", mask)
    return root
