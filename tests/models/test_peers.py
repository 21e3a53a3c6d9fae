"""Our maps equal those of pytorch-grad-cam and torch-cam on torchvision's models."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from attnbn.models.backbones import BACKBONES
from attnbn.models.network import AttnBN, TappedClassifier

CASES = [
    ("resnet18", "layer4"),
    ("squeezenet1_1", "features"),
    ("densenet121", "features.denseblock4"),
    ("mobilenet_v3_small", "features"),
]


def classifier(name: str) -> nn.Module:
    torch.manual_seed(2)
    return torchvision.models.get_model(name, num_classes=7).eval()


def ours(model: nn.Module, layer: str, images: Tensor, classes: Tensor) -> Tensor:
    with torch.no_grad():
        return TappedClassifier(model, layer)(images, classes).attention


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_equals_pytorch_grad_cam(name: str, layer: str) -> None:
    peer = pytest.importorskip("pytorch_grad_cam", reason="the oracle comes with the dev extra")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images, classes = classifier(name), torch.rand(2, 3, 96, 96), torch.tensor([3, 5])
    maps = ours(model, layer, images, classes)
    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    with peer.GradCAM(model=model, target_layers=[model.get_submodule(layer)]) as cam:
        cam(input_tensor=images, targets=targets)
        # its public result is stretched to [0, 1]; this is what it stretches
        seen = [t[0].numpy() for t in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)]
        theirs = torch.from_numpy(cam.get_cam_image(images, None, targets, *seen, False)).relu()
    scale = float(maps.max())
    assert scale > 0
    torch.testing.assert_close(maps / scale, theirs / scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_equals_torch_cam(name: str, layer: str) -> None:
    methods = pytest.importorskip("torchcam.methods", reason="the oracle comes with the dev extra")
    model, images, classes = classifier(name), torch.rand(2, 3, 96, 96), [3, 5]
    maps = ours(model, layer, images, torch.tensor(classes))
    with methods.GradCAM(model, target_layer=layer) as cam:
        scores = model(images.requires_grad_())
        theirs = cam(classes, scores, normalized=False)[0].detach()
    scale = float(maps.max())
    assert scale > 0
    torch.testing.assert_close(maps / scale, theirs / scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vgg16_bn"])
def test_the_split_equals_torchvision(name: str) -> None:
    torch.manual_seed(1)
    whole = torchvision.models.get_model(name).eval()
    torch.manual_seed(1)
    backbone = BACKBONES[name]()
    split = AttnBN(backbone.trunk, backbone.head).eval()
    if name == "squeezenet1_1":  # ours drops the ReLU that keeps scores from being negative
        whole.classifier[2] = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(split(images).scores, whole(images), atol=1e-5, rtol=1e-5)
