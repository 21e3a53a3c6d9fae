"""Fingerprints and the search: what is found, what is not, and both against plain loops."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from attnbn.data.check import fingerprints
from attnbn.data.check.fingerprints import HAMMING_BOUND, Fingerprint, fingerprint, near_duplicates


def scene(seed: int, size: tuple[int, int] = (200, 260)) -> Image.Image:
    """Soft shapes of random colours with some texture, as different from each other as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).astype(float)
    pixels += rng.normal(0, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def prints(*pictures: Image.Image) -> list[Fingerprint]:
    return [fingerprint(np.asarray(picture)) for picture in pictures]


def cropped(picture: Image.Image, share: float) -> Image.Image:
    left, top = round(picture.width * share / 2), round(picture.height * share / 2)
    return picture.crop((left, top, picture.width - left, picture.height - top))


CHANGES = {
    "halved": lambda p: p.resize((p.width // 2, p.height // 2), Image.Resampling.BICUBIC),
    "doubled": lambda p: p.resize((p.width * 2, p.height * 2), Image.Resampling.LANCZOS),
    "squashed": lambda p: p.resize((128, 128)),
    "encoded": lambda p: encoded(p, 30),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and encoded": lambda p: encoded(p.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 40),
    "cropped": lambda p: cropped(p, 0.03),
    "brightened": lambda p: p.point(lambda v: min(255, v * 1.15)),
    "grey": lambda p: p.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_is_found_and_nothing_else(change: str) -> None:
    others = [scene(seed) for seed in range(20)]
    found = near_duplicates(prints(*others, CHANGES[change](others[3])), [0] * 21)
    assert [(near.first, near.second) for near in found] == [(3, 20)]
    assert found[0].mirrored == change.startswith("mirrored")


def test_different_photographs_are_not_duplicates() -> None:
    turned = scene(0).transpose(Image.Transpose.ROTATE_180)
    assert near_duplicates(prints(*map(scene, range(150)), turned), [0] * 151) == []


def test_even_pictures_resemble_nothing() -> None:
    white, grey = (Image.new("RGB", (40, 30), (value,) * 3) for value in (255, 100))
    assert near_duplicates(prints(white, grey, white.resize((80, 60))), [0, 0, 0]) == []


def test_close_bits_alone_are_no_duplicates() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 4, dtype=np.uint64)
    pair = [Fingerprint(b"", b"", bits, rng.integers(0, 256, (16, 16), dtype=np.uint8)) for _ in range(2)]
    assert near_duplicates(pair, [0, 0]) == []
    assert near_duplicates([pair[0], pair[0]], [0, 0])[0].distance == 0


def test_the_hash_is_that_of_plain_loops() -> None:
    picture = scene(5)
    grey = picture.convert("L")
    across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).tolist()
    down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX)).tolist()
    rows = [across[y][x + 1] > across[y][x] for y in range(8) for x in range(8)]
    columns = [down[y + 1][x] > down[y][x] for y in range(8) for x in range(8)]
    found = fingerprint(np.asarray(picture)).bits[:2]
    assert np.unpackbits(found.view(np.uint8)).astype(bool).tolist() == rows + columns


def test_the_mirrored_bits_are_those_of_the_mirror_image() -> None:
    picture = scene(8, (180, 270))  # sides that the grids divide, so that both average the same pixels
    mirrored = fingerprint(np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).bits
    plain = fingerprint(np.asarray(picture)).bits
    assert np.bitwise_count(mirrored[:2] ^ plain[2:]).sum() <= 2  # rounding of the averages


def test_the_search_finds_each_ones_nearest_of_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_BLOCK", 7)
    rng = np.random.default_rng(1)
    thumbnail = rng.integers(0, 256, (16, 16), dtype=np.uint8)
    centres = rng.integers(0, 2**63, (6, 4), dtype=np.uint64)
    some = []
    for i in range(60):
        flips = np.zeros((4, 64), dtype=np.uint8)
        flips[:, rng.choice(64, rng.integers(0, 9), replace=False)] = 1
        bits = centres[i % 6] ^ np.packbits(flips, axis=1).view(np.uint64)[:, 0]
        some.append(Fingerprint(b"", b"", bits, thumbnail))
    groups = rng.integers(0, 3, 60).tolist()

    def distance(a: Fingerprint, b: Fingerprint) -> int:
        def of(k: int) -> int:
            return sum(bin(int(a.bits[m]) ^ int(b.bits[k + m])).count("1") for m in range(2))

        return min(of(0), of(2))

    apart = {(i, j): distance(some[i], some[j]) for i in range(60) for j in range(60)}
    found = {(near.first, near.second): near.distance for near in near_duplicates(some, groups)}
    assert found and all(distance == min(apart[pair], apart[pair[::-1]]) for pair, distance in found.items())
    for i in range(60):
        for group in range(3):
            near = [apart[i, j] for j in range(60) if j != i and groups[j] == group and apart[i, j] <= HAMMING_BOUND]
            pairs = [apart[i, j] for j in range(60) if groups[j] == group and tuple(sorted((i, j))) in found]
            assert not near or min(near) in pairs
    assert len(found) <= 60 * 3


def test_pixels_and_files_are_told_apart() -> None:
    picture = np.asarray(scene(2))
    first, second = fingerprint(picture, b"one"), fingerprint(picture, b"two")
    assert first.pixels == second.pixels and first.file != second.file
    flat = np.zeros((2, 6, 3), dtype=np.uint8)
    assert fingerprint(flat).pixels != fingerprint(flat.reshape(3, 4, 3)).pixels
    changed = picture.copy()
    changed[0, 0, 0] ^= 1
    assert fingerprint(changed).pixels != first.pixels


def test_twenty_scenes_have_many_pairs_and_no_near_one() -> None:
    found = prints(*map(scene, range(20)))
    apart = [int(np.bitwise_count(a.bits[:2] ^ b.bits[:2]).sum()) for a, b in combinations(found, 2)]
    assert min(apart) > HAMMING_BOUND and near_duplicates(found, [0] * 20) == [] == near_duplicates(found[:1], [0])
