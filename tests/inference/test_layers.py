"""Attention of any layer: right maps, and nothing left behind in the network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from attnbn.attention import class_attention, layer_attention
from attnbn.inference.layers import captured, find_layers
from attnbn.io.errors import InputError
from attnbn.models.network import AttnBN, TappedClassifier
from conftest import tiny_network


def tiny_classifier(inplace: bool = True) -> nn.Sequential:
    """Layers of several sizes, with pooling, batch normalisation and operations in place between them."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8), nn.ReLU(inplace), nn.Conv2d(8, 8, 3, stride=2), nn.Softplus(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def networks() -> list[tuple[nn.Module, str]]:
    """Each with a name other than ``last`` for its F."""
    return [
        (tiny_network(hidden=5), "trunk.3"),
        (tiny_network(), "trunk"),
        (AttnBN(nn.Conv2d(3, 5, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))), "trunk"),
        (TappedClassifier(tiny_classifier(), "3"), "3"),
    ]


def find_root(net: nn.Module) -> nn.Module:
    return net.classifier if isinstance(net, TappedClassifier) else net


def by_definition(tail: Callable[[Tensor], Tensor], features: Tensor, label: int) -> Tensor:
    """Eq. 1-2 for one image with its own autograd pass."""
    leaf = features.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(tail(leaf * 1)[0, label], leaf)  # not the leaf: it may be changed in place
    return (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()[0].detach()


def test_every_layer_equals_the_definition() -> None:
    net = tiny_network(hidden=5, width=6).eval()
    layers = list(net.trunk)
    images, wanted = torch.rand(3, 3, 12, 12), torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1]])
    names = ("trunk.0", "trunk.1", "trunk.2", "last")
    seen = captured(net, images, names).maps(wanted)
    torch.testing.assert_close(captured(net, images, names).scores, net(images).scores)
    for maps, upto in zip(seen, (1, 2, 3, 4), strict=True):
        below, above = nn.Sequential(*layers[:upto]), nn.Sequential(*layers[upto:], net.head)
        for got, (b, c) in zip(maps, wanted.nonzero().tolist(), strict=True):
            expected = by_definition(above, below(images[b : b + 1]), c)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.max()))
    assert all(float(maps.max()) > 0 for maps in seen)


def test_each_layer_equals_pytorch_grad_cam() -> None:
    peer = pytest.importorskip("pytorch_grad_cam", reason="the oracle comes with the dev extra")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(1)
    model = tiny_classifier(inplace=False)  # in place, the peer mixes a layer's gradient with the next one's output
    images, classes = torch.rand(2, 3, 20, 20), torch.tensor([1, 3])
    names = ("0", "1", "2", "4", "6", "7")
    seen = captured(TappedClassifier(model, "7"), images, names).maps(nn.functional.one_hot(classes, 4))
    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    for name, maps in zip(names, seen, strict=True):
        with peer.GradCAM(model=model, target_layers=[model.get_submodule(name)]) as cam:
            cam(input_tensor=images, targets=targets)
            kept = [t[0].numpy() for t in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)]
            theirs = torch.from_numpy(cam.get_cam_image(images, None, targets, *kept, False)).relu()
        assert float(maps.max()) > 0
        torch.testing.assert_close(maps / maps.max(), theirs / maps.max(), atol=1e-5, rtol=1e-5)


def test_a_layer_before_an_operation_in_place_is_read_after_it() -> None:
    torch.manual_seed(1)
    net, images = TappedClassifier(tiny_classifier(), "7"), torch.rand(2, 3, 20, 20)
    before, after = captured(net, images, ("4", "5")).maps(torch.ones(2, 4))
    assert torch.equal(before, after)


def test_the_last_layer_is_the_networks_own_attention() -> None:
    images, wanted = torch.rand(2, 3, 12, 12), torch.tensor([[1, 0, 1], [0, 1, 0]])
    for net, name in networks():
        net.eval()
        chosen = wanted if not isinstance(net, TappedClassifier) else nn.functional.pad(wanted, (0, 1))
        with torch.no_grad():
            expected = net(images, chosen)
        for names in (("last",), (name,)):
            seen = captured(net, images, names)
            torch.testing.assert_close(seen.scores.detach(), expected.scores)
            torch.testing.assert_close(seen.maps(chosen)[0], expected.attention)


def test_classes_may_be_chosen_later_and_more_than_once() -> None:
    net = tiny_network(hidden=5).eval()
    images = torch.rand(2, 3, 8, 8)
    seen = captured(net, images)
    everything = seen.maps(torch.ones(2, 3))[0].reshape(2, 3, 4, 4)
    torch.testing.assert_close(seen.maps(torch.tensor([[0, 0, 1], [1, 0, 0]]))[0], everything[[0, 1], [2, 0]])
    assert seen.maps(torch.zeros(2, 3))[0].shape == (0, 4, 4)


def test_sigmoid_networks_keep_their_sigmoid() -> None:
    net = tiny_network().eval()
    net.activation = "sigmoid"
    images, wanted = torch.rand(1, 3, 8, 8), torch.ones(1, 3)
    torch.testing.assert_close(captured(net, images).maps(wanted)[0], net(images, wanted).attention.detach())


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_leaves_no_gradient_mode_or_hook(mode: Callable[[], torch.autograd.grad_mode.no_grad]) -> None:
    for net, _ in networks():
        below = [name for name in ("1", "trunk.0") if name in dict(find_root(net).named_modules())]
        modes = [m.training for m in net.modules()]
        before = {k: v.clone() for k, v in net.state_dict().items()}
        with mode():
            state = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            seen = captured(net, torch.rand(2, 3, 12, 12), (*below, "last"))
            maps = seen.maps(torch.ones_like(seen.scores))
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == state
        assert not any(m.requires_grad for m in maps)
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        assert [m.training for m in net.modules()] == modes
        assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_an_exception_amid_the_pass_leaves_nothing_either() -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    net = TappedClassifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Breaks()), "1").eval()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            with pytest.raises(RuntimeError, match="broken"):
                captured(net, torch.rand(1, 3, 8, 8), ("0", "last"))
            assert torch.is_grad_enabled() is grad
    with pytest.raises(InputError, match="expected --layers to name layers"):
        captured(net, torch.rand(1, 3, 8, 8), ("0", "nowhere"))
    assert not any(m._forward_hooks for m in net.modules())


def test_branches_that_do_not_meet_before_their_layers() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.left(x).relu() * self.right(x).sigmoid())

    net = TappedClassifier(Fork().requires_grad_(False).eval(), "left")
    images = torch.rand(2, 3, 8, 8)
    both = captured(net, images, ("left", "right")).maps(torch.ones(2, 2))
    for name, maps in zip(("left", "right"), both, strict=True):
        torch.testing.assert_close(captured(net, images, (name,)).maps(torch.ones(2, 2))[0], maps)
    net.requires_grad_(True)
    with torch.inference_mode():  # the right branch begins at the images when the graph has begun on the left
        inside = captured(net, images.clone(), ("left", "right")).maps(torch.ones(2, 2))
    torch.testing.assert_close(inside, both)


def test_a_real_network_that_works_in_place() -> None:
    torch.manual_seed(3)
    model = torchvision.models.DenseNet(4, (2, 2, 2, 2), 8, num_classes=5).eval().requires_grad_(False)
    net = TappedClassifier(model, "features")
    images, wanted = torch.rand(2, 3, 64, 64), torch.ones(2, 5)
    seen = captured(net, images, ("features.denseblock3", "features.denseblock4", "last")).maps(wanted)
    assert [tuple(m.shape) for m in seen] == [(10, 4, 4), (10, 2, 2), (10, 2, 2)]
    for layer, maps in zip(("features.denseblock3", "features.denseblock4", "features"), seen, strict=True):
        expected = TappedClassifier(model, layer)(images, wanted).attention.detach()
        assert float(expected.max()) > 0
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_bad_layers() -> None:
    net = tiny_network()
    message = r"layers of the network \(last, or such as trunk.1, trunk.2, trunk.3\), got 'trunk.9'"
    with pytest.raises(InputError, match=message):
        find_layers(net, ("last", "trunk.9"))
    with pytest.raises(InputError, match=r"such as 8, 9, 10\), got ''"):
        find_layers(TappedClassifier(tiny_classifier(), "6"), ("",))
    with pytest.raises(InputError, match="expected an AttnBN network.*got Linear"):
        find_layers(nn.Linear(2, 2), ("last",))
    with pytest.raises(InputError, match=r"features B×C×h×w once in a pass, got --layers head.first"):
        captured(net, torch.rand(1, 3, 8, 8), ("last", "head.first"))
    shared = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.Conv2d(4, 4, 3), shared, nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(InputError, match="once in a pass, got --layers 1"):
        captured(TappedClassifier(twice, "2"), torch.rand(1, 3, 8, 8), ("1",))


def test_layer_attention_is_class_attention_for_one_layer_and_wants_a_graph() -> None:
    net = tiny_network(hidden=5)
    features = net.trunk(torch.rand(2, 3, 8, 8))
    scores = net.head(features)
    expected = class_attention(features, net.head, torch.tensor([2, 0]), scores)
    (maps,) = layer_attention([features], scores, torch.tensor([2, 0]))
    torch.testing.assert_close(maps, expected)
    weights = list(net.parameters())[:-1]  # it can be trained through, as that can; the last bias moves no gradient
    for a, b in zip(*(torch.autograd.grad(m.square().sum(), weights, retain_graph=True) for m in (maps, expected)),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="with a graph to the features"):
        layer_attention([features, features.detach()], scores, torch.tensor([2, 0]))
