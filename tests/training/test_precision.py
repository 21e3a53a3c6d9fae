"""Half precision: what may be rounded stays near float32, what must not be is computed in float32, and nothing overflows.

The same on the CPU and, where there is one, on a GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import process_cases
from attnbn.attention import layer_attention
from attnbn.config import Phase, TrainingConfig
from attnbn.losses import (
    adversarial_loss,
    attention_loss,
    background_loss,
    classification_loss,
    domain_accuracy,
    domain_cross_entropy,
    suppression_loss,
)
from attnbn.models.discriminator import Discriminator, Frozen
from attnbn.models.domain_classifier import DomainClassifier
from attnbn.models.network import AttnBN, TappedClassifier
from attnbn.segment_config import CrfConfig, DsrgConfig
from attnbn.segmentation.crf import dense_crf
from attnbn.segmentation.growing import grow_seeds
from attnbn.tasks.dsrg import CueBatch, Dsrg
from attnbn.training.devices import make_fabric
from conftest import tiny_network

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
HALVES = [torch.bfloat16, torch.float16]
LOSS = {torch.bfloat16: 2e-2, torch.float16: 2e-3}
"""How far a loss may be from float32's, as a share of it."""
GRADIENT = {torch.bfloat16: 6e-2, torch.float16: 8e-3}
"""How far all parameters' gradient may be, as a share of its norm; attention maps likewise."""

pytestmark = [pytest.mark.parametrize("device", DEVICES), pytest.mark.parametrize("half", HALVES, ids=str)]


def tapped(places: int = 1) -> TappedClassifier:
    """A classifier of any make: convolutions, pooling over all places, two layers."""
    torch.manual_seed(2)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(places), nn.Flatten(), nn.Linear(8 * places**2, 6),
        nn.Softplus(), nn.Linear(6, 3),
    )  # fmt: skip
    return TappedClassifier(layers, "1")


NETWORKS = {
    "closed form": tiny_network,
    "hidden layer": lambda: tiny_network(hidden=6),
    "any classifier": tapped,
}


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


def attended(net: AttnBN | TappedClassifier, device: str, half: torch.dtype | None) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, L_ac, and the gradient of L_ac and L_cl together, of second order in part."""
    draw = torch.Generator().manual_seed(5)
    images = torch.randn(4, 3, 16, 16, generator=draw).to(device)
    labels, prior = torch.eye(3, device=device)[[0, 1, 2, 0]], torch.rand(4, 16, 16, generator=draw).to(device)
    net.zero_grad()
    with torch.autocast(device, dtype=half, enabled=half is not None):
        output = net(images, attend=labels)
    assert output.attention is not None and output.attention.dtype == torch.float32
    loss = attention_loss(output.attention, prior)
    (2 * loss + classification_loss(output.scores, labels)).backward()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    return output.attention.detach(), loss.detach(), gradient


@pytest.mark.parametrize("kind", NETWORKS)
def test_l_ac_and_its_gradient(kind: str, half: torch.dtype, device: str) -> None:
    net = NETWORKS[kind]().to(device)
    maps, loss, gradient = attended(net, device, None)
    near, value, slope = attended(net, device, half)
    assert float(maps.max()) > 0
    assert apart(near, maps) < GRADIENT[half]
    assert abs(float(value / loss) - 1) < LOSS[half]
    assert slope.dtype == torch.float32
    assert apart(slope, gradient) < GRADIENT[half]


@pytest.mark.parametrize("weight", [1e-2, 1e-4])
def test_gradients_over_many_places_do_not_vanish(weight: float, half: torch.dtype, device: str) -> None:
    features = torch.rand(2, 4, 64, 64, device=device, requires_grad=True)
    rows = weight * torch.tensor([[1.0, 2, 0.5, 1], [0.5, 1, 1, 2]], device=device)
    wanted = torch.eye(2, device=device)
    exact = torch.einsum("pc,pchw->phw", rows / 64**2, features)
    narrow = features.to(half)
    scores = narrow.mean((-2, -1)) @ rows.to(half).T
    (maps,) = layer_attention([narrow], scores, wanted)
    assert maps.dtype == torch.float32
    assert apart(maps.detach(), exact.detach()) < LOSS[half]


def test_heads_and_discriminators_stay_in_float32(half: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 8, 7, 7, device=device).to(half)
    discriminator = Discriminator(8, (7, 7), width=8).to(device)
    classifier = DomainClassifier(8).to(device)
    head = tiny_network(hidden=6).head.to(device)
    net = AttnBN(nn.Identity(), head).to(device)
    wanted = torch.eye(3, device=device)
    with torch.autocast(device, dtype=half):
        logits = discriminator(features), Frozen(discriminator)(features), classifier(features.mean((-2, -1)))
        attended = net(features, attend=wanted)
    plain = features.float()
    expected = discriminator(plain), discriminator(plain), classifier(features.mean((-2, -1)).float())
    for ours, exact in zip(logits, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, exact)
    exact = net(plain, attend=wanted)
    assert torch.equal(attended.scores, exact.scores) and torch.equal(attended.attention, exact.attention)


def test_losses_are_computed_in_float32(half: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    scores, labels = (
        (30 * torch.randn(40, 50, device=device)).to(half),
        (torch.rand(40, 50, device=device) < 0.5).float(),
    )
    maps, prior = torch.rand(40, 9, 9, device=device).to(half), torch.rand(40, 1, 9, 9, device=device)
    many = torch.randn(6, 5, 9, 9, device=device).to(half)
    losses = {
        "classification": lambda x: classification_loss(x(scores), labels, over_classes="sum"),
        "attention": lambda x: attention_loss(x(maps), prior),
        "suppression": lambda x: suppression_loss(
            x(many).relu(), torch.ones(6, 5, dtype=torch.bool, device=device)
        ).value(),
        "background": lambda x: background_loss(x(many), prior[:6]).value(),
        "domain": lambda x: domain_cross_entropy(x(many), x(-many)).value(),
        "accuracy": lambda x: domain_accuracy(x(many), x(many)).value(),
        "adversarial": lambda x: adversarial_loss(lambda y: y, x(many)),
    }
    for name, loss in losses.items():
        ours, exact = loss(lambda x: x), loss(lambda x: x.float())
        assert ours.dtype == torch.float32 and bool(ours.isfinite()), name
        assert torch.equal(ours, exact), name
        with torch.autocast(device, dtype=half):
            assert torch.equal(loss(lambda x: x.float()), exact), name


def crf_case(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 12, 12), generator=draw, dtype=torch.uint8)
    probabilities = torch.randn(2, 4, 12, 12, generator=draw).mul(2).softmax(1)
    cues = torch.rand(2, 4, 12, 12, generator=draw) < 0.1
    return tuple(x.to(device) for x in (images, probabilities, cues, torch.tensor([[1.0, 0, 1], [0, 1, 0]])))


def test_crf_and_growing_do_not_know_of_autocast(half: torch.dtype, device: str) -> None:
    images, probabilities, cues, labels = crf_case(device)
    arguments = CrfConfig(iterations=4).arguments()
    refined = dense_crf(images, probabilities, **arguments)
    grown = grow_seeds(cues, refined, labels, foreground=0.5, background=0.5)
    assert int(grown.sum()) > int(cues.sum())
    with torch.autocast(device, dtype=half):
        near = dense_crf(images, probabilities, **arguments)
        assert near.dtype == torch.float32 and torch.equal(near, refined)
        assert torch.equal(grow_seeds(cues, near, labels, foreground=0.5, background=0.5), grown)


def test_half_probabilities_give_nearly_the_same_crf(half: torch.dtype, device: str) -> None:
    images, probabilities, _, _ = crf_case(device)
    arguments = CrfConfig(iterations=4).arguments()
    refined = dense_crf(images, probabilities, **arguments)
    near = dense_crf(images, probabilities.to(half), **arguments)
    # each of the energies is off by at most half a unit in the last place of p; mean field carries it on
    assert float((near - refined).abs().max()) < {torch.bfloat16: 2e-2, torch.float16: 2e-3}[half]


class Given(nn.Module):
    """A network that says what it is told to."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


@pytest.mark.parametrize("scale", [3.0, 6e4])
def test_dsrg_from_half_logits(scale: float, half: torch.dtype, device: str) -> None:
    images, _, cues, labels = crf_case(device)
    torch.manual_seed(3)
    logits = (scale * torch.randn(2, 4, 12, 12, device=device).clamp(-1, 1)).to(half)
    dsrg = DsrgConfig(foreground=0.5, background=0.5, crf=CrfConfig(iterations=2, unary="linear"))
    batch = {"target": CueBatch(images, labels, cues)}

    def terms(given: Tensor, inside: bool) -> tuple[dict[str, Tensor], Tensor]:
        net = Given(given)
        with torch.autocast(device, dtype=half, enabled=inside):
            ((_, found),) = Dsrg(net, [], dsrg, TrainingConfig()).losses(batch, Phase(), 0)
        sum(term.value() for term in found.values()).backward()
        assert net.logits.grad is not None
        return {name: term.value().detach() for name, term in found.items()}, net.logits.grad

    (ours, slope), (exact, gradient) = terms(logits, True), terms(logits.float(), False)
    assert ours.keys() == exact.keys() == {"seeding", "boundary"}
    for name, value in ours.items():
        assert value.dtype == torch.float32 and bool(value.isfinite()) and torch.equal(value, exact[name]), name
    assert bool(slope.isfinite().all())
    torch.testing.assert_close(slope, gradient.to(half))


def test_the_largest_numbers_do_not_overflow(half: torch.dtype, device: str) -> None:
    torch.manual_seed(0)
    top = 6e4  # float16 ends at 65504
    head = tiny_network(hidden=6).head.to(device)
    features = (top * torch.rand(3, 8, 6, 6, device=device)).to(half).requires_grad_()
    labels, prior = torch.eye(3, device=device), torch.rand(3, 6, 6, device=device)
    with torch.autocast(device, dtype=half):
        output = AttnBN(nn.Identity(), head)(features, attend=labels)
    loss = attention_loss(output.attention, prior) + classification_loss(output.scores, labels)
    raw = attention_loss(output.attention, prior, normalize="none")
    discriminator = Discriminator(8, (6, 6), width=8).to(device)
    with torch.autocast(device, dtype=half):
        domain = domain_cross_entropy(discriminator(features), discriminator(features)).value()
        adversarial = adversarial_loss(Frozen(discriminator), features)
    extreme = torch.tensor([[top, -top, 0.0]], device=device).to(half).requires_grad_()
    classes = classification_loss(extreme, torch.tensor([[0.0, 1, 1]], device=device), over_classes="sum")
    for value in (loss, raw, domain, adversarial, classes):
        assert bool(value.isfinite())
    (loss + domain + adversarial + classes).backward()
    assert bool(output.attention.isfinite().all())
    for p in (features, extreme, *head.parameters(), *discriminator.parameters()):
        assert p.grad is None or bool(p.grad.isfinite().all())


def test_a_training_in_mixed_precision_stays_near(half: torch.dtype, device: str, tmp_path: Path) -> None:
    if half == torch.float16 and device == "cpu":
        pytest.skip("16-mixed scales its gradients, which needs a GPU")
    name = "bf16-mixed" if half == torch.bfloat16 else "16-mixed"
    for case in ("bridge", "dann", "coral", "dsrg"):
        ended = {
            precision: process_cases.train(
                make_fabric(device=device, precision=precision), case, tmp_path / case / precision
            )
            for precision in ("32-true", name)
        }
        for key, value in ended["32-true"].items():
            near = ended[name][key]
            if key.startswith("modules."):
                assert near.dtype == value.dtype  # weights and statistics are kept in full
            elif key.startswith("terms.") and key != "terms.domain_accuracy":
                assert abs(float(near - value)) < 5e-2 * max(0.05, abs(float(value))), f"{case} {key}"
