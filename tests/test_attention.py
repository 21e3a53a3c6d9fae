"""Eq. 1-2: against finite differences, the closed forms against autograd, and gradients of Eq. 3 to every weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from attnbn.attention import attention_from_scores, class_attention, scores_and_attention
from attnbn.losses import attention_loss, classification_loss
from attnbn.models.heads import PooledHead
from attnbn.models.network import AttnBN, TappedClassifier
from conftest import tiny_network


def odd_head(classes: int = 4, channels: int = 5) -> nn.Module:
    """A head that neither pools first nor is linear: attention needs the vector-Jacobian product."""
    convolution = nn.Conv2d(channels, 3, 3, padding=1)
    return nn.Sequential(convolution, nn.Softplus(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))


def reference_attention(features: np.ndarray, score: object, label: int) -> np.ndarray:
    """Eq. 1-2 by their definition: the gradient from central differences, then loops."""
    channels, height, width = features.shape
    step, weights = 1e-5, np.zeros(channels)
    for i in range(channels):
        for y in range(height):
            for x in range(width):
                up, down = features.copy(), features.copy()
                up[i, y, x] += step
                down[i, y, x] -= step
                weights[i] += (score(up, label) - score(down, label)) / (2 * step) / (height * width)
    maps = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            maps[y, x] = max(0.0, sum(weights[i] * features[i, y, x] for i in range(channels)))
    return maps


@pytest.mark.parametrize("kind", ["odd", "linear", "hidden"])
def test_equals_the_definition(kind: str) -> None:
    head = {
        "odd": odd_head,
        "linear": lambda: PooledHead(nn.AdaptiveAvgPool2d(1), nn.Linear(5, 4), 5),
        "hidden": lambda: PooledHead(
            nn.MaxPool2d(2), nn.Linear(5 * 6, 7), 5, nn.Sequential(nn.Tanh(), nn.Linear(7, 4))
        ),
    }[kind]().double()
    features = torch.rand(2, 5, 4, 6, dtype=torch.float64)

    def score(values: np.ndarray, label: int) -> float:
        with torch.no_grad():
            return float(head(torch.from_numpy(values)[None])[0, label])

    wanted = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]])
    maps = class_attention(features, head, wanted)
    expected = [reference_attention(features[b].numpy(), score, c) for b, c in ((0, 0), (0, 3), (1, 2))]
    assert any(e.max() > 0 for e in expected)
    np.testing.assert_allclose(maps.detach().numpy(), np.stack(expected), atol=1e-9)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4)])
@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2, 2), nn.AvgPool2d(2, 2), nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(2)]
)
def test_closed_form_equals_autograd_in_value_and_second_order(size: tuple[int, int], pool: nn.Module) -> None:
    features = torch.rand(3, 5, *size, dtype=torch.float64, requires_grad=True)
    positions = pool(features).shape[-2] * pool(features).shape[-1]
    rest = nn.Sequential(nn.Tanh(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4))
    head = PooledHead(pool, nn.Linear(5 * positions, 9), 5, rest).double()
    wanted = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    scores, closed = scores_and_attention(features, head, wanted)
    autograd = attention_from_scores(features, head(features), wanted)
    torch.testing.assert_close(closed, autograd, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(scores, head(features))
    target = torch.rand_like(closed)
    weights = [features, *head.parameters()]
    first = torch.autograd.grad((closed - target).square().sum(), weights, allow_unused=True)
    second = torch.autograd.grad((autograd - target).square().sum(), weights, allow_unused=True)
    for a, b in zip(first[:-1], second[:-1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-13)
    assert first[-1] is None or first[-1].abs().max() == 0  # the last bias moves no gradient of a score


@pytest.mark.parametrize("hidden", [None, 4])
@pytest.mark.parametrize("normalize", ["max", "none"])
def test_gradcheck_of_eq_3_to_all_weights(hidden: int | None, normalize: str) -> None:
    net = tiny_network(hidden=hidden, width=3).double()
    for parameter in net.head.parameters():
        parameter.data.abs_()  # so that no map is all zero
    images, saliency = torch.rand(2, 3, 8, 8).double(), torch.rand(2, 1, 8, 8).double()
    labels = torch.tensor([[0, 1, 0], [1, 0, 0]])
    names = [name for name, _ in net.named_parameters()]

    def loss(*weights: Tensor) -> Tensor:
        attention = functional_call(net, dict(zip(names, weights, strict=True)), (images, labels)).attention
        assert attention.amax((-2, -1)).min() > 1e-6
        return attention_loss(attention, saliency, normalize=normalize)

    weights = [p.detach().clone().requires_grad_() for p in net.parameters()]
    gradients = torch.autograd.grad(loss(*weights), weights, allow_unused=True)
    without = [name for name, g in zip(names, gradients, strict=True) if g is None or g.abs().max() == 0]
    assert without == [names[-1]]  # only the last bias, rightly
    assert torch.autograd.gradcheck(loss, weights, atol=1e-6, rtol=1e-4, nondet_tol=1e-12)


def test_gradcheck_through_an_odd_head_and_a_tapped_classifier() -> None:
    torch.manual_seed(4)
    trunk = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Softplus())
    head = odd_head(4, 2)
    net = TappedClassifier(nn.Sequential(trunk, head), "0").double()
    images, saliency = torch.rand(2, 3, 6, 6).double(), torch.rand(2, 1, 4, 4).double()
    names = [name for name, _ in net.named_parameters()]

    def loss(*weights: Tensor) -> Tensor:
        output = functional_call(net, dict(zip(names, weights, strict=True)), (images, torch.tensor([1, 3])))
        return attention_loss(output.attention, saliency)

    assert torch.autograd.gradcheck(loss, [p.detach().clone().requires_grad_() for p in net.parameters()])


def test_scores_and_attention_come_from_one_pass_with_one_dropout_mask() -> None:
    net = tiny_network(hidden=16, dropout=0.5).train()
    images = torch.rand(4, 3, 8, 8)
    torch.manual_seed(3)
    output = net(images, torch.ones(4, 3))
    torch.manual_seed(3)
    features = net.trunk(images)
    scores = net.head(features)
    torch.testing.assert_close(output.scores, scores)
    expected = class_attention(features, net.head, torch.ones(4, 3), scores)
    torch.testing.assert_close(output.attention, expected)
    assert not torch.allclose(class_attention(features, net.head, torch.ones(4, 3)), expected)  # another mask


def test_dropout_of_features_is_seen_by_attention() -> None:
    net = tiny_network(dropout=0.5).train()
    torch.manual_seed(3)
    output = net(torch.ones(2, 3, 8, 8), torch.ones(2, 3))
    torch.manual_seed(3)
    features = net.trunk(torch.ones(2, 3, 8, 8))
    torch.testing.assert_close(output.attention, attention_from_scores(features, net.head(features), torch.ones(2, 3)))


@pytest.mark.parametrize("grad", [True, False])
def test_leaves_the_network_as_it_was(grad: bool) -> None:
    net = tiny_network(hidden=5)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for tapped in (net, TappedClassifier(nn.Sequential(net.trunk, net.head), "0")):
        tapped.eval()
        with torch.set_grad_enabled(grad):
            output = tapped(torch.rand(2, 3, 8, 8), torch.ones(2, 3))
            assert torch.is_grad_enabled() is grad
        assert output.attention.requires_grad is grad and output.scores.requires_grad is grad
        assert all(p.grad is None and p.requires_grad for p in tapped.parameters())
        assert not any(m._forward_hooks or m.training for m in tapped.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_no_grad_and_inference_mode_give_the_same_maps() -> None:
    images, wanted = torch.rand(2, 3, 8, 8), torch.tensor([[1, 0, 1], [0, 1, 0]])
    for net in (tiny_network(), tiny_network(hidden=5), AttnBN(nn.Conv2d(3, 5, 3), odd_head(3))):
        net.eval()
        expected = net(images, wanted).attention.detach()
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                torch.testing.assert_close(net(images, wanted).attention, expected)


def test_summed_weight_is_renewed_when_the_weights_move() -> None:
    net = tiny_network(hidden=5).eval()
    images, wanted = torch.rand(1, 3, 8, 8), torch.ones(1, 3)
    with torch.no_grad():
        before = net(images, wanted).attention
        net.head.first.weight.mul_(2)
        after = net(images, wanted).attention
    torch.testing.assert_close(after, net(images, wanted).attention.detach())
    assert not torch.allclose(before, after)


def test_an_exception_amid_a_tapped_pass_leaves_no_hook_and_no_mode() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    net = TappedClassifier(nn.Sequential(nn.Conv2d(3, 4, 3), Breaks()), "0")
    with torch.no_grad(), pytest.raises(RuntimeError, match="broken"):
        net(torch.rand(1, 3, 8, 8), torch.tensor([0]))
    assert torch.is_grad_enabled() and not net.classifier[0]._forward_hooks


def test_tapping_before_an_operation_in_place() -> None:
    convolution, rest = nn.Conv2d(3, 4, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    net = TappedClassifier(nn.Sequential(convolution, nn.ReLU(inplace=True), rest), "0").eval()
    images, wanted = torch.rand(2, 3, 8, 8), torch.ones(2, 2)
    with torch.no_grad():
        frozen = net(images, wanted).attention
    torch.testing.assert_close(frozen, net(images, wanted).attention.detach())
    torch.testing.assert_close(
        frozen, AttnBN(nn.Sequential(convolution, nn.ReLU()), rest)(images, wanted).attention.detach()
    )


def test_half_precision_features_give_float32_maps() -> None:
    net = tiny_network(hidden=5).eval()
    images, wanted = torch.rand(2, 3, 8, 8), torch.ones(2, 3)
    exact = net(images, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(images, wanted)
    assert output.scores.dtype == output.attention.dtype == torch.float32
    torch.testing.assert_close(
        output.attention, exact.attention, atol=0.02 * float(exact.attention.detach().max()), rtol=0.05
    )


def test_sigmoid_in_place_of_the_relu() -> None:
    net = tiny_network()
    images, wanted = torch.rand(2, 3, 8, 8), torch.ones(2, 3)
    soft = class_attention(net.trunk(images), net.head, wanted, activation="sigmoid")
    hard = class_attention(net.trunk(images), net.head, wanted)
    torch.testing.assert_close(torch.logit(soft).relu(), hard, atol=1e-5, rtol=1e-4)


def test_wanted_pairs_in_row_major_order_and_none_at_all() -> None:
    net = tiny_network()
    images = torch.rand(3, 3, 8, 8)
    everything = net(images, torch.ones(3, 3)).attention.reshape(3, 3, 4, 4)
    some = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 1]])
    torch.testing.assert_close(net(images, some).attention, everything[some.bool()])
    torch.testing.assert_close(net(images, torch.tensor([2, 0, 1])).attention, everything[range(3), [2, 0, 1]])
    torch.testing.assert_close(net(images, lambda scores: scores > scores.mean()).attention,
                               everything[net(images).scores > net(images).scores.mean()])  # fmt: skip
    nothing = net(images, torch.zeros(3, 3))
    assert nothing.attention.shape == (0, 4, 4)
    nothing.attention.sum().backward()


def test_bad_input() -> None:
    net = tiny_network()
    features = net.trunk(torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"expected classes of shape \(2, 3\)"):
        class_attention(features, net.head, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"expected 2 class indices in 0..2, got \[0, 3\]"):
        class_attention(features, net.head, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="B×C×h×w"):
        class_attention(features[0], net.head, torch.tensor([0]))
    with pytest.raises(ValueError, match="with a graph to the features"):
        class_attention(features, net.head, torch.tensor([0, 1]), net.head(features).detach())
    with pytest.raises(ValueError, match="expected the name of a layer of Sequential"):
        TappedClassifier(nn.Sequential(nn.Conv2d(3, 4, 3)), "layer4")


def test_attention_adds_no_graph_below_the_head() -> None:
    """The inner gradient stops at F: the trunk is not walked for it."""
    walked = []

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            walked.append(1)
            return gradient

    net = tiny_network(hidden=5)
    features = Marked.apply(net.trunk(torch.rand(2, 3, 8, 8)))
    scores, attention = scores_and_attention(features, net.head, torch.ones(2, 3))
    assert not walked
    (classification_loss(scores, torch.ones(2, 3)) + attention.sum()).backward()
    assert len(walked) == 1
