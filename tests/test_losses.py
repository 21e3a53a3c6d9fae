"""Eq. 3 to 6 against plain loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

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
    normalize_by_max,
    suppression_loss,
)
from attnbn.models.discriminator import Discriminator, Frozen, UpsampledConv


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("normalize", ["max", "none"])
def test_attention_loss_is_eq_3(normalize: str) -> None:
    attention, saliency = torch.rand(3, 4, 5).double() * 3, torch.rand(3, 1, 8, 15).double()
    attention[1] = 0  # an all-zero map stays zero
    total = 0.0
    for p in range(3):
        m = attention[p].numpy()
        peak = m.max() if normalize == "max" and m.max() > 0 else 1.0
        for y in range(4):
            for x in range(5):
                a = saliency[p, 0, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3].numpy().mean()  # area averaging
                total += (m[y, x] / peak - a) ** 2 / 20 / 3
    assert float(attention_loss(attention, saliency, normalize=normalize)) == pytest.approx(total, rel=1e-12)
    assert float(attention_loss(attention, saliency[:, 0], normalize=normalize)) == pytest.approx(total, rel=1e-12)


def test_gradient_flows_through_the_maximum() -> None:
    attention = torch.rand(2, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: attention_loss(m, torch.full((2, 3, 3), 0.3).double()), attention)
    scaled = torch.autograd.grad((normalize_by_max(attention) ** 2).sum(), attention)[0]
    assert float((scaled * attention).sum()) == pytest.approx(0, abs=1e-12)  # the loss does not see a map's scale


def test_a_detached_maximum_changes_the_gradient_and_not_the_value() -> None:
    torch.manual_seed(0)
    maps, saliency = torch.rand(2, 3, 4, dtype=torch.float64), torch.rand(2, 6, 8, dtype=torch.float64)
    values, gradients = [], []
    for kind in ("max", "max_detached"):
        leaf = maps.clone().requires_grad_()
        loss = attention_loss(leaf, saliency, normalize=kind)  # type: ignore[call-overload]
        loss.backward()
        values.append(loss.item())
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    # by hand: with m fixed, d/dM mean((M/m - A)^2) = 2 (M/m - A) / (m h w P)
    peak = maps.amax((-2, -1), keepdim=True)
    prior = saliency.reshape(2, 3, 2, 4, 2).mean((2, 4))
    torch.testing.assert_close(gradients[1], 2 * (maps / peak - prior) / peak / 12 / 2)
    assert not torch.allclose(*gradients)


def test_attention_can_be_compared_at_a_finer_grid() -> None:
    torch.manual_seed(0)
    maps, saliency = torch.rand(2, 3, 4), torch.rand(2, 6, 8)
    fine = torch.nn.functional.interpolate((maps / maps.amax((1, 2), keepdim=True))[:, None], (6, 8), mode="bilinear")
    expected = (fine[:, 0] - saliency).square().mean()
    torch.testing.assert_close(attention_loss(maps, saliency, resolution=2), expected)


def test_suppression_dims_the_other_classes_whatever_the_scale() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    positive = torch.tensor([[False, True, False], [True, False, False]])
    loss = suppression_loss(maps, ~positive).value()
    total = 0.0
    values = maps.detach().numpy()
    for image, true in enumerate((1, 0)):
        for other in {0, 1, 2} - {true}:
            total += float(np.square(values[image, other] / values[image].max()).mean())
    assert loss.item() == pytest.approx(total / 4, rel=1e-12)
    assert suppression_loss(1e-6 * maps, ~positive).value().item() == pytest.approx(loss.item(), rel=1e-9)
    loss.backward()
    assert maps.grad is not None
    assert float((maps.grad * maps).sum().detach()) == pytest.approx(0, abs=1e-12)  # blind to the common scale
    assert maps.grad[positive].max() <= 0  # never dims the true class
    assert suppression_loss(torch.zeros(2, 3, 4, 5), ~positive).value() == 0


def test_attention_loss_of_no_maps_is_zero_with_a_graph() -> None:
    empty = torch.zeros(0, 4, 4, requires_grad=True)
    loss = attention_loss(empty, torch.zeros(0, 1, 8, 8))
    loss.backward()
    assert float(loss) == 0


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_classification_loss_is_eq_4(over: str) -> None:
    scores = torch.randn(4, 3).double() * 3
    labels = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]).double()
    each = []
    for b in range(4):
        terms = []
        for j in range(3):
            p, label = sigmoid(float(scores[b, j])), float(labels[b, j])
            terms.append(-(label * math.log(p) + (1 - label) * math.log(1 - p)))
        each.append(sum(terms) / (3 if over == "mean" else 1))
    loss = float(classification_loss(scores, labels, over_classes=over))
    assert loss == pytest.approx(np.mean(each), rel=1e-12)
    if over == "mean":
        assert loss == pytest.approx(float(nn.functional.multilabel_soft_margin_loss(scores, labels)), rel=1e-12)


def test_difficult_labels_are_ignored() -> None:
    scores = torch.randn(2, 3).double().requires_grad_()
    labels = torch.tensor([[0, 1, math.nan], [1, math.nan, 0]]).double()
    loss = classification_loss(scores, labels)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient[0, 2] == gradient[1, 1] == 0 and (gradient != 0).sum() == 4
    known = scores[~labels.isnan()], labels[~labels.isnan()]
    assert float(loss) == pytest.approx(float(nn.functional.binary_cross_entropy_with_logits(*known)), rel=1e-12)
    assert float(classification_loss(scores, torch.full((2, 3), math.nan).double())) == 0


def test_losses_are_finite_at_extreme_scores() -> None:
    scores = torch.tensor([[1e4, -1e4]], requires_grad=True)
    classification_loss(scores, torch.tensor([[0.0, 1.0]])).backward()
    assert scores.grad.isfinite().all()
    extreme = adversarial_loss(lambda x: -1e4 * x, torch.ones(1, 1, 2, 2))
    assert float(extreme) == pytest.approx(1e4)


def test_domain_and_adversarial_loss_are_eq_5_and_6() -> None:
    discriminator = Discriminator(3, (4, 4), width=4).double()
    source, target = torch.rand(2, 3, 4, 4).double(), torch.rand(2, 3, 4, 4).double()
    on_source = [sigmoid(float(x)) for x in discriminator(source).flatten()]
    on_target = [sigmoid(float(x)) for x in discriminator(target).flatten()]
    expected = -np.mean(np.log(on_source)) - np.mean(np.log(1 - np.array(on_target)))
    assert float(domain_loss(discriminator, source, target)) == pytest.approx(expected, rel=1e-12)
    assert float(adversarial_loss(discriminator, target)) == pytest.approx(-np.mean(np.log(on_target)), rel=1e-12)


def test_each_loss_reaches_its_own_network_only() -> None:
    discriminator = Discriminator(3, (4, 4), width=4)
    source, target = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 4, 4, requires_grad=True)
    domain_loss(discriminator, source, target).backward()
    assert source.grad is None and target.grad is None
    assert all(p.grad is not None for p in discriminator.parameters())
    discriminator.zero_grad(set_to_none=True)
    adversarial_loss(Frozen(discriminator), target).backward()
    assert target.grad.abs().max() > 0
    assert all(p.grad is None for p in discriminator.parameters())


def test_domain_accuracy_counts_places_and_carries_no_gradient() -> None:
    source, target = torch.randn(3, 1, 2, 5, requires_grad=True), torch.randn(3, 1, 2, 5, requires_grad=True)
    right = sum(float(z) > 0 for z in source.flatten()) + sum(float(z) <= 0 for z in target.flatten())
    accuracy = domain_accuracy(source, target)
    assert (float(accuracy.total), float(accuracy.count), accuracy.weight) == (right, 60, 0.0)
    assert not accuracy.total.requires_grad
    nothing = torch.zeros(4, 1)
    assert float(domain_accuracy(nothing, nothing).value()) == 0.5  # one that cannot tell guesses
    domain_cross_entropy(source, target).value().backward()
    assert source.grad is not None and target.grad is not None


def covariance_by_hand(features: np.ndarray) -> np.ndarray:
    """(D'D - (1'D)'(1'D) / n) / (n - 1), entry by entry."""
    n, d = features.shape
    out = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            product = sum(features[k, i] * features[k, j] for k in range(n))
            sums = sum(features[k, i] for k in range(n)) * sum(features[k, j] for k in range(n))
            out[i, j] = (product - sums / n) / (n - 1)
    return out


@pytest.mark.parametrize("images", [(5, 5), (2, 7)])
def test_coral_is_its_papers_formula(images: tuple[int, int]) -> None:
    source, target = (torch.randn(n, 4).double() * 2 + 1 for n in images)
    gap = covariance_by_hand(source.numpy()) - covariance_by_hand(target.numpy())
    expected = sum(gap[i, j] ** 2 for i in range(4) for j in range(4)) / (4 * 4**2)
    assert float(coral_loss(source, target)) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(covariance_by_hand(source.numpy()), np.cov(source.numpy().T), rtol=1e-12)
    inputs = source.requires_grad_(), target.requires_grad_()
    assert torch.autograd.gradcheck(coral_loss, inputs)


def test_coral_sees_covariances_alone() -> None:
    features = torch.randn(6, 3).double()
    assert float(coral_loss(features, features + 5)) == pytest.approx(0, abs=1e-24)  # a shift moves no covariance
    assert float(coral_loss(features, 2 * features)) > 0


def test_coral_in_low_precision_is_computed_in_float32() -> None:
    source, target = torch.randn(8, 5).bfloat16(), torch.randn(8, 5).bfloat16()
    expected = coral_loss(source.double(), target.double())
    with torch.autocast("cpu", torch.bfloat16):
        loss = coral_loss(source, target)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_coral_refuses_what_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 images of each domain for a covariance, got 1"):
        coral_loss(torch.rand(3, 4), torch.rand(1, 4))
    with pytest.raises(ValueError, match=r"n×d and m×d of two domains, got \(3, 4\) and \(3, 5\)"):
        coral_loss(torch.rand(3, 4), torch.rand(3, 5))
    with pytest.raises(ValueError, match="n×d and m×d"):
        coral_loss(torch.rand(3, 4, 2, 2), torch.rand(3, 4, 2, 2))


def test_parts_add_up_over_processes() -> None:
    scores, labels = torch.randn(6, 3).double(), torch.randint(0, 2, (6, 3)).double()
    labels[0, 1] = math.nan
    whole = classification_loss(scores, labels)
    parts = [classification_loss(scores[s], labels[s], reduction="parts") for s in (slice(0, 2), slice(2, 6))]
    assert float(sum(p.total for p in parts) / sum(p.count for p in parts)) == pytest.approx(float(whole), rel=1e-12)
    weighted: Mean = 2 * parts[0]
    assert weighted.weight == 2 and float(weighted.value()) == pytest.approx(float(parts[0].value()))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="a saliency map for each attention map"):
        attention_loss(torch.rand(2, 4, 4), torch.rand(3, 1, 8, 8))
    with pytest.raises(ValueError, match=r"expected labels of shape \(2, 3\)"):
        classification_loss(torch.rand(2, 3), torch.rand(2, 4))
    with pytest.raises(ValueError, match="as many target features"):
        domain_loss(nn.Identity(), torch.rand(2, 1, 4, 4), torch.rand(3, 1, 4, 4))


@pytest.mark.parametrize("factor", [1, 2, 5])
@pytest.mark.parametrize("size", [(7, 7), (4, 9)])
def test_upsampled_convolution_equals_upsampling_then_convolution(factor: int, size: tuple[int, int]) -> None:
    layer = UpsampledConv(3, 5, factor).double()
    features = torch.rand(2, 3, *size).double().requires_grad_()
    up = nn.functional.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)
    expected = nn.functional.conv2d(up, layer.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(features), expected)
    inputs = [features, *layer.parameters()]
    pull = torch.rand_like(expected)
    for a, b in zip(
        torch.autograd.grad(layer(features), inputs, pull), torch.autograd.grad(expected, inputs, pull), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("size", "layers"), [((14, 14), 5), ((7, 7), 5), ((6, 6), 4), ((1, 1), 2)])
def test_small_features_get_fewer_layers(size: tuple[int, int], layers: int) -> None:
    discriminator = Discriminator(4, size, width=2)
    assert len(discriminator.layers) == layers
    assert discriminator(torch.rand(1, 4, *size)).shape[1] == 1


def test_the_paper_sizes() -> None:
    discriminator = Discriminator(512, (14, 14))
    assert [layer.out_channels for layer in discriminator.layers] == [64, 128, 256, 512, 1]
    with pytest.raises(ValueError, match="at least 2×2"):
        Discriminator(4, (1, 1), upsample=1)


def test_background_loss_is_its_formula_in_loops_and_blind_to_scale() -> None:
    torch.manual_seed(3)
    evidence = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    saliency = torch.rand(2, 1, 8, 10, dtype=torch.float64)
    total = 0.0
    for b in range(2):
        peak = max(abs(float(v)) for v in evidence[b].flatten())
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    prior = float(saliency[b, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean())
                    total += ((1 - prior) * float(evidence[b, c, y, x]) / peak) ** 2 / (2 * 3 * 4 * 5)
    loss = background_loss(evidence, saliency)
    assert loss.count == 2
    assert float(loss.value()) == pytest.approx(total, rel=1e-12)
    assert float(background_loss(1e-3 * evidence, saliency).value()) == pytest.approx(total, rel=1e-9)


def test_background_loss_sees_evidence_against_a_class_and_nothing_inside_the_object() -> None:
    against = torch.zeros(1, 2, 2, 2)
    against[0, 0] = torch.tensor([[-1.0, 0], [0, 0]])
    outside, inside = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert float(background_loss(against, outside).value()) == pytest.approx(1 / 8)
    assert float(background_loss(against, inside).value()) == 0
    assert float(background_loss(torch.zeros(1, 2, 2, 2), outside).value()) == 0
    assert float(background_loss(torch.zeros(0, 2, 2, 2), torch.zeros(0, 1, 2, 2)).value()) == 0
    with pytest.raises(ValueError, match="a saliency map for each image"):
        background_loss(against, torch.zeros(2, 1, 2, 2))


def test_gradients_of_the_background_loss_take_the_peak_for_a_constant() -> None:
    torch.manual_seed(4)
    evidence = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    saliency = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    peak = evidence.detach().abs().flatten(1).amax(1)[:, None, None, None]
    (found,) = torch.autograd.grad(background_loss(evidence, saliency).value(), evidence)
    expected = 2 * ((1 - saliency) / peak) ** 2 * evidence.detach() / (3 * 16 * 2)
    torch.testing.assert_close(found, expected)
