"""Several processes that score a data set together: what comes out is what one finds, each image counted once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attnbn.data.scenes.compose import NAMES
from attnbn.experiments.scoring import evaluate_together
from attnbn.inference.evaluate import evaluate, merged, summary
from attnbn.inference.segment_score import added, score_segmentation
from attnbn.inference.shards import Shard
from attnbn.io.errors import InputError
from attnbn.segment_config import CrfConfig
from attnbn.training.devices import make_fabric
from segment_runs import classifier_run, segmentation_run

IMAGES = 11
TARGET = ["--target", f"scenes:target?count={IMAGES}", "--split", "test", "--batch-size", "2"]


@pytest.fixture
def seg() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 4, 3, stride=4, padding=1)


@pytest.mark.parametrize("world", [1, 2, 3, 9])
@pytest.mark.parametrize("labelled", [True, False])
def test_shares_of_an_evaluation_add_up(net: Any, make_pictures: Any, world: int, labelled: bool) -> None:
    dataset = make_pictures(IMAGES, bad=(4,), labels=labelled)
    how: dict[str, Any] = {"size": 32, "batch_size": 3, "skip_broken": True, "threshold": 0.345}
    whole = evaluate(net, dataset, **how)
    parts = [evaluate(net, dataset, shard=Shard(rank, world), **how) for rank in range(world)]
    assert sum(len(part.names) for part in parts) == IMAGES - 1
    put = merged(parts, dataset)
    assert put.names == whole.names and put.broken == whole.broken
    assert torch.equal(put.scores, whole.scores)
    assert put.curve is not None and whole.curve is not None and torch.equal(put.curve.counts, whole.curve.counts)
    if labelled:
        assert put.labels is not None and whole.labels is not None
        assert torch.equal(put.labels.nan_to_num(7), whole.labels.nan_to_num(7))
    else:
        assert put.labels is None is whole.labels
    assert summary(put, cross_fit=True) == summary(whole, cross_fit=True)


def test_shares_of_masks_add_up(make_pictures: Any, seg: Any) -> None:
    dataset = make_pictures(5, bad=(2,))
    how: dict[str, Any] = {"size": 32, "batch_size": 2, "skip_broken": True, "crf": CrfConfig(iterations=1)}
    whole = score_segmentation(seg, dataset, **how)
    for world in (2, 5):
        put = added(
            [score_segmentation(seg, dataset, shard=Shard(rank, world), **how) for rank in range(world)], dataset
        )
        assert torch.equal(put.before, whole.before) and torch.equal(put.after, whole.after)
        assert (put.images, put.broken) == (whole.images, whole.broken) == (4, whole.broken)


def test_no_photograph_in_any_share(net: Any, seg: Any, make_pictures: Any) -> None:
    dataset = make_pictures(2, bad=(0, 1))
    shares = [Shard(rank, 2) for rank in range(2)]
    parts = [evaluate(net, dataset, size=32, batch_size=1, skip_broken=True, shard=share) for share in shares]
    with pytest.raises(InputError, match="none that can be read: pictures"):
        merged(parts, dataset)
    scored = [
        score_segmentation(seg, dataset, size=32, batch_size=1, skip_broken=True, shard=share) for share in shares
    ]
    with pytest.raises(InputError, match="none that can be read: pictures"):
        added(scored, dataset)


def test_one_process_alone(net: Any, make_pictures: Any) -> None:
    fabric, dataset = make_fabric(device="cpu"), make_pictures(4)
    fabric.join()
    assert torch.equal(evaluate_together(fabric, net, dataset, size=32).scores, evaluate(net, dataset, size=32).scores)


def attnbn(*command: str, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return subprocess.run(
        [sys.executable, *launcher, "-m", "attnbn", *command],
        env=own | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", [["evaluate"], ["segment", "evaluate"]], ids=" ".join)
def test_two_processes_print_what_one_prints(command: list[str], tmp_path: Path) -> None:
    kind = segmentation_run if "segment" in command else classifier_run
    run = str(kind(tmp_path / "run", NAMES))
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said, figures = [], []
    for number, (devices, launcher) in enumerate((("1", []), ("2", []), ("1", two))):
        out = str(tmp_path / f"{number}.json")
        done = attnbn(*command, run, *TARGET, "--devices", devices, "--json", out, launcher=launcher)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        figures.append(json.loads(Path(out).read_text()))
    assert figures[0]["images"] == IMAGES and figures[1] == figures[0] and figures[2] == figures[0]
    assert said[1] == said[0] and said[2] == said[0]


def test_what_one_process_cannot_read_ends_both_with_one_line(tmp_path: Path) -> None:
    run = classifier_run(tmp_path / "run", ["cat", "dog"])
    for name, size in (("cat", 3), ("dog", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(size):
            Image.new("RGB", (20, 20), (40 * index, 90, 0)).save(tmp_path / f"photos/{name}/{index}.png")
    broken = tmp_path / "photos/dog/1.png"  # the third process's only one
    broken.write_bytes(b"no picture")
    target = ["--target", f"folders:{tmp_path / 'photos'}", "--split", "train", "--batch-size", "2", "--device", "cpu"]
    done = attnbn("evaluate", str(run), *target, "--devices", "3")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("attnbn:") and str(broken) in done.stderr
