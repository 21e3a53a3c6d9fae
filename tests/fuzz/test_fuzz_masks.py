"""Odd masks and saliency maps: ids and greys that are meant are read, all else is refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attnbn.data.images import read_mask, voc_palette
from attnbn.saliency.files import SaliencyFolder, read_saliency
from fuzz.corpus import Case, bombs, encoded, pixels, png, turns
from fuzz.guards import read_or_refused, refused, small_and_fast

settings.load_profile("fuzz")
SIZE = (6, 8)
IDS = np.zeros(SIZE, dtype=np.uint8)
IDS[1:4, 2:7], IDS[4, :3], IDS[0, 0] = 3, 20, 255


def painted(ids: np.ndarray, **options: object) -> bytes:
    picture = Image.fromarray(ids)
    picture.putpalette(voc_palette().ravel().tolist())
    return encoded(picture, "PNG", **options)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


COLOURS = voc_palette()[IDS]
OPAQUE = np.full((*SIZE, 1), 255, dtype=np.uint8)
MASKS = [
    Case("palette.png", painted(IDS), IDS),
    Case("palette-clear.png", painted(IDS, transparency=0), IDS),  # an index is the id, seen or not
    Case("grey.png", encoded(IDS, "PNG"), IDS),
    Case("ids16.png", encoded(IDS.astype(np.uint16), "PNG"), IDS),
    Case("colours.png", encoded(COLOURS, "PNG"), IDS),
    Case("colours.bmp", encoded(COLOURS, "BMP"), IDS),
    Case("opaque.png", encoded(np.concatenate([COLOURS, OPAQUE], -1), "PNG"), IDS),
    Case("palette.gif", encoded(Image.open(io.BytesIO(painted(IDS))), "GIF"), refusal="renumbered"),  # so Pillow writes it
    Case("nothing-there.png", encoded(np.zeros(SIZE, np.uint8), "PNG"), np.zeros(SIZE, np.uint8)),
    Case("all-void.png", encoded(np.full(SIZE, 255, np.uint8), "PNG"), np.full(SIZE, 255, np.uint8)),
    Case("empty.png", b"", refusal=r"a mask as PNG, got an empty file"),
    Case("clear.png", encoded(np.concatenate([COLOURS, OPAQUE // 2], -1), "PNG"), refusal="opaque mask"),
    Case("unknown.png", painted(np.where(IDS == 3, np.uint8(77), IDS)), refusal="0 = background.* got 77"),
    Case("tenfold.png", encoded(np.where(IDS == 255, 0, IDS * 10).astype(np.uint8), "PNG"), refusal="got 30, 200"),
    Case("wide.png", encoded(IDS.astype(np.uint16) * 257, "PNG"), refusal="got 771, 5140, 65535"),
    Case("minus-one.tif", encoded(np.where(IDS == 255, -1, IDS.astype(np.int32)), "TIFF"), refusal="got -1;"),
    Case("minus-two.tif", encoded(np.where(IDS == 255, -2, IDS.astype(np.int32)), "TIFF"), refusal="got -2;"),
    Case("floats.tif", encoded(IDS.astype(np.float32), "TIFF"), refusal="got mode F"),
    Case("jpeg.jpg", encoded(IDS, "JPEG"), refusal="lossless mask, got JPEG"),
    Case("jpeg.png", encoded(COLOURS, "JPEG"), refusal="lossless mask, got JPEG"),
    Case("smeared.png", encoded(Image.open(io.BytesIO(encoded(COLOURS, "JPEG"))), "PNG"), refusal="got colour"),
    Case("jpeg.tif", encoded(COLOURS, "TIFF", compression="jpeg"), refusal="got TIFF with JPEG's compression"),
    Case("webp.webp", encoded(COLOURS, "WEBP", lossless=True), refusal="lossless mask, got WEBP"),
    Case("avif.png", encoded(COLOURS, "AVIF"), refusal="lossless mask, got AVIF"),
    Case("large.png", painted(np.repeat(IDS, 2, 0)), refusal="6×8 like its image, got 12×8"),
    Case("turned.png", painted(IDS.T.copy()), refusal="turned by a quarter"),
    Case("renumbered.png", encoded(Image.fromarray(COLOURS).quantize(4), "PNG"), refusal="palette indices that are class ids"),
    *(Case(f"exif-{o}.png", painted(IDS, exif=turned(o)), turn(IDS)) for o, turn in turns().items()),
]  # fmt: skip


@pytest.mark.parametrize("case", MASKS, ids=lambda case: case.name)
def test_each_mask_is_read_right_or_refused(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    if case.refusal:
        refused(lambda: read_mask(path, 20, SIZE), path, case.refusal)
    else:
        wanted = np.asarray(case.shown)
        np.testing.assert_array_equal(read_mask(path, 20, wanted.shape), wanted)


@pytest.mark.parametrize("case", bombs(), ids=lambda case: case.name)
def test_bombs_as_masks(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    small_and_fast(lambda: read_mask(path, 20, SIZE), path, case.refusal)


GREY = np.linspace(0, 255, 48).reshape(SIZE).astype(np.uint8)
WIDE = (GREY.astype(np.uint16) * 257)[:]
MAPS = [
    Case("grey.png", encoded(GREY, "PNG"), GREY),
    Case("wide.png", encoded(WIDE, "PNG"), GREY),
    Case("wide.tif", encoded(WIDE, "TIFF"), GREY),
    Case("three.png", encoded(np.repeat(GREY[..., None], 3, 2), "PNG"), GREY),
    Case("three.tif", encoded(Image.fromarray(np.repeat(GREY[..., None], 3, 2)).convert("YCbCr"), "TIFF"), GREY),
    Case("palette.png", encoded(Image.fromarray(GREY).convert("P"), "PNG"), GREY),
    Case("opaque.png", encoded(np.concatenate([np.repeat(GREY[..., None], 3, 2), OPAQUE], -1), "PNG"), GREY),
    Case("bits.png", encoded(Image.fromarray(GREY > 99), "PNG"), np.where(GREY > 99, 255, 0)),
    Case("inverted.png", encoded(255 - GREY, "PNG"), 255 - GREY),  # cannot be told from a large object: read as it is
    Case("colours.png", encoded(pixels(1, *SIZE), "PNG"), refusal="got colours"),
    Case("heat.jpg", encoded(pixels(1, *SIZE), "JPEG"), refusal="got colours"),
    Case("cut-out.png", encoded(np.concatenate([COLOURS, OPAQUE // 2], -1), "PNG"), refusal="transparent pixels"),
    Case("nan.tif", encoded(np.full(SIZE, np.nan, np.float32), "TIFF"), refusal="floating-point"),
    Case("floats.tif", encoded(GREY.astype(np.float32) / 255, "TIFF"), refusal="floating-point"),
    Case("int32.tif", encoded(GREY.astype(np.int32) * 10**6, "TIFF"), refusal="32-bit"),
    Case("lab.tif", encoded(Image.new("LAB", SIZE[::-1], (99, 0, 99)), "TIFF"), refusal="got colours"),
    Case("flat.png", png(8, 6, 8, 0, b"".join(b"\0" + bytes([9] * 8) for _ in range(6))), refusal="got a constant one"),
    Case(
        "tiny-steps.png", encoded((GREY > 99).astype(np.uint8), "PNG"), refusal="got a constant one"
    ),  # 0 and 1 of 255
    Case("turned.png", encoded(GREY.T.copy(), "PNG"), refusal="turned by a quarter"),
    Case("long.png", encoded(np.repeat(GREY, 3, 0), "PNG"), refusal="in the shape of its image 6×8, got 18×8"),
    Case("empty.png", b"", refusal="a saliency map as PNG, got an empty file"),
    Case("page.png", b"<html>", refusal="a saliency map as PNG, got a web page"),
]


@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.name)
def test_each_saliency_map_is_read_right_or_refused(tmp_path: Path, case: Case) -> None:
    path = case.write(tmp_path)
    folder = SaliencyFolder(tmp_path)
    if case.refusal:
        refused(lambda: folder(path.stem, SIZE), path, case.refusal)
        return
    saliency = folder(path.stem, SIZE)
    assert saliency is not None and saliency.dtype == torch.float32
    np.testing.assert_allclose(saliency[0].numpy(), np.asarray(case.shown) / 255, atol=2.1 / 255)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(("PNG", "TIFF", "GIF")),
    spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_spoilt_masks_and_maps(tmp_path: Path, kind: str, spots: list[tuple[float, int]]) -> None:
    content = bytearray(encoded(GREY, kind))
    for place, value in spots:
        content[int(place * len(content))] = value
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (lambda: read_mask(path, 20, SIZE), lambda: read_saliency(path, SIZE)):
        came = read_or_refused(read, path)
        assert came is None or (came.shape[-2:] == SIZE and bool((came >= 0).all()))  # NaN is not at least 0
