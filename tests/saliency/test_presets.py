"""Known models: each photograph enters the network as its authors have it, and a file is found where people keep it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.io.errors import InputError
from attnbn.saliency.onnx import DetectorSettings, OnnxDetector
from attnbn.saliency.open import open_detector
from attnbn.saliency.presets import PRESETS, cache_folders, find_preset, is_detector, preset_of
from tiny_onnx import write_model

PIXELS = np.random.default_rng(0).integers(0, 181, (24, 36, 3), dtype=np.uint8)
PHOTO = torch.from_numpy(PIXELS).permute(2, 0, 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without models."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("U2NET_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def put(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_model(path, **options)


# ---- what the network sees; the formulas are those of the models' own repositories, written out


def small(side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(PIXELS).resize((side, side), Image.Resampling.LANCZOS)).astype(np.float64)


def u2net(x: np.ndarray) -> np.ndarray:  # U-2-Net, data_loader.py, ToTensorLab: image / np.max(image), then ImageNet's
    return (x / x.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def isnet(x: np.ndarray) -> np.ndarray:  # DIS, IS-Net/Inference.py: divide by 255, normalize([0.5] * 3, [1.0] * 3)
    return x / 255 - 0.5


def anime(x: np.ndarray) -> np.ndarray:  # anime-segmentation, inference.py: / 255
    return x / 255


def imagenet(x: np.ndarray) -> np.ndarray:  # BiRefNet, dataset.py, and RMBG-2.0: ToTensor, Normalize of ImageNet
    return (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


SEEN = {"isnet-general-use": isnet, "isnet-anime": anime, "bria-rmbg": imagenet}


def formula(name: str):
    return imagenet if name.startswith("birefnet") else SEEN.get(name, u2net)


@pytest.mark.parametrize("name", PRESETS)
def test_a_photograph_as_the_authors_have_it(name: str, home: Path) -> None:
    put(home / ".u2net" / f"{name}.onnx", size=(16, 16), sigmoid=not name.startswith("birefnet"))
    detector = open_detector(name)
    assert isinstance(detector, OnnxDetector)
    np.testing.assert_allclose(detector.prepare(PHOTO), formula(name)(small(16)).transpose(2, 0, 1), atol=1e-5)
    red = formula(name)(small(16))[..., 0]
    expected = 1 / (1 + np.exp(-red))  # each file's answer ends as a probability, squashed once
    np.testing.assert_allclose(detector.maps([detector.prepare(PHOTO)], ["a"])[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_the_side_that_it_was_trained_at(name: str, home: Path) -> None:
    """Where the file takes any; what a file says itself always wins."""
    trained = 1024 if re.match("isnet|birefnet|bria", name) else 320
    put(home / ".u2net" / f"{name}.onnx", size=("h", "w"))
    assert open_detector(name).size == (trained, trained)
    assert open_detector(name, size=64).size == (64, 64)


def test_the_list_holds_what_the_tool_has_but_what_is_no_saliency() -> None:
    birefnets = ("general", "general-lite", "portrait", "dis", "hrsod", "cod", "massive")
    assert set(PRESETS) == {
        *("u2net", "u2netp", "u2net_human_seg", "silueta", "isnet-general-use", "isnet-anime", "bria-rmbg"),
        *(f"birefnet-{name}" for name in birefnets),
    }
    for name, preset in PRESETS.items():
        assert preset.name == name and preset.licence and preset.source.startswith("https://")
        assert preset.address.endswith(f"/{preset.published}")
        assert re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", preset.checksum)
    assert "no commercial use" in PRESETS["bria-rmbg"].licence


# ---- where files lie


def test_folders_in_order(home: Path) -> None:
    assert cache_folders({}) == [home / ".u2net", home / ".cache" / "attnbn"]
    given = {"U2NET_HOME": "~/models", "XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "/cache"}
    ours = Path("/cache/attnbn")
    assert cache_folders(given) == [home / "models", Path("/data/.u2net"), home / ".u2net", ours]


def test_found_under_either_name_and_first_folder_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = PRESETS["birefnet-general"]
    assert find_preset(preset) is None
    ours = put(home / ".cache" / "attnbn" / "birefnet-general.onnx")
    assert find_preset(preset) == ours
    published = put(home / ".u2net" / "BiRefNet-general-epoch_244.onnx")
    assert find_preset(preset) == published
    tools = put(home / ".u2net" / "birefnet-general.onnx")
    assert find_preset(preset) == tools
    monkeypatch.setenv("U2NET_HOME", str(home / "models"))
    (home / "models" / "birefnet-general.onnx").mkdir(parents=True)  # a folder is no model
    assert find_preset(preset) == tools


def test_not_there(home: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_detector("u2net")
    said = str(caught.value)
    assert f"in none of {home}/.u2net, {home}/.cache/attnbn" in said and said.endswith("unsupervised: u2net.onnx")
    assert "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx (licence: Apache-2.0)" in said


# ---- files by path


def test_a_known_files_name_brings_its_settings(tmp_path: Path) -> None:
    for file, name in {
        "u2netp.onnx": "u2netp",
        "ISNet-general-use.ONNX": "isnet-general-use",
        "BiRefNet-DIS-epoch_590.onnx": "birefnet-dis",
        "bria-rmbg-2.0.onnx": "bria-rmbg",
    }.items():
        found = preset_of(tmp_path / file)
        assert found is not None and found.name == name
        detector = open_detector(f"onnx:{put(tmp_path / file)}")
        assert isinstance(detector, OnnxDetector) and detector.settings == PRESETS[name].settings
    unknown = open_detector(f"onnx:{put(tmp_path / 'mine.onnx')}")
    assert preset_of("mine.onnx") is None
    assert isinstance(unknown, OnnxDetector) and unknown.settings == DetectorSettings()


def test_what_is_said_wins(tmp_path: Path) -> None:
    file = put(tmp_path / "birefnet-cod.onnx")
    detector = open_detector(f"onnx:{file}", activation="none", white="max")
    assert isinstance(detector, OnnxDetector)
    assert detector.settings == replace(PRESETS["birefnet-cod"].settings, activation="none", white="max")


def test_words(tmp_path: Path) -> None:
    assert all(map(is_detector, (*PRESETS, "unsupervised", "onnx:x", "onnx:")))
    assert not any(map(is_detector, ("", "U2NET", "u2net.onnx", "./u2net", "u2net/", "maps", "onnx")))


def test_a_download_that_broke_off(home: Path) -> None:
    file = home / ".u2net" / "u2net.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a model")
    found = hashlib.md5(b"half a model").hexdigest()
    with pytest.raises(InputError) as caught:
        open_detector("u2net")
    said = str(caught.value)
    assert said.startswith("expected an ONNX model, got something else") and "\n" not in said
    assert f"it is not the published file (md5 {found}, published 60024c5c889badc19c04ad937298a77b): download" in said
    assert said.endswith(f"/u2net.onnx: {file}")


def test_the_published_file_that_does_not_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not the file's fault, and nobody is sent to download it again."""
    file = home / ".u2net" / "u2net.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"newer")
    whole = replace(PRESETS["u2net"], checksum=f"md5:{hashlib.md5(b'newer').hexdigest()}")
    monkeypatch.setitem(PRESETS, "u2net", whole)
    with pytest.raises(InputError, match=r"expected an ONNX model, got something else .*u2net\.onnx$") as caught:
        open_detector("u2net")
    assert "download" not in str(caught.value)
