"""A hundred looks and steps in flat memory; ``benchmarks/memory.py`` does the same for ten thousand.

Three counts, each exact where a process's size is not: blocks that Python has given out, bytes that the C library has
(tensors, graphs), objects that the collector watches. One short text kept for each call breaks the bounds.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from attnbn.attention import class_attention
from attnbn.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.experiments.train import train
from attnbn.inference.layers import captured
from attnbn.inference.predict import predict
from attnbn.models.network import TappedClassifier
from attnbn.segmentation.crf import dense_crf
from attnbn.segmentation.growing import grow_seeds
from conftest import tiny_network

CALLS, WINDOWS = 30, 24
BOUNDS = (0.5, 64.0, 0.5)
"""Blocks, bytes, objects a call. A text kept for each call is 1 block, the smallest tensor some hundred bytes."""


@pytest.fixture(autouse=True, scope="module")
def _only_what_is_new() -> Iterator[None]:
    """The libraries' hundred thousand objects need not be walked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]  # fmt: skip


def in_use() -> int:
    """Bytes that the C library has given out; 0 where it does not tell."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, TypeError):
        return 0
    ask.restype = _Mallinfo
    told = ask()
    return int(told.uordblks + told.hblkhd)


def counts() -> tuple[int, ...]:
    gc.collect()
    return sys.getallocatedblocks(), in_use(), len(gc.get_objects())


def growth(before: tuple[int, ...], after: tuple[int, ...], calls: int) -> tuple[float, ...]:
    return tuple((b - a) / calls for a, b in zip(before, after, strict=True))


def is_flat(grown: tuple[float, ...], parts: int = 1) -> bool:
    """No more than the bounds up, nor much down: what one cache gives back must not hide what another place keeps.

    A call of several parts may move as many times more blocks; bytes and objects are as sharp for all.
    """
    bounds = (BOUNDS[0] * parts, *BOUNDS[1:])
    return all(-8 * bound < value < bound for value, bound in zip(grown, bounds, strict=True))


def grows(call: Callable[[], object], calls: int = CALLS, parts: int = 1) -> list[tuple[float, ...]]:
    """Growth for each call, window after window, until one is flat; empty once that is so.

    What warms up (PyTorch's and Python's own caches) comes to an end, though it may take a hundred calls of many parts;
    a leak grows in every window.
    """
    for _ in range(calls):
        call()
    windows, before = [], counts()
    for _ in range(WINDOWS):
        for _ in range(calls):
            call()
        after = counts()
        windows.append(growth(before, after, calls))
        if is_flat(windows[-1], parts):
            return []
        before = after
    return windows


LEAKS: dict[str, Callable[[list[Any]], None]] = {
    "a name": lambda kept: kept.append(f"photograph {len(kept)}"),
    "a scalar tensor": lambda kept: kept.append(torch.zeros(())),
    "a graph": lambda kept: kept.append((torch.ones(2, requires_grad=True) * 2).grad_fn),
    "a hook": lambda kept: kept[0].register_forward_hook(lambda *_: None),
}


@pytest.mark.skipif(not in_use(), reason="this C library does not count what it has given out")
@pytest.mark.parametrize("what", LEAKS)
def test_the_bounds_see_the_smallest_leak(what: str) -> None:
    kept: list[Any] = [nn.Identity()]
    assert len(grows(lambda: LEAKS[what](kept))) == WINDOWS
    assert not grows(lambda: LEAKS[what]([nn.Identity()]))


def test_the_bounds_see_a_graph_that_lives_on() -> None:
    """The fault that they are for: a loss kept for the log with its graph."""
    net, losses = tiny_network(hidden=5), []

    def step() -> None:
        losses.append(net(torch.ones(1, 3, 8, 8), torch.tensor([1])).attention.sum())

    assert len(grows(step)) == WINDOWS


IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
NETWORKS = {
    "mean": lambda: tiny_network(),
    "hidden": lambda: tiny_network(hidden=5, dropout=0.5),
    "tapped": lambda: TappedClassifier(nn.Sequential(*tiny_network(hidden=5).children()), "0"),
}


def function(net: nn.Module) -> None:
    features = net.trunk(IMAGES) if hasattr(net, "trunk") else net.classifier[0](IMAGES)
    head = net.head if hasattr(net, "head") else net.classifier[1]
    class_attention(features, head, torch.ones(2, 3))


def looked(net: nn.Module) -> None:
    with torch.no_grad():
        net(IMAGES, lambda scores: scores > scores.mean())


def captures(net: nn.Module) -> None:
    layers = ("0.1", "last") if isinstance(net, TappedClassifier) else ("trunk.1", "last")
    seen = captured(net, IMAGES, layers)
    seen.maps(torch.ones(2, 3))


def trained(net: nn.Module) -> None:
    output = net(IMAGES, torch.ones(2, 3))
    (output.attention.square().mean() + output.scores.sum()).backward()
    net.zero_grad()


def failing(net: nn.Module) -> None:
    try:
        net(IMAGES, lambda scores: scores[:, :2])
    except ValueError:
        return
    raise AssertionError("expected a refusal")


@pytest.mark.parametrize("call", [function, looked, captures, trained, failing])
@pytest.mark.parametrize("kind", NETWORKS)
def test_attention_in_flat_memory(kind: str, call: Callable[[nn.Module], None]) -> None:
    net = NETWORKS[kind]()
    assert not grows(lambda: call(net))


class Grey(ImageDataset):
    """Photographs of one colour, made as they are asked for."""

    def __init__(self) -> None:
        super().__init__(("a", "b", "c"), [str(i) for i in range(4)], None)

    def __getitem__(self, index: int) -> Sample:
        image = tv_tensors.Image(torch.full((3, 20, 24), index, dtype=torch.uint8))
        return Sample(image, None, None, None, self.names[index])


def test_prediction_in_flat_memory() -> None:
    net, dataset = tiny_network(hidden=5), Grey()

    def call() -> None:
        for _ in predict(net, dataset, size=12, scales=(1, 1.5), flip=True, layers=("trunk.1", "last"), batch_size=3):
            pass

    assert not grows(call, 10, parts=4)  # photographs


def test_segmentation_in_flat_memory() -> None:
    """A CRF of both kinds and growing, as in a step of DSRG, on photographs of more sizes than are remembered."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=generator, dtype=torch.uint8)
    probabilities = torch.rand(2, 4, 16, 16, generator=generator).softmax(1)

    def call() -> None:
        for side in range(10, 16):
            part = images[..., :side], probabilities[..., :side]
            refined = [dense_crf(*part, iterations=1, method=method) for method in ("exact", "lattice")]
            grow_seeds(refined[0] > 0.3, refined[1], torch.ones(2, 3))

    assert not grows(call, 4, parts=12)


def test_training_in_flat_memory(tmp_path: Path) -> None:
    """All of Eq. 7 through the loop, checkpoints, metrics and both discriminator's and network's optimiser included."""
    settings = RunConfig(
        data=DataConfig(source="scenes:source?count=20", target="scenes:target?count=22", size=64),
        model=ModelConfig(backbone="small", discriminator_width=4),
        training=TrainingConfig(steps=121, batch_size=2, checkpoint_every=20, checkpoint_share=1, log_every=1),
        output=str(tmp_path / "run"),
        device="cpu",
        workers=0,
    )
    seen: list[tuple[int, ...]] = []

    def watch(progress: Any) -> None:
        if progress.step % 20 == 0:
            seen.append(counts())

    train(settings, watch=watch)
    windows = [growth(*pair, 20) for pair in pairwise(seen)]
    assert any(is_flat(window, parts=5) for window in windows), windows
