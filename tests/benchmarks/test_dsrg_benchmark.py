"""The benchmark of a seeded region growing's step runs on a tiny network; its figures are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest


def test_shares_of_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    kept = {name: sys.modules.pop(name) for name in ("measure", "dsrg") if name in sys.modules}
    try:
        import dsrg

        out = tmp_path / "out.json"
        words = ["--network", "small", "--size", "64", "--classes", "3", "--repeats", "2", "--json", str(out)]
        status = dsrg.main(words)
    finally:
        for name in ("measure", "dsrg"):
            sys.modules.pop(name, None)
        sys.modules.update(kept)
    found = json.loads(out.read_text())
    times = found["times"]
    assert set(times) == {"whole step", "CRF", "growing"}
    assert all(len(values) == 2 and min(values) > 0 for values in times.values())
    shares = [(c + g) / s for s, c, g in zip(times["whole step"], times["CRF"], times["growing"], strict=True)]
    assert found["share"] == pytest.approx(sum(shares) / 2)
    assert status == int(found["share"] >= 0.1)
    assert "CRF and growing:" in capsys.readouterr().out
