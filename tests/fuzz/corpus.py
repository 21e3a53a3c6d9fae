"""The corpus: odd and broken photographs, made on the spot. Each is named, and what must come of it stands beside it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 24, 32
Pixels = NDArray[np.uint8]


def pixels(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """A photograph's pixels: soft colours, no two rows or columns alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(picture: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    """A file of the kind that Pillow names so."""
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand: its rows, each after a filter byte, and further chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def ycck(red: int, green: int, blue: int) -> bytes:
    """A plain JPEG of Adobe's YCCK: what libjpeg calls RGB is the ink (255 minus the colour), as YCbCr; black stands apart.

    Pillow writes all four plates inverted and says so in a marker; with the marker's last byte at 2 the same bytes are YCCK.
    """
    red, green, blue = 255 - red, 255 - green, 255 - blue
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = [luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402]
    plates = [255 - round(min(255, max(0, value))) for value in stored]
    picture = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (*plates, 0)])
    data = encoded(picture, "JPEG", quality=100)
    place = data.index(b"Adobe") + 11
    assert data[place] in (0, 2)
    return data[:place] + b"\2" + data[place + 1 :]


@dataclass(frozen=True)
class Case:
    """A file and what must come of it.

    Attributes:
        name: Of the file.
        data: Its content.
        shown: The pixels that must be read; None: any; a function of them: what must hold.
        refusal: A pattern that the refusal matches; empty: it must be read.
    """

    name: str
    data: bytes
    shown: Pixels | Callable[[Pixels], bool] | None = None
    refusal: str = ""

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        return path


def near(expected: Pixels | tuple[int, int, int], tolerance: int = 3) -> Callable[[Pixels], bool]:
    """Whether pixels are as expected but for rounding."""
    wanted = np.asarray(expected, dtype=np.int16)
    return lambda shown: bool((np.abs(shown.astype(np.int16) - wanted) <= tolerance).all())


def turns() -> dict[int, Callable[[Pixels], Pixels]]:
    """EXIF orientation -> what a viewer makes of the stored pixels, from the standard's words (which corner row 0 shows)."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _wrong_ending(rgb: Pixels) -> list[Case]:
    jpeg = encoded(rgb, "JPEG")
    decoded = np.asarray(Image.open(io.BytesIO(jpeg)))
    kinds = "as JPEG, PNG, WebP, BMP, GIF or TIFF, got "
    return [
        Case("png.jpg", encoded(rgb, "PNG"), rgb),
        Case("jpeg.png", jpeg, decoded),
        Case("avif.jpg", encoded(rgb, "AVIF", quality=100), near(rgb, 40)),
        Case("text.jpg", b"no photograph, some words", refusal=kinds + "something else, text"),
        Case("web-page.jpg", b"\n<!DOCTYPE html><html>404 Not Found</html>", refusal=kinds + "a web page"),
        Case("empty.jpg", b"", refusal=kinds + r"an empty file \(0 bytes\)"),
        Case("zeros.jpg", bytes(5000), refusal=kinds + "something else;"),
        Case("postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", refusal=kinds + "PostScript"),
        Case("document.png", b"%PDF-1.7\n", refusal=kinds + "a PDF"),
        Case("archive.png", b"PK\x03\x04" + bytes(60), refusal=kinds + "a zip archive"),
        Case("phone.jpg", b"\0\0\0\x18ftypheic" + bytes(60), refusal=kinds + "a HEIC"),
        Case("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", refusal=kinds + "something else, text"),
        Case("signature.jpg", b"\xff\xd8\xff\xe0", refusal="a damaged or unusual JPEG|damaged or cut-off"),
        Case("float-colours.tif", _float_rgb_tiff(), refusal=kinds + "a damaged or unusual TIFF"),
    ]  # fmt: skip


def _float_rgb_tiff() -> bytes:
    """A TIFF header of 32-bit floating-point RGB, which no photograph needs and Pillow does not read."""
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 32), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3),
               (278, 3, 1, 1), (279, 4, 1, 12), (339, 3, 1, 3)]  # fmt: skip
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 20) + bytes(12) + body


def _shapes() -> list[Case]:
    return [
        Case(f"{height}x{width}.png", encoded(one := pixels(1, height, width), "PNG"), one)
        for height, width in ((1, 1), (1, 50), (50, 1), (20, 20_000), (20_000, 20), (1, 20_000))
    ]


def _modes(rgb: Pixels) -> list[Case]:
    grey = rgb[..., 0]
    wide = (grey.astype(np.uint16) << 8) + rgb[..., 1]
    three = np.repeat(grey[..., None], 3, 2)
    alpha = rgb[..., 2]
    share = alpha[..., None] / 255
    over = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)
    grey_over = np.rint(three * share + 255 * (1 - share)).astype(np.uint8)
    key = int(wide[0, 0])
    keyed = np.rint(wide / 257).astype(np.uint8)
    keyed[wide == key] = 255
    cutout = Image.fromarray(rgb).quantize(8)
    solid = np.asarray(cutout.convert("RGB")).copy()
    solid[np.asarray(cutout) == 3] = 255
    rows16 = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb.astype(np.uint16) * 257)
    ink = Image.fromarray(np.full((16, 16, 4), (255, 0, 0, 0), dtype=np.uint8), "CMYK")
    return [
        Case("grey.png", encoded(grey, "PNG"), three),
        Case("bits.png", encoded(Image.fromarray(grey > 127), "PNG"), np.where(three > 127, 255, 0).astype(np.uint8)),
        Case("grey16.png", encoded(wide, "PNG"), np.repeat(np.rint(wide / 257).astype(np.uint8)[..., None], 3, 2)),
        Case("grey16-key.png", png(WIDTH, HEIGHT, 16, 0, b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide),
             (b"tRNS", struct.pack(">H", key))), np.repeat(keyed[..., None], 3, 2)),
        Case("rgb16.png", png(WIDTH, HEIGHT, 16, 2, rows16), rgb),
        Case("grey16.tif", encoded(wide, "TIFF"), np.repeat(np.rint(wide / 257).astype(np.uint8)[..., None], 3, 2)),
        Case("float.tif", encoded(grey.astype(np.float32), "TIFF"), refusal="floating-point"),
        Case("nan.tif", encoded(np.full((HEIGHT, WIDTH), np.nan, np.float32), "TIFF"), refusal="floating-point"),
        Case("int32.tif", encoded(grey.astype(np.int32) * 10**6, "TIFF"), refusal="32-bit"),
        Case("negative.tif", encoded(-grey.astype(np.int32) - 1, "TIFF"), refusal="32-bit"),
        Case("rgba.png", encoded(np.dstack([rgb, alpha]), "PNG"), near(over, 1)),
        Case("rgba.webp", encoded(np.dstack([rgb, alpha]), "WEBP", lossless=True, exact=True), near(over, 1)),
        Case("la.png", encoded(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"), near(grey_over, 1)),
        Case("palette-clear.png", encoded(cutout, "PNG", transparency=3), solid),
        Case("palette-clear.gif", encoded(cutout, "GIF", transparency=3), solid),
        Case("cmyk.jpg", encoded(ink, "JPEG", quality=100), near((0, 255, 255))),
        Case("cmyk.tif", encoded(ink, "TIFF"), near((0, 255, 255))),
        Case("ycck-red.jpg", ycck(255, 0, 0), near((255, 0, 0), 4)),
        Case("ycck-blue-grey.jpg", ycck(60, 90, 150), near((60, 90, 150), 4)),
        Case("ycbcr.tif", encoded(Image.fromarray(rgb).convert("YCbCr"), "TIFF"), near(rgb, 3)),
        Case("lab.tif", encoded(Image.new("LAB", (8, 8), (128, 128, 128)), "TIFF"), None),
    ]  # fmt: skip


def _frames(rgb: Pixels) -> list[Case]:
    second = Image.new("RGB", (WIDTH, HEIGHT), "blue")
    first = Image.fromarray(rgb)
    few = first.quantize(16)
    shown = np.asarray(few.convert("RGB"))
    return [
        Case("film.gif", encoded(few, "GIF", save_all=True, append_images=[second]), shown),
        Case("film.png", encoded(first, "PNG", save_all=True, append_images=[second]), rgb),
        Case("film.webp", encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True), rgb),
        Case("pages.tif", encoded(first, "TIFF", save_all=True, append_images=[second]), rgb),
    ]


def _metadata(rgb: Pixels) -> list[Case]:
    jpeg = encoded(rgb, "JPEG")
    decoded = np.asarray(Image.open(io.BytesIO(jpeg)))
    progressive = encoded(rgb, "JPEG", progressive=True)
    cases = [
        Case("progressive.jpg", progressive, np.asarray(Image.open(io.BytesIO(progressive)))),
        Case("profile-rubbish.jpg", encoded(rgb, "JPEG", icc_profile=b"rubbish" * 9), decoded),
        Case("profile-rubbish.png", png(1, 1, 8, 2, b"\0\1\2\3", (b"iCCP", b"k\0\0rubbish")), np.uint8([[[1, 2, 3]]])),
        Case("profile-long.jpg", encoded(rgb, "JPEG", icc_profile=bytes(200_000)), decoded),
        Case("exif-rubbish.jpg", encoded(rgb, "JPEG", exif=b"Exif\0\0rubbish"), decoded),
        Case("exif-loop.jpg", encoded(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\x08\0\0\0"), decoded),
        Case("exif-65000.jpg", encoded(rgb, "JPEG", exif=_exif(65_000)), decoded),
        Case("exif-0.png", encoded(rgb, "PNG", exif=_exif(0)), rgb),
        Case("exif-text.png", png(1, 1, 8, 2, b"\0\1\2\3", (b"eXIf",
             b"MM\0*\0\0\0\x08\0\1\x01\x12\0\2\0\0\0\2" + b"6\0\0\0" + bytes(4))), np.uint8([[[1, 2, 3]]])),
        Case("comment.jpg", encoded(rgb, "JPEG", comment=b"<script>" * 1000), decoded),
    ]  # fmt: skip
    for orientation, turn in turns().items():
        data = encoded(rgb, "JPEG", exif=_exif(orientation))
        cases.append(Case(f"exif-{orientation}.jpg", data, turn(decoded)))
        for ending, kind in (("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP")):
            data = encoded(rgb, kind, exif=_exif(orientation), lossless=True)
            cases.append(Case(f"exif-{orientation}.{ending}", data, turn(rgb)))
    return cases


def photographs() -> list[Case]:
    """Every case of a single photograph, with what must come of it."""
    rgb = pixels()
    return [*_wrong_ending(rgb), *_shapes(), *_modes(rgb), *_frames(rgb), *_metadata(rgb)]


def bombs() -> list[Case]:
    """Small files that ask for much."""
    huge = bytearray(encoded(pixels(), "BMP"))
    huge[18:26] = struct.pack("<ii", 60_000, 60_000)
    gif = bytearray(encoded(pixels(), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    zeros = zlib.compress(bytes(10**8))
    damaged = "damaged or cut-off"
    return [
        Case("bomb.png", png(60_000, 60_000, 8, 2, b""), refusal="at most 178 million pixels, got more"),
        Case("bomb.bmp", bytes(huge), refusal="at most 178 million pixels, got more"),
        Case("bomb.gif", bytes(gif), refusal="at most 178 million pixels, got more"),
        Case("bomb.ppm", b"P6 60000 60000 255\n", refusal="at most 178 million pixels, got more"),
        Case("cut.png", png(13_000, 13_000, 8, 2, b""), refusal=damaged),
        Case("none.png", png(0, 0, 8, 2, b""), refusal="damaged or unusual PNG"),
        Case("text.png", png(1, 1, 8, 2, b"\0abc", (b"zTXt", b"k\0\0" + zeros)), refusal=damaged),
        Case("profile.png", png(1, 1, 8, 2, b"\0abc", (b"iCCP", b"k\0\0" + zeros)), refusal=damaged),
        Case("negative.bmp", bytes(huge[:18]) + struct.pack("<ii", -5, -5) + bytes(huge[26:]), refusal="expected"),
    ]  # fmt: skip


def kinds() -> dict[str, bytes]:
    """A whole file of each kind, to be cut and spoilt."""
    rgb = pixels(3)
    second = Image.fromarray(pixels(4))
    return {
        "baseline.jpg": encoded(rgb, "JPEG"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "plain.png": encoded(rgb, "PNG"),
        "plain.bmp": encoded(rgb, "BMP"),
        "lossy.webp": encoded(rgb, "WEBP"),
        "lossless.webp": encoded(rgb, "WEBP", lossless=True),
        "film.gif": encoded(Image.fromarray(rgb), "GIF", save_all=True, append_images=[second]),
        "raw.tif": encoded(rgb, "TIFF"),
        "lzw.tif": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "plain.ppm": encoded(rgb, "PPM"),
        "plain.avif": encoded(rgb, "AVIF"),
    }
