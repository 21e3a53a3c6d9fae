"""The benchmark of the dense CRF on a tiny setting; its figures are what they say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PEER = find_spec("pydensecrf") is not None


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    kept = {name: sys.modules.pop(name) for name in ("crf", "measure") if name in sys.modules}
    module = importlib.import_module("crf")
    monkeypatch.setattr(module, "SPEED", (replace(module.SPEED[0], height=12, width=14, batch=2),))
    monkeypatch.setattr(module, "ACCURACY", (replace(module.ACCURACY[1], height=70, width=80, labels=5, batch=2),))
    yield module
    for name in ("crf", "measure"):
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def test_benchmark(benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    options = [
        "--parts",
        "speed",
        "accuracy",
        "sizes",
        "--sides",
        "8",
        "--crop",
        "24",
        "--repeats",
        "1",
        "--threads",
        "1",
    ]
    assert benchmark.main([*options, "--json", str(out)]) in (0, 1)  # two crops say nothing about who is better
    figures = json.loads(out.read_text())
    peer = [benchmark.PEER] if PEER else []
    assert [r["method"] for r in figures["speed"]] == [benchmark.OURS, benchmark.LATTICE, *peer]
    assert [r["method"] for r in figures["sizes"]] == [benchmark.EXACT, benchmark.LATTICE, *peer]
    assert all(r["milliseconds"] > 0 for r in figures["speed"])
    accuracy = {r["method"]: r for r in figures["accuracy"]}
    assert accuracy[benchmark.EXACT]["largest_difference"] < 1e-4
    assert 90 < accuracy[benchmark.LATTICE]["agreement"] <= 100
    assert accuracy["unrefined"]["agreement"] < accuracy[benchmark.LATTICE]["agreement"]
    assert "same label, %" in capsys.readouterr().out


def test_without_the_peer(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert benchmark.main(["--parts", "speed", "--repeats", "1", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "without pydensecrf2, which is not installed" in shown
    assert len(shown.splitlines()) == 7  # of ours alone


def test_memory_of_one_method(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "MEMORY", replace(benchmark.MEMORY, height=70, width=80))
    assert benchmark.main(["--one", benchmark.OURS, "--threads", "1"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value is None or 0 <= value < 500


def test_less_accurate_fails(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"case": "a", "method": benchmark.LATTICE, "agreement": 98.0}
    peer = {"case": "a", "method": benchmark.PEER, "agreement": 97.0}
    assert benchmark.as_good([own, peer])
    assert not benchmark.as_good([own, {**peer, "agreement": 98.5}])
    assert "LESS ACCURATE" in capsys.readouterr().out


def test_cases_are_what_they_say(benchmark: ModuleType) -> None:
    case = benchmark.Case("", 70, 80, 21, seen=3)
    images, probabilities = benchmark.photographs(case, [])
    assert images.shape == (1, 3, 70, 80) and images.dtype == torch.uint8
    assert torch.allclose(probabilities.sum(1), torch.ones(1, 70, 80), atol=1e-5)
    assert int((probabilities.amax((0, 2, 3)) > 1e-5).sum()) == 3
