"""Photographs and masks: every way a file may hold them, and every way it may be wrong."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from attnbn.data.images import read_image, read_mask, voc_palette, write_mask
from attnbn.io.errors import InputError, RunError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    """The photograph as H×W×3."""
    return read_image(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "webp", "ppm"])
def test_colours_are_read_exactly(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(COLOUR).save(path, lossless=True)
    image = read_image(path)
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8 and image.shape == (3, 5, 7)
    np.testing.assert_array_equal(image.permute(1, 2, 0), COLOUR)


def test_image_memory_can_be_written(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    image += 1
    assert pixels(tmp_path / "a.png")[0, 0, 0] == COLOUR[0, 0, 0]


def test_grey(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.stack([GREY] * 3, -1))


def test_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tmp_path / "a.png")[..., 0], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, ending: str) -> None:
    wide = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    wide[0, :2] = 0, 65535
    Image.fromarray(wide).save(tmp_path / f"a.{ending}")
    expected = np.rint(wide / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{ending}"), np.stack([expected] * 3, -1))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    colour = np.stack([GREY] * 3, -1) if mode == "LA" else COLOUR
    alpha = GREY[::-1].copy()
    alpha[0, :2] = 0, 255
    picture = Image.fromarray(colour).convert("L" if mode == "LA" else "RGB")
    picture.putalpha(Image.fromarray(alpha))
    assert picture.mode == mode
    picture.save(tmp_path / "a.png")
    share = alpha[..., None] / 255
    np.testing.assert_allclose(pixels(tmp_path / "a.png"), colour * share + 255 * (1 - share), atol=1)
    assert (pixels(tmp_path / "a.png")[0, 0] == 255).all()


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "clear.png", transparency=1)
    picture.save(tmp_path / "clear.gif", transparency=1)
    plain = [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    np.testing.assert_array_equal(pixels(tmp_path / "plain.png"), plain)
    plain[0][1] = [255, 255, 255]
    np.testing.assert_array_equal(pixels(tmp_path / "clear.png"), plain)
    np.testing.assert_array_equal(pixels(tmp_path / "clear.gif"), plain)


def test_colour_key_of_an_rgb_file(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png", transparency=tuple(int(v) for v in COLOUR[2, 3]))
    expected = COLOUR.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), expected)


def test_cmyk(tmp_path: Path) -> None:
    ink = np.zeros((8, 8, 4), dtype=np.uint8)
    ink[..., 0] = 255  # cyan only
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg"), np.broadcast_to([0, 255, 255], (8, 8, 3)), atol=2)


EXIF_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", EXIF_TURNS)
@pytest.mark.parametrize("ending", ["png", "tiff", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(tmp_path / f"a.{ending}", exif=exif, lossless=True)
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{ending}"), EXIF_TURNS[orientation](COLOUR))


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    halves = np.zeros((16, 32, 3), dtype=np.uint8)
    halves[:, :16] = 255  # white on the left of the sensor
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise: the left becomes the top
    Image.fromarray(halves).save(tmp_path / "a.jpg", exif=exif)
    image = pixels(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[:16].mean() > 250 and image[16:].mean() < 5


@pytest.mark.parametrize("exif", [b"Exif\x00\x00rubbish", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff"])
def test_malformed_exif_is_no_orientation(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), COLOUR)


@pytest.mark.parametrize("ending", ["gif", "tiff", "webp"])
def test_first_of_several_frames(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], lossless=True)
    assert (pixels(tmp_path / f"a.{ending}") == [255, 0, 0]).all()


def test_wrong_ending_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(pixels(tmp_path / "a.jpg"), COLOUR)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"<svg/>", "as JPEG, PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG, PNG|damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "damaged|JPEG, PNG"),
    ],
)
def test_broken_photographs_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"(?:{message}).*: .*a\.jpg$") as caught:
        read_image(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_cut_off_photographs_are_named(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=rf"damaged or cut-off.*take it out: .*a\.{ending}$"):
        read_image(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no file.*nothing\.jpg$"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(InputError, match="got a folder"):
        read_image(tmp_path)


def test_decompression_bomb(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png(header, b""))
    with pytest.raises(InputError, match=r"at most 178 million pixels.*a\.png$"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_large_photographs_are_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # 35 pixels: above the warning, below the error
    assert pixels(tmp_path / "a.png").shape == COLOUR.shape


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="floating-point"):
        read_image(tmp_path / "a.tiff")


def test_32_bit_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.int32) * 10**6).save(tmp_path / "a.tiff")
    with pytest.raises(InputError, match="32-bit"):
        read_image(tmp_path / "a.tiff")


# Masks


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG from its header and its unfiltered rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


IDS = np.array([[0, 1, 2], [20, 255, 7]])


def test_voc_palette_has_the_published_colours() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    published = {
        0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 12: (64, 0, 128),
        15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192),
    }  # fmt: skip
    for i, colour in published.items():
        assert tuple(palette[i]) == colour
    assert len({tuple(colour) for colour in palette}) == 256


def test_palette_and_grey_masks(tmp_path: Path, palette_png) -> None:
    palette_png(tmp_path / "p.png", IDS)
    Image.fromarray(IDS.astype(np.uint8)).save(tmp_path / "g.png")
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "wide.png")
    for name in ("p", "g", "wide"):
        mask = read_mask(tmp_path / f"{name}.png", 20, (2, 3))
        assert isinstance(mask, tv_tensors.Mask) and mask.dtype == torch.uint8
        np.testing.assert_array_equal(mask, IDS)


def test_mask_in_voc_colours_is_decoded(tmp_path: Path) -> None:
    colours = voc_palette()[IDS]
    Image.fromarray(colours).save(tmp_path / "rgb.png")
    opaque = np.concatenate([colours, np.full((2, 3, 1), 255, dtype=np.uint8)], -1)
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    for name in ("rgb", "rgba"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", 20, (2, 3)), IDS)


def test_two_level_mask_is_background_and_class_one(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", 1, (1, 2)).tolist() == [[1, 0]]


@pytest.mark.parametrize(("bits", "row", "ids"), [(4, b"\x00\x12\xf0", [1, 2, 15]), (2, b"\x00\x1b", [0, 1, 2])])
def test_ids_of_narrow_grey_files_are_not_stretched(tmp_path: Path, bits: int, row: bytes, ids: list[int]) -> None:
    (tmp_path / "a.png").write_bytes(png(struct.pack(">IIBBBBB", 3, 1, bits, 0, 0, 0, 0), row))
    assert read_mask(tmp_path / "a.png", 20, (1, 3)).tolist() == [ids]


def test_narrow_palette_file(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    picture.putpalette(voc_palette()[:3].ravel().tolist())
    picture.save(tmp_path / "a.png", bits=2)
    assert read_mask(tmp_path / "a.png", 20, (1, 3)).tolist() == [[0, 1, 2]]


def test_palette_of_other_colours_holds_ids(tmp_path: Path, palette_png) -> None:
    grey = np.repeat(np.arange(256)[:, None], 3, 1)
    palette_png(tmp_path / "a.png", IDS, grey)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 20, (2, 3)), IDS)


def test_renumbered_palette_is_refused(tmp_path: Path, palette_png) -> None:
    # a mask of background and cat (8) saved anew by an editor: cat's colour now has index 1
    palette_png(tmp_path / "a.png", np.array([[0, 1]]), voc_palette()[[0, 8]])
    with pytest.raises(InputError, match=r"index 1 in VOC's colour of id 8 .*a\.png$"):
        read_mask(tmp_path / "a.png", 20, (1, 2))


def test_mask_of_another_size(tmp_path: Path, palette_png) -> None:
    palette_png(tmp_path / "a.png", np.zeros((374, 500)))
    with pytest.raises(InputError, match=r"^expected a mask of 375×500 like its image, got 374×500: .*a\.png$"):
        read_mask(tmp_path / "a.png", 20, (375, 500))
    with pytest.raises(InputError, match="turned by a quarter: the mask must lie over the upright photograph"):
        read_mask(tmp_path / "a.png", 20, (500, 374))


@pytest.mark.parametrize("ids", [[0, 21], [254, 0]])
def test_mask_ids_outside_the_classes(tmp_path: Path, palette_png, ids: list[int]) -> None:
    palette_png(tmp_path / "a.png", np.array([ids]))
    with pytest.raises(InputError, match=rf"0 to 20 .*got {max(ids)};.*a\.png$"):
        read_mask(tmp_path / "a.png", 20, (1, 2))


def test_wide_ids_do_not_wrap_around(tmp_path: Path) -> None:
    Image.fromarray(np.array([[256, 1]], dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="got 256"):
        read_mask(tmp_path / "a.png", 20, (1, 2))


def test_mask_in_unknown_colours(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 0, 0], [250, 3, 1]]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"got colour \(250, 3, 1\); save it as.*a\.png$"):
        read_mask(tmp_path / "a.png", 20, (1, 2))


def test_lossy_and_transparent_masks(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="lossless mask, got JPEG"):
        read_mask(tmp_path / "a.jpg", 20, (4, 4))
    Image.new("RGBA", (4, 4), (0, 0, 0, 10)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="opaque mask"):
        read_mask(tmp_path / "a.png", 20, (4, 4))


def test_write_mask_round_trip(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", torch.tensor(IDS))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[IDS])
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 20, (2, 3)), IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("mask", [torch.tensor([[-1]]), torch.tensor([[256]]), torch.zeros(1, 1), torch.zeros(3).int()])
def test_write_mask_refuses_what_is_no_mask(tmp_path: Path, mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected a mask"):
        write_mask(tmp_path / "a.png", mask)


def test_write_mask_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RunError, match=r"a\.png"):
        write_mask(tmp_path / "a.png", torch.zeros(2, 2, dtype=torch.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
