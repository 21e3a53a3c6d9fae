"""``onnx:FILE`` or a folder: both answer ``of(image, name)``, and other words are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder
from attnbn.saliency.onnx import OnnxDetector
from attnbn.saliency.open import open_saliency
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
    with pytest.raises(InputError, match=r"as onnx:FILE or as a folder of maps, got the kind 'foo': foo:bar"):
        open_saliency("foo:bar")
    with pytest.raises(InputError, match="got the kind 'voc'"):
        open_saliency("voc:VOC2012")
    with pytest.raises(InputError, match="expected onnx:FILE, got no file"):
        open_saliency("onnx:")
    with pytest.raises(InputError, match=r"write onnx:models/u2netp\.onnx"):
        open_saliency("models/u2netp.onnx")
    with pytest.raises(InputError, match=r"expected an ONNX model, found no file; check the path: no\.onnx"):
        open_saliency("onnx:no.onnx")
    with pytest.raises(InputError, match=r"folder of saliency maps, found none"):
        open_saliency("maps")
    save(tmp_path / "odd:name" / "a.png")  # a colon alone makes no kind of what is there
    assert isinstance(open_saliency("odd:name"), SaliencyFolder)
