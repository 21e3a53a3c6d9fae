"""The ways to bring two domains together: what they pull at, what they train of their own, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbn.config import DataConfig, LossConfig, ModelConfig, Phase, RunConfig, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.io.errors import InputError
from attnbn.losses import classification_loss, coral_loss
from attnbn.models.discriminator import Discriminator
from attnbn.models.domain_classifier import DomainClassifier
from attnbn.models.network import AttnBN
from attnbn.tasks.alignment import (
    Adversarial,
    Alignment,
    Coral,
    Dann,
    build_alignment,
    check_alignment,
    pooled,
    progressive,
    warmed_up,
)
from attnbn.tasks.bridge import Bridge
from conftest import tiny_network

STEPS = 40
ROWS = {
    "adversarial": LossConfig(1, 0, 0, 0.1),
    "dann": LossConfig(1, 0, 0, 0, dann=0.5),
    "coral": LossConfig(1, 0, 0, 0, coral=3.0),
}


def batch(labels: Tensor | None, seed: int) -> Batch:
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Batch(images, labels, None, torch.zeros(4, dtype=torch.bool), [str(i) for i in range(4)])


BLIND = {"source": batch(torch.eye(4)[:, :3], 0), "target": batch(None, 1)}
"""Two domains, the target without labels."""


def alignment(row: str, loss: LossConfig) -> Alignment:
    torch.manual_seed(1)
    if row == "adversarial":
        return Adversarial(Discriminator(8, (4, 4), width=4), loss)
    return Dann(DomainClassifier(8, 16), loss, STEPS) if row == "dann" else Coral(loss)


def bridge(row: str, **changes: Any) -> Bridge:
    loss, network = replace(ROWS[row], **changes), tiny_network().double()
    way = alignment(row, loss)
    for module in way.modules.values():
        module.double()
    return Bridge(network, way, [], loss, TrainingConfig())


class Reversal(torch.autograd.Function):
    """Ganin et al.'s layer: the identity, whose gradient comes back times -λ."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


def through_the_layer(network: AttnBN, classifier: nn.Module, weight: float) -> None:
    """One backward pass of Ganin et al.'s objective, written as they draw it."""
    source, target = (network(_normalized(BLIND[name].image)) for name in ("source", "target"))
    logits = classifier(Reversal.apply(torch.cat([pooled(source.features), pooled(target.features)]), weight))
    domains = torch.tensor([1.0] * 4 + [0.0] * 4, dtype=torch.float64)[:, None]
    each = nn.functional.binary_cross_entropy_with_logits(logits, domains, reduction="none")
    labels = BLIND["source"].labels
    assert labels is not None
    (classification_loss(source.scores, labels) + each[:4].mean() + each[4:].mean()).backward()


def _normalized(images: Tensor) -> Tensor:
    from attnbn.data.transforms import normalize

    return normalize(images).double()


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbn.tasks.bridge.normalize", _normalized)


@pytest.mark.parametrize("step", [0, 3, 39])
def test_dann_gives_the_gradients_of_a_reversal_layer(step: int) -> None:
    task = bridge("dann")
    for name, terms in task.losses(BLIND, Phase(), step):
        task.modules[name].zero_grad()
        sum(term.weight * term.value() for term in terms.values()).backward()
    other = bridge("dann")
    through_the_layer(other.network, other.modules["discriminator"], 0.5 * (2 / (1 + math.exp(-10 * step / STEPS)) - 1))
    for name in ("network", "discriminator"):
        pairs = list(zip(task.modules[name].parameters(), other.modules[name].parameters(), strict=True))
        assert any(p.grad is not None and bool(p.grad.abs().max() > 0) for p, _ in pairs)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_dann_pushes_both_domains_and_the_papers_loss_the_target_alone() -> None:
    reached = {}
    for row in ROWS:
        features = [torch.rand(4, 8, 4, 4, requires_grad=True) for _ in range(2)]
        terms = alignment(row, ROWS[row]).pull(*features, step=20)
        sum(term.weight * term.total for term in terms.values()).backward()
        reached[row] = [f.grad is not None and bool(f.grad.abs().max() > 0) for f in features]
    assert reached == {"adversarial": [False, True], "dann": [True, True], "coral": [True, True]}


@pytest.mark.parametrize("row", ROWS)
def test_what_is_trained_of_its_own_leaves_the_network_alone(row: str) -> None:
    task = bridge(row)
    (_, terms), *rest = task.losses(BLIND, Phase(), 5)
    assert terms.keys() == {"source_cl", row}
    assert [name for name, _ in rest] == ([] if row == "coral" else ["discriminator"])
    assert set(task.optimizers(Phase(), 0.1)) == {"network", *(name for name, _ in rest)}
    assert set(task.modules) == {"network", *(name for name, _ in rest)}
    for _, own in rest:
        assert own.keys() == {"domain", "domain_accuracy"}
        assert own["domain_accuracy"].weight == 0 and not own["domain_accuracy"].total.requires_grad
        assert 0 <= float(own["domain_accuracy"].value()) <= 1
        own["domain"].value().backward()
        assert all(p.grad is None for p in task.network.parameters())
        assert all(p.grad is not None for p in task.modules["discriminator"].parameters())


@pytest.mark.parametrize("row", ["adversarial", "dann"])
def test_a_step_on_the_network_leaves_the_discriminator(row: str) -> None:
    task = bridge(row)
    _, terms = next(task.losses(BLIND, Phase(), 5))
    sum(term.weight * term.value() for term in terms.values()).backward()
    assert all(p.grad is None for p in task.modules["discriminator"].parameters())


@pytest.mark.parametrize("row", ["adversarial", "dann"])
def test_the_module_that_the_loop_put_in_place_is_trained(row: str) -> None:
    task, called = bridge(row), []

    class Wrapped(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            called.append(len(features))
            return plain(features)

    plain = task.modules["discriminator"]
    task.modules["discriminator"] = Wrapped()
    list(task.losses(BLIND, Phase(), 5))
    assert called == [4, 4]


@pytest.mark.parametrize("row", ROWS)
def test_both_domains_are_read_without_the_targets_labels(row: str) -> None:
    task = bridge(row)
    assert task.stream_names(Phase()) == ["source", "target"]
    assert task.stream_names(Phase(terms=["source_cl"])) == ["source"]
    ((name, terms),) = task.losses({"source": BLIND["source"]}, Phase(terms=["source_cl"]), 0)
    assert (name, terms.keys()) == ("network", {"source_cl"})
    assert set(task.optimizers(Phase(terms=["source_cl"]), 0.1)) == {"network"}


def test_coral_is_taken_of_pooled_features() -> None:
    source, target = torch.rand(4, 8, 3, 5), torch.rand(4, 8, 3, 5)
    term = Coral(ROWS["coral"]).pull(source, target, 0)["coral"]
    assert (term.weight, float(term.count)) == (3.0, 1.0)
    expected = coral_loss(source.flatten(2).mean(2), target.flatten(2).mean(2))
    torch.testing.assert_close(term.value(), expected)
    assert pooled(source.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("row", "sign", "factors"),
    [
        ("adversarial", 1, [1, 1, 1]),
        ("coral", 1, [1, 1, 1]),
        ("dann", -1, [0, 0.462117, 0.999909]),
    ],
)
def test_weights_over_the_run(row: str, sign: int, factors: list[float]) -> None:
    features = torch.rand(4, 8, 4, 4), torch.rand(4, 8, 4, 4)
    whole = getattr(ROWS[row], row)
    weights = [alignment(row, ROWS[row]).pull(*features, step)[row].weight for step in (0, 4, 40)]
    assert weights == pytest.approx([sign * whole * factor for factor in factors], rel=1e-5)
    warm = alignment(row, replace(ROWS[row], adversarial_warmup=8))
    weights = [warm.pull(*features, step)[row].weight for step in (0, 4, 40)]
    assert weights == pytest.approx([0, sign * whole / 2, sign * whole])


def test_schedules() -> None:
    assert [warmed_up(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert warmed_up(0, 0) == 1
    rising = [progressive(step, STEPS) for step in range(STEPS + 1)]
    assert rising == sorted(rising) and rising[0] == 0 and rising[-1] == pytest.approx(math.tanh(5), rel=1e-12)


def test_an_alignment_is_built_for_the_weight_above_0() -> None:
    network, model = tiny_network(), ModelConfig(discriminator_width=4)
    built = {row: build_alignment(loss, model, network, 8, STEPS) for row, loss in ROWS.items()}
    assert {row: type(way).__name__ for row, way in built.items()} == {
        "adversarial": "Adversarial",
        "dann": "Dann",
        "coral": "Coral",
    }
    assert all(way is not None and way.term == row for row, way in built.items())
    assert build_alignment(LossConfig(adversarial=0), model, network, 8, STEPS) is None
    classifier = built["dann"].modules["discriminator"]  # type: ignore[union-attr]
    assert [layer.out_features for layer in classifier.layers if isinstance(layer, nn.Linear)] == [256, 256, 1]
    assert classifier(torch.rand(2, 8).bfloat16()).dtype == torch.float32


def test_a_bridge_without_the_alignment_that_its_weights_ask_for() -> None:
    for way in (None, Coral(ROWS["coral"])):
        task = Bridge(tiny_network().double(), way, [], ROWS["dann"], TrainingConfig())
        with pytest.raises(ValueError, match="expected an alignment for the term dann"):
            list(task.losses(BLIND, Phase(), 0))


def test_coral_is_refused_where_no_covariance_of_the_whole_batch_can_be_taken() -> None:
    config = RunConfig(DataConfig(), loss=ROWS["coral"])
    check_alignment(config)
    parts = replace(config, training=TrainingConfig(accumulate=2))
    with pytest.raises(InputError, match=r"training\.accumulate of 1 with loss\.coral.*, got 2"):
        check_alignment(parts)
    single = replace(config, training=TrainingConfig(batch_size=1))
    with pytest.raises(InputError, match=r"training\.batch_size of at least 2 with loss\.coral .*, got 1"):
        check_alignment(single)
    check_alignment(replace(single, loss=ROWS["dann"]))
