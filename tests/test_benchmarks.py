"""Each benchmark runs on a tiny setting; its figures are what they say."""

from __future__ import annotations

import importlib
import json
import mmap
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("measure", "attention", "training", "loader", "memory", "speed")
CPU = torch.device("cpu")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """A benchmark as a module, from its folder as when it is run; gone again afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    kept = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def test_attention(load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("attention")
    peers = [name for name, module in benchmark.PEERS.items() if find_spec(module)]
    out = tmp_path / "out.json"
    options = ["--model", "squeezenet1_1", "--size", "64", "--batches", "2", "--classes", "1", "3", "--repeats", "1"]
    assert benchmark.main([*options, "--threads", "1", "--no-memory", "--json", str(out)]) == 0
    cells = json.loads(out.read_text())["cells"]
    methods = [benchmark.FORWARD, benchmark.OURS, benchmark.ANY, *peers]
    assert [(c["classes"], c["method"]) for c in cells] == [(k, name) for k in (1, 3) for name in methods]
    assert all(c["seconds"] > 0 for c in cells)
    assert all(c["differs"] <= benchmark.TOLERANCE for c in cells if c["method"] in (benchmark.ANY, *peers))
    assert "maps agree" in capsys.readouterr().out


def test_attention_tells_maps_that_differ(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load("attention")
    cell = benchmark.Cell("squeezenet1_1", 64, 2, 3, CPU)
    assert cell.ours(cell.network).shape == (2, 3, 3, 3)
    assert cell.disagreement([])[benchmark.ANY] <= benchmark.TOLERANCE
    monkeypatch.setattr(cell, "wanted", cell.wanted.roll(1, 1))
    assert cell.disagreement([])[benchmark.ANY] <= benchmark.TOLERANCE  # both were asked for the neighbours
    true = cell.ours
    monkeypatch.setattr(cell, "ours", lambda net: true(net) + (net is cell.tapped) * 1e-2)
    assert cell.disagreement([])[benchmark.ANY] > benchmark.TOLERANCE


def test_attention_memory_of_one_method(load: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("attention")
    options = ["--model", "squeezenet1_1", "--size", "64", "--batches", "1", "--classes", "1", "--one", benchmark.OURS]
    assert benchmark.main(options) == 0
    value = json.loads(capsys.readouterr().out)
    assert value is None or 0 <= value < 1000


def test_speed(load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("speed")
    out = tmp_path / "speed.json"
    options = ["--model", "small", "--freeze", "3", "--size", "32", "--batch", "1", "--repeats", "1", "--device", "cpu"]
    assert benchmark.main([*options, "--json", str(out)]) == 0
    steps = {record["way"]: record for record in json.loads(out.read_text())["steps"]}
    assert list(steps) == list(benchmark.WAYS)
    assert steps[benchmark.BASE]["faster"] == 1
    assert "faster than the first" in capsys.readouterr().out


def test_training(load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("training")
    out = tmp_path / "out.json"
    options = ["--model", "small", "--size", "64", "--batch", "2", "--repeats", "1", "--threads", "1", "--markdown"]
    # so small a network says nothing about the cost: either verdict will do
    assert benchmark.main([*options, "--json", str(out)]) in (0, 1)
    figures = json.loads(out.read_text())
    rows = {row["row"]: row for row in figures["steps"]}
    assert list(rows) == list(benchmark.ROWS)
    assert rows["L_s-cl"]["of_base"] == 1
    # the second order of L_ac through pooling and one linear layer is next to nothing
    assert 1 <= rows["L_s-cl + L_ac"]["gflop_of_base"] < 1.05
    assert "| L_s-cl + L_ac |" in capsys.readouterr().out


def test_loader(load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("loader")
    out = tmp_path / "out.json"
    options = [
        "--photographs",
        "4",
        "--batch",
        "2",
        "--size",
        "32",
        "--images",
        "4",
        "--repeats",
        "1",
        "--workers",
        "0",
    ]
    assert benchmark.main([*options, "--json", str(out)]) in (0, 1)  # so few images say nothing about the speed
    figures = json.loads(out.read_text())
    assert {r["loader"] for r in figures["loaders"]} == {benchmark.OURS, benchmark.WITH_SALIENCY, benchmark.PEER}
    assert all(r["images_per_second"] > 0 and r["workers"] == 0 for r in figures["loaders"])
    assert next(r for r in figures["loaders"] if r["loader"] == benchmark.PEER)["of_peer"] == 1
    stages = figures["stages"]
    assert stages["decode"] > 0 and stages["saliency read"] > 0
    assert sum(stages[stage] for stage in benchmark.STAGES) == pytest.approx(stages["all"], rel=0.5)
    assert "of torchvision's speed" in capsys.readouterr().out


def test_loader_reads_the_same_files_as_its_peer(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    benchmark = load("loader")
    benchmark.write_photographs(tmp_path, 3)
    given = benchmark.parse(["--data", f"folders:{tmp_path}/photos", "--batch", "3", "--size", "16"])
    dataset = benchmark.open_photographs(given, None)
    benchmark.link_photographs(dataset, tmp_path / "links")
    files = sorted(path.resolve() for path in (tmp_path / "links" / "all").iterdir())
    assert files == sorted((tmp_path / "photos").rglob("*.jpg"))
    for batches in (benchmark.ours(dataset, given, 2, 0), benchmark.peers(tmp_path / "links", given, 2, 0)):
        shapes = [(tuple(images.shape), images.dtype) for images in batches]
        assert shapes == [((3, 3, 16, 16), torch.uint8)] * 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
def test_memory(load: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load("memory")
    out = tmp_path / "out.json"
    options = ["--count", "48", "--distinct", "4", "--side", "32", "--size", "64", "--every-photographs", "16"]
    # over so few steps the slope is noise: the bound is not what is tested here
    more = ["--steps", "8", "--every-steps", "2", "--bound", "1e9", "--most", "1e9", "--json", str(out)]
    more += ["--files", "96", "--every-files", "32", "--little", "16", "--readers", "1"]
    more += ["--calls", "18", "--every-calls", "6"]
    assert benchmark.main([*options, *more]) == 0
    read, predicted, attend, attention, training = json.loads(out.read_text())["parts"]
    assert [count for count, _ in read["process"]] == [count for count, _ in predicted["process"]] == [32, 64, 96]
    assert [count for count, _ in attend["process"]] == [16, 32, 48]
    assert [count for count, _ in attention["process"]] == [6, 12, 18]
    assert [count for count, _ in training["process"]] == [2, 4, 6, 8]
    assert "memory is flat" in capsys.readouterr().out


def test_memory_that_grows_fails(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load("memory")
    grown = iter(range(1000, 2000, 3))
    monkeypatch.setattr(benchmark.measure, "resident", lambda: float(next(grown)))
    options = ["--parts", "attend", "--count", "64", "--distinct", "2", "--side", "32", "--every-photographs", "16"]
    assert benchmark.main(options) == 1
    assert "GROWS with photographs" in capsys.readouterr().out


def test_interleaved_takes_turns_and_loses_patience(load: Callable[[str], ModuleType]) -> None:
    measure = load("measure")
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.02)

    times = measure.interleaved({"quick": lambda: calls.append("quick"), "slow": slow}, 3, CPU, patience=0.03)
    assert calls == ["quick", "slow", "quick", "slow", "quick", "quick"]
    assert (len(times["quick"]), len(times["slow"])) == (3, 1)
    assert times["slow"][0] >= 0.02


def test_slope_and_ratio(load: Callable[[str], ModuleType]) -> None:
    measure = load("measure")
    # a warm-up of 100 MiB in the first fifth, then 3 MiB per 1,000
    samples = [(1000, 0.0), (2000, 100.0), *((k * 1000, 100 + 3.0 * k) for k in range(3, 11))]
    assert measure.slope(samples) == pytest.approx(3)
    times = {"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 4.0]}
    assert measure.ratio(times, "a", "b") == 2  # paired by round: 2, 3, 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
def test_peak_sees_memory_that_is_freed_again(load: Callable[[str], ModuleType]) -> None:
    measure = load("measure")
    measure.reset_peak()
    before = measure.resident()
    with mmap.mmap(-1, 100 * measure.MIB) as block:  # a tensor might get memory that the process holds already
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    assert measure.peak() - before > 90


def test_table(load: Callable[[str], ModuleType]) -> None:
    measure = load("measure")
    rows = [["a", 1.23456, 2], ["bcd", None, 123.4]]
    assert measure.table(["x", "y", "z"], rows, markdown=True).splitlines() == [
        "| x | y | z |",
        "| --- | ---: | ---: |",
        "| a | 1.23 | 2 |",
        "| bcd | – | 123 |",
    ]
    assert measure.table(["x", "y", "z"], rows, markdown=False).splitlines()[2] == "bcd     –  123"
