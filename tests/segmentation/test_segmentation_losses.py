"""DSRG's losses against loops over pixels, and their gradients against finite differences and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbn.losses import Mean
from attnbn.segmentation.losses import boundary_loss, floored, seeding_loss, smoothed, through_crf


def some_probabilities(*shape: int, sharpness: float = 3.0) -> Tensor:
    return (torch.randn(*shape, dtype=torch.float64) * sharpness).softmax(1)


def some_seeds(*shape: int) -> Tensor:
    return torch.rand(*shape) < 0.3


def seeding_by_loops(p: Tensor, seeds: Tensor, balanced: bool) -> list[float]:
    """One value per image."""
    losses = []
    for b in range(len(p)):
        terms: dict[bool, list[float]] = {True: [], False: []}
        for c in range(p.shape[1]):
            for y in range(p.shape[2]):
                for x in range(p.shape[3]):
                    if seeds[b, c, y, x]:
                        terms[balanced and c == 0].append(math.log(float(p[b, c, y, x])))
        losses.append(sum(-sum(part) / max(len(part), 1e-4) for part in terms.values()))
    return losses


def boundary_by_loops(p: Tensor, q: Tensor) -> list[float]:
    losses = []
    for b in range(len(p)):
        total = 0.0
        for y in range(p.shape[2]):
            for x in range(p.shape[3]):
                for c in range(p.shape[1]):
                    ratio = float(q[b, c, y, x]) / float(p[b, c, y, x])
                    total += float(q[b, c, y, x]) * math.log(min(max(ratio, 0.05), 20.0))
        losses.append(total / p.shape[2] / p.shape[3])
    return losses


@pytest.mark.parametrize("balanced", [True, False])
def test_seeding_loss_is_eq_1(balanced: bool) -> None:
    p, seeds = some_probabilities(4, 3, 4, 5), some_seeds(4, 3, 4, 5)
    seeds[1, 0] = False  # no background
    seeds[2, 1:] = False  # no foreground
    seeds[3] = False  # nothing
    each = seeding_by_loops(p, seeds, balanced)
    assert each[3] == 0
    assert float(seeding_loss(p, seeds, balanced=balanced)) == pytest.approx(sum(each) / 4, rel=1e-12)
    parts = seeding_loss(p, seeds, balanced=balanced, reduction="parts")
    assert isinstance(parts, Mean)
    assert float(parts.total) == pytest.approx(sum(each), rel=1e-12)
    assert float(parts.count) == 4


def test_boundary_loss_is_eq_2() -> None:
    p, q = some_probabilities(3, 4, 3, 5), some_probabilities(3, 4, 3, 5)
    ratio = q / p
    assert bool((ratio < 0.05).any() and (ratio > 20).any())  # both ends of the clip are met
    each = boundary_by_loops(p, q)
    assert float(boundary_loss(p, q)) == pytest.approx(sum(each) / 3, rel=1e-12)
    parts = boundary_loss(p, q, reduction="parts")
    assert float(parts.total) == pytest.approx(sum(each), rel=1e-12)
    assert float(parts.count) == 3
    assert float(boundary_loss(p, p)) == pytest.approx(0, abs=1e-15)


def test_gradients() -> None:
    p, q = some_probabilities(2, 3, 2, 3).requires_grad_(), some_probabilities(2, 3, 2, 3).requires_grad_()
    seeds = some_seeds(2, 3, 2, 3)
    for balanced in (True, False):
        assert torch.autograd.gradcheck(lambda p: seeding_loss(p, seeds, balanced=balanced), p)  # noqa: B023
    assert torch.autograd.gradcheck(boundary_loss, (p, q))
    assert torch.autograd.gradcheck(lambda p: boundary_loss(p, q.detach()), p)
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: boundary_loss(smoothed(z.softmax(1)), floored(q.softmax(1))), logits)


def test_smoothed_and_floored() -> None:
    p = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    assert smoothed(p).flatten().tolist() == pytest.approx([1.0001 / 1.0002, 0.0001 / 1.0002])
    assert floored(p).flatten().tolist() == pytest.approx([1 / 1.0001, 0.0001 / 1.0001])
    assert smoothed(p, eps=0.5).flatten().tolist() == [0.75, 0.25]
    inner = some_probabilities(2, 3, 2, 2, sharpness=0.5)
    torch.testing.assert_close(floored(inner), inner)  # nothing below the floor


def test_through_crf_passes_what_the_original_layer_passes() -> None:
    p, q = some_probabilities(2, 3, 2, 4).requires_grad_(), some_probabilities(2, 3, 2, 4)
    assert torch.equal(through_crf(p, q), q)
    (got,) = torch.autograd.grad(boundary_loss(p.detach(), through_crf(p, q)), p)
    # by hand, as its two layers do: the loss takes l = log q and gives dL/dl; the CRF's layer gives (1 - q)·dL/dl
    for index in [(b, c, y, x) for b in range(2) for c in range(3) for y in range(2) for x in range(4)]:
        ratio = float(q[index]) / float(p.detach()[index])
        inside = 0.05 < ratio < 20
        d_log_q = float(q[index]) * (math.log(min(max(ratio, 0.05), 20)) + inside) / (2 * 2 * 4)
        assert float(got[index]) == pytest.approx((1 - float(q[index])) * d_log_q, rel=1e-9)


def test_through_crf_adds_to_the_direct_gradient_and_leaves_q_alone() -> None:
    p = some_probabilities(1, 3, 2, 2).requires_grad_()
    q = some_probabilities(1, 3, 2, 2).requires_grad_()
    (whole,) = torch.autograd.grad(boundary_loss(p, through_crf(p, q)), p)
    (direct,) = torch.autograd.grad(boundary_loss(p, q.detach()), p)
    (around,) = torch.autograd.grad(boundary_loss(p.detach(), through_crf(p, q)), p)
    torch.testing.assert_close(whole, direct + around)
    assert float(around.abs().max()) > 0
    assert not through_crf(p.detach(), q).requires_grad


def test_a_linear_unary_makes_it_the_diagonal_of_the_last_update() -> None:
    # log q = log softmax(p - m) with the messages m constant: d log q_i / d p_i = 1 - q_i
    p, messages = some_probabilities(1, 3, 1, 1), torch.rand(1, 3, 1, 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda p: (p - messages).log_softmax(1).flatten(), p).reshape(3, 3)
    q = (p - messages).softmax(1)
    leaf = p.clone().requires_grad_()
    (got,) = torch.autograd.grad(through_crf(leaf, q).log().sum(), leaf)
    torch.testing.assert_close(got.flatten(), jacobian.diagonal())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_tiny_probabilities_give_no_nan(kind: torch.dtype) -> None:
    tiny = torch.finfo(kind).tiny
    values = torch.tensor([0.0, tiny / 4, tiny, 1e-30, 1e-4, 1.0], dtype=kind)
    p, q = (grid.reshape(1, 2, 6, 3).clone().requires_grad_() for grid in torch.meshgrid(values, values, indexing="ij"))
    for seeds in (torch.ones(p.shape).bool(), torch.zeros(p.shape).bool()):
        loss = seeding_loss(p, seeds)
        (gradient,) = torch.autograd.grad(loss, p)
        assert bool(loss.isfinite() and gradient.isfinite().all())
    loss = boundary_loss(p, through_crf(p, q)) + boundary_loss(p, q)
    gradients = torch.autograd.grad(loss, (p, q))
    assert bool(loss.isfinite() and all(g.isfinite().all() for g in gradients))


def test_no_images() -> None:
    p = torch.zeros(0, 3, 2, 2)
    assert float(seeding_loss(p, p.bool())) == 0
    assert float(boundary_loss(p, p)) == 0


def test_bad_input() -> None:
    p = torch.full((1, 2, 2, 2), 0.5)
    with pytest.raises(ValueError, match="boolean seeds, got torch.float32"):
        seeding_loss(p, p)
    with pytest.raises(ValueError, match=r"seeds and probabilities of one shape B×C×h×w, got \[1, 2, 2, 3\] and"):
        seeding_loss(p, torch.zeros(1, 2, 2, 3).bool())
    with pytest.raises(ValueError, match=r"refined probabilities and .* got \[1, 2, 2\] and \[1, 2, 2, 2\]"):
        boundary_loss(p, p[:, :, 0])
    with pytest.raises(ValueError, match="of one shape"):
        through_crf(p, p[:, :1])
