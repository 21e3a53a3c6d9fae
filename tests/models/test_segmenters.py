"""Segmentation networks: one interface, output stride 8, and weights from a classifier in the right places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from attnbn.config import ModelConfig
from attnbn.io.errors import InputError
from attnbn.models.build import build_network
from attnbn.models.segmenters import NETWORKS, BranchedHead, Segmenter, build_segmenter, grid_of
from attnbn.segment_config import SegmenterConfig


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torchvision VGG16 with random weights in a file (its last layers left out, which nobody reads)."""
    torch.manual_seed(1)
    state = {k: v for k, v in torchvision.models.vgg16().state_dict().items() if not k.startswith("classifier.6")}
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    safetensors.torch.save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("network", "size", "grid"),
    [("vgg16-largefov", 65, 9), ("deeplabv3-resnet50", 65, 9), ("squeezenet1_1", 96, 11), ("small", 64, 8)],
)
def test_every_network_gives_logits_at_stride_8(network: str, size: int, grid: int) -> None:
    built = build_segmenter(SegmenterConfig(network=network), 3)
    assert grid_of(built.network, size) == (grid, grid)
    with torch.no_grad():
        assert built.network.eval()(torch.randn(2, 3, size, size)).shape == (2, 4, grid, grid)
    assert built.fresh
    assert built.report is None


def test_vgg_at_321_has_the_originals_grid() -> None:
    with torch.device("meta"):
        network = build_segmenter(SegmenterConfig(), 20).network
        assert network(torch.zeros(1, 3, 321, 321)).shape == (1, 21, 41, 41)
        assert network(torch.zeros(1, 3, 241, 241)).shape[-2:] == (31, 31)


def test_largefov_is_the_originals() -> None:
    with torch.device("meta"):
        network = build_segmenter(SegmenterConfig(), 20).network
    convolutions = [m for m in network.trunk.modules() if isinstance(m, nn.Conv2d)]
    assert [c.dilation[0] for c in convolutions] == [1] * 10 + [2] * 3
    pools = [m for m in network.trunk.modules() if isinstance(m, nn.MaxPool2d)]
    assert [(p.kernel_size, p.stride) for p in pools] == [(3, 2)] * 3 + [(3, 1)] * 2
    assert isinstance(network.head, BranchedHead)
    first = [next(m for m in branch if isinstance(m, nn.Conv2d)) for branch in network.head.branches]
    assert [c.dilation[0] for c in first] == [6, 12, 18, 24]
    assert {c.out_channels for c in first} == {1024}


def test_logits_of_the_branches_are_added() -> None:
    head = BranchedHead(4, 6, 3, (1, 2), 0.5).eval()
    features = torch.randn(2, 4, 5, 5)
    assert torch.allclose(head(features), head.branches[0](features) + head.branches[1](features))


def test_vgg_weights_come_in_with_fc6_and_fc7_decimated(vgg: Path) -> None:
    built = build_segmenter(SegmenterConfig(weights=str(vgg)), 5)
    state, own = safetensors.torch.load_file(vgg), built.network.state_dict()
    assert torch.equal(own["trunk.28.weight"], state["features.28.weight"])
    fc6, fc7 = state["classifier.0.weight"], state["classifier.3.weight"]
    for branch in range(4):
        kernel = own[f"head.branches.{branch}.0.weight"]
        for unit, channel, row, column in ((0, 0, 0, 0), (7, 3, 1, 2), (1023, 511, 2, 2)):
            place = channel * 49 + 3 * row * 7 + 3 * column  # torchvision flattens 512×7×7
            assert kernel[unit, channel, row, column] == fc6[4 * unit, place]
        assert own[f"head.branches.{branch}.3.weight"][5, 9, 0, 0] == fc7[20, 36]
    # the last layers alone are new
    assert [layer.out_channels for layer in built.fresh] == [6] * 4
    assert built.report is not None
    assert not built.report.unused
    assert "head.branches.3.3.bias" in built.report.loaded


def test_weights_of_a_trained_classifier_fit(tmp_path: Path) -> None:
    trained = build_network(ModelConfig(backbone="squeezenet1_1"), 3).network
    path = tmp_path / "run.safetensors"
    safetensors.torch.save_file({f"modules.network.{k}": v for k, v in trained.state_dict().items()}, path)
    built = build_segmenter(SegmenterConfig(network="squeezenet1_1", weights=str(path)), 3)
    own = built.network.state_dict()
    for name, value in trained.trunk.state_dict().items():
        assert torch.equal(own[f"trunk.{name}"], value)


def test_a_network_goes_on_from_one_of_its_own_kind(tmp_path: Path) -> None:
    config = SegmenterConfig(network="small")
    torch.manual_seed(1)
    first = build_segmenter(config, 3).network
    path = tmp_path / "seg.safetensors"
    safetensors.torch.save_file({f"modules.network.{k}": v for k, v in first.state_dict().items()}, path)
    again = build_segmenter(replace(config, weights=str(path)), 3)
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in again.network.state_dict().items())
    assert again.fresh == []


def test_weights_of_another_architecture_are_refused(vgg: Path) -> None:
    with pytest.raises(InputError, match="of its 25 convolutions"):
        build_segmenter(SegmenterConfig(network="squeezenet1_1", weights=str(vgg)), 3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SegmenterConfig(network="unet"), f"expected model.network to be one of {', '.join(NETWORKS)}, got 'unet'"),
        (SegmenterConfig(network="small", freeze=40), "expected model.freeze below the 11 layers of small's trunk"),
        (SegmenterConfig(network="small", weights="nowhere.pth"), "found no file: nowhere.pth"),
    ],
)
def test_bad_settings_are_named(config: SegmenterConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_segmenter(config, 3)


def test_an_image_too_small_for_the_network_is_refused() -> None:
    network = build_segmenter(SegmenterConfig(network="squeezenet1_1"), 3).network
    with pytest.raises(InputError, match="expected data.size large enough for the network, got 4"):
        grid_of(network, 4)


def test_frozen_layers_get_no_gradient_and_stay_in_evaluation() -> None:
    trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    network = Segmenter(trunk, nn.Conv2d(4, 2, 1), freeze=2).train()
    assert [layer.training for layer in trunk] == [False, False, True]
    network(torch.randn(2, 3, 4, 4)).sum().backward()
    assert [p.grad is None for p in trunk.parameters()] == [True] * 4 + [False] * 2
