"""Seeded region growing as a task: the two losses, what they read, and the optimiser's four kinds of parameters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbn.config import Phase, TrainingConfig
from attnbn.data.transforms import normalize
from attnbn.segment_config import CrfConfig, DsrgConfig
from attnbn.segmentation.growing import grow_seeds
from attnbn.segmentation.losses import boundary_loss, seeding_loss
from attnbn.tasks.dsrg import CueBatch, Dsrg, refine
from attnbn.tasks.supervised import MaskBatch, Supervised

CRF = CrfConfig(iterations=3, unary="linear", shrink=4.0)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 4, 1))


@pytest.fixture
def batch() -> CueBatch:
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    cues = torch.zeros(2, 4, 8, 8, dtype=torch.bool)
    cues[:, 0, :2] = True
    cues[0, 1, 4:6, 4:6] = True
    cues[1, 3, 6:, 6:] = True
    return CueBatch(image, torch.tensor([[1.0, 0, 0], [0, 0, 1]]), cues)


def task(dsrg: DsrgConfig, net: nn.Module | None = None, fresh: Sequence[nn.Module] = ()) -> Dsrg:
    return Dsrg(net or network(), fresh, dsrg, TrainingConfig(momentum=0.9, weight_decay=5e-4, head_lr=10))


def terms(one: Dsrg, batch: CueBatch) -> dict[str, Tensor]:
    ((name, found),) = one.losses({"target": batch}, Phase(), 0)
    assert name == "network"
    return {key: term.weight * term.value() for key, term in found.items()}


def probabilities(net: nn.Module, batch: CueBatch) -> Tensor:
    raw = net(normalize(batch.image)).softmax(1) + 1e-4  # the original's softmax layer
    return raw / raw.sum(1, keepdim=True)


def test_the_terms_are_the_seeding_and_the_boundary_loss_on_the_grown_seeds(batch: CueBatch) -> None:
    dsrg = DsrgConfig(seeding=2.0, boundary=0.5, foreground=0.2, background=0.2, crf=CRF)
    one = task(dsrg)
    p = probabilities(one.network, batch)
    q = refine(batch.image, p.detach(), CRF)
    grown = grow_seeds(batch.cues, q, batch.labels, foreground=0.2, background=0.2)
    assert grown.sum() > batch.cues.sum()  # or the test would say nothing of growing
    found = terms(one, batch)
    assert torch.allclose(found["seeding"], 2 * seeding_loss(p, grown))
    assert torch.allclose(found["boundary"], 0.5 * boundary_loss(p, q))


def test_without_growing_the_cues_alone_are_learned(batch: CueBatch) -> None:
    one = task(DsrgConfig(boundary=0.0, grow=False))
    found = terms(one, batch)
    assert list(found) == ["seeding"]
    assert torch.allclose(found["seeding"], seeding_loss(probabilities(one.network, batch), batch.cues))


def test_a_loss_of_weight_0_is_not_computed(batch: CueBatch) -> None:
    assert list(terms(task(DsrgConfig(seeding=0.0, crf=CRF)), batch)) == ["boundary"]


def test_the_refined_probabilities_carry_the_originals_gradient_only_where_asked(batch: CueBatch) -> None:
    gradients = []
    for through in (True, False):
        one = task(DsrgConfig(seeding=0.0, refined_gradient=through, crf=CRF))
        terms(one, batch)["boundary"].backward()
        gradients.append(one.network[2].weight.grad)
    net = network()
    p = probabilities(net, batch)
    q = refine(batch.image, p.detach(), CRF)
    boundary_loss(p, q).backward()
    assert torch.allclose(gradients[1], net[2].weight.grad)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)


def test_the_crf_sees_the_image_at_the_probabilities_size_and_shrunken_deviations(
    batch: CueBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def crf(images: Tensor, given: Tensor, **how: object) -> Tensor:
        seen.update(how, images=images)
        return given

    monkeypatch.setattr("attnbn.tasks.dsrg.dense_crf", crf)
    p = torch.full((2, 4, 8, 8), 0.25)
    refine(batch.image, p, CrfConfig(bilateral_xy=80, gaussian_xy=3, shrink=12, unary="linear"))
    small = F.interpolate(batch.image.float(), (8, 8), mode="bilinear", antialias=True).round().to(torch.uint8)
    assert torch.equal(seen.pop("images"), small)
    assert seen == {
        "iterations": 10, "bilateral_weight": 10.0, "bilateral_xy": 80 / 12, "bilateral_rgb": 13.0,
        "gaussian_weight": 3.0, "gaussian_xy": 3 / 12, "unary": "linear",
    }  # fmt: skip


def test_biases_go_at_twice_the_rate_without_decay_and_fresh_layers_at_ten_times() -> None:
    net = network()
    ((_, optimizer),) = task(DsrgConfig(), net, [net[2]]).optimizers(Phase(), 0.1).items()
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert rates[id(net[0].weight)] == (0.1, 5e-4)
    assert rates[id(net[0].bias)] == (0.2, 0.0)
    assert rates[id(net[2].weight)] == (1.0, 5e-4)
    assert rates[id(net[2].bias)] == (2.0, 0.0)


def test_half_precision_changes_the_losses_little(batch: CueBatch) -> None:
    full = terms(task(DsrgConfig(crf=CRF)), batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = terms(task(DsrgConfig(crf=CRF)), batch)
    for key, value in full.items():
        assert half[key].dtype == torch.float32
        assert torch.allclose(half[key], value, rtol=0.05)


def test_masks_are_learned_by_cross_entropy_without_void() -> None:
    net = network()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mask = torch.randint(0, 4, (2, 32, 32))
    mask[:, :5] = 255
    one = Supervised(net, [], TrainingConfig())
    ((_, found),) = one.losses({"target": MaskBatch(image, mask)}, Phase(), 0)
    logits = F.interpolate(net(normalize(image)), (32, 32), mode="bilinear")
    p = logits.detach().softmax(1)
    expected = [-float(p[b, mask[b, y, x], y, x].log()) for b in range(2) for y in range(5, 32) for x in range(32)]
    assert float(found["masks"].value()) == pytest.approx(sum(expected) / len(expected), rel=1e-5)
