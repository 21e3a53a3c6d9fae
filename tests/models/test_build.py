"""Networks from settings; weights from files, with a report of what matched."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from attnbn.config import ModelConfig
from attnbn.io.errors import InputError
from attnbn.models.build import build_discriminator, build_network, feature_shape
from attnbn.models.network import TappedClassifier


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    return path


def test_torchvision_weights_from_a_file(squeezenet: Path, tmp_path: Path) -> None:
    state = torch.load(squeezenet, weights_only=True)
    built = build_network(ModelConfig(backbone="squeezenet1_1", weights=str(squeezenet)), 5)
    assert built.report is not None
    assert (len(built.report.loaded), built.report.missing, built.report.unused) == (52, [], [])
    assert torch.equal(built.network.trunk[0].weight, state["features.0.weight"])
    assert built.network.head.first.out_features == 5
    assert built.fresh == [built.network.head.first]
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    again = build_network(ModelConfig(backbone="squeezenet1_1", weights=str(tmp_path / "w.safetensors")), 5)
    assert torch.equal(again.network.trunk[0].weight, state["features.0.weight"])
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "nested.pth")
    with pytest.raises(InputError, match="expected a state dict"):
        build_network(ModelConfig(backbone="squeezenet1_1", weights=str(_plain(tmp_path, {"epoch": 3}))), 5)
    nested = build_network(ModelConfig(backbone="squeezenet1_1", weights=str(tmp_path / "nested.pth")), 5)
    assert torch.equal(nested.network.trunk[0].weight, state["features.0.weight"])


def _plain(folder: Path, value: object) -> Path:
    torch.save(value, folder / "plain.pth")
    return folder / "plain.pth"


def test_our_own_weights_bring_the_last_layer_too(tmp_path: Path) -> None:
    first = build_network(ModelConfig(backbone="small"), 4)
    safetensors.torch.save_file(first.network.state_dict(), tmp_path / "own.safetensors")
    same = build_network(ModelConfig(backbone="small", weights=str(tmp_path / "own.safetensors")), 4)
    assert same.fresh == []
    assert torch.equal(same.network.head.first.weight, first.network.head.first.weight)
    other = build_network(ModelConfig(backbone="small", weights=str(tmp_path / "own.safetensors")), 6)
    assert other.fresh == [other.network.head.first]


@pytest.mark.parametrize("head", ["keep", "new"])
def test_which_layers_of_vgg_are_fresh(head: str) -> None:
    with torch.device("meta"):
        built = build_network(ModelConfig(backbone="vgg16", head=head), 20)
    linear = [m for m in built.network.head.modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [4096, 4096, 20]
    assert len(built.fresh) == (1 if head == "keep" else 3)
    assert linear[-1] in built.fresh


def test_the_papers_feature_map() -> None:
    with torch.device("meta"):
        network = build_network(ModelConfig(backbone="vgg16"), 20).network
        assert network.trunk(torch.zeros(1, 3, 224, 224)).shape == (1, 512, 14, 14)


def test_any_torchvision_classifier_by_its_layer() -> None:
    built = build_network(ModelConfig(backbone="mobilenet_v3_small", layer="features"), 3)
    assert isinstance(built.network, TappedClassifier)
    assert feature_shape(built.network, 96) == (576, 3, 3)
    assert built.network(torch.rand(2, 3, 96, 96)).scores.shape == (2, 3)
    discriminator = build_discriminator(ModelConfig(discriminator_width=2), built.network, 96)
    assert discriminator(torch.rand(1, 576, 3, 3)).shape[1] == 1


def test_frozen_layers_stay_as_they_are() -> None:
    built = build_network(ModelConfig(backbone="resnet18", freeze=5), 3)
    network = built.network.train()
    frozen = [p for p in network.trunk.parameters() if not p.requires_grad]
    assert len(frozen) == sum(1 for layer in list(network.trunk.children())[:5] for _ in layer.parameters())
    before = network.trunk.bn1.running_mean.clone()
    network(torch.rand(2, 3, 64, 64)).scores.sum().backward()
    assert torch.equal(network.trunk.bn1.running_mean, before)
    assert not torch.equal(network.trunk.layer4[0].bn1.running_mean, torch.zeros(512))
    assert all(p.grad is None for p in frozen)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": "vgg61"}, "expected model.backbone to be one of vgg16, .* got 'vgg61'"),
        ({"backbone": "densenet121"}, "together with model.layer"),
        ({"backbone": "densenet121", "layer": "nowhere"}, "model.layer: expected the name of a layer of DenseNet"),
        ({"backbone": "resnet18", "weights": "IMAGENET1K_V9"}, "one of IMAGENET1K_V1, DEFAULT for resnet18"),
        ({"backbone": "small", "weights": "IMAGENET1K_V1"}, "torchvision has no weights for it"),
        ({"backbone": "resnet18", "weights": "no/such.pth"}, "found no file: no/such.pth"),
        ({"backbone": "resnet18", "freeze": 99}, "below the 8 layers"),
    ],
)
def test_bad_settings(config: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(ModelConfig(**config), 5)


def test_weights_of_another_architecture_cut_off_or_with_code(squeezenet: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="weights of this architecture, but only .* check model.backbone: .*squeezenet.pth"
    ):
        build_network(ModelConfig(backbone="resnet18", weights=str(squeezenet)), 5)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(squeezenet.read_bytes()[:50_000])
    with pytest.raises(InputError, match="cut off.*cut.pth"):
        build_network(ModelConfig(backbone="squeezenet1_1", weights=str(cut)), 5)
    cut_tensors = tmp_path / "cut.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(100)}, cut_tensors)
    cut_tensors.write_bytes(cut_tensors.read_bytes()[:-8])
    with pytest.raises(InputError, match="cut off.*cut.safetensors"):
        build_network(ModelConfig(backbone="squeezenet1_1", weights=str(cut_tensors)), 5)
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(InputError, match="hold code, which is never executed.*evil.pth"):
        build_network(ModelConfig(backbone="squeezenet1_1", weights=str(evil)), 5)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "resnet50", "small", "vgg16"])
def test_without_its_last_halving_a_trunk_sees_the_same_at_twice_the_places(name: str) -> None:
    torch.manual_seed(0)
    coarse = build_network(ModelConfig(backbone=name), 3).network.eval().get_submodule("trunk")
    torch.manual_seed(0)
    fine = build_network(ModelConfig(backbone=name, dilate=True), 3).network.eval().get_submodule("trunk")
    images = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        before, after = coarse(images), fine(images)
    assert after.shape[-1] in (2 * before.shape[-1], 2 * before.shape[-1] + 1)
    if name in ("vgg16", "small"):
        return  # an even pooling has no centre, a 3×3 one takes its place; group statistics see other places
    side = before.shape[-1]
    # the coarse places are among the fine ones, at even or (where pooling rounds up) odd indices
    gaps = [
        (before - after[..., i::2, j::2][..., :side, :side])[..., 1:-1, 1:-1].abs().max().item()
        for i in (0, 1)
        for j in (0, 1)
    ]
    assert min(gaps) < 1e-4 * before.abs().max().item()
