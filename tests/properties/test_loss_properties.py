"""Eq. 3 to 6 and DSRG's losses on any batch: their ranges, symmetries, and no NaN at the edges of the number range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.losses import (
    Mean,
    adversarial_loss,
    attention_loss,
    background_loss,
    classification_loss,
    coral_loss,
    domain_accuracy,
    domain_cross_entropy,
    domain_loss,
    suppression_loss,
)
from attnbn.segmentation.losses import boundary_loss, floored, seeding_loss, smoothed, through_crf
from properties.draws import MAPS, SEEDS, SIDES, chance, generator, maps, normal, uniform

settings.load_profile("properties")

BATCH, CLASSES = st.integers(0, 4), st.integers(1, 5)
SIZE = st.sampled_from([0.0, 1e-30, 1.0, 1e4])
"""Of logits: 1e4 is far beyond where exp overflows."""
TYPES = st.sampled_from([torch.float32, torch.float64])


def same(x: Tensor) -> Tensor:
    """A discriminator that says what it is given."""
    return x


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    """Zero where the loss has no graph to it."""
    found = torch.autograd.grad(loss, of, allow_unused=True, retain_graph=True)[0] if loss.requires_grad else None
    return torch.zeros_like(of) if found is None else found


def shuffled(seed: int, *parts: Tensor) -> list[Tensor]:
    order = torch.randperm(len(parts[0]), generator=generator(seed))
    return [part[order] for part in parts]


def close(a: Any, b: Any, factor: float = 1e-5) -> bool:
    a, b = (float(x.detach()) if isinstance(x, Tensor) else float(x) for x in (a, b))
    return math.isclose(a, b, rel_tol=factor, abs_tol=factor)


# -- Eq. 3 ---------------------------------------------------------------------------------------------------------------


@given(MAPS, SEEDS, BATCH, SIDES, SIDES, SIDES, SIDES, TYPES, st.sampled_from(["max", "max_detached", "none"]),
       st.integers(1, 3))  # fmt: skip
def test_eq_3_is_finite_within_its_range_and_blind_to_order(
    kind: str, seed: int, count: int, h: int, w: int, high: int, wide: int, dtype: torch.dtype, how: Any, finer: int
) -> None:
    if how == "none" and kind == "huge":
        return  # its square is beyond float32, as it must be
    attention = maps(kind, seed, count, h, w, dtype).requires_grad_()
    saliency = uniform(seed + 5, count, 1, high, wide, dtype=torch.float32)
    saliency[: count // 2] = saliency[: count // 2].round()
    loss = attention_loss(attention, saliency, normalize=how, resolution=finer)
    assert loss.isfinite() and gradient(loss, attention).isfinite().all()
    if how != "none":
        assert 0 <= loss <= 1
    assert loss >= 0 and loss.dtype == dtype
    again = attention_loss(*shuffled(seed, attention, saliency), normalize=how, resolution=finer)
    assert close(again, loss)
    parts = attention_loss(attention, saliency, normalize=how, resolution=finer, reduction="parts")
    assert close(parts.value(), loss) and float(parts.count) == count


@given(SEEDS, st.integers(1, 4), SIDES, SIDES, st.sampled_from([1e-3, 1.0, 1e20]))
def test_eq_3_is_zero_for_the_prior_itself_and_does_not_see_a_maps_scale(
    seed: int, count: int, h: int, w: int, scale: float
) -> None:
    attention = uniform(seed, count, h, w) + 0.01
    prior = attention / attention.amax((1, 2), keepdim=True)
    assert close(attention_loss(attention * scale, prior), 0, 1e-12)
    other = uniform(seed + 1, count, h, w)
    assert close(attention_loss(attention * scale, other), attention_loss(attention, other), 1e-9)
    zero = torch.zeros_like(attention)
    assert close(attention_loss(zero, other), other.square().mean(), 1e-12)  # nothing seen, and missed by so much
    for level in (0.0, 0.25, 1.0):
        assert close(attention_loss(zero, torch.full_like(other, level)), level**2, 1e-12)


@given(SEEDS, BATCH, CLASSES, SIDES, SIDES, st.sampled_from([1e-6, 1.0, 1e20]), st.sampled_from([0.0, 0.5, 1.0]))
def test_what_presses_the_other_maps_is_within_its_range(
    seed: int, count: int, classes: int, h: int, w: int, scale: float, share: float
) -> None:
    evidence = (normal(seed, count, classes, h, w) * scale).requires_grad_()
    absent = chance(seed + 1, share, count, classes)
    saliency = uniform(seed + 2, count, 1, h + 1, w)
    for mean in (suppression_loss(evidence.relu(), absent), background_loss(evidence, saliency)):
        assert 0 <= mean.value() <= 1 and gradient(mean.value(), evidence).isfinite().all()
    assert float(suppression_loss(evidence.relu(), absent).count) == int(absent.sum())
    full = torch.ones_like(saliency)
    assert not background_loss(evidence.detach(), full).value()
    assert float(suppression_loss(torch.zeros_like(evidence), absent).value()) == 0


# -- Eq. 4 ---------------------------------------------------------------------------------------------------------------


@given(SEEDS, BATCH, CLASSES, SIZE, st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from(["mean", "sum"]), TYPES)
def test_eq_4_is_finite_symmetric_and_blind_to_what_is_unknown(
    seed: int, batch: int, classes: int, size: float, unknown: float, over: Any, dtype: torch.dtype
) -> None:
    scores = (normal(seed, batch, classes, dtype=dtype) * size).requires_grad_()
    labels = chance(seed + 1, 0.5, batch, classes).to(dtype)
    labels[chance(seed + 2, unknown, batch, classes)] = math.nan
    loss = classification_loss(scores, labels, over_classes=over)
    slope = gradient(loss, scores)
    assert loss >= 0 and loss.isfinite() and slope.isfinite().all()
    assert not slope[labels.isnan()].any()
    assert bool((slope[labels == 0] >= 0).all() and (slope[labels == 1] <= 0).all())
    assert close(classification_loss(-scores, 1 - labels, over_classes=over), loss)  # there and not there are one
    assert close(classification_loss(*shuffled(seed, scores, labels), over_classes=over), loss)
    for odd in (1e4, -math.inf, math.inf):  # a score whose label is unknown may be anything
        moved = torch.where(labels.isnan(), odd, scores.detach()).requires_grad_()
        other = classification_loss(moved, labels, over_classes=over)
        assert close(other, loss) and gradient(other, moved).isfinite().all()
    if not bool((~labels.isnan()).any()):
        assert not loss


@given(SEEDS, st.integers(1, 5), CLASSES)
def test_eq_4_where_nothing_is_known_yet_is_log_2_and_the_sum_is_n_means(seed: int, batch: int, classes: int) -> None:
    labels = chance(seed, 0.5, batch, classes).double()
    assert close(classification_loss(torch.zeros(batch, classes).double(), labels), math.log(2), 1e-12)
    scores = normal(seed + 1, batch, classes)
    summed = classification_loss(scores, labels, over_classes="sum")
    assert close(summed, classes * classification_loss(scores, labels), 1e-12)


# -- Eq. 5 and 6, and a peer ---------------------------------------------------------------------------------------------


@given(SEEDS, BATCH, SIDES, SIDES, SIZE, TYPES)
def test_eq_5_and_6_are_finite_and_symmetric(
    seed: int, n: int, h: int, w: int, size: float, dtype: torch.dtype
) -> None:
    source = (normal(seed, n, 1, h, w, dtype=dtype) * size).requires_grad_()
    target = (normal(seed + 1, n, 1, h, w, dtype=dtype) * size).requires_grad_()
    loss = domain_cross_entropy(source, target).value()
    pull = adversarial_loss(same, target)
    assert loss >= 0 and pull >= 0 and loss.isfinite() and pull.isfinite()
    assert bool((gradient(loss, source) <= 0).all() and (gradient(loss, target) >= 0).all())
    assert bool((gradient(pull, target) <= 0).all())  # the target's features shall look like the source's
    assert gradient(loss, source).isfinite().all() and gradient(pull, target).isfinite().all()
    assert close(domain_cross_entropy(-target, -source).value(), loss)  # the domains' names exchanged
    assert close(domain_loss(same, source, target), loss) and not domain_loss(same, source, target).requires_grad
    assert close(adversarial_loss(same, *shuffled(seed, target)), pull)
    guess = domain_accuracy(source, target).value()
    assert 0 <= guess <= 1
    if n and size == 0:
        assert close(loss, 2 * math.log(2)) and close(pull, math.log(2)) and float(guess) == 0.5
    if not n:
        assert not loss and not pull


@given(SEEDS, st.integers(2, 6), st.integers(2, 6), st.integers(1, 5), st.sampled_from([1e-6, 1.0, 1e6]))
def test_coral_is_a_distance_of_two_domains(seed: int, n: int, m: int, d: int, size: float) -> None:
    source, target = normal(seed, n, d) * size, normal(seed + 1, m, d) * size
    loss = coral_loss(source, target)
    assert loss >= 0 and loss.isfinite()
    assert close(coral_loss(target, source) / size**4, loss / size**4, 1e-9)
    assert close(coral_loss(source + 3 * size, target) / size**4, loss / size**4, 1e-9)
    assert close(coral_loss(*shuffled(seed, source), target) / size**4, loss / size**4, 1e-9)
    assert float(coral_loss(source, source)) == 0


# -- parts over processes -----------------------------------------------------------------------------------------------


def _parts(seed: int, n: int) -> dict[str, tuple[Callable[..., Mean], tuple[Tensor, ...]]]:
    labels = chance(seed, 0.5, n, 3).double()
    labels[chance(seed + 1, 0.3, n, 3)] = math.nan
    p = normal(seed + 2, n, 3, 4, 5).softmax(1)
    return {
        "Eq. 3": (attention_loss, (uniform(seed, n, 4, 5), uniform(seed + 1, n, 1, 8, 5))),
        "Eq. 4": (classification_loss, (normal(seed, n, 3), labels)),
        "Eq. 5": (
            lambda s, t, **_: domain_cross_entropy(s, t),
            (normal(seed, n, 1, 2, 2), normal(seed + 1, n, 1, 2, 2)),
        ),
        "Eq. 6": (lambda t, **how: adversarial_loss(same, t, **how), (normal(seed, n, 1, 2, 2),)),
        "seeding": (seeding_loss, (p, chance(seed, 0.3, n, 3, 4, 5))),
        "boundary": (boundary_loss, (p, normal(seed + 3, n, 3, 4, 5).softmax(1))),
    }


@given(SEEDS, st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_every_loss_is_the_same_however_the_batch_is_split(seed: int, shares: list[int]) -> None:
    for name, (loss, tensors) in _parts(seed, sum(shares)).items():
        whole = loss(*tensors, reduction="parts").value()
        parts = [loss(*piece, reduction="parts") for piece in zip(*(one.split(shares) for one in tensors), strict=True)]
        total, count = sum(p.total for p in parts), sum(p.count for p in parts)
        assert close(total / max(count, 1), whole, 1e-9), name


# -- DSRG ---------------------------------------------------------------------------------------------------------------


@given(SEEDS, BATCH, st.integers(2, 4), SIDES, SIDES, st.sampled_from([0.0, 1.0, 50.0, 1e4]),
       st.sampled_from([0.0, 0.2, 1.0]), st.booleans(), TYPES)  # fmt: skip
def test_dsrgs_losses_are_finite_for_certain_and_impossible_classes(
    seed: int, n: int, c: int, h: int, w: int, size: float, share: float, balanced: bool, dtype: torch.dtype
) -> None:
    p = (normal(seed, n, c, h, w, dtype=dtype) * size).softmax(1).requires_grad_()  # exact zeros and ones at 1e4
    q = (normal(seed + 1, n, c, h, w, dtype=dtype) * size).softmax(1)
    seeds = chance(seed + 2, share, n, c, h, w)
    seeded = seeding_loss(p, seeds, balanced=balanced)
    bound = boundary_loss(p, q)
    for loss in (seeded, bound):
        assert loss.isfinite() and gradient(loss, p).isfinite().all()
    assert seeded >= 0 and -math.log(20) - 1e-5 <= bound <= math.log(20) + 1e-5
    assert close(seeding_loss(*shuffled(seed, p, seeds), balanced=balanced), seeded)
    assert close(boundary_loss(*shuffled(seed, p, q)), bound)
    assert close(boundary_loss(p, p.detach()), 0)
    assert not gradient(seeded, p)[~seeds].any()
    if not share:
        assert not seeded
    assert torch.equal(through_crf(p, q), q)
    for soft in (smoothed(p), floored(p)):
        assert bool((soft > 0).all()) and torch.allclose(soft.sum(1), torch.ones(n, h, w, dtype=dtype))
