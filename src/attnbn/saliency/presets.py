"""What is known of the salient-object models that people have on disk: the settings each was trained with, and where it lies.

The files are those of the field's common background-removal tool (rembg), under the names that it gives them and under
those they are published with; its folders are searched, and ours. Nothing is downloaded: a missing file's address is said.

Settings are those of the models' authors. That tool divides every photograph by its largest value, which only U²-Net was
trained with, and shifts ``isnet-anime``'s input by ImageNet's mean, which its authors do not. All of these models were
trained on the cross-entropy of a mask, so their answers are probabilities: none needs its map stretched.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnbn.io.errors import InputError
from attnbn.saliency.onnx import U2NET, DetectorSettings

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ISNET = DetectorSettings((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), white="255", side=1024)
_ANIME = DetectorSettings((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), white="255", side=1024)
_BIREFNET = DetectorSettings(*_IMAGENET, white="255", activation="sigmoid", side=1024)
_RMBG = DetectorSettings(*_IMAGENET, white="255", side=1024)  # its file ends in the sigmoid

_RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"


@dataclass(frozen=True)
class Preset:
    """A model that people have.

    Attributes:
        name: What it is called here and by the tool that brings it.
        settings: What its file does not say.
        published: Its file's name at the address.
        checksum: Of that file, as that tool states it: ``md5:…`` or ``sha256:…``.
        licence: Of the weights.
        source: Its authors' page.
        about: What it finds, in a few words.
    """

    name: str
    settings: DetectorSettings
    published: str
    checksum: str
    licence: str
    source: str
    about: str

    @property
    def address(self) -> str:
        """Where the file is published."""
        return f"{_RELEASE}/{self.published}"

    @property
    def files(self) -> tuple[str, ...]:
        """Names that its file goes by, the tool's own first."""
        return tuple(dict.fromkeys((f"{self.name}.onnx", self.published)))


def _u2net(name: str, checksum: str, about: str) -> Preset:
    return Preset(name, U2NET, f"{name}.onnx", checksum, "Apache-2.0", "https://github.com/xuebinqin/U-2-Net", about)


def _birefnet(name: str, published: str, checksum: str, about: str) -> Preset:
    source = "https://github.com/ZhengPeng7/BiRefNet"
    return Preset(f"birefnet-{name}", _BIREFNET, f"BiRefNet-{published}.onnx", checksum, "MIT", source, about)


_ALL = (
    _u2net("u2netp", "md5:8e83ca70e441ab06c318d82300c84806", "salient objects; small and fast (4.6 MB)"),
    _u2net("u2net", "md5:60024c5c889badc19c04ad937298a77b", "salient objects (170 MB)"),
    _u2net("silueta", "md5:55e59e0d8062d2f5d013f4725ee84782", "salient objects; U²-Net made smaller (43 MB)"),
    _u2net("u2net_human_seg", "md5:c09ddc2e0104f800e3e1bb4652583d1f", "people"),
    Preset(
        "isnet-general-use", _ISNET, "isnet-general-use.onnx", "md5:fc16ebd8b0c10d971d3513d564d01e29", "Apache-2.0",
        "https://github.com/xuebinqin/DIS", "foreground objects with fine edges (IS-Net, 180 MB)",
    ),
    Preset(
        "isnet-anime", _ANIME, "isnet-anime.onnx", "md5:6f184e756bb3bd901c8849220a83e38e", "see its authors' page",
        "https://github.com/SkyTNT/anime-segmentation", "drawn characters (trained on padded squares)",
    ),
    _birefnet(
        "general", "general-epoch_244", "md5:7a35a0141cbbc80de11d9c9a28f52697", "foreground objects; large and slow (1 GB)"
    ),
    _birefnet(
        "general-lite", "general-bb_swin_v1_tiny-epoch_232", "md5:4fab47adc4ff364be1713e97b7e66334",
        "the same with a smaller trunk (220 MB)",
    ),
    _birefnet("portrait", "portrait-epoch_150", "md5:c3a64a6abf20250d090cd055f12a3b67", "people"),
    _birefnet("dis", "DIS-epoch_590", "md5:2d4d44102b446f33a4ebb2e56c051f2b", "one object with fine structures (DIS5K)"),
    _birefnet(
        "hrsod", "HRSOD_DHU-epoch_115", "md5:c017ade5de8a50ff0fd74d790d268dda",
        "salient objects in large photographs (DUTS, HRSOD, UHRSD)",
    ),
    _birefnet("cod", "COD-epoch_125", "md5:f6d0d21ca89d287f17e7afe9f5fd3b45", "camouflaged objects"),
    _birefnet(
        "massive", "massive-TR_DIS5K_TR_TEs-epoch_420", "md5:33e726a2136a3d59eb0fdf613e31e3e9",
        "foreground objects, trained on many data sets",
    ),
    Preset(
        "bria-rmbg", _RMBG, "bria-rmbg-2.0.onnx",
        "sha256:5b486f08200f513f460da46dd701db5fbb47d79b4be4b708a19444bcd4e79958",
        "CC BY-NC 4.0: no commercial use without Bria's licence", "https://huggingface.co/briaai/RMBG-2.0",
        "foreground objects (RMBG-2.0, 1 GB)",
    ),
)  # fmt: skip

UNSUPERVISED = "unsupervised"
"""The detector that needs no file."""

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
"""By name."""

_BY_FILE = {file.lower(): preset for preset in _ALL for file in preset.files}


def is_detector(spec: str) -> bool:
    """Whether the word names a detector.

    >>> is_detector("u2netp"), is_detector("onnx:maps"), is_detector("./u2netp"), is_detector("maps")
    (True, True, False, False)
    """
    return spec == UNSUPERVISED or spec in PRESETS or spec.partition(":")[:2] == ("onnx", ":")


def preset_of(file: str | os.PathLike[str]) -> Preset | None:
    """The model that a file of this name is known to hold, or None.

    >>> preset_of("models/BiRefNet-general-epoch_244.onnx").name
    'birefnet-general'
    """
    return _BY_FILE.get(Path(file).name.lower())


def cache_folders(environment: Mapping[str, str] | None = None) -> list[Path]:
    """The folders that models are looked for in, in order: the tool's (``U2NET_HOME``, ``~/.u2net``), then ours.

    Args:
        environment: Read instead of ``os.environ``.
    """
    environment = os.environ if environment is None else environment
    places = [
        environment.get("U2NET_HOME"),
        os.path.join(environment.get("XDG_DATA_HOME") or "~", ".u2net"),
        os.path.join("~", ".u2net"),
        os.path.join(environment.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "attnbn"),
    ]
    return list(dict.fromkeys(Path(place).expanduser() for place in places if place))


def find_preset(preset: Preset, environment: Mapping[str, str] | None = None) -> Path | None:
    """The model's file in the first folder that has it, or None."""
    places = (folder / file for folder in cache_folders(environment) for file in preset.files)
    return next((path for path in places if path.is_file()), None)


def missing(preset: Preset) -> InputError:
    """What to say where a model lies in no folder: its address, its licence and where to put it."""
    first, *others = map(str, cache_folders())
    return InputError(
        f"expected the model {preset.name}, found its file in none of {', '.join([first, *others])}; download it from "
        f"{preset.address} (licence: {preset.licence}) into one of them, or use a detector that needs no file, "
        f"unsupervised: {preset.files[0]}"
    )


def another_file(preset: Preset, path: Path) -> str | None:
    """Whether a file that could not be opened is not the one published: a line that says so, or None."""
    kind, _, expected = preset.checksum.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found == expected:
        return None
    return (
        f"it is not the published file ({kind} {found}, published {expected}): download it again from {preset.address}"
    )
