"""Weights and archives from anywhere: tensors are read, code is never run, nothing is unpacked beyond measure."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbn.data.cue_files import read_seeds, write_seeds
from attnbn.experiments.segmentation.crf import read_probabilities
from attnbn.inference.load import load
from attnbn.io.errors import InputError
from attnbn.models.weights import read_state_dict
from attnbn.report.html import Page
from fuzz.corpus import encoded, pixels
from fuzz.guards import alone, read_or_refused, refused, small_and_fast
from segment_runs import classifier_run

settings.load_profile("fuzz")
STATE = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}


def saved(value: object, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize(
    "name", ["zip.pth", "legacy.pth", "raw.pth", "raw.pt", "named.safetensors", "object.npz", "checkpoint.ckpt"]
)
def test_code_in_weights_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / name
    trap = Trap(marker)
    content = {
        "zip.pth": lambda: saved({"a": trap}), "legacy.pth": lambda: saved({"a": trap}, zipped=False),
        "raw.pth": lambda: pickle.dumps(trap), "raw.pt": lambda: pickle.dumps(trap, 0),
        "named.safetensors": lambda: saved({"a": trap}), "checkpoint.ckpt": lambda: saved({"state_dict": STATE, "extra": trap}),
    }  # fmt: skip
    if name == "object.npz":
        np.savez(path, a=np.array([trap], dtype=object))
    else:
        path.write_bytes(content[name]())
    message = refused(lambda: read_state_dict(str(path), "small"), path, "could not read")
    assert not marker.exists()
    if name in ("zip.pth", "legacy.pth", "checkpoint.ckpt"):
        assert "it names posix.system" in message


def header(**tensors: tuple[str, list[int], list[int]]) -> bytes:
    """A safetensors file that is its header alone."""
    entries = {name: {"dtype": d, "shape": s, "data_offsets": o} for name, (d, s, o) in tensors.items()}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def legacy_of(count: int) -> bytes:
    """A legacy file whose storage says that it holds another number of values than 77."""
    data = saved({"a": torch.zeros(77)}, zipped=False)
    assert data.count(b"KM") >= 1
    return data.replace(b"KM", b"\x8a\x08" + struct.pack("<q", count))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "terabytes.safetensors": (lambda: header(a=("F32", [2**40], [0, 2**42])), "could not read"),
    "long-header.safetensors": (lambda: struct.pack("<Q", 2**60) + b"{}", "could not read"),
    "large-header.safetensors": (lambda: struct.pack("<Q", 99 * 2**20) + b"{", "could not read"),
    "overflow.safetensors": (lambda: header(a=("F32", [2**31, 2**31, 2**31], [0, 0])), "could not read"),
    "empty.safetensors": (lambda: b"", "could not read"),
    "cut.safetensors": (lambda: safetensors.torch.save(STATE)[:-3], "could not read"),
    "deep.safetensors": (lambda: struct.pack("<Q", 90_000) + b"[" * 90_000, "could not read"),
    "pickle-bomb.pth": (
        lambda: zipped(
            {"x/data.pkl": pickle.dumps(collections.OrderedDict(), 2) + bytes(12 * 10**7), "x/version": b"3\n"}
        ),
        "an archive of .* bytes that unpacks to 120,000",
    ),
    "storage-bomb.pth": (lambda: zipped({"x/data.pkl": b"", "x/data/0": bytes(12 * 10**7)}), "unpacks to 120,000,000"),
    "terabytes.pth": (lambda: legacy_of(2**40), "could not read"),
    "gigabytes.pth": (lambda: legacy_of(2**28), "could not read"),
    "pickle-of-gigabytes.pth": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x", "could not read"),
    "empty.pth": (lambda: b"", "could not read"),
    "page.pth": (lambda: b"<!DOCTYPE html><html>", "could not read"),
    "picture.pth": (lambda: encoded(pixels(), "PNG"), "could not read"),
    "cut.pth": (lambda: saved(STATE)[:-40], "could not read"),
    "list.pth": (lambda: saved([STATE]), "names to tensors"),
    "nested.pth": (lambda: saved({"a": {"b": torch.ones(1)}}), "names to tensors"),
    "numbers.pth": (lambda: saved({"a": 3}), "names to tensors"),
    "nothing.pth": (lambda: saved({}), "names to tensors"),
    "sparse.pth": (lambda: saved({"a": torch.eye(3).to_sparse()}), "plain dense tensors"),
    "nowhere.pth": (lambda: saved({"a": torch.empty(2**40, device="meta")}), "plain dense tensors"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BOMBS)
def test_weights_that_are_refused_fast_and_small(tmp_path: Path, name: str) -> None:
    make, message = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    small_and_fast(lambda: read_state_dict(str(path), "small"), path, message)


@pytest.mark.parametrize(
    "name", ["a.pth", "legacy.pth", "a.safetensors", "odd \udcff.pth", "wrapped.pth", "expanded.pth"]
)
def test_weights_that_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {
        "a.safetensors": lambda: safetensors.torch.save(STATE), "legacy.pth": lambda: saved(STATE, zipped=False),
        "wrapped.pth": lambda: saved({"state_dict": {f"module.{name}": value for name, value in STATE.items()}}),
        "expanded.pth": lambda: saved(STATE | {"c": torch.ones(1).expand(2**40)}),
    }.get(name, lambda: saved(STATE))  # fmt: skip
    path.write_bytes(content())
    came = alone(
        lambda: {key: value.sum().item() for key, value in read_state_dict(str(path), "small").items() if key != "c"}
    )
    assert came.value == {"a": 66, "b": 2} and came.megabytes < 100


WHOLE = {
    "a.pth": saved(STATE),
    "legacy.pth": saved(STATE, zipped=False),
    "a.safetensors": safetensors.torch.save(STATE),
}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=120)
@given(
    name=st.sampled_from(sorted(WHOLE)), kept=st.floats(0, 1) | st.just(1.0),
    spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
)  # fmt: skip
def test_spoilt_weights(tmp_path: Path, name: str, spots: list[tuple[float, int]], kept: float) -> None:
    content = bytearray(WHOLE[name])
    for place, value in spots:
        content[int(place * len(content))] = value
    path = tmp_path / name
    path.write_bytes(content[: round(kept * len(content))])
    state = read_or_refused(lambda: read_state_dict(str(path), "small"), path) or {}
    assert all(isinstance(value, torch.Tensor) for value in state.values())


# other stored arrays


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def claimed(shape: tuple[int, ...], kind: str = "<f4", zeros: int = 0) -> bytes:
    """An archive whose array says that it is of this shape."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    return zipped({"probabilities.npy": head.getvalue() + bytes(zeros)})


ARCHIVES = {
    "terabytes": (lambda: claimed((3, 2**20, 2**20)), "like the photograph a.jpg, got 3×1048576×1048576"),
    "unpacks": (lambda: claimed((255, 2**12, 2**12), zeros=10**8), "like the photograph"),
    "too short": (lambda: claimed((3, 4, 5)), "a damaged file"),
    "objects": (lambda: archive(probabilities=np.array([{}], dtype=object)), "pickled objects, which are never read"),
    "text": (lambda: archive(probabilities=np.array(["x"])), "got <U1 1"),
    "no array": (lambda: archive(other=np.zeros(3)), "got other"),
    "no entry": (lambda: zipped({}), "got none"),
    "cut": (lambda: archive(probabilities=np.zeros((3, 4, 5), np.float32))[:-30], "damaged file"),
    "code": (lambda: zipped({"probabilities.npy": pickle.dumps({})}), "damaged file|pickled"),
    "single": (lambda: b"\x93NUMPY\1\0" + bytes(80), "got a single array"),
    "page": (lambda: b"<html>", "another kind of file"),
    "empty": (lambda: b"", "an empty file"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_are_refused_fast_and_small(tmp_path: Path, name: str) -> None:
    make, message = ARCHIVES[name]
    path = tmp_path / "p.npz"
    path.write_bytes(make())
    small_and_fast(lambda: read_probabilities(path, "a.jpg", (4, 5)), path, message)


@settings(max_examples=60)
@given(spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_spoilt_archives_and_cues(tmp_path: Path, spots: list[tuple[float, int]]) -> None:
    cues = torch.zeros(3, 4, 5, dtype=torch.bool)
    cues[1, 2, 3] = True
    write_seeds(tmp_path, "a", cues, mark="run")
    readers = {
        tmp_path / "seeds" / "a.safetensors": lambda: read_seeds(tmp_path / "seeds" / "a.safetensors"),
        tmp_path / "p.npz": lambda: read_probabilities(tmp_path / "p.npz", "a.jpg", (4, 5)),
    }
    (tmp_path / "p.npz").write_bytes(
        archive(probabilities=np.random.default_rng(0).random((3, 4, 5), dtype=np.float32))
    )
    for path, read in readers.items():
        content = bytearray(path.read_bytes())
        for place, value in spots:
            content[int(place * len(content))] = value
        path.write_bytes(content)
        read_or_refused(read, path)


# a run folder that came from elsewhere


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier_run(tmp_path_factory.mktemp("runs") / "run", ["cat", "dog"], threshold=0.3)


SPOILT = [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"{}", b'{"steps": "x"}', b"[" * 100_000, b"<html>", bytes(50)]


@pytest.mark.parametrize("content", SPOILT)
def test_a_damaged_run_is_refused(run: Path, tmp_path: Path, content: bytes) -> None:
    files = sorted(file.relative_to(run) for file in run.rglob("*") if file.is_file() and file.name != ".lock")
    assert len(files) >= 4
    for spoilt in files:
        copy = tmp_path / "copy"
        for file in files:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_bytes(content if file == spoilt else (run / file).read_bytes())
        with suppress(InputError):  # what is not missed is read; any other exception is a failure
            load(str(copy), checkpoint="last", device="cpu")


# pages


NASTY = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' onload='alert(1)",
    "a\nb",
    "\udcff",
    "$x^",
    "&amp;",
]


@pytest.mark.parametrize("text", NASTY)
def test_no_name_becomes_a_part_of_a_page(tmp_path: Path, text: str) -> None:
    from html.parser import HTMLParser

    from attnbn.io.atomic import write_text

    page = Page(text, text).heading(text)
    page.table([text, "b"], [[text, "1"]], caption=text)
    page.facts({text: text})
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend([tag] if tag in ("script", "img") else [])
            found.extend(name for name, _ in attrs if name.startswith("on"))

    write_text(tmp_path / "page.html", page.render())
    Parser().feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert found == []
