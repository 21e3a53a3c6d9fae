"""Region growing against a transcription of the definition, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.segmentation.growing import flooded, grow_seeds, labelled

Case = tuple[Tensor, Tensor, Tensor]


def transcribed(cues: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, fg: float, bg: float) -> np.ndarray:
    """One image, as the definition says it: regions by walking from pixel to pixel."""
    channels, height, width = cues.shape
    classes = [0] + [c + 1 for c in range(channels - 1) if labels[c] == 1]
    class_of = np.full((height, width), -1)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                if cues[c, y, x]:
                    class_of[y, x] = c  # of several the last stays
            best = max(classes, key=lambda c: probabilities[c, y, x])  # max gives the first of equals
            if probabilities[best, y, x] > (bg if best == 0 else fg):
                class_of[y, x] = best
    grown = cues.copy()
    for c in classes:
        todo = [(y, x) for y in range(height) for x in range(width) if class_of[y, x] == c and cues[c, y, x]]
        seen = set(todo)
        while todo:
            y, x = todo.pop()
            if cues[:, y, x].sum() != 1:
                grown[c, y, x] = True
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if class_of[v, u] == c and (v, u) not in seen:
                        seen.add((v, u))
                        todo.append((v, u))
    return grown


def random_case(seed: int, classes: int = 3, images: int = 2, side: int = 9, density: float = 0.1) -> Case:
    """Blobs of high probability, scattered cues, some overlapping, some of classes that the image does not have."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(images, classes + 1, 4, 4)))
    scores = torch.nn.functional.interpolate(coarse, (side, side + 2), mode="bilinear") * 12
    cues = torch.from_numpy(rng.random((images, classes + 1, side, side + 2)) < density)
    labels = torch.from_numpy((rng.random((images, classes)) < 0.7).astype(np.float32))
    cues[:, int(rng.integers(classes + 1))] = False  # a class without a cue
    return cues, scores.softmax(1), labels


def expected(case: Case, fg: float = 0.85, bg: float = 0.99) -> Tensor:
    images = zip(*(part.numpy() for part in case), strict=True)
    return torch.stack([torch.from_numpy(transcribed(*image, fg, bg)) for image in images])


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    images=st.integers(0, 3),
    side=st.integers(1, 10),
    density=st.sampled_from([0.02, 0.1, 0.4]),
    thresholds=st.sampled_from([(0.85, 0.99), (0.5, 0.7), (0.3, 0.3), (0.99, 0.5)]),
)
def test_grows_as_the_definition_says(
    seed: int, classes: int, images: int, side: int, density: float, thresholds: tuple[float, float]
) -> None:
    case = random_case(seed, classes, images, side, density)
    cues, probabilities, labels = case
    fg, bg = thresholds
    grown = grow_seeds(*case, foreground=fg, background=bg)
    if images:
        assert torch.equal(grown, expected(case, fg, bg))
    assert bool((grown | ~cues).all())  # no seed is lost
    assert torch.equal(grow_seeds(grown, probabilities, labels, foreground=fg, background=bg), grown)
    absent = torch.nn.functional.pad(labels, (1, 0), value=1.0) == 0
    assert torch.equal(grown[absent], cues[absent])  # a class that is not there does not grow
    new = grown & ~cues
    threshold = torch.full((classes + 1, 1, 1), fg).index_fill_(0, torch.tensor([0]), bg)
    assert bool((probabilities > threshold)[new].all())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), planes=st.integers(0, 4), height=st.integers(1, 20), width=st.integers(1, 20))
def test_both_ways_find_the_same_regions(seed: int, planes: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    members = torch.from_numpy(rng.random((planes, height, width)) < rng.choice([0.3, 0.5, 0.8]))
    seeds = members & torch.from_numpy(rng.random(members.shape) < 0.03)
    assert torch.equal(labelled(members, seeds), flooded(members, seeds))


def test_the_random_cases_hold_what_is_hard() -> None:
    overlaps = lost_to_another = contested = 0
    for seed in range(20):
        cues, probabilities, labels = random_case(seed, density=0.2)
        best = probabilities.masked_fill(torch.nn.functional.pad(labels, (1, 0), value=1)[:, :, None, None] == 0, 0)
        sure, winner = best.max(1)
        won = torch.nn.functional.one_hot(winner, 4).movedim(-1, 1).bool() & (sure > 0.99)[:, None]
        overlaps += int((cues.sum(1) > 1).sum())
        lost_to_another += int((won & ~cues & (cues.sum(1) == 1)[:, None]).sum())
        contested += int((won & ~cues & (cues.sum(1) > 1)[:, None]).sum())
    assert min(overlaps, lost_to_another, contested) > 20


def row(cues: list[list[int]], probabilities: list[list[float]], labels: list[int]) -> list[list[int]]:
    """Growing of one image of one row."""
    case = torch.tensor(cues).bool()[None, :, None], torch.tensor(probabilities)[None, :, None], torch.tensor([labels])
    grown = grow_seeds(*case)
    assert torch.equal(grown, expected(case))
    return grown[0, :, 0].int().tolist()


def test_a_region_reaches_through_another_class_seed_but_leaves_it_alone() -> None:
    sure = [[0.0] * 4, [0.9] * 4, [0.1] * 4]
    assert row([[0] * 4, [1, 0, 0, 0], [0, 0, 1, 0]], sure, [1, 1]) == [[0] * 4, [1, 1, 0, 1], [0, 0, 1, 0]]


def test_a_pixel_with_two_seeds_takes_a_third() -> None:
    sure = [[0.0] * 3, [0.9] * 3, [0.05] * 3, [0.05] * 3]
    grown = row([[0] * 3, [1, 0, 0], [0, 0, 1], [0, 0, 1]], sure, [1, 1, 1])
    assert grown == [[0] * 3, [1, 1, 1], [0, 0, 1], [0, 0, 1]]


def test_a_pixel_with_two_seeds_belongs_to_the_later_class_where_none_is_sure() -> None:
    # seeds of 1 and 2 on the first pixel; the network is sure of class 1 next to it, which therefore has no seed to touch
    unsure = [[0.0, 0.0], [0.5, 0.9], [0.5, 0.1]]
    assert row([[0, 0], [1, 0], [1, 0]], unsure, [1, 1]) == [[0, 0], [1, 0], [1, 0]]
    unsure = [[0.0, 0.0], [0.5, 0.1], [0.5, 0.9]]
    assert row([[0, 0], [1, 0], [1, 0]], unsure, [1, 1]) == [[0, 0], [1, 0], [1, 1]]


def test_the_background_needs_its_own_threshold() -> None:
    sure = [[0.98, 0.98, 0.995], [0.02, 0.02, 0.005]]
    assert row([[1, 0, 0], [0, 0, 0]], sure, [1]) == [[1, 0, 0], [0, 0, 0]]
    sure = [[0.98, 0.995, 0.98], [0.02, 0.005, 0.02]]
    assert row([[1, 0, 0], [0, 0, 0]], sure, [1]) == [[1, 1, 0], [0, 0, 0]]


def test_a_class_that_the_image_lacks_does_not_win_pixels() -> None:
    sure = [[0.0] * 3, [0.1] * 3, [0.9] * 3]  # class 2 is most probable and not there; class 1 is below its threshold
    assert row([[0] * 3, [1, 0, 0], [0, 0, 1]], sure, [1, 0]) == [[0] * 3, [1, 0, 0], [0, 0, 1]]
    nan = torch.tensor([[1.0, float("nan")]])
    case = torch.zeros(1, 3, 1, 3).bool(), torch.tensor(sure)[None, :, None], nan
    case[0][0, 2, 0, 0] = True
    assert torch.equal(grow_seeds(*case), case[0])  # NaN = unknown: not taken for present


def test_corners_touch_and_images_do_not() -> None:
    cues = torch.zeros(2, 2, 3, 3).bool()
    cues[0, 1, 2, 0] = True
    probabilities = torch.zeros(2, 2, 3, 3)
    probabilities[:, 1] = torch.eye(3).flip(0)  # the same diagonal in both images
    grown = grow_seeds(cues, probabilities, torch.ones(2, 1))
    assert grown[0, 1].int().tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert not grown[1].any()


def test_a_long_path_is_followed_to_its_end() -> None:
    members = torch.zeros(1, 21, 21).bool()
    members[0, ::2] = True
    members[0, 1::4, -1] = True
    members[0, 3::4, 0] = True
    seeds = torch.zeros_like(members)
    seeds[0, 0, 0] = True
    assert torch.equal(flooded(members, seeds), members)
    assert torch.equal(labelled(members, seeds), members)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_on_a_gpu() -> None:
    for seed in range(5):
        case = random_case(seed, side=41)
        assert torch.equal(grow_seeds(*(part.cuda() for part in case)).cpu(), grow_seeds(*case))


def test_probabilities_with_a_graph_are_welcome_and_get_no_gradient() -> None:
    cues, probabilities, labels = random_case(0)
    before = cues.clone()
    grown = grow_seeds(cues, probabilities.requires_grad_(), labels)
    assert not grown.requires_grad
    assert torch.equal(cues, before)


@pytest.mark.parametrize(
    ("cues", "probabilities", "labels", "message"),
    [
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 2), "boolean cues .* torch.float32"),
        (torch.zeros(3, 4, 4).bool(), torch.zeros(3, 4, 4), torch.ones(1, 2), r"boolean cues .* \[3, 4, 4\]"),
        (torch.zeros(1, 3, 4, 4).bool(), torch.zeros(1, 3, 4, 5), torch.ones(1, 2), r"of \[1, 3, 4, 4\] like the cues"),
        (torch.zeros(1, 3, 4, 4).bool(), torch.zeros(1, 3, 4, 4), torch.ones(1, 3), r"labels of \[1, 2\] \(B×N\)"),
    ],
)
def test_bad_input(cues: Tensor, probabilities: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grow_seeds(cues, probabilities, labels)
