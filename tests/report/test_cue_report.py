"""The figures of cues against loops over cells and pixels, and what the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnbn.io.errors import InputError
from attnbn.report.cues import CueTally, Shown, write_page

CLASSES = ("cat", "dog", "<cow>")


def example(seed: int, size: tuple[int, int] = (13, 9)) -> tuple[Tensor, list[int], Tensor]:
    """Cues on 4×5 of the labelled classes and of the background, and a mask with void."""
    rng = np.random.default_rng(seed)
    labels = sorted(rng.choice(3, size=int(rng.integers(1, 3)), replace=False).tolist())
    cues = np.zeros((4, 4, 5), dtype=bool)
    for channel in (0, *(c + 1 for c in labels)):
        cues[channel] = rng.random((4, 5)) < 0.4
    mask = rng.choice([0, 1, 2, 3, 255], size=size).astype(np.uint8)
    return torch.from_numpy(cues), labels, torch.from_numpy(mask)


def looped(examples: list[tuple[str, Tensor, list[int], Tensor | None]]) -> dict[str, Any]:
    """The figures from their definitions, pixel by pixel."""
    names = ("background", *CLASSES)
    right, seeds, true, hits, union = (dict.fromkeys(range(4), 0) for _ in range(5))
    images, seeded, shares = (dict.fromkeys(range(4), 0.0) for _ in range(3))
    covered = []
    for _, cues, labels, mask in examples:
        grid = cues.numpy()
        covered.append(sum(grid[:, r, c].any() for r in range(4) for c in range(5)) / 20)
        for channel in (0, *(label + 1 for label in labels)):
            images[channel] += 1
            seeded[channel] += grid[channel].any()
            shares[channel] += grid[channel].sum() / 20
        if mask is None:
            continue
        height, width = mask.shape
        for y in range(height):
            for x in range(width):
                value = int(mask[y, x])
                if value == 255:
                    continue
                here = grid[:, int((y + 0.5) * 4 / height), int((x + 0.5) * 5 / width)]
                true[value] += 1
                for channel in range(4):
                    seeds[channel] += here[channel]
                    right[channel] += here[channel] and channel == value
                if here.sum() == 1:
                    for channel in range(4):
                        union[channel] += here[channel] or channel == value
                        hits[channel] += here[channel] and channel == value

    def part(a: float, b: float) -> float | None:
        return a / b if b else None

    rows = {
        names[c]: {
            "images": images[c], "seeded": seeded[c], "coverage": part(shares[c], images[c]),
            "precision": part(right[c], seeds[c]), "recall": part(right[c], true[c]), "iou": part(hits[c], union[c]),
        }
        for c in range(4)
    }  # fmt: skip
    known = [row["iou"] for row in rows.values() if row["iou"] is not None]
    return {
        "coverage": sum(covered) / len(covered),
        "miou": sum(known) / len(known) if known else None,
        "classes": rows,
    }


def tallied(examples: list[tuple[str, Tensor, list[int], Tensor | None]]) -> dict[str, Any]:
    tally = CueTally(CLASSES)
    for one in examples:
        tally.add(*one)
    return tally.figures()


def test_the_figures_are_those_of_the_definition() -> None:
    examples: list[tuple[str, Tensor, list[int], Tensor | None]] = []
    for seed in range(6):
        cues, labels, mask = example(seed, (13 + seed, 9))
        examples.append((f"p{seed}", cues, labels, None if seed == 4 else mask))
    found, expected = tallied(examples), looped(examples)
    assert (found["images"], found["masks"]) == (6, 5)
    assert found["coverage"] == pytest.approx(expected["coverage"], abs=1e-12)
    assert found["miou"] == pytest.approx(expected["miou"], abs=1e-12)
    for name, row in expected["classes"].items():
        assert found["classes"][name] == pytest.approx(row, abs=1e-12), name
    json.dumps(found, allow_nan=False)


def test_photographs_without_a_seed_are_named() -> None:
    cues = torch.zeros(4, 2, 2, dtype=torch.bool)
    cues[1, 0, 0] = True
    figures = tallied([("a", cues, [0], None), ("b", cues, [0, 2], None), ("c", cues.roll(-1, 0), [1], None)])
    assert figures["without_seed"] == [{"name": "b", "classes": ["<cow>"]}, {"name": "c", "classes": ["dog"]}]
    assert figures["without_background"] == ["a", "b"]
    assert (figures["masks"], figures["miou"]) == (0, None)
    assert figures["classes"]["cat"] == {
        "images": 2, "seeded": 2, "coverage": 0.25, "precision": None, "recall": None, "iou": None
    }  # fmt: skip


def test_a_mask_of_other_classes_counts_nothing() -> None:
    tally = CueTally(CLASSES)
    cues, labels, mask = example(0)
    with pytest.raises(InputError, match="the mask of p"):
        tally.add("p", cues, labels, mask.clamp(max=9))
    assert tally.figures()["images"] == 0 and tally.coverage == {}


def test_the_gallery_takes_even_steps_by_coverage() -> None:
    tally = CueTally(CLASSES)
    for index in range(9):
        cues = torch.zeros(4, 1, 8, dtype=torch.bool)
        cues[0, 0, :index] = True
        tally.add(f"p{index}", cues, [], None)
    assert tally.chosen(3) == ["p8", "p4", "p0"]


def page(tmp_path: Path, masks: bool, saliency: bool, count: int = 3) -> str:
    tally, shown = CueTally(CLASSES), []
    for seed in range(count):
        cues, labels, mask = example(seed)
        cues[labels[0] + 1] = False
        tally.add(f"p{seed}", cues, labels, mask if masks else None)
        image = torch.randint(0, 256, (3, 13, 9), dtype=torch.uint8)
        shown.append(
            Shown(f"p{seed}", image, cues, labels, torch.rand(1, 13, 9) if saliency else None, mask if masks else None)
        )
    settings = {
        "foreground": 0.2,
        "flip": False,
        "grid": [41, 41],
        "saliency": {"folder": "maps"} if saliency else None,
    }
    report = {**tally.figures(), "target": "voc:x", "split": "train", "settings": settings, "notes": ["a <note>"]}
    write_page(tmp_path / "report.html", report, shown[:3], CLASSES)
    return (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("saliency", [True, False])
def test_the_page_shows_what_is_known(tmp_path: Path, masks: bool, saliency: bool) -> None:
    text = page(tmp_path, masks, saliency)
    assert ("precision</th>" in text) == masks
    assert ("precision and recall are not known" in text) != masks
    assert ("do not predict how well a network trained on the cues will segment" in text) == masks
    assert (">Ground truth<" in text) == masks
    assert (">Saliency<" in text) == saliency
    assert re.search(r'<p class="keys">.*</span>&lt;cow&gt;</span>', text)
    assert ("saliency (maps)" in text) == saliency and ("low attention" in text) != saliency
    assert text.count("<img") == 3 * (2 + masks + saliency)
    assert "a &lt;note&gt;" in text and "&lt;cow&gt;" in text and "<cow>" not in text
    assert "All 3." in text


def test_of_many_photographs_without_a_seed_the_page_names_the_first(tmp_path: Path) -> None:
    text = page(tmp_path, False, False, count=30)
    assert "The first 20 of 30; report.json names all." in text
    assert "<td>p19</td>" in text and "<td>p20</td>" not in text
