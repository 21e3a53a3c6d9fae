"""A look at a network changes nothing about it nor about the process, also when an exception passes through."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnbn.attention import attention_from_scores, class_attention
from attnbn.inference.layers import captured
from attnbn.inference.modes import evaluating
from attnbn.inference.predict import predict
from attnbn.inference.segment import segment_photographs
from attnbn.models.heads import PooledHead
from attnbn.models.network import AttnBN, TappedClassifier
from attnbn.segment_config import CrfConfig
from untouched import differences, global_state, network_state, untouched

CLASSES = 3
WANTED = torch.tensor([[1, 1, 0], [0, 1, 1]])

Call = Callable[[nn.Module, Tensor, Any], Any]


class Stopped(Exception):
    """What the tests raise."""


class BreaksBackward(torch.autograd.Function):
    """Passes its input through, and fails where a gradient comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise Stopped("in the inner gradient")


class Fuse(nn.Module):
    """Does nothing, or what a test has put in."""

    def __init__(self) -> None:
        super().__init__()
        self.act: list[Callable[[Tensor], Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.act[0](x) if self.act else x


def trunk() -> nn.Sequential:
    """With running statistics, dropout, an operation in place, a frozen layer and one in another mode than the rest."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), Fuse(), nn.Dropout(0.3),
        nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
    )  # fmt: skip


def pooled_head() -> nn.Module:
    rest = nn.Sequential(nn.Tanh(), Fuse(), nn.Dropout(0.5), nn.Linear(5, CLASSES))
    return PooledHead(nn.AdaptiveAvgPool2d(2), nn.Linear(8 * 4, 5), 8, rest)


def odd_head() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(8, 4, 3, padding=1), Fuse(), nn.Softplus(), nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )  # fmt: skip


def network(kind: str) -> nn.Module:
    """In evaluation, with gradients kept from an earlier step, a part frozen, and a hook of its owner's on a layer."""
    torch.manual_seed(1)
    if kind == "tapped":
        net: nn.Module = TappedClassifier(nn.Sequential(*trunk(), *odd_head()), "7")
    else:
        net = AttnBN(trunk(), pooled_head() if kind == "pooled" else odd_head(), freeze=1 if kind == "pooled" else 0)
    net(torch.rand(4, 3, 12, 12)).scores.sum().backward()
    next(layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)).requires_grad_(False)
    next(layer for layer in net.modules() if isinstance(layer, nn.Dropout)).register_forward_hook(lambda *_: None)
    return net.eval()


def through_forward(net: nn.Module, images: Tensor, wanted: Any) -> Any:
    return net(images, wanted).attention


def through_functions(net: nn.Module, images: Tensor, wanted: Any) -> Any:
    """The public functions, with scores and without; scores without a graph, as under ``inference_mode``, have no maps."""
    assert isinstance(net, AttnBN)
    maps = [class_attention(net.trunk(images), net.head, wanted)]
    if not torch.is_inference_mode_enabled():
        with torch.enable_grad():
            features = net.trunk(images)
            maps.append(attention_from_scores(features, net.head(features), wanted))
    return maps


def through_a_capture(net: nn.Module, images: Tensor, wanted: Any) -> Any:
    layers = ("1", "3", "last") if isinstance(net, TappedClassifier) else ("trunk.1", "trunk.3", "last")
    seen = captured(net, images, layers)
    return seen.maps(wanted(seen.scores) if callable(wanted) else wanted)


CALLS: dict[str, Call] = {"forward": through_forward, "functions": through_functions, "capture": through_a_capture}
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gradients": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
CASES = [
    (kind, call)
    for kind in ("pooled", "odd", "tapped")
    for call in CALLS
    if (kind, call) != ("tapped", "functions")  # it has no head of its own
]


def broken(net: nn.Module, how: str) -> tuple[Any, RemovableHandle | None]:
    """Make the next look fail; the wanted classes to ask with, and a hook to take away afterwards."""
    fuses = [module for module in net.modules() if isinstance(module, Fuse)]

    def stop(*_: object) -> Any:
        raise KeyboardInterrupt if how == "a Ctrl-C in a hook" else Stopped(how)

    if how == "in the trunk":
        fuses[0].act.append(stop)
    elif how == "in the head":
        fuses[-1].act.append(stop)
    elif how == "in the inner gradient":
        fuses[-1].act.append(lambda x: BreaksBackward.apply(x) if torch.is_grad_enabled() else x)  # type: ignore[no-any-return]
    elif how == "a Ctrl-C in a hook":
        return WANTED, fuses[-1].register_forward_hook(stop)
    elif how == "choosing the classes":
        return stop, None
    return WANTED, None


FAULTS = ["in the trunk", "in the head", "in the inner gradient", "a Ctrl-C in a hook", "choosing the classes"]
BOTH = ["gradients", "no_grad"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kind", "call"), CASES)
def test_a_look_leaves_no_trace(kind: str, call: str, mode: str) -> None:
    net = network(kind)
    images = torch.rand(2, 3, 12, 12)
    with MODES[mode](), untouched(net):
        for wanted in (WANTED, lambda scores: scores > scores.mean()):
            CALLS[call](net, images, wanted)


@pytest.mark.parametrize(("how", "mode"), [*product(FAULTS, BOTH), *product(FAULTS[2:3], list(MODES)[2:])])
@pytest.mark.parametrize(("kind", "call"), CASES)
def test_nor_does_one_that_fails(kind: str, call: str, mode: str, how: str) -> None:
    net = network(kind)
    images = torch.rand(2, 3, 12, 12)
    expected = CALLS[call](net, images, WANTED)
    before = [network_state(net), global_state()]
    wanted, hook = broken(net, how)
    with MODES[mode]():
        inside = global_state()
        with pytest.raises((Stopped, KeyboardInterrupt)):
            CALLS[call](net, images, wanted)
        assert not differences(inside, global_state())
    for fuse in net.modules():
        if isinstance(fuse, Fuse):
            fuse.act.clear()
    if hook is not None:
        hook.remove()
    assert not any(map(differences, before, [network_state(net), global_state()]))
    for mine, theirs in zip(CALLS[call](net, images, WANTED), expected, strict=True):
        assert torch.equal(mine, theirs)


LOOKS: list[dict[str, Any]] = [
    {},
    {"scales": (0.5, 1), "flip": True},
    {"scales": (1,), "layers": ("middle", "last"), "fuse": "product"},
    {"attend": "both", "workers": 1},
]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["pooled", "tapped"])
def test_prediction_amid_training_leaves_no_trace(make_pictures: Any, kind: str, look: dict[str, Any]) -> None:
    """Whether it is walked to its end, left after the first photograph, or fails."""
    net = network(kind).train()
    next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).eval()  # on purpose
    middle = "3" if kind == "tapped" else "trunk.3"
    how = look | {"layers": [middle if name == "middle" else name for name in look.get("layers", ("last",))]}

    def go() -> Any:
        return predict(net, make_pictures(4), size=16, batch_size=2, **how)

    with untouched(net):
        assert len(list(go())) == 4
    with untouched(net):
        part = go()
        next(part)
        part.close()
    for fault in FAULTS[:4]:
        before = network_state(net)
        _, hook = broken(net, fault)
        inside = global_state()
        with pytest.raises((Stopped, KeyboardInterrupt)):
            list(go())
        assert not differences(inside, global_state())
        for fuse in net.modules():
            if isinstance(fuse, Fuse):
                fuse.act.clear()
        if hook is not None:
            hook.remove()
        assert not differences(before, network_state(net))


@pytest.mark.parametrize("crf", [None, CrfConfig(iterations=2)])
def test_segmentation_amid_training_leaves_no_trace(make_pictures: Any, crf: CrfConfig | None) -> None:
    torch.manual_seed(0)
    fuse = Fuse()
    net = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), nn.BatchNorm2d(5), nn.Dropout(0.5), fuse, nn.Conv2d(5, 4, 1))
    net(torch.rand(2, 3, 16, 16)).sum().backward()
    with untouched(net):
        list(segment_photographs(net, make_pictures(3), size=16, scales=(0.5, 1), flip=True, crf=crf))
    before = network_state(net)
    _, hook = broken(net, "a Ctrl-C in a hook")
    assert hook is not None
    inside = global_state()
    with pytest.raises(KeyboardInterrupt):
        list(segment_photographs(net, make_pictures(3), size=16, crf=crf))
    hook.remove()
    assert not differences(inside, global_state()) and not differences(before, network_state(net))


def test_in_training_attention_moves_what_a_plain_pass_moves_and_nothing_else() -> None:
    """Running statistics and random numbers go on once, whether maps are asked for or not."""
    images = torch.rand(4, 3, 12, 12)
    for kind in ("pooled", "odd", "tapped"):
        after = []
        for wanted in (None, torch.ones(4, CLASSES), lambda scores: scores > 0):
            net = network(kind).train()
            torch.manual_seed(7)
            scores = net(images, wanted).scores
            buffers = {name: value.clone() for name, value in net.named_buffers()}
            after.append((scores.detach(), torch.get_rng_state(), buffers))
        for scores, state, buffers in after[1:]:
            assert torch.equal(scores, after[0][0]) and torch.equal(state, after[0][1])
            assert all(torch.equal(value, after[0][2][name]) for name, value in buffers.items())


class Oddly(nn.Module):
    """Cannot be put into evaluation."""

    def train(self, mode: bool = True) -> Oddly:
        if not mode:
            raise Stopped("no evaluation")
        return super().train(mode)


def test_modes_come_back_where_a_part_cannot_be_evaluated() -> None:
    net = nn.Sequential(nn.Dropout(), Oddly(), nn.Dropout().eval())
    with pytest.raises(Stopped), evaluating(net):
        pass
    assert [part.training for part in net.modules()] == [True, True, True, False]


CLASSIFIERS = {
    "resnet18": "layer4", "squeezenet1_1": "features", "googlenet": "inception5b",
    "shufflenet_v2_x0_5": "conv5", "mobilenet_v2": "features", "mobilenet_v3_small": "features",
    "mnasnet0_5": "layers", "regnet_x_400mf": "trunk_output", "efficientnet_b0": "features",
}  # fmt: skip
"""One of each family of torchvision's classifiers that is quickly built, and its last layer with places."""


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_torchvision_classifiers(name: str) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=4, **options)
    net = TappedClassifier(model, CLASSIFIERS[name]).train()
    model.eval().get_submodule(CLASSIFIERS[name]).train(name != "googlenet")  # a mode of its own, to be left as it is
    images, wanted = torch.rand(2, 3, 64, 64), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]])
    with evaluating(net), untouched(net):
        expected = net(images, wanted).attention.detach()
        assert expected.shape[0] == 3 and expected.isfinite().all()
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(net(images, wanted).attention.detach(), expected)
                torch.testing.assert_close(captured(net, images).maps(wanted)[0], expected)
    hook = model.get_submodule(CLASSIFIERS[name]).register_forward_pre_hook(_interrupt)
    with untouched(net), pytest.raises(KeyboardInterrupt):
        net(images, wanted)
    hook.remove()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_network_that_gives_more_than_logits_is_refused_in_one_line() -> None:
    model = torchvision.models.googlenet(weights=None, init_weights=False, num_classes=4)
    net = TappedClassifier(model.train(), "inception5b")
    with pytest.raises(ValueError, match="expected logits B×N of GoogLeNet, got GoogLeNetOutputs: a network with"):
        net(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
    pair = TappedClassifier(nn.Sequential(nn.LSTM(4, 4), nn.Module()), "0")
    pair.classifier.forward = lambda x: pair.classifier[0](x)[0][:, 0]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="expected layer '0' to give features"):
        pair(torch.rand(2, 3, 4), torch.tensor([0, 1]))
    assert not any(module._forward_hooks for part in (net, pair) for module in part.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_a_graph_ends_with_its_last_reference(fails: bool) -> None:
    """No cycle holds features, scores or maps until the collector comes: also not after an exception."""
    gc.collect()
    gc.disable()
    try:
        for kind, call in CASES:
            kept = references(network(kind), CALLS[call], fails)
            assert len(kept) > 8
            assert not [kind for reference in kept if reference() is not None], call
    finally:
        gc.enable()


def references(net: nn.Module, look: Call, fails: bool) -> list[weakref.ref[Tensor]]:
    """To what every layer gave in a look, and to its maps."""
    kept: list[weakref.ref[Tensor]] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(weakref.ref(output))

    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    wanted, _ = broken(net, "in the inner gradient" if fails else "")
    try:
        kept += [weakref.ref(one) for one in look(net, torch.rand(2, 3, 12, 12), wanted)]
        assert not fails
    except Stopped:
        assert fails
    return kept
