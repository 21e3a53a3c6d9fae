"""A segmentation run as it is loaded, and what is said when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from attnbn.inference.load import load
from attnbn.inference.load_segmenter import load_segmenter
from attnbn.io.errors import InputError
from segment_runs import QUICK, classifier_run, segmentation_run

CLASSES = ("cat", "dog")


def test_the_network_is_the_checkpoints(tmp_path: Path) -> None:
    path = segmentation_run(tmp_path / "seg", CLASSES, seed=3)
    other = segmentation_run(tmp_path / "other", CLASSES, seed=4)
    before = torch.random.get_rng_state()
    trained, again, different = load_segmenter(path), load_segmenter(path), load_segmenter(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert trained.classes == CLASSES
    assert not trained.network.training
    assert not any(p.requires_grad for p in trained.network.parameters())
    image = torch.rand(1, 3, 48, 48)
    logits = trained.network(image)
    assert logits.shape[:2] == (1, 3)
    assert torch.equal(logits, again.network(image))
    assert not torch.equal(logits, different.network(image))
    assert trained.identity == again.identity
    assert trained.identity["sha256"] != different.identity["sha256"]
    assert (trained.identity["run"], trained.identity["step"]) == (str(path.resolve()), 5)


def test_how_to_look_is_the_runs_unless_said_otherwise(tmp_path: Path) -> None:
    trained = load_segmenter(segmentation_run(tmp_path / "seg", CLASSES))
    assert trained.look() == {"size": 48, "scales": [0.75, 1.0], "flip": False, "crf": QUICK}
    assert trained.look(scales=[1.0], flip=True, crf=False) == {"size": 48, "scales": [1.0], "flip": True, "crf": None}


@pytest.mark.parametrize(("make", "loads"), [(segmentation_run, load_segmenter), (classifier_run, load)])
def test_an_unfinished_run_says_so(tmp_path: Path, make: Any, loads: Any) -> None:
    run = make(tmp_path / "run", CLASSES)
    assert loads(run).unfinished is None
    (run / "results.json").unlink()
    line = "the run is not finished, its network is that after step 5"
    assert loads(run).unfinished == f"{line}: {run}"
    file = run / "checkpoints" / "step-00000005" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps(state | {"state": {"steps": 40}}))  # as the training loop writes it
    assert loads(run).unfinished == f"{line} of 40: {run}"


def test_messages(tmp_path: Path) -> None:
    seg = segmentation_run(tmp_path / "seg", CLASSES)
    run = classifier_run(tmp_path / "run", CLASSES)
    with pytest.raises(
        InputError, match=r"expected a segmentation's run .* got a classifier's; use attnbn attend .*run$"
    ):
        load_segmenter(run)
    with pytest.raises(InputError, match=r"expected a classifier's run .* got a segmentation's; use attnbn segment"):
        load(seg)
    with pytest.raises(InputError, match="expected the folder of a run"):
        load_segmenter(tmp_path / "nothing")
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        load_segmenter(seg, checkpoint="best")
    (seg / "results.json").write_text(json.dumps({"steps": 9}))
    with pytest.raises(InputError, match=r"last checkpoint \(step 9\) is missing .* of step 5; remove results\.json"):
        load_segmenter(seg)
    state = (seg / "checkpoints" / "step-00000005" / "state.json").read_text()
    (seg / "results.json").unlink()  # an unfinished run may be looked at
    assert load_segmenter(seg).identity["step"] == 5
    (seg / "checkpoints" / "step-00000005" / "state.json").write_text("{")
    for loads in (lambda: load_segmenter(seg), lambda: load_segmenter(seg, checkpoint="last")):
        with pytest.raises(InputError) as error:
            loads()
        assert str(error.value) == (
            "expected a whole checkpoint, all are damaged (step-00000005: state.json is cut off or no JSON); bring one back "
            f"from a copy or train the run again: {seg}/checkpoints"
        )
    (seg / "checkpoints" / "step-00000005" / "state.json").write_text(state)
    config = yaml.safe_load((seg / "config.yaml").read_text())
    for change, message in (
        ({"classes": None}, "expected the classes of the run as a list"),
        ({"classes": ["cat"]}, "the checkpoint is of another architecture"),
        ({"colour": 1}, "unknown setting 'colour'"),
    ):
        (seg / "config.yaml").write_text(yaml.safe_dump(config | change))
        with pytest.raises(InputError, match=message):
            load_segmenter(seg)
