"""Photographs to saliency files: names, values, going on after a stop, several processes, and folders that are taken."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnbn.data.images import read_image
from attnbn.data.open import open_dataset
from attnbn.inference.saliency import MANIFEST, Detected, write_saliency
from attnbn.inference.saliency_sources import list_sources
from attnbn.inference.shards import Shard, shard_of
from attnbn.io.errors import InputError, RunError
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.onnx import DetectorSettings, OnnxDetector
from tiny_onnx import write_model

NAMES = ["a", "b", "zoo/c", "zoo/d", "zoo/deep/e"]


@pytest.fixture
def detector(tmp_path: Path) -> OnnxDetector:
    return OnnxDetector(write_model(tmp_path / "tiny.onnx", weights=[(0.5, -1.0, 2.0)], biases=[-0.3], batch="n"))


def detect(detector: OnnxDetector, photographs: Path, out: Path, **options: object) -> Detected:
    return write_saliency(detector, list_sources([str(photographs)], out), out, **options)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "L" and picture.format == "PNG"
        return np.asarray(picture)


def maps_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.png"))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (2, 3), (16, 2)])
def test_what_is_written(
    detector: OnnxDetector, photographs: Path, tmp_path: Path, batch_size: int, workers: int
) -> None:
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    done = detect(
        detector, photographs, out, batch_size=batch_size, workers=workers, progress=lambda *at: seen.append(at)
    )
    assert (done.written, done.skipped, done.constant, done.broken) == (5, 0, 0, [])
    assert maps_in(out) == NAMES and seen == [(i, 5) for i in range(1, 6)]
    folder = SaliencyFolder(out)
    for source in list_sources([str(photographs)], out):
        image = read_image(source.path)
        got = pixels(out / f"{source.name}.png")
        expected = detector.of(image, source.name)
        assert got.shape == tuple(image.shape[-2:])
        np.testing.assert_allclose(got / 255, expected[0], atol=0.5 / 255 + 1e-5)
        read = folder.of(image, source.name)
        assert read is not None
        np.testing.assert_allclose(read[0], got / 255, atol=1e-6)
    manifest = json.loads((out / MANIFEST).read_text())
    assert {"model": "tiny.onnx", **manifest} == json.loads(json.dumps({**detector.identity(), "scale": 1.0}))
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_scale(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    detect(detector, photographs, tmp_path / "out", scale=0.5)
    assert pixels(tmp_path / "out" / "zoo" / "c.png").shape == (16, 20)
    image = read_image(photographs / "zoo" / "c.png")
    read = SaliencyFolder(tmp_path / "out").of(image, "zoo/c")
    assert read is not None and read.shape[-2:] == image.shape[-2:]
    for scale in (0.0, 1.5):
        with pytest.raises(InputError, match=r"scale of the maps in \(0, 1\]"):
            detect(detector, photographs, tmp_path / "other", scale=scale)


def test_nothing_stands_out(photographs: Path, tmp_path: Path) -> None:
    empty = OnnxDetector(write_model(tmp_path / "empty.onnx", weights=[(0.0, 0.0, 0.0)], biases=[-5.0]))
    done = detect(empty, photographs, tmp_path / "out")
    assert (done.written, done.constant) == (5, 5)
    assert (pixels(tmp_path / "out" / "a.png") == 2).all()  # 255 · 0.0067, not stretched


class _Stops(OnnxDetector):
    """Stops, as by Ctrl-C, after some photographs."""

    left = 2

    def maps(self, inputs, names):
        self.left -= len(names)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().maps(inputs, names)


def test_going_on(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        detect(_Stops(detector.path), photographs, out)
    there = maps_in(out)
    assert set(there) <= set(NAMES) and len(there) <= 2
    assert all(pixels(out / f"{name}.png").size for name in there)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    before = {name: (out / f"{name}.png").stat().st_mtime_ns for name in there}
    done = detect(detector, photographs, out)
    assert (done.written, done.skipped) == (5 - len(there), len(there))
    assert {name: (out / f"{name}.png").stat().st_mtime_ns for name in there} == before
    (out / "b.png").write_bytes((out / "b.png").read_bytes()[:20])  # not ours any more
    (out / "zoo" / "c.png").unlink()
    done = detect(detector, photographs, out)
    assert (done.written, done.skipped) == (2, 3) and pixels(out / "b.png").shape == (31, 40)


def test_processes_share(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for rank in (0, 1):
        mine = {name for name in NAMES if shard_of(name, 2) == rank}
        before = set(maps_in(out)) if out.exists() else set()
        assert detect(detector, photographs, out, shard=Shard(rank, 2)).written == len(mine)
        assert set(maps_in(out)) == before | mine
    assert maps_in(out) == NAMES


def test_another_detectors_folder(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    detect(detector, photographs, out)
    same = OnnxDetector(Path(detector.path).rename(tmp_path / "renamed.onnx"))
    assert detect(same, photographs, out).skipped == 5
    other = OnnxDetector(write_model(tmp_path / "other.onnx", weights=[(0.0, 1.0, 0.0)]))
    with pytest.raises(
        InputError, match=r"results of the same run, got those of another \(sha256 differ\).*--overwrite: .*out$"
    ):
        detect(other, photographs, out)
    brighter = OnnxDetector(same.path, settings=DetectorSettings(white="255"))
    with pytest.raises(InputError, match=r"\(white, scale differ\)"):
        detect(brighter, photographs, out, scale=0.5)
    assert detect(other, photographs, out, overwrite=True).written == 5  # done anew, although there
    assert json.loads((out / MANIFEST).read_text())["sha256"] == other.identity()["sha256"]
    assert detect(other, photographs, out).skipped == 5


def test_a_folder_of_other_things(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".saliency.json.x.part").write_text("")  # another process of this work begins
    assert detect(detector, photographs, out).written == 5
    (out / MANIFEST).unlink()
    with pytest.raises(
        InputError, match=r"new or empty folder, or one that attnbn saliency made; .*--overwrite: .*out$"
    ):
        detect(detector, photographs, out)
    (out / MANIFEST).write_text("{broken")
    with pytest.raises(InputError, match=r"got those of another"):
        detect(detector, photographs, out)
    with pytest.raises(InputError, match="other than the photographs' own"):
        detect(detector, photographs, photographs)
    # a photograph named alone, in the very folder
    sources = list_sources([str(photographs / "b.png")], photographs)
    kept = (photographs / "b.png").read_bytes()
    with pytest.raises(InputError, match=r"other than the photographs' own: .*b\.png$"):
        write_saliency(detector, sources, photographs, overwrite=True)
    assert (photographs / "b.png").read_bytes() == kept


def test_broken_photographs(detector: OnnxDetector, photographs: Path, tmp_path: Path) -> None:
    (photographs / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty file.*b\.png$"):
        detect(detector, photographs, tmp_path / "out")
    done = detect(detector, photographs, tmp_path / "out", skip_broken=True)
    assert done.written + done.skipped == 4 and len(done.broken) == 1 and "b.png" in done.broken[0]


def test_a_failing_model_leaves_nothing(photographs: Path, tmp_path: Path) -> None:
    bad = OnnxDetector(write_model(tmp_path / "bad.onnx", biases=[float("nan")], sigmoid=False))
    with pytest.raises(RunError, match="NaN or infinity for 'a'"):
        detect(bad, photographs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk(
    detector: OnnxDetector, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise RunError(f"no space left to write: {path}")

    monkeypatch.setattr("attnbn.inference.saliency.write_bytes", full)
    with pytest.raises(RunError, match=r"no space left to write: .*a\.png"):
        detect(detector, photographs, tmp_path / "out")


# ---- a detector that is no model: the stand-in takes the red channel, in ``prepare``


class Plain:
    batch = 1

    def identity(self) -> dict[str, object]:
        return {"detector": "red", "pid": "any"}

    def prepare(self, image: Tensor) -> np.ndarray:
        if os.environ.get("DIES"):
            os._exit(9)
        return np.append(image[0].numpy().astype(np.float32) / 255, np.full((1, image.shape[2]), os.getpid()), 0)

    def maps(self, inputs, names) -> Tensor:
        PIDS.update(int(one[-1, 0]) for one in inputs)
        return torch.stack([torch.from_numpy(one[None, :-1].astype(np.float32)) for one in inputs])

    def of(self, image: Tensor, name: str) -> Tensor:
        return self.maps([self.prepare(image)], [name])[0]


PIDS: set[int] = set()


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 1), (2, 4)])
def test_a_detector_that_is_no_model(photographs: Path, tmp_path: Path, workers: int, batch_size: int) -> None:
    """It looks in processes of its own where it may have more than one: it would not let other threads run."""
    PIDS.clear()
    out = tmp_path / "out"
    (photographs / "b.png").write_bytes(b"")
    done = detect(Plain(), photographs, out, workers=workers, batch_size=batch_size, skip_broken=True)
    assert (done.written, len(done.broken)) == (4, 1) and "b.png" in done.broken[0]
    for source in list_sources([str(photographs)], out):
        if source.name != "b":
            image = read_image(source.path)
            assert (pixels(out / f"{source.name}.png") == image[0].numpy()).all()
    assert len(PIDS) == workers and (os.getpid() in PIDS) == (workers == 1)
    assert json.loads((out / MANIFEST).read_text()) == {"detector": "red", "pid": "any", "scale": 1.0}
    assert detect(Plain(), photographs, out, workers=workers, skip_broken=True).skipped == 4


def test_a_process_that_dies(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIES", "1")
    with pytest.raises(RunError, match=r"a process that reads photographs died, .* fewer --workers"):
        detect(Plain(), photographs, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


class Large(Plain):
    """Its answers do not fit into a pipe."""

    def prepare(self, image: Tensor) -> np.ndarray:
        with open(os.environ["PIDS"], "a") as file:
            file.write(f"{os.getpid()}\n")
        return np.zeros((600, 600), np.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_processes_end_with_the_one_that_began_them(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when it is killed: none stays, waiting for somebody to take its answer."""
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    for i in range(40):
        shutil.copy(photographs / "b.png", photographs / f"b{i}.png")
    process = multiprocessing.get_context("fork").Process(target=detect, args=(Large(), photographs, tmp_path / "out"))
    process.start()
    end = time.monotonic() + 60
    while time.monotonic() < end and not list((tmp_path / "out").glob("*.png")):
        time.sleep(0.02)
    process.kill()
    process.join()
    pids = {int(line) for line in (tmp_path / "pids").read_text().split()}
    assert len(pids) == 2 and process.pid not in pids
    end = time.monotonic() + 60  # they look every five seconds
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.1)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


# ---- which photographs


def voc(root: Path) -> Path:
    (root / "JPEGImages").mkdir(parents=True)
    for name in ("2007_1", "2007_2"):
        Image.new("RGB", (20, 10), "red").save(root / "JPEGImages" / f"{name}.jpg")
    return root


def test_data_sets_keep_their_names(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert [s.name for s in list_sources([f"voc:{voc(tmp_path / 'VOC')}"], out)] == ["2007_1", "2007_2"]
    (photographs / "a.jpg").unlink()
    (photographs / "b.png").unlink()
    folders = list_sources([f"folders:{photographs}"], out)
    assert [s.name for s in folders] == open_dataset(f"folders:{photographs}", split="all").names
    (tmp_path / "list.csv").write_text("path,label\nphotos/zoo/c.png,cat\n")
    rows = list_sources([f"csv:{tmp_path / 'list.csv'}"], out)
    assert [s.name for s in rows] == open_dataset(f"csv:{tmp_path / 'list.csv'}", split="all").names


def test_several_places(photographs: Path, tmp_path: Path) -> None:
    sources = list_sources([str(photographs), f"voc:{voc(tmp_path / 'VOC')}"], tmp_path / "out")
    assert [s.name for s in sources] == [*NAMES, "2007_1", "2007_2"]
    assert all(Path(s.path).stem == Path(s.name).name for s in sources)
    (tmp_path / "again").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "again" / "2007_2.png")
    with pytest.raises(InputError, match=r"different names, got '2007_2' twice, of .*2007_2\.png and .*2007_2\.jpg"):
        list_sources([str(tmp_path / "again"), f"voc:{tmp_path / 'VOC'}"], tmp_path / "out")


def test_wrong_places(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing: nowhere"):
        list_sources(["nowhere"], tmp_path)
    with pytest.raises(InputError, match=r"KIND one of folders, voc, .* got the kind 'foo': foo:bar"):
        list_sources(["foo:bar"], tmp_path)
    with pytest.raises(InputError, match="got the kind 'scenes'"):
        list_sources(["scenes:target"], tmp_path)
    root = voc(tmp_path / "VOC")
    for out in (root / "JPEGImages", root / "JPEGImages" / "maps"):
        with pytest.raises(InputError, match="outside the data set's photographs"):
            list_sources([f"voc:{root}"], out)
    assert list_sources([f"voc:{root}"], root / "saliency")
    with pytest.raises(InputError, match="outside the data set's photographs"):
        list_sources([f"folders:{photographs}"], photographs / "maps")
    odd = tmp_path / "odd:name"
    odd.mkdir()
    Image.new("RGB", (4, 4)).save(odd / "x.png")
    assert [s.name for s in list_sources([str(odd)], tmp_path / "out")] == ["x"]
