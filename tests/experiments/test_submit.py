"""The archive for VOC's evaluation server: layout, content, order, and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import voc_palette
from attnbn.data.open import open_dataset
from attnbn.experiments.segmentation import submit as module
from attnbn.experiments.segmentation.submit import submit
from attnbn.experiments.voc_server import voc_ids
from attnbn.inference.evaluate import segment
from attnbn.inference.load import load
from attnbn.inference.load_segmenter import load_segmenter
from attnbn.inference.predict import predict
from attnbn.inference.segment import segment_photographs
from attnbn.io.errors import InputError
from segment_runs import classifier_run, segmentation_run

NAMES = ("2008_000006", "2008_000011", "2010_000123")
INSIDE = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC's test set as it is delivered: photographs and lists, no labels, no masks; ``Main`` lists more of them."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for seed, name in enumerate((*NAMES, "2011_000999")):
        pixels = np.random.default_rng(seed).integers(0, 256, (30 + seed, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((44 + 9 * seed, 50)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join([*NAMES, "2011_000999"]))
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join([NAMES[2], NAMES[0], NAMES[1]]) + "\n")
    return root


@pytest.fixture(scope="module")
def seg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "seg", VOC_CLASSES)


def unpacked(path: Path) -> dict[str, np.ndarray]:
    """Name -> indices of every mask in the archive, in its order."""
    masks = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            assert entry.mtime == 0
            if entry.isfile():
                with Image.open(io.BytesIO(archive.extractfile(entry).read())) as picture:
                    assert picture.mode == "P"
                    assert picture.getpalette() == voc_palette().ravel().tolist()
                    masks[entry.name] = np.asarray(picture)
            else:
                assert entry.isdir() and INSIDE.startswith(entry.name)
    return masks


def test_a_segmentation(voc: Path, seg: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.tar"
    done = submit(seg, f"voc:{voc}", out, device="cpu", crf=False)
    assert (done.images, done.resumed, done.folder, done.notes) == (3, 0, INSIDE, [])
    masks = unpacked(out)
    assert list(masks) == [f"{INSIDE}/{name}.png" for name in NAMES]
    trained = load_segmenter(seg)
    dataset = open_dataset(f"voc:{voc}", split="all", labels=False)
    found = set()
    for one in segment_photographs(trained.network, dataset, size=48, scales=[0.75, 1.0], indices=range(3)):
        np.testing.assert_array_equal(masks[f"{INSIDE}/{one.name}.png"], one.mask.numpy())
        found |= set(one.mask.unique().tolist())
    assert len(found) > 2
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("results")] == ["results.tar"]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_the_same_masks_make_the_same_bytes(voc: Path, seg: Path, tmp_path: Path, ending: str) -> None:
    made = [tmp_path / name / f"results{ending}" for name in ("one", "two")]
    for out in made:
        submit(seg, f"voc:{voc}", out, device="cpu", crf=False, scales=[1.0])
    assert made[0].read_bytes() == made[1].read_bytes()
    assert (made[0].read_bytes()[:2] == b"\x1f\x8b") == (ending != ".tar")
    assert len(unpacked(made[0])) == 3


def test_attention_maps_with_ids_of_vocs_classes(voc: Path, tmp_path: Path) -> None:
    run = classifier_run(tmp_path / "run", ("person", "dog", "kitty"), threshold=0.35, class_map={"cat": "kitty"})
    done = submit(run, f"voc:{voc}", tmp_path / "r.tar", device="cpu", competition="comp5")
    assert done.notes[0] == "attention maps cut at 0.35, chosen on dev"
    assert done.notes[1].startswith("the run does not know 17 of VOC's classes, which it never predicts: aeroplane, ")
    trained = load(run)
    dataset = open_dataset(f"voc:{voc}", split="all", labels=False)
    with tarfile.open(tmp_path / "r.tar") as archive:
        for one in predict(trained.network, dataset, size=48, indices=range(3)):
            entry = f"results/VOC2012/Segmentation/comp5_test_cls/{one.name}.png"
            mask = np.asarray(Image.open(io.BytesIO(archive.extractfile(entry).read())))
            expected = np.array([0, 15, 12, 8])[segment(one, 0.35).numpy()]
            np.testing.assert_array_equal(mask, expected)
            assert mask.any()


def test_goes_on_where_it_stopped(voc: Path, seg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, plain, written = tmp_path / "results.tar", module.write_mask, []

    def dying(path: Path, mask: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        plain(path, mask)

    monkeypatch.setattr(module, "write_mask", dying)
    with pytest.raises(KeyboardInterrupt):
        submit(seg, f"voc:{voc}", out, device="cpu", crf=False)
    monkeypatch.undo()
    assert not out.exists()
    stamps = {path: path.stat().st_mtime_ns for path in written}
    # other settings: nothing of this work is theirs
    other = submit(seg, f"voc:{voc}", tmp_path / "other" / "results.tar", device="cpu", crf=False, flip=True)
    assert submit(seg, f"voc:{voc}", out, device="cpu", crf=False, flip=True).resumed == 0
    assert out.read_bytes() == other.path.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in written} == stamps
    assert submit(seg, f"voc:{voc}", out, device="cpu", crf=False).resumed == 2
    assert not list(tmp_path.glob("*.work"))
    assert len(unpacked(out)) == 3


def test_ids() -> None:
    ids, notes = voc_ids(VOC_CLASSES, None, "run")
    assert (ids.tolist(), ids.dtype, notes) == (list(range(21)), torch.uint8, [])
    assert voc_ids(["sheep", "cat"], None, "run")[0].tolist() == [0, 17, 8]
    assert voc_ids(["sheep", "cat"], None, "run")[1] == [name for name in VOC_CLASSES if name not in ("sheep", "cat")]
    with pytest.raises(InputError, match=r"expected a run on VOC's own classes.* got the class 'lion': runs/x$"):
        voc_ids(["cat", "lion"], None, "runs/x")
    with pytest.raises(InputError, match=r"got the class 'pet', which is cat and dog in one: runs/x$"):
        voc_ids(["pet"], {"cat": "pet", "dog": "pet"}, "runs/x")


def test_messages(voc: Path, seg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*options: object, run: Path = seg, target: str = f"voc:{voc}", output: str = "r.tar") -> str:
        words = [
            "submit",
            run,
            "--target",
            target,
            "--output",
            tmp_path / output,
            "--device",
            "cpu",
            "--no-crf",
            *options,
        ]
        assert main([str(word) for word in words]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    run = classifier_run(tmp_path / "run", ("cat", "dog"))
    assert "expected --output ending in .tar, .tar.gz, .tgz, got 'r.zip'" in fails(output="r.zip")
    (tmp_path / "folder.tar").mkdir()
    assert "expected --output to be a file, got a folder" in fails(output="folder.tar")
    assert "expected VOC's own photographs, voc:PATH, got scenes" in fails(target="scenes:target")
    assert "no split 'val', found" not in fails("--split", "val")
    assert "expected the list of the split 'val', found none; splits there: test" in fails("--split", "val")
    assert "this run is a classifier's" in fails(run=run)
    assert "--threshold cuts attention maps, this run is a segmentation's" in fails("--threshold", "0.3")
    assert "invalid choice: 'comp9'" in fails("--competition", "comp9")
    (voc / "JPEGImages" / f"{NAMES[1]}.jpg").write_bytes(b"rubbish")
    assert f"{NAMES[1]}.jpg" in fails()
    assert not (tmp_path / "r.tar").exists()
    (voc / "JPEGImages" / f"{NAMES[1]}.jpg").unlink()
    assert f"found none for '{NAMES[1]}'; the server wants them all" in fails()
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("\n")
    assert "got an empty list" in fails()
    (voc / "classes.txt").write_text("cat\ndog\n")
    assert "expected VOC's own 20 classes, which the server scores" in fails()


def test_the_command(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = classifier_run(tmp_path / "run", ("cat", "dog"))
    out = tmp_path / "results.tgz"
    assert main(["submit", str(run), "--target", f"voc:{voc}", "--output", str(out), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "attention maps cut at 0.20, the default: the run had no split to choose it on"
    assert lines[-1] == f"3 masks packed as {INSIDE}/NAME.png: {out}"
