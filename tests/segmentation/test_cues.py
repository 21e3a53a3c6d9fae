"""Cues against a loop over pixels; resizing against weights computed by hand."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.segmentation.cues import make_cues, seeds_to_mask

GRID = (5, 6)


def by_loops(
    attention: Tensor, classes: list[int], n: int, saliency: Tensor | None, conflict: str, against: str
) -> list[list[list[bool]]]:
    """The definition at the grid's own size, pixel by pixel."""
    rows, columns = attention.shape[1:]
    peaks = [float(m.max()) for m in attention]
    claims = [[[float(v) > 0.2 * peak for v in line] for line in m] for m, peak in zip(attention, peaks, strict=True)]
    areas = [sum(map(sum, claim)) for claim in claims]
    cues = [[[False] * columns for _ in range(rows)] for _ in range(n + 1)]
    for y in range(rows):
        for x in range(columns):
            those = [k for k in range(len(classes)) if claims[k][y][x]]
            if saliency is not None:
                empty = float(saliency[y, x]) < 0.06
            else:
                low = [float(m[y, x]) < 0.05 * peak for m, peak in zip(attention, peaks, strict=True)]
                empty = bool(peaks) and min(peaks) > 0 and all(low)
            if those and empty and against == "unknown":
                continue
            if empty and (not those or against == "background"):
                cues[0][y][x] = True
                continue
            if len(those) > 1 and conflict == "smaller":
                those = [min(those, key=lambda k: (areas[k], classes[k]))]
            if len(those) > 1 and conflict == "ignore":
                those = []
            for k in those:
                cues[classes[k] + 1][y][x] = True
    return cues


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.permutations(range(4)),
    k=st.integers(0, 4),
    salient=st.booleans(),
    conflict=st.sampled_from(["smaller", "ignore", "both"]),
    against=st.sampled_from(["unknown", "foreground", "background"]),
    blank=st.booleans(),
)
def test_cues_are_what_the_definition_says(
    seed: int, classes: list[int], k: int, salient: bool, conflict: str, against: str, blank: bool
) -> None:
    torch.manual_seed(seed)
    attention = torch.rand(k, *GRID) ** 4
    attention = attention / attention.amax((1, 2), keepdim=True)
    if blank and k:
        attention[0] = 0
    saliency = torch.rand(*GRID) ** 4 if salient else None
    chosen = classes[:k]
    cues = make_cues(attention, chosen, 4, saliency, grid=GRID, conflict=conflict, against_background=against)  # type: ignore[arg-type]
    assert cues.dtype == torch.bool
    assert cues.tolist() == by_loops(attention, chosen, 4, saliency, conflict, against)
    if conflict != "both" and against != "foreground":
        assert int(cues.sum(0).max()) <= 1


def test_the_smaller_class_wins_and_of_equals_the_first() -> None:
    large, small, equal = torch.zeros(3, 1, 6)
    large[0, :5], small[0, 3:5], equal[0, 4:6] = 1, 1, 1
    maps = torch.stack([large, small, equal])
    full = torch.ones(1, 6)
    assert seeds_to_mask(make_cues(maps, [0, 2, 1], 3, full, grid=(1, 6))).tolist() == [[1, 1, 1, 3, 2, 2]]
    assert seeds_to_mask(make_cues(maps, [0, 1, 2], 3, full, grid=(1, 6))).tolist() == [[1, 1, 1, 2, 2, 3]]
    both = make_cues(maps, [0, 1, 2], 3, full, grid=(1, 6), conflict="both")
    assert both.sum(0).tolist() == [[1, 1, 1, 2, 3, 1]]
    ignored = make_cues(maps, [0, 1, 2], 3, full, grid=(1, 6), conflict="ignore")
    assert seeds_to_mask(ignored).tolist() == [[1, 1, 1, 255, 255, 3]]


def test_thresholds_are_of_the_grid_s_maximum_and_strict() -> None:
    attention = torch.tensor([[[0.5, 0.1, 0.11, 0.02, 0.025]]])  # the map's maximum on the grid is 0.5, not 1
    cues = make_cues(attention, [0], 1, grid=(1, 5))
    assert cues[1].int().tolist() == [[1, 0, 1, 0, 0]]
    assert cues[0].int().tolist() == [[0, 0, 0, 1, 0]]
    saliency = torch.tensor([[1, 0.07, 0.05, 0.06, 0.0]])
    assert make_cues(attention, [0], 1, saliency, grid=(1, 5))[0].int().tolist() == [[0, 0, 0, 0, 1]]
    cues = make_cues(attention, [0], 1, saliency, grid=(1, 5), foreground=0.5, background=1.0)
    assert cues.int().tolist() == [[[0, 1, 1, 1, 1]], [[1, 0, 0, 0, 0]]]
    assert not make_cues(attention, [0], 1, torch.zeros(1, 5), grid=(1, 5), background=0.0)[0].any()


def test_nothing_is_seeded_without_evidence() -> None:
    blank = torch.zeros(1, 4, 4)
    assert not make_cues(blank, [1], 3).any()
    assert not make_cues(torch.cat([blank, torch.eye(4)[None]]), [1, 2], 3)[0].any()
    assert not make_cues(blank[:0], [], 3).any()
    cues = make_cues(blank[:0], [], 3, torch.zeros(1, 9, 9))
    assert cues.shape == (4, 41, 41)
    assert bool(cues[0].all()) and not cues[1:].any()  # saliency is evidence enough for the background


def linear_weights(source: int, target: int) -> Tensor:
    """``target×source``: a triangle about each target's centre, as wide as a pixel of the coarser side."""
    width = max(source / target, 1.0)
    weights = torch.zeros(target, source, dtype=torch.float64)
    for t in range(target):
        centre = (t + 0.5) * source / target
        # taps from centre - width to centre + width; beyond the border there are none
        for s in range(source):
            weights[t, s] = max(0.0, 1 - abs((s + 0.5 - centre) / width))
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("shape", [(14, 14), (60, 47), (41, 90)])
def test_attention_comes_to_the_grid_bilinearly_and_shrinks_with_antialiasing(shape: tuple[int, int]) -> None:
    attention = torch.rand(2, *shape) ** 2
    rows, columns = linear_weights(shape[0], 41), linear_weights(shape[1], 41)
    maps = rows @ attention.double() @ columns.T
    for threshold in (0.2, 0.5, 0.8):
        cues = make_cues(attention, [0, 1], 2, torch.ones(8, 8), foreground=threshold, conflict="both")
        margin = maps - threshold * maps.amax((1, 2), keepdim=True)
        clear = margin.abs() > 1e-5
        assert torch.equal(cues[1:][clear], (margin > 0)[clear])
        assert float(clear.double().mean()) > 0.99


def test_saliency_comes_to_the_grid_by_area() -> None:
    saliency = torch.rand(1, 20, 30) * 0.12
    cues = make_cues(torch.zeros(1, 3, 3), [0], 1, saliency, grid=(5, 6))
    for y, x in product(range(5), range(6)):
        area = saliency[0, 4 * y : 4 * y + 4, 5 * x : 5 * x + 5]
        assert bool(cues[0, y, x]) == (math.fsum(area.flatten().tolist()) / 20 < 0.06)
    assert torch.equal(make_cues(torch.zeros(1, 3, 3), [0], 1, saliency[0], grid=(5, 6)), cues)


def test_classes_may_be_a_tensor_and_values_one_rounding_outside() -> None:
    attention = torch.rand(2, 7, 7)
    attention[0, 0, 0] = 1 + 1e-6
    same = make_cues(attention, torch.tensor([3, 1]), 4), make_cues(attention, [3, 1], 4)
    assert torch.equal(*same)
    assert same[0][4].any() and same[0][2].any() and not same[0][[1, 3]].any()


def test_mask_of_cues() -> None:
    cues = torch.zeros(255, 1, 4).bool()
    cues[254, 0, 0] = cues[0, 0, 1] = cues[1:3, 0, 2] = True
    mask = seeds_to_mask(cues)
    assert mask.dtype == torch.uint8
    assert mask.tolist() == [[254, 0, 255, 255]]
    with pytest.raises(ValueError, match=r"at most 254 classes, got torch.bool \[256, 1, 4\]"):
        seeds_to_mask(torch.zeros(256, 1, 4).bool())
    with pytest.raises(ValueError, match="boolean cues .* torch.uint8"):
        seeds_to_mask(torch.zeros(3, 1, 4, dtype=torch.uint8))


MAP = torch.rand(1, 4, 4)
NAN = torch.full((4, 4), math.nan)


@pytest.mark.parametrize(
    ("arguments", "settings_", "message"),
    [
        ((MAP, [3], 3), {}, r"classes in 0 … 2, got \[3\]"),
        ((MAP, [-1], 3), {}, r"classes in 0 … 2, got \[-1\]"),
        ((MAP.repeat(2, 1, 1), [1, 1], 3), {}, r"each class once, got \[1, 1\]"),
        ((MAP, [0, 1], 3), {}, "attention map for each of 2 classes, got 1"),
        ((MAP[0], [0], 3), {}, r"attention K×h×w of floats, got torch.float32 \[4, 4\]"),
        ((MAP[:, :0], [0], 3), {}, r"attention K×h×w of floats, got torch.float32 \[1, 0, 4\]"),
        ((MAP.byte(), [0], 3), {}, "attention K×h×w of floats, got torch.uint8"),
        ((MAP * 300, [0], 3), {}, r"attention in \[0, 1\], got"),
        ((MAP - 2, [0], 3), {}, r"attention in \[0, 1\], got"),
        ((NAN[None], [0], 3), {}, r"attention in \[0, 1\], got nan … nan"),
        ((MAP, [0], 3, NAN), {}, r"saliency in \[0, 1\], got nan"),
        ((MAP, [0], 3, torch.ones(4, 4) * 255), {}, r"saliency in \[0, 1\], got 255 … 255"),
        ((MAP, [0], 3, torch.ones(3, 4, 4)), {}, r"saliency H×W or 1×H×W of floats, got torch.float32 \[3, 4, 4\]"),
        ((MAP, [0], 3, torch.ones(0, 4)), {}, r"saliency H×W or 1×H×W of floats, got torch.float32 \[0, 4\]"),
        ((MAP, [0], 3), {"grid": (0, 4)}, r"grid of at least 1×1, got \(0, 4\)"),
        ((MAP, [0], 3), {"foreground": 1.0}, r"foreground threshold in \[0, 1\), got 1.0"),
        ((MAP, [0], 3), {"background": -0.1}, r"background thresholds in \[0, 1\], got -0.1 and 0.05"),
        ((MAP, [0], 3), {"background_attention": math.nan}, r"background thresholds in \[0, 1\], got 0.06 and nan"),
        ((MAP, [0], 3), {"conflict": "larger"}, "conflict to be one of smaller, ignore, both, got larger"),
        ((MAP, [0], 3), {"against_background": ""}, "against_background to be one of unknown, foreground, background"),
    ],
)
def test_bad_input(arguments: tuple, settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_cues(*arguments, **settings_)
