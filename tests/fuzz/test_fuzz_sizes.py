"""Files that are larger than what they stand for: their size is looked at before they are read."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

from attnbn.data.cue_files import MANIFEST, CueFolder, read_seeds, write_seeds
from attnbn.data.voc_labels import read_annotation, read_lines
from attnbn.experiments.adaptation.transfer import _earlier
from attnbn.io import reading
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_json
from attnbn.io.run_folder import METRICS, Metrics, RunFolder
from attnbn.io.yaml_file import read_yaml
from attnbn.models.weights import read_state_dict
from attnbn.report.curves import read_terms
from attnbn.report.transfer import TENSORS, TRANSFER, read_transfer
from fuzz.guards import alone, small_and_fast

HUGE = 2 << 30
CUES = {"classes": ["cat"], "grid": [4, 5], "left_out": [], "settings": {}}


def hollow(file: Path, size: int = HUGE, start: bytes = b"") -> Path:
    """A file of which hardly anything is on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        opened.write(start)
        opened.truncate(size)
    return file


def hollow_weights(file: Path, *, zipped: bool) -> Path:
    """Whole weights, all zeros, hardly any of them on the disk."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(30_000_000)}, buffer, _use_new_zipfile_serialization=zipped)
    content, block = buffer.getbuffer(), 1 << 16
    with file.open("wb") as opened:
        for place in range(0, len(content), block):
            part = bytes(content[place : place + block])
            if part.count(0) < len(part):
                opened.seek(place)
                opened.write(part)
        opened.truncate(len(content))
    assert 512 * file.stat().st_blocks < 10**6
    return file


def tensors_header() -> bytes:
    text = json.dumps({"a": {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}}).encode()
    return struct.pack("<Q", len(text)) + text


def cues(folder: Path) -> Path:
    write_seeds(folder, "a", torch.zeros(2, 4, 5, dtype=torch.bool))
    (folder / MANIFEST).write_text(json.dumps(CUES | {"names": ["a"]}))
    return folder


def transfer(folder: Path) -> Path:
    figures = {"names": ["a"], "source_names": ["a"], "validation": {}}
    (folder / TRANSFER).write_text(json.dumps(figures))
    parts = {f"{side}{key}": torch.zeros(1, 2) for side in ("", "source_") for key in ("scores", "labels", "features")}
    safetensors.torch.save_file(parts, folder / TENSORS)
    return folder


HOLLOW: dict[str, Callable[[Path], tuple[Path, Callable[[], object]]]] = {
    "zip.pth": lambda f: ((p := hollow_weights(f / "a.pth", zipped=True)), lambda: read_state_dict(str(p), "small")),
    "legacy.pth": lambda f: ((p := hollow_weights(f / "a.pth", zipped=False)), lambda: read_state_dict(str(p), "small")),
    "weights.safetensors": lambda f: (
        (p := hollow(f / "a.safetensors", HUGE + len(tensors_header()), tensors_header())),
        lambda: read_state_dict(str(p), "small"),
    ),
    "config.yaml": lambda f: (hollow(f / "config.yaml"), lambda: RunFolder(f).config()),
    "settings.yaml": lambda f: ((p := hollow(f / "a.yaml", start=b"a: 1\n#")), lambda: read_yaml(p)),
    "metrics to go on with": lambda f: ((p := hollow(f / METRICS, start=b'{"step": 1}\n')), lambda: Metrics(p, 5)),
    "metrics to draw": lambda f: ((p := hollow(f / METRICS, start=b'{"step": 1}\n')), lambda: read_terms(p)),
    "results.json": lambda f: (hollow(f / "results.json"), lambda: RunFolder(f).results()),
    "any list of photographs": lambda f: ((p := hollow(f / "a.json")), lambda: read_json(p, largest=None)),
    "annotation": lambda f: ((p := hollow(f / "Annotations/x.xml", start=b"<annotation>")), lambda: read_annotation(p)),
    "list": lambda f: ((p := hollow(f / "train.txt", start=b"a\n")), lambda: read_lines(p)),
    "cues.json": lambda f: (hollow(cues(f) / MANIFEST), lambda: CueFolder(f)),
    "cues of a photograph": lambda f: ((p := hollow(cues(f) / "seeds/a.safetensors")), lambda: read_seeds(p)),
    "transfer.json": lambda f: (hollow(transfer(f) / TRANSFER), lambda: read_transfer(f)),
    "transfer.safetensors": lambda f: (
        hollow(transfer(f) / TENSORS, HUGE + len(tensors_header()), tensors_header()), lambda: read_transfer(f),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLLOW)
def test_hollow_files(tmp_path: Path, name: str) -> None:
    path, read = HOLLOW[name](tmp_path)
    small_and_fast(read, tmp_path if name.startswith("transfer") else path, "got a hollow file of (2,147,48|120,00)")


def nested(count: int) -> bytes:
    return b"[" + b"[]," * count + b"0]"


LARGE: dict[str, Callable[[Path], tuple[Path, bytes, Callable[[], object]]]] = {
    "config.yaml": lambda f: (f / "config.yaml", b"a: 1\n" * 12 * 10**6, lambda: RunFolder(f).config()),
    "a line of metrics": lambda f: (f / METRICS, nested(10**7), lambda: read_terms(f / METRICS)),
    "a line of metrics to go on with": lambda f: (f / METRICS, nested(10**7), lambda: Metrics(f / METRICS, 3)),
    "lines that are none": lambda f: (f / METRICS, b"\n" * 3 * 10**7, lambda: Metrics(f / METRICS, 3)),
    "annotation": lambda f: (f / "x.xml", b"<a>" + b"<b/>" * 10**7, lambda: read_annotation(f / "x.xml")),
    "cues.json": lambda f: (cues(f) / MANIFEST, nested(2 * 10**7), lambda: CueFolder(f)),
    "cues.json of lists": lambda f: (cues(f) / MANIFEST, nested(10**7), lambda: CueFolder(f)),
    "cues.json of dictionaries": lambda f: (cues(f) / MANIFEST, b"[" + b'{"":0},' * 4 * 10**6 + b"0]", lambda: CueFolder(f)),
    "cues.json of wide characters": lambda f: (
        cues(f) / MANIFEST, b'["' + b"a" * 3 * 10**7 + "\U0001f600".encode() + b'"]', lambda: CueFolder(f),
    ),
    "transfer.json": lambda f: (transfer(f) / TRANSFER, nested(2 * 10**7), lambda: read_transfer(f)),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_large_files(tmp_path: Path, name: str) -> None:
    path, content, read = LARGE[name](tmp_path)
    path.write_bytes(content)
    del content
    small_and_fast(read, tmp_path if name.startswith("transfer") else path, "at most|fewer values|that are none")


def test_earlier_figures_of_sixty_megabytes_are_none(tmp_path: Path) -> None:
    (transfer(tmp_path) / TRANSFER).write_bytes(nested(2 * 10**7))
    came = alone(lambda: _earlier(tmp_path, {}) is None)
    assert came.value is True and came.megabytes < 100 and came.seconds < 2


@pytest.mark.parametrize("wide", ["", "ж"])
def test_cues_of_100_000_photographs(tmp_path: Path, wide: str) -> None:
    names = [f"{wide}VOC2012/JPEGImages/2012_{number:06d}" for number in range(100_000)]
    (tmp_path / MANIFEST).write_text(json.dumps(CUES | {"names": names, "left_out": names[:50_000]}, indent=2))
    assert CueFolder(tmp_path).names == names


def test_long_metrics_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / METRICS
    line = {"step": 0, "phase": 0, "terms": {}, "images_per_second": 1.0, "pad": "x" * 220}
    text = json.dumps(line).encode() + b"\n"
    with file.open("wb") as opened:
        for _ in range(100):
            opened.write(text * 2000)
    came = alone(lambda: Metrics(file, 5).path.stat().st_size)
    assert came.value == 200_000 * len(text) and came.megabytes < 30, came


def test_a_file_system_that_counts_no_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not hollow is never taken for it."""
    file = tmp_path / "a"
    file.write_bytes(bytes(11 * 10**6))
    stat = os.stat

    def blockless(path: Any, *args: Any, **options: Any) -> Any:
        about = stat(path, *args, **options)
        return SimpleNamespace(st_mode=about.st_mode, st_size=about.st_size, st_blocks=0)

    monkeypatch.setattr(reading.os, "stat", blockless)
    reading.check_filled(file, "file")
    hollow(file)
    with pytest.raises(InputError, match="hollow"):
        reading.check_filled(file, "file")


def test_a_file_without_an_end(tmp_path: Path) -> None:
    """Of the system, with a length of 0."""
    if not Path("/proc/self/pagemap").exists():
        pytest.skip("needs /proc")
    (tmp_path / "a.json").symlink_to("/proc/self/pagemap")
    small_and_fast(lambda: read_json(tmp_path / "a.json"), tmp_path / "a.json", "expected")
