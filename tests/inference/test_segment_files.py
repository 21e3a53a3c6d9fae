"""What segment predict leaves on disk, and that work goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attnbn.data.images import read_mask, voc_palette
from attnbn.inference import segment_files
from attnbn.inference.claim import Done
from attnbn.inference.overlay import segmentation_overlay
from attnbn.inference.photographs import Photographs, list_photographs
from attnbn.inference.segment import segment_photographs
from attnbn.inference.segment_files import segment_to_files
from attnbn.inference.shards import Shard
from attnbn.io.errors import InputError

CLASSES = ("cat", "dog", "sheep")


class TinySegmenter(nn.Module):
    """One strided convolution to logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, len(CLASSES) + 1, 8, stride=8)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


@pytest.fixture
def seg() -> TinySegmenter:
    return TinySegmenter()


def run(net: nn.Module, photographs: Path, output: Path, **settings: Any) -> Done:
    who = {"run": "r1"} | settings.pop("identity", {})
    dataset = Photographs(list_photographs([photographs], leave_out=output), CLASSES)
    return segment_to_files(net, dataset, output, **{"size": 32, "identity": who, **settings})


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_files_hold_the_segmentations(seg: nn.Module, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(seg, photographs, out, probabilities=True, scales=[0.5, 1.0]) == Done(written=5)
    dataset = Photographs(list_photographs([photographs]), CLASSES)
    expected = {"segment.json"}
    for one in segment_photographs(seg, dataset, size=32, scales=[0.5, 1.0], probabilities=True):
        with Image.open(out / "masks" / f"{one.name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == voc_palette().ravel().tolist()
        assert torch.equal(read_mask(out / "masks" / f"{one.name}.png", 3, one.size).as_subclass(Tensor), one.mask)
        with np.load(out / "probabilities" / f"{one.name}.npz", allow_pickle=False) as stored:
            assert stored["probabilities"].dtype == np.float16
            np.testing.assert_array_equal(stored["probabilities"], one.probabilities.numpy().astype(np.float16))
            assert stored["classes"].tolist() == ["background", *CLASSES]
        with Image.open(out / "overlays" / f"{one.name}.jpg") as picture:
            assert picture.size[0] % one.size[1] == 0
        expected |= {f"masks/{one.name}.png", f"overlays/{one.name}.jpg", f"probabilities/{one.name}.npz"}
    assert set(files(out)) == expected
    manifest = json.loads((out / "segment.json").read_text())
    assert manifest == {
        "identity": {"run": "r1"}, "classes": list(CLASSES), "size": 32, "scales": [0.5, 1.0], "flip": False,
        "crf": None, "given_labels": None,
    }  # fmt: skip


def test_goes_on_where_it_was_killed(
    seg: nn.Module, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    run(seg, photographs, whole)
    out = tmp_path / "out"
    plain = segment_files.write_bytes

    def dying(path: Path, data: bytes) -> None:
        if path.name == "c.jpg":  # its mask is written, its overlay is just being written
            (path.parent / ".c.jpg.x7_kq2ab.part").parent.mkdir(parents=True, exist_ok=True)
            (path.parent / ".c.jpg.x7_kq2ab.part").write_bytes(data[:100])
            raise KeyboardInterrupt
        plain(path, data)

    monkeypatch.setattr(segment_files, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        run(seg, photographs, out, batch_size=2)
    monkeypatch.undo()
    stopped = files(out)
    assert {"masks/a.png", "masks/b.png", "masks/zoo/c.png", "overlays/b.jpg"} <= set(stopped)
    # c counts as undone; what another process is writing for its own photographs is left alone
    other = out / "masks" / ".another.png.abcdefgh.part"
    other.write_bytes(b"half")
    assert run(seg, photographs, out) == Done(written=3, skipped=2)
    other.unlink()
    assert files(out) == files(whole)
    assert run(seg, photographs, out) == Done(skipped=5)


def test_what_is_lost_is_made_again(seg: nn.Module, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(seg, photographs, out)
    (out / "masks" / "a.png").unlink()
    (out / "overlays" / "b.jpg").write_bytes(b"cut")
    assert run(seg, photographs, out) == Done(written=2, skipped=3)
    assert run(seg, photographs, out, probabilities=True).written == 5  # wanted later: added
    assert run(seg, photographs, out, probabilities=True).skipped == 5
    assert run(seg, photographs, out).skipped == 5


def test_the_folder_of_another_run_is_refused_unless_overwritten(
    seg: TinySegmenter, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(seg, photographs, out)
    first = files(out / "masks")
    for change, key in (
        ({"identity": {"checkpoint": "best"}}, "identity"),
        ({"flip": True}, "flip"),
        ({"size": 40}, "size"),
    ):
        with pytest.raises(InputError, match=rf"got those of another \({key} differ\).*--overwrite: .*out"):
            run(seg, photographs, out, **change)
    with torch.no_grad():
        seg.conv.bias.copy_(torch.tensor([-9.0, -9, -9, 9]))
    new = {"identity": {"checkpoint": "best"}, "overwrite": True}
    plain = segment_files.write_mask

    def dying(path: Path, mask: Tensor) -> None:
        plain(path, mask)
        raise KeyboardInterrupt

    monkeypatch.setattr(segment_files, "write_mask", dying)
    with pytest.raises(KeyboardInterrupt):
        run(seg, photographs, out, **new)
    monkeypatch.undo()
    # the mask of a.png is the new run's already: the first run must not take it for its own
    old = {"identity": {}, "overwrite": True}
    with torch.no_grad():
        seg.conv.bias.copy_(TinySegmenter().conv.bias)
    assert run(seg, photographs, out, **old) == Done(written=1, skipped=4)
    assert files(out / "masks") == first
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match=r"expected a new or empty folder, or one that attnbn segment predict made"):
        run(seg, photographs, stranger)


def test_processes_share_the_work(seg: nn.Module, photographs: Path, tmp_path: Path) -> None:
    run(seg, photographs, tmp_path / "one")
    parts = [run(seg, photographs, tmp_path / "two", shard=Shard(rank, 2)) for rank in range(2)]
    assert sum(part.written for part in parts) == 5
    assert all(part.written for part in parts)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert run(seg, photographs, tmp_path / "two").skipped == 5


def test_broken_photographs(seg: nn.Module, photographs: Path, tmp_path: Path) -> None:
    (photographs / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        run(seg, photographs, tmp_path / "out")
    done = run(seg, photographs, tmp_path / "out", skip_broken=True)
    assert len(done.broken) == 1 and done.written + done.skipped == 5


def test_the_overlay_shows_classes_and_leaves_the_photograph_recognisable() -> None:
    image = torch.full((3, 300, 400), 128, dtype=torch.uint8)
    mask = torch.zeros(300, 400, dtype=torch.uint8)
    mask[50:250, 100:200] = 2
    picture = segmentation_overlay(image, mask, CLASSES)
    assert picture.shape[1] == 400 and picture.shape[0] > 300
    inside, outside = picture[150, 150].astype(int), picture[20, 20].astype(int)
    assert inside[1] > inside[0] and inside[1] > inside[2]  # VOC's second colour is green
    assert len(set(outside.tolist())) == 1  # grey stays grey
    assert (picture[150, 199] == 255).all()  # the outline
    band = picture[300:]
    assert (band[..., 1].astype(int) - band[..., 0] > 60).any()  # the legend's square
    plain = segmentation_overlay(image, torch.zeros_like(mask), CLASSES)
    assert not (plain[:300].max((0, 1)) - plain[:300].min((0, 1))).any()
    assert plain[300:].max() > 100  # "background only"


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (2, 900), (900, 2)])
def test_overlays_of_odd_sizes(size: tuple[int, int]) -> None:
    names = [f"a long name of class {i}" for i in range(20)]
    mask = (torch.arange(size[0] * size[1]) % 21).reshape(size)
    picture = segmentation_overlay(torch.zeros(3, *size, dtype=torch.uint8), mask, names)
    factor = picture.shape[1] // size[1]
    assert picture.shape[1] == factor * size[1] and picture.shape[0] > factor * size[0]
    assert factor * max(size) <= 1024
