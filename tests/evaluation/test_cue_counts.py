"""Counts of cues against a loop over pixels."""

from __future__ import annotations

import pytest
import torch

from attnbn.evaluation.cues import CueCounts, cue_counts
from attnbn.io.errors import InputError


@pytest.mark.parametrize(("size", "grid"), [((12, 20), (4, 5)), ((13, 17), (5, 6)), ((3, 4), (5, 6)), ((7, 7), (7, 7))])
def test_counts_equal_a_loop_over_pixels(size: tuple[int, int], grid: tuple[int, int]) -> None:
    cues = torch.rand(4, *grid) < 0.3
    mask = torch.randint(0, 4, size, dtype=torch.uint8)
    mask[torch.rand(size) < 0.2] = 255
    right, seeds, true, pixels, covered = [0] * 4, [0] * 4, [0] * 4, 0, 0
    for y in range(size[0]):
        for x in range(size[1]):
            if mask[y, x] == 255:
                continue
            cell = cues[:, int((y + 0.5) * grid[0] / size[0]), int((x + 0.5) * grid[1] / size[1])]
            pixels += 1
            covered += bool(cell.any())
            true[int(mask[y, x])] += 1
            for c in range(4):
                seeds[c] += bool(cell[c])
                right[c] += bool(cell[c]) and int(mask[y, x]) == c
    counts = cue_counts(cues, mask)
    assert (counts.right.tolist(), counts.seeds.tolist(), counts.true.tolist()) == (right, seeds, true)
    assert (counts.pixels, counts.covered, counts.images) == (pixels, covered, 1)
    for c in range(4):
        assert float(counts.precision()[c]) == pytest.approx(
            right[c] / seeds[c] if seeds[c] else float("nan"), nan_ok=True
        )
        assert float(counts.recall()[c]) == pytest.approx(right[c] / true[c] if true[c] else float("nan"), nan_ok=True)
        assert float(counts.coverage()[c]) == pytest.approx(seeds[c] / pixels)


def test_images_are_pooled() -> None:
    one = cue_counts(torch.ones(2, 1, 1).bool(), torch.zeros(1, 3, dtype=torch.uint8))
    two = cue_counts(torch.tensor([[[False]], [[True]]]), torch.ones(1, 1, dtype=torch.uint8))
    total = CueCounts.zero(2) + one + two
    assert total.precision().tolist() == [1.0, 0.25]
    assert total.recall().tolist() == [1.0, 1.0]
    assert total.coverage().tolist() == [0.75, 1.0]
    assert (total.pixels, total.covered, total.images) == (4, 4, 2)


def test_no_pixel_has_no_figures() -> None:
    void = cue_counts(torch.ones(2, 3, 3).bool(), torch.full((4, 4), 255, dtype=torch.uint8))
    assert void.pixels == void.covered == 0
    assert void.precision().isnan().all() and void.recall().isnan().all() and void.coverage().isnan().all()
    assert CueCounts.zero(3).coverage().isnan().tolist() == [True] * 3


def test_bad_input() -> None:
    mask = torch.tensor([[0, 9]], dtype=torch.uint8)
    with pytest.raises(InputError, match=r"mask values 0 … 1 or 255, got 9: the mask of photo_7"):
        cue_counts(torch.ones(2, 1, 1).bool(), mask, name="photo_7")
    with pytest.raises(InputError, match=r"got -3"):
        cue_counts(torch.ones(2, 1, 1).bool(), torch.tensor([[0, -3]]))
    with pytest.raises(ValueError, match="boolean cues C×h×w, got torch.float32"):
        cue_counts(torch.ones(2, 1, 1), mask)
    with pytest.raises(ValueError, match=r"a true mask H×W, got \[1, 1, 2\]: photo_7"):
        cue_counts(torch.ones(2, 1, 1).bool(), mask[None], name="photo_7")
