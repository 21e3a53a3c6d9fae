"""Maps in figures, which of them are doubtful, and the sum of what several processes did, whichever ends last."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnbn.data.images import read_image
from attnbn.inference.photographs import Photograph
from attnbn.inference.saliency import Detected, write_saliency
from attnbn.inference.saliency_sources import list_sources
from attnbn.inference.saliency_summary import (
    SUMMARY,
    MapFigures,
    doubt,
    figures_of,
    read_figures,
    read_left_out,
    write_left_out,
)
from attnbn.inference.shards import Shard, shard_of
from attnbn.io.errors import InputError


def by_hand(pixels: np.ndarray) -> MapFigures:
    """The figures pixel by pixel."""
    height, width = pixels.shape
    values = [int(value) for row in pixels for value in row]

    def high(places: list[tuple[int, int]]) -> float:
        return sum(int(pixels[y, x]) * 2 > 255 for y, x in places) / len(places)

    rows = [[(y, x) for x in range(width)] for y in (0, height - 1)]
    columns = [[(y, x) for y in range(height)] for x in (0, width - 1)]
    return MapFigures(
        sum(values) / len(values) / 255,
        high([(y, x) for y in range(height) for x in range(width)]),
        min(map(high, rows + columns)),
        sum(0.2 < value / 255 < 0.8 for value in values) / len(values),
        (max(values) - min(values)) / 255,
    )


@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (1, 9), (2, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_figures(shape: tuple[int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    assert figures_of(pixels) == pytest.approx(by_hand(pixels), abs=1e-6)


def block(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    pixels = np.full((100, 100), 10, np.uint8)
    pixels[top:bottom, left:right] = 240
    return pixels


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (block(30, 70, 20, 80), None),
        (block(0, 100, 20, 80), None),  # touches two borders
        (block(0, 7, 0, 7), "nothing"),  # 0.49 %
        (block(0, 8, 0, 8), None),
        (block(0, 0, 0, 0), "nothing"),
        (block(5, 95, 5, 95), "everything"),
        (block(11, 100, 10, 100), "everything"),  # 80.1 %
        (block(20, 100, 0, 100), None),
        (np.maximum(block(0, 100, 35, 65), block(35, 65, 0, 100)), "borders"),  # a cross: 30 % of each border
        (np.maximum(block(0, 100, 40, 60), block(40, 60, 0, 100)), None),  # 20 %
        (block(30, 70, 20, 80) // 2 + 60, "undecided"),
        (np.where(np.arange(100) < 41, 150, block(0, 100, 60, 70)).astype(np.uint8), "undecided"),
        (np.where(np.arange(100) < 40, 150, block(0, 100, 60, 70)).astype(np.uint8), None),
    ],
)
def test_doubts(pixels: np.ndarray, expected: str | None) -> None:
    assert doubt(figures_of(pixels)) == expected


# ---- a detector whose map is the photograph's red channel


class Red:
    batch = 1

    def identity(self) -> dict[str, object]:
        return {"detector": "red"}

    def prepare(self, image: Tensor) -> np.ndarray:
        return image[0].numpy().astype(np.float32) / 255

    def maps(self, inputs, names) -> Tensor:
        return torch.stack([torch.from_numpy(one[None]) for one in inputs])

    def of(self, image: Tensor, name: str) -> Tensor:
        return self.maps([self.prepare(image)], [name])[0]


MAPS = {
    "empty": block(0, 0, 0, 0),
    "full": block(0, 100, 0, 100),
    "good": block(20, 60, 20, 60),
    "rim": block(0, 100, 0, 100) - block(10, 90, 10, 90) + 10,
    "speck": block(0, 3, 0, 3),
}


@pytest.fixture
def sources(tmp_path: Path) -> list[Photograph]:
    (tmp_path / "photos").mkdir()
    for name, pixels in MAPS.items():
        Image.fromarray(np.repeat(pixels[..., None], 3, 2)).save(tmp_path / "photos" / f"{name}.png")
    return list_sources([str(tmp_path / "photos")], tmp_path / "out")


def detect(sources: list[Photograph], out: Path, **options: object) -> Detected:
    return write_saliency(Red(), sources, out, workers=1, **options)


def test_summary(sources: list[Photograph], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = detect(sources, out)
    assert done.summary is not None and done.missing == 0
    assert list(done.summary.figures) == sorted(MAPS)
    for name, pixels in MAPS.items():
        assert done.summary.figures[name] == pytest.approx(by_hand(pixels), abs=1e-6)
    doubtful = done.summary.doubtful()
    assert doubtful == {"nothing": ["empty", "speck"], "everything": ["full"], "borders": ["rim"], "undecided": []}
    written = json.loads((out / SUMMARY).read_text())
    assert written["maps"] == 5 and written["doubtful"] == doubtful and written["left_out"] == []
    assert written["mean"] == pytest.approx(np.mean([pixels.mean() / 255 for pixels in MAPS.values()]), abs=1e-6)
    again = detect(sources, out)  # from the files' heads
    assert again.summary is not None and again.skipped == 5
    for name, one in done.summary.figures.items():
        assert again.summary.figures[name] == pytest.approx(one, abs=1e-6)


def test_figures_of_maps_that_say_none(sources: list[Photograph], tmp_path: Path) -> None:
    """Those of an earlier version, or with figures that were tampered with, are taken from the pixels."""
    from PIL.PngImagePlugin import PngInfo

    for text in (None, "{", "[1]", "7"):
        info = PngInfo()
        info.add_text("attnbn", "digest")
        if text is not None:
            info.add_text("attnbn-figures", text)
        Image.fromarray(MAPS["rim"]).save(tmp_path / "a.png", pnginfo=info)
        assert read_figures(tmp_path / "a.png", "digest") == pytest.approx(by_hand(MAPS["rim"]), abs=1e-6)
        assert read_figures(tmp_path / "a.png", "other") is None
    assert read_figures(tmp_path / "none.png", "digest") is None
    (tmp_path / "b.png").write_bytes(b"rubbish")
    assert read_figures(tmp_path / "b.png", "digest") is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_whichever_process_ends_last_sums_up(sources: list[Photograph], tmp_path: Path, order: tuple[int, ...]) -> None:
    out = tmp_path / "out"
    broken = Path(next(one.path for one in sources if one.name == "good"))
    broken.write_bytes(b"")
    left = len(MAPS)
    for rank in order:
        mine = [name for name in MAPS if shard_of(name, 3) == rank]
        done = detect(sources, out, shard=Shard(rank, 3), skip_broken=True)
        assert done.written == len([name for name in mine if name != "good"])
        left -= len(mine)
        assert done.missing == left and (done.summary is None) == (left > 0)
        assert (out / SUMMARY).exists() == (left == 0)
    assert done.summary is not None and set(done.summary.figures) == set(MAPS) - {"good"}
    assert len(done.summary.left_out) == 1 and "good.png" in done.summary.left_out[0]
    for rank in order:  # each would say the same now
        again = detect(sources, out, shard=Shard(rank, 3), skip_broken=True)
        assert again.written == 0 and again.summary is not None
        assert again.summary.left_out == done.summary.left_out
    Image.fromarray(np.repeat(MAPS["good"][..., None], 3, 2)).save(broken)  # mended
    alone = detect(sources, out)
    assert alone.written == 1 and alone.summary is not None
    assert set(alone.summary.figures) == set(MAPS) and alone.summary.left_out == []
    assert not list(out.glob(".*"))


def test_a_process_without_a_share(sources: list[Photograph], tmp_path: Path) -> None:
    """More processes than photographs: those without any neither make a folder nor a summary."""
    world = next(world for world in range(2, 99) if len({shard_of(name, world) for name in MAPS}) < world)
    idle = next(rank for rank in range(world) if rank not in {shard_of(name, world) for name in MAPS})
    done = detect(sources, tmp_path / "out", shard=Shard(idle, world))
    assert (done.written, done.missing, done.summary) == (0, 5, None) and not (tmp_path / "out").exists()


def test_a_process_all_of_whose_photographs_are_broken(sources: list[Photograph], tmp_path: Path) -> None:
    """It ends first, makes no map, and still the last one knows."""
    out = tmp_path / "out"
    rank = shard_of("good", 2)
    mine = [one for one in sources if shard_of(one.name, 2) == rank]
    for one in mine:
        Path(one.path).write_bytes(b"")
    done = detect(sources, out, shard=Shard(rank, 2), skip_broken=True)
    assert (done.written, done.missing, done.summary) == (0, len(sources) - len(mine), None)
    last = detect(sources, out, shard=Shard(1 - rank, 2), skip_broken=True)
    assert last.summary is not None and len(last.summary.left_out) == len(mine)


def test_nothing_can_be_read(sources: list[Photograph], tmp_path: Path) -> None:
    for one in sources:
        Path(one.path).write_bytes(b"")
    done = detect(sources, tmp_path / "out", skip_broken=True)
    assert (done.written, done.missing, done.summary, len(done.broken)) == (0, 0, None, 5)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="empty file"):
        detect(sources, tmp_path / "out")


def test_word_of_other_work_does_not_count(tmp_path: Path) -> None:
    write_left_out(tmp_path, Shard(0, 2), "mine", {"a": "broken: a.jpg"})
    write_left_out(tmp_path, Shard(1, 2), "other", {"b": "broken: b.jpg"})
    (tmp_path / ".left-out.5-of-9.json").write_text("{rubbish")
    assert read_left_out(tmp_path, "mine") == {"a": "broken: a.jpg"}
    write_left_out(tmp_path, Shard(0, 2), "mine", {})
    assert read_left_out(tmp_path, "mine") == {}
    name = "odd\udcff"  # bytes that are no text
    write_left_out(tmp_path, Shard(0, 2), "mine", {name: "broken"})
    assert read_left_out(tmp_path, "mine") == {name: "broken"}
    write_left_out(tmp_path, Shard(), "mine", {})
    assert not list(tmp_path.iterdir())


def test_maps_read_back(sources: list[Photograph], tmp_path: Path) -> None:
    detect(sources, tmp_path / "out")
    for one in sources:
        with Image.open(tmp_path / "out" / f"{one.name}.png") as picture:
            assert (np.asarray(picture) == read_image(one.path)[0].numpy()).all()
