"""A run folder got from somebody: nothing in it is executed, and nothing asks for more memory or time than it is worth."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from attnbn.cli.main import main
from attnbn.data import index
from attnbn.data.cue_files import MANIFEST, CueFolder, write_seeds
from attnbn.data.dataset import ImageDataset
from attnbn.experiments.adaptation.checks import check_earlier_domains
from attnbn.experiments.rows import check_study_folder
from attnbn.experiments.segmentation.feeds import classes_of_masks
from attnbn.inference.load import load
from attnbn.inference.load_segmenter import load_segmenter
from attnbn.inference.saliency_summary import DIGEST_KEY, read_figures
from attnbn.io.errors import InputError
from attnbn.io.json_file import LARGEST, read_json
from attnbn.io.run_folder import CONFIG, METRICS, RESULTS, Metrics
from attnbn.report.curves import read_terms
from attnbn.report.transfer import TENSORS as TRANSFER_TENSORS
from attnbn.report.transfer import TRANSFER, read_transfer
from attnbn.training.checkpoint import STATE, TENSORS
from attnbn.training.frozen import KeptViews
from fuzz.corpus import encoded, pixels
from fuzz.guards import alone, refused, small_and_fast, within
from segment_runs import classifier_run, segmentation_run

DEEP = b"[" * 100_000
TERABYTES = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "attend": classifier_run(folder / "classifier", ["cat", "dog"], threshold=0.3),
        "segment": segmentation_run(folder / "segmenter", ["cat", "dog"]),
    }


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["attend"], tmp_path / "run"))


def looked_at(run: Path, checkpoint: str = "last") -> Callable[[], Any]:
    return lambda: load(str(run), checkpoint=checkpoint, device="cpu").classes


def header(entries: dict[str, Any]) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def stored(run: Path, tensors: bytes, **state: Any) -> None:
    """A checkpoint whose checksum is right."""
    folder = run / "checkpoints/step-00000005"
    known = json.loads((folder / STATE).read_text())
    (folder / TENSORS).write_bytes(tensors)
    (folder / STATE).write_text(json.dumps(known | {"sha256": hashlib.sha256(tensors).hexdigest()} | state))


TENSOR_FILES: dict[str, Callable[[], bytes]] = {
    "terabytes": lambda: header(TERABYTES),
    "a header of exabytes": lambda: struct.pack("<Q", 2**62) + b"{}",
    "an overflow": lambda: header({"a": {"dtype": "F32", "shape": [2**31] * 3, "data_offsets": [0, 0]}}),
    "a pickle": lambda: pickle.dumps({"a": 1}),
    "deep": lambda: struct.pack("<Q", len(DEEP)) + DEEP,
    "empty": lambda: b"",
    "other tensors": lambda: safetensors.torch.save({"modules.network.x": torch.ones(3)}),
    "other shapes": lambda: safetensors.torch.save({"modules.network.head.last.weight": torch.ones(3, 3, 3)}),
}


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_tensors(run: Path, name: str) -> None:
    stored(run, TENSOR_FILES[name]())
    small_and_fast(looked_at(run), run, "checkpoint")


def test_a_hollow_file_of_terabytes(run: Path) -> None:
    """A few bytes of a tar archive make one."""
    with (run / "checkpoints/step-00000005" / TENSORS).open("r+b") as file:
        file.truncate(2**42)
    small_and_fast(looked_at(run), run, "a hollow file of 4,398,046,511,104 bytes")


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
@pytest.mark.parametrize("name", [TENSORS, STATE])
def test_what_is_no_file(run: Path, name: str, kind: str) -> None:
    file = run / "checkpoints/step-00000005" / name
    file.unlink()
    make = {"pipe": os.mkfifo, "device": lambda f: os.symlink("/dev/zero", f), "link": lambda f: os.symlink(f, f)}
    make[kind](file)
    refused(looked_at(run), run, f"found no file {name}")


STATES: list[Any] = [
    {"step": -1}, {"step": "../../x"}, {"step": float("inf")}, {"step": True}, {"step": None}, {"state": []}, {"state": None},
    {"format": 99}, {"sha256": 3},
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_states(run: Path, state: dict[str, Any]) -> None:
    stored(run, (run / "checkpoints/step-00000005" / TENSORS).read_bytes(), **state)
    refused(looked_at(run), run, "checkpoint")


@pytest.mark.parametrize("content", [DEEP, b"[" + b"[]," * 10**7 + b"0]", b"\xff", b"3"])
@pytest.mark.parametrize("name", ["checkpoints/step-00000005/state.json", RESULTS, CONFIG])
def test_files_of_text(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    small_and_fast(looked_at(run), run, "")


SETTINGS: dict[str, Any] = {
    "data": 3, "data.size": 10**9, "data.classes": {"a": 1}, "data.scale": [0.5], "data.flip": "yes", "data.hold_out": [],
    "model": None, "model.backbone": "os.system", "model.freeze": "x", "model.layer": 7, "loss.attention": float("nan"),
    "loss.normalize": "eval", "training.lr": "fast", "training.phases": [3], "training.steps": 1.5, "seed": "0", "devices": 10.5,
    "channels_last": "no", "versions": [1], "../../x": 1, "__class__": "x", "data.size.": 1, "training.epochs": 10**400,
}  # fmt: skip


def changed(run: Path, name: str, value: Any) -> None:
    settings = yaml.safe_load((run / CONFIG).read_text())
    section, _, key = name.partition(".")
    if key and section in settings:
        settings[section][key] = value
    else:
        settings[name] = value
    (run / CONFIG).write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_another_kind(run: Path, name: str) -> None:
    changed(run, name, SETTINGS[name])
    message = refused(looked_at(run), None)
    assert CONFIG in message or name == "model.backbone"  # which names the backbones there are


def test_settings_of_a_segmentation(runs: dict[str, Path], tmp_path: Path) -> None:
    for name, value in {
        "data.size": 10**8,
        "classes": ["a", 3],
        "inference.scales": [10**6],
        "model.dropout": "x",
    }.items():
        run = Path(shutil.copytree(runs["segment"], tmp_path / name))
        changed(run, name, value)
        refused(lambda run=run: load_segmenter(str(run)), None, name.rpartition(".")[2])  # type: ignore[misc]


@pytest.mark.parametrize("value", ["x", -1, 7, float("inf"), [0.5], {}, True])
def test_thresholds(run: Path, value: Any) -> None:
    (run / RESULTS).write_text(json.dumps({"steps": 5, "threshold": value}))
    refused(looked_at(run), run / RESULTS, r"a threshold in \[0, 1\]")


def test_a_best_checkpoint_without_a_validation(run: Path) -> None:
    shutil.copytree(run / "checkpoints/step-00000005", run / "checkpoints/best")
    assert load(str(run), checkpoint="best").threshold_split is None


def test_commands_end_in_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(pixels(), "JPEG"))
    changed(run, "data.size", 10**9)
    photograph, output = str(tmp_path / "a.jpg"), str(tmp_path / "out")
    for words in (
        ["attend", str(run), photograph, "--output", output, "--device", "cpu"],
        ["evaluate", str(run), "--data.target", "scenes:target?count=2", "--split", "test"],
        ["train", "--resume", str(run)],
        ["segment", "predict", str(run), photograph, "--output", output],
        ["cues", str(run), "--target", "scenes:target?count=2", "--output", output],
    ):
        with within(20):
            assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and error.startswith("attnbn"), error
    assert not Path(output).exists()


# lines and lists of a run


def test_metrics_of_another_hand(tmp_path: Path) -> None:
    file = tmp_path / METRICS
    lines = [
        b'{"step": 1}',
        b"\xff\xfe",
        DEEP,
        b'{"step": Infinity}',
        b"[1]",
        b'{"step": "x"}',
        b"null",
        b'{"step": 9}',
    ]
    file.write_bytes(b"\n".join(lines))
    Metrics(file, 5).close()
    assert file.read_text() == '{"step": 1}\n'
    for line in (
        b"\xff\xfe",
        DEEP,
        b"[1]",
        b"null",
        b'{"step": Infinity, "terms": {"a": 1}}',
        b'{"step": 1, "terms": 3}',
        b'{"step": 1, "terms": {"a": "x"}}',
    ):
        file.write_bytes(line)
        with pytest.raises(InputError, match=METRICS) as caught:
            read_terms(file)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"3", b"null", DEEP, b"\xff", b'{"domains": 3}', b'{"domains": [3]}', b"{}"]
)
def test_results_and_notes_of_studies(tmp_path: Path, content: bytes) -> None:
    for name in (RESULTS, "segment.json", TRANSFER):
        (tmp_path / name).write_bytes(content)
    (tmp_path / TRANSFER_TENSORS).write_bytes(header(TERABYTES))
    with pytest.raises(InputError, match="the folder holds other results"):
        check_study_folder(tmp_path, "x")
    refused(lambda: classes_of_masks(tmp_path / "masks"), tmp_path / "segment.json")
    refused(lambda: read_transfer(tmp_path), tmp_path)
    if content != b"{}":
        refused(lambda: check_earlier_domains(tmp_path, []), tmp_path / RESULTS)


def test_large_json_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[" + b"[]," * LARGEST + b"0]")
    small_and_fast(lambda: read_json(tmp_path / "a.json"), tmp_path / "a.json", "at most 2,000,000 bytes")
    (tmp_path / "a.json").write_bytes(b"[" + b"[]," * (LARGEST // 3 - 2) + b"0]")
    came = alone(lambda: len(read_json(tmp_path / "a.json")))
    assert came.value and came.megabytes < 100, came


CUES = {"classes": ["cat"], "grid": [4, 5], "names": ["a"], "left_out": [], "settings": {}}
GRIDS = [[10**6, 10**6], [0, 5], [-1, 5], [float("inf"), 1], ["x", 1], [1], None, 3]


@pytest.mark.parametrize("grid", GRIDS)
def test_cues_on_any_grid(tmp_path: Path, grid: Any) -> None:
    write_seeds(tmp_path, "a", torch.zeros(2, 4, 5, dtype=torch.bool))
    (tmp_path / MANIFEST).write_text(json.dumps(CUES | {"grid": grid}))
    small_and_fast(lambda: CueFolder(tmp_path).read("a"), tmp_path / MANIFEST, "a manifest of cues")


# what is kept on disk for the next start


class Named(ImageDataset):
    def __init__(self) -> None:
        super().__init__(("cat",), ["a", "b"], None)


def array_header(shape: tuple[int, ...], kind: str = "<f2") -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


KEPT: dict[str, Callable[[Path], bytes]] = {
    "pickled objects": lambda marker: saved(np.array([Trap(marker)], dtype=object)),
    "a pickle": lambda marker: pickle.dumps(Trap(marker)),
    "terabytes": lambda _: array_header((2**20, 2, 2**10, 2**10, 64)),
    "negative": lambda _: array_header((-1, 2, 3, 3, 4)),
    "an overflow": lambda _: array_header((2**62, 2**62, 2, 2, 2)),
    "nothing": lambda _: array_header((2, 0, 3, 3, 4)),
    "code for a shape": lambda _: array_header((2,)).replace(b"(2,)", b"x()"),
    "a long header": lambda _: b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + b"{",
    "deep": lambda _: b"\x93NUMPY\2\0" + struct.pack("<I", 9000) + b"(" * 9000,
    "floats": lambda _: saved(np.zeros((2, 2, 3, 3, 4), np.float32)),
    "flat": lambda _: saved(np.zeros((2, 2), np.float16)),
    "too few": lambda _: saved(np.zeros((1, 2, 3, 3, 4), np.float16)),
    "a zip": lambda _: b"PK\3\4" + bytes(100),
    "empty": lambda _: b"",
}


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", KEPT)
def test_kept_features(tmp_path: Path, name: str) -> None:
    file = tmp_path / "features-0.npy"
    file.write_bytes(KEPT[name](tmp_path / "ran"))
    small_and_fast(lambda: KeptViews(Named(), torch.arange(2), file, None, 1), file, "delete the file")
    assert not (tmp_path / "ran").exists()


BODIES = [DEEP, b"[]", b"{}", b'{"root": 3}', b'{"root": "ROOT", "folders": []}', b'{"root": "ROOT", "folders": {"a": 3}}',
          b'{"root": "ROOT", "folders": {"a": [0, 99, [[1]]]}}']  # fmt: skip


@pytest.mark.parametrize("content", BODIES)
def test_kept_lists_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.jpg").write_bytes(b"")
    file = index._file(root)
    assert file is not None
    file.parent.mkdir(parents=True)
    head = content.replace(b"ROOT", os.fsencode(root))
    write_list(file, head, b"")
    found, notes = index.list_folders(root, ["a"])
    assert found == {"a": ["x.jpg"]} and len(notes) == 1 and "damaged" in notes[0]


def write_list(file: Path, head: bytes, body: bytes) -> None:
    digest = hashlib.blake2b(head + body, digest_size=16).hexdigest().encode()
    file.write_bytes(b"attnbn listing 1 " + digest + b" " + str(len(head)).encode() + b"\n" + head + body)


@pytest.mark.parametrize("name", ["../../secret.jpg", "/etc/secret.jpg", "deep/../../secret.jpg", "x.jpg\0../y.jpg"])
def test_a_kept_list_that_names_files_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.jpg").write_bytes(b"")
    file = index._file(root)
    assert file is not None
    file.parent.mkdir(parents=True)
    stamps = [list(stamp) for stamp in index._stamps(root / "a", [str(root / "a")])]
    body = name.encode()
    head = json.dumps({"root": str(root.resolve()), "folders": {"a": [0, len(body), stamps]}}).encode()
    write_list(file, head, body)
    assert index.list_folders(root, ["a"])[0] == {"a": ["x.jpg"]}


def test_a_map_that_is_a_program(tmp_path: Path) -> None:
    """Pillow would have Ghostscript run it; of the files in an output folder only PNG and JPEG are opened."""
    file = tmp_path / "a.png"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%" + DIGEST_KEY.encode() + b": d\n%%EndComments\n"
    )
    assert read_figures(file, "d") is None
