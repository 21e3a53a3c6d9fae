"""In adaptation no label of the target is read: right, wrong and absent ones give the very same weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attnbn.config import DataConfig, LossConfig, ModelConfig, RunConfig, TrainingConfig
from attnbn.data.collate import Batch
from attnbn.experiments.train import train
from attnbn.io.errors import InputError
from attnbn.tasks.bridge import Bridge
from attnbn.training.checkpoint import CheckpointFolder

CLASSES = ("ball", "box")
PHOTOS = 6
LOSSES = {
    "adversarial": LossConfig(1, 0, 0, 0.1),
    "attnbn": LossConfig(1, 2, 0, 0.1),
    "dann": LossConfig(1, 0, 0, 0, dann=0.5),
    "coral": LossConfig(1, 0, 0, 0, coral=1.0),
}
LABELS = {
    "right": [CLASSES[i % 2] for i in range(PHOTOS)],
    "wrong": [CLASSES[(i + 1) % 2] for i in range(PHOTOS)],
    "absent": [""] * PHOTOS,
}


def photograph(file: Path, seed: int, mode: str = "RGB") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).convert(mode).save(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with saliency, and one target's photographs under three lists of labels."""
    root = tmp_path_factory.mktemp("data")
    for index, name in enumerate(CLASSES):
        for i in range(4):
            photograph(root / f"source/{name}/{i}.png", 10 * index + i)
            photograph(root / f"saliency/{name}/{i}.png", 10 * index + i, "L")
    for i in range(PHOTOS):
        photograph(root / f"{i}.png", 100 + i)
    for kind, labels in LABELS.items():
        (root / f"{kind}.csv").write_text("".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)))
    return root


def config(data: Path, labels: str, loss: LossConfig, output: Path) -> RunConfig:
    return RunConfig(
        DataConfig(
            source=f"folders:{data}/source",
            saliency=f"{data}/saliency",
            target=f"csv:{data}/{labels}.csv",
            classes=list(CLASSES),
            size=32,
        ),
        ModelConfig(backbone="small", weights=None, upsample=2, discriminator_width=4),
        loss,
        TrainingConfig(steps=4, lr=0.05, batch_size=2, log_every=1),
        output=str(output),
        device="cpu",
        workers=0,
    )


@pytest.fixture
def given_labels(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor | None]:
    """The target's labels in every batch that the task is given."""
    seen: list[torch.Tensor | None] = []
    losses = Bridge.losses

    def watched(self: Bridge, batch: Mapping[str, Batch], *rest: Any) -> Iterator[Any]:
        seen.append(batch["target"].labels)
        return losses(self, batch, *rest)

    monkeypatch.setattr(Bridge, "losses", watched)
    return seen


def terms(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["terms"] for line in (run / "metrics.jsonl").read_text().splitlines()]


HELD_OUT = {"hold_out": 0.3, "target_hold_out": 0.3, "single_label": True}
"""Which images of the target are kept apart is not their labels' to say either."""


@pytest.mark.parametrize(
    ("row", "settings"), [*((row, {}) for row in LOSSES), ("attnbn", HELD_OUT)], ids=[*LOSSES, "attnbn, held out"]
)
def test_weights_do_not_depend_on_the_targets_labels(
    row: str, settings: dict[str, Any], data: Path, tmp_path: Path, given_labels: list[torch.Tensor | None]
) -> None:
    weights = {}
    for labels in LABELS:
        run = config(data, labels, LOSSES[row], tmp_path / labels)
        train(replace(run, data=replace(run.data, **settings)))
        weights[labels] = CheckpointFolder(tmp_path / labels / "checkpoints").named("last").tensors
    assert given_labels == [None] * 12
    for labels in ("wrong", "absent"):
        assert weights[labels].keys() == weights["right"].keys()
        for name, value in weights["right"].items():
            assert torch.equal(weights[labels][name], value), name
        assert terms(tmp_path / labels) == terms(tmp_path / "right")
    own = set() if row == "coral" else {"domain", "domain_accuracy"}
    assert terms(tmp_path / "right")[-1].keys() >= {"source_cl", row if row != "attnbn" else "adversarial"} | own
    assert all(0 <= line["domain_accuracy"] <= 1 for line in terms(tmp_path / "right") if own)


def test_labels_that_are_read_do_change_the_weights(data: Path, tmp_path: Path) -> None:
    """The proof above can fail."""
    weights = []
    for labels in ("right", "wrong"):
        train(config(data, labels, LossConfig(1, 0, 1, 0), tmp_path / labels))
        weights.append(CheckpointFolder(tmp_path / labels / "checkpoints").named("last").tensors)
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    with pytest.raises(InputError, match="got no label"):
        train(config(data, "absent", LossConfig(1, 0, 1, 0), tmp_path / "absent"))


def test_danns_schedule_does_not_know_where_a_run_is_cut_off(data: Path, tmp_path: Path) -> None:
    whole = config(data, "absent", LOSSES["dann"], tmp_path / "whole")
    cut = replace(whole, training=replace(whole.training, max_steps=3), output=str(tmp_path / "cut"))
    for run in (whole, cut):
        train(run)
    assert terms(tmp_path / "cut") == terms(tmp_path / "whole")[:3]


def test_coral_in_parts_of_a_batch_is_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    run = config(data, "right", LOSSES["coral"], tmp_path / "run")
    run = replace(run, training=replace(run.training, accumulate=2))
    with pytest.raises(InputError, match=r"training\.accumulate"):
        train(run)
    assert not (tmp_path / "run").exists()
