"""Seeded growing on any grid: against a plain flood fill, and what must hold whatever the network says."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.segmentation.growing import flooded, grow_seeds, labelled
from properties.draws import LONG, SEEDS, chance, generator, uniform

settings.load_profile("properties")

FOREGROUND, BACKGROUND = 0.5, 0.75
SHARE = st.sampled_from([0.0, 0.05, 0.5, 1.0])


def flood(members: list[list[bool]], seeds: list[list[bool]]) -> list[list[bool]]:
    """Pixels that are reached from a seed over members, eight ways, by a queue."""
    height, width = len(members), len(members[0])
    reached = [[m and s for m, s in zip(*rows, strict=True)] for rows in zip(members, seeds, strict=True)]
    queue = [(y, x) for y in range(height) for x in range(width) if reached[y][x]]
    while queue:
        y, x = queue.pop()
        for v in range(max(0, y - 1), min(height, y + 2)):
            for u in range(max(0, x - 1), min(width, x + 2)):
                if members[v][u] and not reached[v][u]:
                    reached[v][u] = True
                    queue.append((v, u))
    return reached


@given(LONG, SEEDS, st.integers(0, 3), SHARE, SHARE)
def test_regions_are_those_of_a_flood_fill(
    size: tuple[int, int], seed: int, planes: int, members: float, seeds: float
) -> None:
    inside = chance(seed, members, planes, *size)
    begun = inside & chance(seed + 1, seeds, planes, *size)
    expected = [flood(m, s) for m, s in zip(inside.tolist(), begun.tolist(), strict=True)]
    for found in (labelled(inside, begun), flooded(inside, begun)):
        assert found.dtype == torch.bool and found.shape == inside.shape
        assert found.tolist() == expected
        assert torch.equal(labelled(found, begun), found)
        assert torch.equal(labelled(inside, found), found)


def case(size: tuple[int, int], seed: int, images: int, classes: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities in steps of a quarter, so that thresholds are met exactly and maxima are tied."""
    cues = chance(seed, share, images, classes + 1, *size)
    steps = torch.randint(0, 5, (images, classes + 1, *size), generator=generator(seed + 1))
    labels = chance(seed + 2, 0.6, images, classes).float()
    labels[chance(seed + 3, 0.2, images, classes)] = float("nan")
    return cues, steps.float() / 4, labels


def grow(cues: Tensor, probabilities: Tensor, labels: Tensor) -> Tensor:
    return grow_seeds(cues, probabilities, labels, foreground=FOREGROUND, background=BACKGROUND)


def won(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Where each channel is the first of the most probable ones that the image has, and above its threshold."""
    there = torch.nn.functional.pad(labels == 1, (1, 0), value=True)
    best = probabilities.masked_fill(~there[..., None, None], -1).argmax(1)
    threshold = torch.full((probabilities.shape[1], 1, 1), FOREGROUND)
    threshold[0] = BACKGROUND
    first = torch.nn.functional.one_hot(best, probabilities.shape[1]).movedim(-1, 1).bool()
    return first & (probabilities > threshold)


@given(LONG, SEEDS, st.integers(0, 3), st.integers(1, 4), SHARE)
def test_growing_keeps_every_seed_and_adds_only_what_the_network_is_sure_of(
    size: tuple[int, int], seed: int, images: int, classes: int, share: float
) -> None:
    cues, probabilities, labels = case(size, seed, images, classes, share)
    before = [one.clone() for one in (cues, probabilities, labels)]
    grown = grow(cues, probabilities, labels)
    assert bool((grown | ~cues).all())
    new = grown & ~cues
    assert not bool((new & ~won(probabilities, labels)).any())
    assert not bool((new & (cues.sum(1, keepdim=True) == 1)).any())
    assert torch.equal(grow(grown, probabilities, labels), grown)
    for image, channel in new.any(-1).any(-1).nonzero().tolist():
        # a new seed is reached from an old one of its class, over won pixels and seeds
        region = (won(probabilities, labels) | cues)[image, channel]
        reached = flood(region.tolist(), cues[image, channel].tolist())
        assert bool(torch.tensor(reached)[new[image, channel]].all())
    assert all(torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) for a, b in
               zip(before, (cues, probabilities, labels), strict=True) if a.is_floating_point())  # fmt: skip
    assert torch.equal(cues, before[0])


@given(LONG, SEEDS, st.integers(1, 3), st.integers(1, 4), SHARE)
def test_growing_follows_mirror_images_and_the_order_of_images(
    size: tuple[int, int], seed: int, images: int, classes: int, share: float
) -> None:
    cues, probabilities, labels = case(size, seed, images, classes, share)
    grown = grow(cues, probabilities, labels)
    for turn in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.mT.contiguous()):
        assert torch.equal(grow(turn(cues), turn(probabilities), labels), turn(grown))
    order = torch.randperm(images, generator=generator(seed))
    assert torch.equal(grow(cues[order], probabilities[order], labels[order]), grown[order])
    for image in range(images):
        alone = slice(image, image + 1)
        assert torch.equal(grow(cues[alone], probabilities[alone], labels[alone]), grown[alone])


@given(LONG, SEEDS, st.integers(1, 3), st.integers(0, 3))
def test_empty_and_full_maps(size: tuple[int, int], seed: int, classes: int, channel: int) -> None:
    channel = min(channel, classes)
    labels, shape = torch.ones(1, classes), (1, classes + 1, *size)
    sure = torch.zeros(shape)
    sure[:, channel] = 1
    nothing = torch.zeros(shape, dtype=torch.bool)
    assert not grow(nothing, sure, labels).any()  # nothing grows out of nothing
    assert not grow(nothing, uniform(seed, *shape), labels).any()
    full = ~nothing
    assert torch.equal(grow(full, sure, labels), full)
    one = nothing.clone()
    one[0, channel, size[0] // 2, size[1] // 2] = True
    assert grow(one, sure, labels)[0, channel].all()  # one seed fills a map that is all of its class
    assert torch.equal(grow(one, torch.zeros(shape), labels), one)
    other = one.roll(1, 1)
    assert torch.equal(grow(other, sure, labels), other)  # another class's seed does not
