"""Eq. 7 as a task: which terms, which data, which networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnbn.config import LossConfig, Phase, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.data.transforms import normalize
from attnbn.losses import adversarial_loss, attention_loss, background_loss, classification_loss, domain_loss
from attnbn.models.discriminator import Discriminator
from attnbn.tasks.alignment import Adversarial
from attnbn.tasks.bridge import Bridge, single_with_prior, through
from conftest import tiny_network


def batch(labels: Tensor | None, *, saliency: bool = True, prior: list[bool] | None = None, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    count = 3
    return Batch(
        torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8),
        labels,
        torch.rand(count, 1, 8, 8, generator=generator) if saliency else None,
        torch.tensor(prior or [saliency] * count),
        [str(i) for i in range(count)],
    )


SOURCE = batch(torch.eye(3))
TARGET = batch(torch.tensor([[1.0, 1, 0], [0, 0, 1], [1, float("nan"), 0]]), saliency=False, seed=1)


def bridge(loss: LossConfig, *, adversarial: bool = True) -> Bridge:
    network = tiny_network()
    alignment = Adversarial(Discriminator(8, (4, 4), width=4), loss) if adversarial else None
    return Bridge(network, alignment, [network.head.first], loss, TrainingConfig())


def test_the_terms_are_eq_3_to_6() -> None:
    task = bridge(LossConfig())
    net, discriminator = task.network, task.modules["discriminator"]
    (name, terms), (other, domain) = task.losses({"source": SOURCE, "target": TARGET}, Phase(), 0)
    assert (name, other) == ("network", "discriminator")
    source, target = net(normalize(SOURCE.image), SOURCE.labels), net(normalize(TARGET.image))
    expected = {
        "source_cl": classification_loss(source.scores, SOURCE.labels),
        "attention": attention_loss(source.attention, SOURCE.saliency),
        "target_cl": classification_loss(target.scores, TARGET.labels),
        "adversarial": adversarial_loss(discriminator, target.features),
    }
    assert terms.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(terms[key].value(), value)
    assert [terms[key].weight for key in expected] == [1.0, 2.0, 1.0, 1e-3]
    torch.testing.assert_close(domain["domain"].value(), domain_loss(discriminator, source.features, target.features))


def test_attention_is_for_single_labelled_images_with_a_map_only() -> None:
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, float("nan")]])
    mixed = batch(labels, prior=[True, True, False])
    assert single_with_prior(mixed).tolist() == [True, False, False]
    assert single_with_prior(batch(labels)).tolist() == [True, False, True]
    task = bridge(LossConfig(adversarial=0), adversarial=False)
    ((_, terms),) = task.losses({"source": mixed, "target": TARGET}, Phase(), 0)
    assert float(terms["attention"].count) == 1
    output = task.network(normalize(mixed.image), torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 0]]))
    torch.testing.assert_close(terms["attention"].value(), attention_loss(output.attention, mixed.saliency[:1]))
    none = batch(labels, prior=[False] * 3)
    ((_, terms),) = task.losses({"source": none, "target": TARGET}, Phase(), 0)
    assert float(terms["attention"].count) == 0
    assert float(terms["attention"].value()) == 0


@pytest.mark.parametrize(
    ("loss", "streams", "expected"),
    [
        (LossConfig(0, 0, 1, 0), ["target"], {"target_cl"}),
        (LossConfig(1, 0, 1, 0), ["source", "target"], {"source_cl", "target_cl"}),
        (LossConfig(1, 2, 0, 0), ["source"], {"source_cl", "attention"}),
        (LossConfig(1, 2, 0, 1e-3), ["source", "target"], {"source_cl", "attention", "adversarial"}),
    ],
)
def test_a_term_of_weight_0_is_not_computed(loss: LossConfig, streams: list[str], expected: set[str]) -> None:
    task = bridge(loss)
    assert task.stream_names(Phase()) == streams
    needed = {"source": SOURCE, "target": TARGET}
    terms = dict(task.losses({name: needed[name] for name in streams}, Phase(), 0))
    assert terms["network"].keys() == expected
    assert ("discriminator" in terms) == ("adversarial" in expected)
    assert ("discriminator" in task.optimizers(Phase(), 0.1)) == ("adversarial" in expected)


def test_target_labels_are_not_read_without_their_term() -> None:
    task = bridge(LossConfig(target_cl=0, adversarial=0.1))
    blind = {"source": SOURCE, "target": TARGET._replace(labels=None)}
    terms = dict(task.losses(blind, Phase(), 0))
    assert terms["network"].keys() == {"source_cl", "attention", "adversarial"}
    with pytest.raises(ValueError, match="expected labels"):
        list(bridge(LossConfig()).losses(blind, Phase(), 0))


def test_a_phase_trains_its_own_terms_with_fresh_optimisers() -> None:
    task = bridge(LossConfig(adversarial=0), adversarial=False)
    first, second = Phase(0.5, ["source_cl", "attention"]), Phase(0.5, ["target_cl"])
    assert (task.stream_names(first), task.stream_names(second)) == (["source"], ["target"])
    one, two = task.optimizers(first, 0.1)["network"], task.optimizers(second, 0.1)["network"]
    assert one is not two
    assert [group["lr"] for group in one.param_groups] == [0.1, pytest.approx(1.0)]  # fresh layers: ten times


def test_the_networks_step_leaves_the_discriminator_and_the_other_way_round() -> None:
    task = bridge(LossConfig(adversarial=1.0))
    steps = task.losses({"source": SOURCE, "target": TARGET}, Phase(), 0)
    _, terms = next(steps)
    sum(t.weight * t.value() for t in terms.values()).backward()
    assert all(p.grad is None for p in task.modules["discriminator"].parameters())
    before = [p.grad.clone() for p in task.network.parameters()]
    _, terms = next(steps)
    terms["domain"].value().backward()
    assert all(p.grad is not None for p in task.modules["discriminator"].parameters())
    assert all(torch.equal(p.grad, b) for p, b in zip(task.network.parameters(), before, strict=True))


def test_the_network_is_only_ever_called_whole() -> None:
    """Calling a part of a wrapped network trains each process on its own, silently."""

    class Whole(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner
            self.inside = 0
            for module in inner.modules():
                module.register_forward_pre_hook(self._check)

        def _check(self, module: nn.Module, inputs: object) -> None:
            assert self.inside, f"{type(module).__name__} was called from outside the network's forward"

        def forward(self, *args: object, **kwargs: object) -> object:
            self.inside += 1
            try:
                return self.inner(*args, **kwargs)
            finally:
                self.inside -= 1

    task = bridge(LossConfig(adversarial=0.1))
    task.modules["network"] = Whole(task.network)
    for _, terms in task.losses({"source": SOURCE, "target": TARGET}, Phase(), 0):
        sum(t.value() for t in terms.values()).backward()


def test_other_classes_maps_are_pressed_on_guided_images() -> None:
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])  # the second has no single class: not guided
    mixed = SOURCE._replace(labels=labels)
    plain = dict(bridge(LossConfig()).losses({"source": mixed, "target": TARGET}, Phase(), 0))["network"]
    task = bridge(LossConfig(other_classes=0.5))
    terms = dict(task.losses({"source": mixed, "target": TARGET}, Phase(), 0))["network"]
    torch.testing.assert_close(terms["attention"].total, plain["attention"].total)
    assert terms["other_classes"].weight == 2.0 * 0.5
    maps = task.network(normalize(mixed.image), torch.ones(3, 3)).attention.detach().reshape(3, 3, 4, 4)
    expected = [
        float((maps[image, other] / maps[image].max()).square().mean())
        for image, true in ((0, 0), (2, 2))
        for other in range(3)
        if other != true
    ]
    assert terms["other_classes"].value().item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_no_guided_image_leaves_both_source_terms_empty() -> None:
    none = batch(torch.eye(3), prior=[False] * 3)
    terms = dict(bridge(LossConfig(other_classes=1)).losses({"source": none, "target": TARGET}, Phase(), 0))["network"]
    assert terms["attention"].count == 0 == terms["other_classes"].count
    assert terms["other_classes"].value() == 0


def test_the_adversarial_weight_rises_over_its_warm_up() -> None:
    task = bridge(LossConfig(adversarial=0.1, adversarial_warmup=4))
    weights = [
        dict(task.losses({"source": SOURCE, "target": TARGET}, Phase(), step))["network"]["adversarial"].weight
        for step in (0, 1, 2, 4, 9)
    ]
    assert weights == pytest.approx([0, 0.025, 0.05, 0.1, 0.1])


def test_frozen_layers_outputs_give_what_images_give() -> None:
    task = bridge(LossConfig())
    net = task.network
    done = net.trunk[0](normalize(SOURCE.image))
    kept = SOURCE._replace(image=done, layers=1)
    whole, entered = through(net, SOURCE, SOURCE.labels), through(net, kept, SOURCE.labels)
    torch.testing.assert_close(entered.scores, whole.scores)
    torch.testing.assert_close(entered.attention, whole.attention)


def test_maps_of_classes_that_may_be_there_are_not_pressed() -> None:
    unknown = SOURCE._replace(labels=torch.tensor([[1.0, float("nan"), 0], [0, 1, 0], [0, 0, 1]]))
    terms = dict(bridge(LossConfig(other_classes=1)).losses({"source": unknown, "target": TARGET}, Phase(), 0))[
        "network"
    ]
    assert terms["other_classes"].count == 5


def test_background_presses_every_class_s_evidence_and_leaves_eq_3_as_it_is() -> None:
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    mixed = SOURCE._replace(labels=labels)
    plain = dict(bridge(LossConfig()).losses({"source": mixed, "target": TARGET}, Phase(), 0))["network"]
    task = bridge(LossConfig(background=0.5, other_classes=0.25))
    terms = dict(task.losses({"source": mixed, "target": TARGET}, Phase(), 0))["network"]
    torch.testing.assert_close(terms["attention"].total, plain["attention"].total)
    assert terms["background"].weight == 2.0 * 0.5
    output = task.network(normalize(mixed.image), torch.ones(3, 3), activation="none")
    evidence = output.attention.detach().reshape(3, 3, 4, 4)
    assert (evidence < 0).any()  # what the ReLU hides
    guided = torch.tensor([0, 2])
    expected = background_loss(evidence[guided], mixed.saliency[guided])
    torch.testing.assert_close(terms["background"].value().detach(), expected.value())


def test_the_sigmoid_takes_the_relus_place_in_eq_3() -> None:
    task = bridge(LossConfig(normalize="sigmoid", adversarial=0), adversarial=False)
    ((_, terms),) = task.losses({"source": SOURCE, "target": TARGET}, Phase(), 0)
    output = task.network(normalize(SOURCE.image), SOURCE.labels, activation="none")
    expected = attention_loss(output.attention.sigmoid(), SOURCE.saliency, normalize="none")
    torch.testing.assert_close(terms["attention"].value(), expected)
