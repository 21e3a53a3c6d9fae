"""Saliency maps from a parallel folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.io.errors import InputError
from attnbn.saliency.files import SaliencyFolder, is_constant, read_saliency

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = GREY, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_8_and_16_bit(tmp_path: Path) -> None:
    wide = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)
    for pixels, white in ((GREY, 255), (wide, 65535), (GREY > 127, 1)):
        saliency = read_saliency(save(tmp_path / "a.png", pixels), (6, 8))
        assert saliency.dtype == torch.float32 and saliency.shape == (1, 6, 8)
        np.testing.assert_allclose(saliency[0], pixels.astype(np.float64) / white, atol=1e-7)


def test_grey_stored_in_colour_or_palette(tmp_path: Path) -> None:
    rgb = np.stack([GREY] * 3, -1)
    for mode in ("RGB", "RGBA", "LA", "P"):
        Image.fromarray(GREY if mode == "P" else rgb).convert(mode).save(tmp_path / "a.png")
        np.testing.assert_allclose(read_saliency(tmp_path / "a.png", (6, 8))[0], GREY / 255, atol=1e-7)
    smooth = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    save(tmp_path / "a.jpg", np.stack([smooth] * 3, -1))
    np.testing.assert_allclose(read_saliency(tmp_path / "a.jpg", (8, 8))[0], smooth / 255, atol=0.05)


@pytest.mark.parametrize("size", [(12, 16), (61, 81), (3, 4)])
def test_any_resolution_comes_to_the_image(tmp_path: Path, size: tuple[int, int]) -> None:
    saliency = read_saliency(save(tmp_path / "a.png"), size)
    picture = Image.fromarray(GREY.astype(np.float32) / 255)
    expected = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(saliency[0], expected, atol=1e-5)
    assert saliency.min() >= 0 and saliency.max() <= 1


def test_rounded_sides_are_the_same_shape(tmp_path: Path) -> None:
    # half of 219×256 and a thumbnail of 7 pixels, both off by rounding
    assert read_saliency(save(tmp_path / "a.png", np.zeros((109, 128), np.uint8)), (219, 256)).shape == (1, 219, 256)
    assert read_saliency(save(tmp_path / "a.png", np.zeros((5, 7), np.uint8)), (333, 500)).shape == (1, 333, 500)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((320, 320), np.uint8))
    with pytest.raises(InputError, match=r"shape of its image 300×400, got 320×320; make it anew: .*a\.png$"):
        read_saliency(path, (300, 400))
    path = save(tmp_path / "a.png", np.zeros((400, 300), np.uint8))
    with pytest.raises(InputError, match=r"got 400×300 \(turned by a quarter: the map must lie over the upright"):
        read_saliency(path, (300, 400))
    assert read_saliency(save(tmp_path / "a.png", np.zeros((308, 400), np.uint8)), (300, 400)).shape == (1, 300, 400)
    with pytest.raises(InputError, match="shape"):
        read_saliency(save(tmp_path / "a.png", np.zeros((310, 400), np.uint8)), (300, 400))


def test_map_of_a_turned_photograph(tmp_path: Path) -> None:
    """The photograph's sensor saw 6×8, its EXIF turns it to 8×6; the map lies over the upright one."""
    upright = np.rot90(GREY, -1).copy()
    np.testing.assert_allclose(read_saliency(save(tmp_path / "a.png", upright), (8, 6))[0], upright / 255, atol=1e-7)
    # a map that copied sensor order and tag is turned by its own tag, once
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_allclose(
        read_saliency(save(tmp_path / "a.png", GREY, exif=exif), (8, 6))[0], upright / 255, atol=1e-7
    )


def test_colours_and_cut_outs_are_refused(tmp_path: Path) -> None:
    heat = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"got colours .*a\.png$"):
        read_saliency(save(tmp_path / "a.png", heat), (6, 8))
    cutout = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    with pytest.raises(InputError, match=r"save its alpha channel as grey: .*a\.png$"):
        read_saliency(save(tmp_path / "a.png", cutout), (6, 8))
    with pytest.raises(InputError, match="floating-point"):
        read_saliency(save(tmp_path / "a.tiff", GREY.astype(np.float32)), (6, 8))


def test_is_constant() -> None:
    assert is_constant(torch.full((1, 3, 3), 0.5)) and is_constant(torch.zeros(1, 1, 1))
    assert is_constant(torch.tensor([[[0.0, 1 / 255]]]))
    assert not is_constant(torch.tensor([[[0.0, 2 / 255]]]))


def test_folder(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "deep" / "a.png")
    save(tmp_path / "b.JPG")
    save(tmp_path / "cat" / "c.jpg.png")  # of a photograph that kept its extension
    (tmp_path / "notes.txt").write_text("")
    folder = SaliencyFolder(tmp_path)
    assert len(folder) == 3
    saliency = folder("cat/deep/a", (6, 8))
    assert saliency is not None
    np.testing.assert_allclose(saliency[0], GREY / 255, atol=1e-7)
    assert folder("b", (6, 8)) is not None and folder("cat/c.jpg", (6, 8)) is not None
    folder.check(["b", "cat/deep/a"])


def test_missing_maps(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    folder = SaliencyFolder(tmp_path)
    with pytest.raises(InputError, match=r"map of the photograph 'cat/b', found none; make it.*cat/b\.png$"):
        folder("cat/b", (6, 8))
    with pytest.raises(InputError, match=r"'b', found none \(2 photographs have none\).*data\.saliency.*b\.png$"):
        folder.check(["a", "b", "c"])
    lenient = SaliencyFolder(tmp_path, required=False)
    lenient.check(["a", "b"])
    assert lenient("b", (6, 8)) is None and lenient("a", (6, 8)) is not None


@pytest.mark.parametrize("value", [0, 255])
def test_constant_maps(tmp_path: Path, value: int) -> None:
    save(tmp_path / "a.png", np.full((6, 8), value, dtype=np.uint8))
    with pytest.raises(InputError, match=rf"constant one \(every pixel {value // 255}\.00\).*a\.png$"):
        SaliencyFolder(tmp_path)("a", (6, 8))
    assert SaliencyFolder(tmp_path, required=False)("a", (6, 8)) is None


def test_broken_and_double_maps_are_errors_even_where_none_is_required(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    save(tmp_path / "b.png")
    save(tmp_path / "b.jpg")
    folder = SaliencyFolder(tmp_path, required=False)
    with pytest.raises(InputError, match=r"expected a saliency map .*empty file.*a\.png$"):
        folder("a", (6, 8))
    with pytest.raises(InputError, match=r"one saliency map for 'b', got b\.jpg and b\.png"):
        folder("b", (6, 8))


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"folder of saliency maps, found none; check data\.saliency or --saliency: .*no$"
    ):
        SaliencyFolder(tmp_path / "no")
    with pytest.raises(InputError, match="found no picture"):
        SaliencyFolder(tmp_path)
