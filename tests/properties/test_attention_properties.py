"""Eq. 1-2 on any shape: the definition, its symmetries, and values at the edges of the number range."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnbn.attention import attention_from_scores, class_attention, layer_attention, scores_and_attention
from attnbn.inference.maps import full_size, fused, max_normalized
from attnbn.models.heads import PooledHead
from properties.draws import MAPS, SEEDS, SIDES, chance, maps, normal, uniform

settings.load_profile("properties")

CASES = st.fixed_dictionaries(
    {
        "seed": SEEDS,
        "kind": st.sampled_from(["mean", "hidden", "odd"]),
        "batch": st.integers(0, 3),
        "channels": st.integers(1, 5),
        "height": SIDES,
        "width": SIDES,
        "classes": st.integers(1, 4),
        "share": st.sampled_from([0.0, 0.3, 1.0]),
    }
)


def head_of(kind: str, channels: int, classes: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """With a closed form for one linear layer or two, and one that has none."""
    if kind == "mean":
        head: nn.Module = PooledHead(nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes), channels)
    elif kind == "hidden":
        rest = nn.Sequential(nn.Tanh(), nn.Linear(3, classes))
        head = PooledHead(nn.AdaptiveMaxPool2d(2), nn.Linear(channels * 4, 3), channels, rest)
    else:
        head = nn.Sequential(
            nn.Conv2d(channels, 2, 3, padding=1), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, classes)
        )  # fmt: skip
    return head.to(dtype)


def last(head: nn.Module) -> nn.Linear:
    return [module for module in head.modules() if isinstance(module, nn.Linear)][-1]


class Case:
    """A head, features and wanted pairs."""

    def __init__(self, given: dict[str, object], dtype: torch.dtype = torch.float64) -> None:
        g: dict[str, int] = given  # type: ignore[assignment]
        torch.manual_seed(g["seed"])
        self.kind, self.classes, self.seed = str(given["kind"]), g["classes"], g["seed"]
        self.head = head_of(self.kind, g["channels"], g["classes"], dtype)
        shape = g["batch"], g["channels"], g["height"], g["width"]
        self.features = (uniform(g["seed"] + 1, *shape) * chance(g["seed"] + 3, 0.7, *shape)).to(dtype)
        self.wanted = chance(g["seed"] + 2, float(given["share"]), g["batch"], g["classes"])  # type: ignore[arg-type]
        self.everything = torch.ones(g["batch"], g["classes"])

    def all_maps(self, activation: str = "relu") -> Tensor:
        """``B×N×h×w``."""
        maps = class_attention(self.features, self.head, self.everything, activation=activation)  # type: ignore[arg-type]
        return maps.detach().reshape(*self.everything.shape, *self.features.shape[2:])


def by_loops(case: Case) -> Tensor:
    """The definition, with a gradient for each pair and a sum for each channel and place."""
    found = []
    for b, c in case.wanted.nonzero().tolist():
        leaf = case.features[b : b + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(case.head(leaf)[0, c], leaf)
        height, width = leaf.shape[2:]
        total = torch.zeros(height, width, dtype=leaf.dtype)
        for i in range(leaf.shape[1]):
            weight = sum(float(v) for v in gradient[0, i].flatten()) / (height * width)
            total += weight * case.features[b, i]
        found.append(total.clamp(min=0))
    return torch.stack(found) if found else torch.zeros(0, *case.features.shape[2:], dtype=torch.float64)


@given(CASES)
def test_it_is_the_definition_whichever_way_it_is_taken(given: dict[str, object]) -> None:
    case = Case(given)
    expected = by_loops(case)
    for train in (True, False):
        with torch.set_grad_enabled(train):
            scores, got = scores_and_attention(case.features, case.head, case.wanted)
        torch.testing.assert_close(got.detach(), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(scores.detach(), case.head(case.features).detach())
    features = case.features.requires_grad_()
    scores = case.head(features)
    torch.testing.assert_close(
        attention_from_scores(features, scores, case.wanted).detach(), expected, rtol=1e-9, atol=1e-12
    )
    (layer,) = layer_attention([features], scores, case.wanted)
    torch.testing.assert_close(layer.detach(), expected, rtol=1e-9, atol=1e-12)


@given(CASES)
def test_the_maps_are_not_negative_and_their_evidence_has_the_same_positive_part(given: dict[str, object]) -> None:
    case = Case(given)
    relu, evidence, soft = (case.all_maps(kind) for kind in ("relu", "none", "sigmoid"))
    assert bool((relu >= 0).all()) and torch.equal(relu, evidence.clamp(min=0))
    assert bool(((soft > 0) & (soft < 1)).all())
    torch.testing.assert_close(soft, evidence.sigmoid())


@given(CASES, st.sampled_from([0.0, 1e-6, 0.5, 3.0, 1e6]))
def test_the_evidence_is_linear_in_the_weights_of_the_scores(given: dict[str, object], factor: float) -> None:
    case = Case(given)
    layer, before = last(case.head), case.all_maps("none")
    weight, other = layer.weight.detach().clone(), normal(case.seed + 9, *layer.weight.shape)
    with torch.no_grad():
        layer.weight.copy_(other)
        second = case.all_maps("none")
        layer.weight.copy_(factor * weight - 2 * other)
        both = case.all_maps("none")
        layer.bias.add_(5)  # a score's constant is no evidence
    torch.testing.assert_close(both, factor * before - 2 * second, rtol=1e-9, atol=1e-9 * (1 + factor))
    assert torch.equal(case.all_maps("none"), both)


@given(CASES, SEEDS)
def test_images_and_classes_in_another_order_give_the_maps_in_that_order(given: dict[str, object], seed: int) -> None:
    case = Case(given)
    before, layer = case.all_maps(), last(case.head)
    images = torch.randperm(len(case.features), generator=torch.Generator().manual_seed(seed))
    classes = torch.randperm(case.classes, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        case.features = case.features[images]
        layer.weight.copy_(layer.weight[classes].clone())
    torch.testing.assert_close(case.all_maps(), before[images][:, classes], rtol=1e-9, atol=1e-12)


@given(CASES)
def test_an_image_is_on_its_own_and_a_pair_is_taken_out_of_all(given: dict[str, object]) -> None:
    case = Case(given)
    everything = case.all_maps()
    some = class_attention(case.features, case.head, case.wanted)
    torch.testing.assert_close(some.detach(), everything[case.wanted], rtol=1e-9, atol=1e-12)
    for b in range(len(case.features)):
        alone = class_attention(case.features[b : b + 1], case.head, torch.ones(1, case.classes))
        torch.testing.assert_close(alone.detach(), everything[b], rtol=1e-9, atol=1e-12)
    numbers = torch.arange(len(case.features)) % case.classes
    one_each = class_attention(case.features, case.head, numbers).detach()
    torch.testing.assert_close(one_each, everything[range(len(numbers)), numbers], rtol=1e-9, atol=1e-12)


@given(CASES, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_maps_have_at_least_float32_and_are_those_of_the_wider_type(
    given: dict[str, object], dtype: torch.dtype
) -> None:
    case, wide = Case(given, torch.float32 if dtype != torch.float64 else dtype), Case(given)
    features = case.features.to(dtype)
    wide.features = features.double()
    for kind in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with kind():
            scores, got = scores_and_attention(features, case.head, case.wanted)
        assert got.dtype == scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        expected = class_attention(wide.features, wide.head, case.wanted).detach()
        torch.testing.assert_close(got.detach().clone().double(), expected, rtol=1e-3, atol=1e-6)


@given(CASES, st.sampled_from([0.0, 1e-30, 1e4, 1e30]))
def test_finite_features_of_any_size_give_finite_maps_and_gradients(given: dict[str, object], size: float) -> None:
    case = Case(given, torch.float32)
    features = (case.features * size).requires_grad_()
    scores, got = scores_and_attention(features, case.head, case.wanted)
    assert bool(got.isfinite().all()) and bool(scores.isfinite().all())
    if size == 0:
        assert not got.count_nonzero()
    (got / max(size, 1)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in case.head.parameters() if p.grad is not None)


def test_weights_changed_behind_autograds_back_are_seen() -> None:
    """The sum over a large first layer is kept between looks; ``weight.data`` is changed without a count."""
    torch.manual_seed(0)
    rest = nn.Sequential(nn.Tanh(), nn.Linear(128, 2))
    head = PooledHead(nn.AdaptiveAvgPool2d(16), nn.Linear(8 * 256, 128), 8, rest)
    features = torch.rand(1, 8, 16, 16)

    def changes(change: object) -> None:
        with torch.no_grad():
            class_attention(features, head, torch.ones(1, 2))
            assert head._summed is not None
            change()  # type: ignore[operator]
            got = class_attention(features, head, torch.ones(1, 2))
        expected = attention_from_scores(leaf := features.clone().requires_grad_(), head(leaf), torch.ones(1, 2))
        torch.testing.assert_close(got, expected.detach())

    changes(lambda: head.first.weight.data.mul_(-2))
    changes(lambda: head.first.weight.data[:, 256:512].zero_())  # a channel
    changes(lambda: head.first.weight.mul_(-2))
    changes(lambda: setattr(head, "first", nn.Linear(8 * 256, 128)))
    changes(lambda: setattr(head.first.weight, "data", torch.rand(128, 8 * 256)))


@given(MAPS, SEEDS, st.integers(0, 3), SIDES, SIDES, SIDES, SIDES)
def test_maps_brought_to_one_scale_and_size(
    kind: str, seed: int, count: int, height: int, width: int, high: int, wide: int
) -> None:
    made = maps(kind, seed, count, height, width, dtype=torch.float32)
    unit = max_normalized(made)
    peaks = unit.amax((1, 2))
    assert bool(((unit >= 0) & (unit <= 1)).all())
    assert torch.equal(peaks, (made.amax((1, 2)) > 0).float())  # 1, or 0 where there is nothing
    assert torch.equal(max_normalized(unit), unit)
    grown = full_size(unit, (high, wide))
    assert grown.shape == (count, high, wide) and bool(((grown >= 0) & (grown <= 1)).all())
    if (high, wide) == (height, width):
        assert torch.equal(grown, unit)
    for how in ("mean", "product"):
        one = fused([made, full_size(unit, (high, wide))], how)  # type: ignore[arg-type]
        assert one.shape == (count, max(height, high), max(width, wide))
        assert bool(((one >= 0) & (one <= 1)).all())
        torch.testing.assert_close(fused([made], how), unit)  # type: ignore[arg-type]
        assert not one[peaks == 0].count_nonzero()


@pytest.mark.parametrize("kind", ["mean", "hidden", "odd"])
def test_a_batch_without_images_can_be_trained_on(kind: str) -> None:
    """A process whose share of the last batch is empty still takes its part in the sums."""
    head = head_of(kind, 4, 3)
    features = torch.zeros(0, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    for wanted in (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)):
        scores, got = scores_and_attention(features, head, wanted)
        assert got.shape == (0, 5, 6) and scores.shape == (0, 3)
        (got.sum() + scores.sum()).backward()
