"""The benchmark of region growing runs on a tiny setting and tells results that differ."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--batch", "2", "--grid", "12", "--repeats", "1", "--threads", "1"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark as a module, from its folder as when it is run; gone again afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    names = ("measure", "growing")
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield importlib.import_module("growing")
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@pytest.mark.parametrize("options", [[], ["--tables"]])
def test_growing(benchmark: ModuleType, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert benchmark.main([*TINY, *options, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["differ"] == 0
    assert figures["grown"] > figures["seeds"] > 0
    assert set(figures["milliseconds"]) == {benchmark.ORIGINAL, benchmark.OURS}
    assert "results identical" in capsys.readouterr().out


def test_growing_tells_results_that_differ(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "grow_seeds", lambda cues, *_, **__: cues)
    assert benchmark.main(TINY) == 1
    assert "DIFFER at" in capsys.readouterr().out


def test_two_passes_find_the_regions_of_both_values(benchmark: ModuleType) -> None:
    mask = np.random.default_rng(0).random((15, 17)) < 0.4
    regions = np.array(benchmark.two_pass_labels(mask.astype(int)))
    for value in (mask, ~mask):
        components, count = ndimage.label(value, np.ones((3, 3)))
        pairs = set(zip(components[value].tolist(), regions[value].tolist(), strict=True))
        assert len(pairs) == count == len(set(regions[value].tolist()))


def test_the_blobs_hold_what_is_hard(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    cues, probabilities, labels = benchmark.blobs(4, 4, 41, torch.device("cpu"))
    assert labels.sum(1).tolist() == [4] * 4
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 41, 41))
    assert 0.02 < float(cues.any(1).float().mean()) < 0.6
    assert bool((cues.sum(1) > 1).any())
