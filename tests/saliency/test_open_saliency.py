"""A detector or a folder: both answer ``of(image, name)``, and other words are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.onnx import OnnxDetector
from attnbn.saliency.open import open_detector, open_saliency
from attnbn.saliency.unsupervised import UnsupervisedDetector
from tiny_onnx import write_model

PHOTO = torch.zeros(3, 6, 8, dtype=torch.uint8)
GREY = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = GREY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_detector(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.onnx", weights=[(0.0, 0.0, 0.0)])
    saliency = open_saliency(f"onnx:{path}")
    assert isinstance(saliency, OnnxDetector)
    got = saliency.of(PHOTO, "a")
    torch.testing.assert_close(got, torch.full((1, 6, 8), 0.5))


def test_folder(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png")
    saliency = open_saliency(str(tmp_path))
    assert isinstance(saliency, SaliencyFolder)
    got = saliency.of(PHOTO, "cat/a")
    assert got is not None and got.dtype == torch.float32
    np.testing.assert_allclose(got[0], GREY / 255, atol=1e-7)
    enlarged = saliency.of(torch.zeros(3, 12, 16, dtype=torch.uint8), "cat/a")
    assert enlarged is not None and enlarged.shape == (1, 12, 16)
    with pytest.raises(InputError, match=r"map of the photograph 'b', found none; make it"):
        saliency.of(PHOTO, "b")
    assert open_saliency(str(tmp_path), required=False).of(PHOTO, "b") is None


@pytest.mark.parametrize("required", [True, False])
def test_a_constant_map_is_an_answer_for_cues_and_none_for_training(tmp_path: Path, required: bool) -> None:
    save(tmp_path / "a.png", np.zeros((6, 8), np.uint8))
    folder = open_saliency(str(tmp_path), required=required)
    got = folder.of(PHOTO, "a")
    assert got is not None and torch.equal(got, torch.zeros(1, 6, 8))
    assert isinstance(folder, SaliencyFolder)
    if required:
        with pytest.raises(InputError, match="constant"):
            folder("a", (6, 8))
    else:
        assert folder("a", (6, 8)) is None


def test_wrong_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = "expected onnx:FILE, unsupervised, the name of a known model, or a folder of saliency maps, "
    for spec, got in {
        "foo:bar": "got the kind 'foo': foo:bar",
        "voc:VOC2012": "got the kind 'voc': voc:VOC2012",
        "models/u2netp.onnx": "got a file; write onnx:models/u2netp.onnx",
        "u2nep": "got 'u2nep'; did you mean u2netp or u2net?",
        "Unsupervized": "got 'Unsupervized'; did you mean unsupervised?",
        "birefnet_general": "got 'birefnet_general'; did you mean birefnet-general or birefnet-general-lite?",
    }.items():
        with pytest.raises(InputError) as caught:
            open_saliency(spec)
        assert str(caught.value) == words + got
    with pytest.raises(InputError, match="expected onnx:FILE, got no file"):
        open_saliency("onnx:")
    with pytest.raises(InputError, match=r"expected an ONNX model, found no file; check the path: no\.onnx"):
        open_saliency("onnx:no.onnx")
    with pytest.raises(InputError, match=r"got the name of a known model; write u2netp without onnx:"):
        open_saliency("onnx:u2netp")
    with pytest.raises(InputError, match=r"folder of saliency maps, found none"):
        open_saliency("maps")
    save(tmp_path / "odd:name" / "a.png")  # a colon alone makes no kind of what is there
    assert isinstance(open_saliency("odd:name"), SaliencyFolder)


def test_a_word_that_is_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name means the detector, a path the folder; what nearly is a name is a folder if there is one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models" / "u2net.onnx")
    for name in ("u2net", "u2netx"):
        save(tmp_path / name / "a.png")
    assert isinstance(open_saliency("u2net"), OnnxDetector)
    for spec in ("./u2net", f"{tmp_path}/u2net", "u2netx"):
        assert isinstance(open_saliency(spec), SaliencyFolder)


def test_the_detector_without_a_file() -> None:
    assert isinstance(open_saliency("unsupervised"), UnsupervisedDetector)
    assert isinstance(open_detector("unsupervised", threads=2, device="cpu"), UnsupervisedDetector)


def test_detectors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "maps" / "a.png")
    with pytest.raises(InputError, match=r"expected a detector, got a folder \(maps that are made already\?\): maps"):
        open_detector("maps")
    with pytest.raises(InputError, match=r"the name of a known model, got 'sam'; the models are u2netp, .*bria-rmbg$"):
        open_detector("sam")
    with pytest.raises(InputError, match="unexpected --output-index for unsupervised, which is no model"):
        open_detector("unsupervised", output=1)


@pytest.mark.parametrize("spec", ["unsupervised", "u2netp", "onnx:models/my.onnx"])
def test_training_reads_folders_and_says_how_to_make_one(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"attnbn saliency PHOTOGRAPHS --detector {spec} --output MAPS"
    with pytest.raises(InputError, match=rf"got the detector {spec}; make the maps first: {command}, then give MAPS"):
        SaliencyFolder(spec)
