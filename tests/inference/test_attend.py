"""What attend leaves on disk, and that work goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attnbn.data.images import voc_palette
from attnbn.evaluation.direct import combine
from attnbn.inference.attend import attend, file_names
from attnbn.inference.claim import Done
from attnbn.inference.photographs import Photographs, list_photographs
from attnbn.inference.predict import full_size, predict
from attnbn.inference.shards import Shard
from attnbn.io.errors import InputError

CLASSES = ("cat", "dog", "sheep")


def run(net: nn.Module, photographs: Path, output: Path, **settings: Any) -> Done:
    who = {"run": "r1"} | settings.pop("identity", {})
    return attend(net, [photographs], output, CLASSES, size=32, identity=who, **settings)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_files_hold_the_predictions(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(net, photographs, out, masks=True, threshold=0.4)
    assert (done.written, done.skipped, done.broken) == (5, 0, [])
    dataset = Photographs(list_photographs([photographs]), CLASSES)
    expected = {"attend.json"}
    for p in predict(net, dataset, size=32):
        maps = full_size(p.maps, p.size)
        with np.load(out / "maps" / f"{p.name}.npz", allow_pickle=False) as stored:
            assert sorted(stored) == ["maps", "names", "scores"]
            assert stored["maps"].dtype == np.float16
            np.testing.assert_array_equal(stored["maps"], maps.numpy().astype(np.float16))
            assert stored["names"].tolist() == [CLASSES[c] for c in p.classes]
            np.testing.assert_allclose(stored["scores"], p.scores[p.classes].numpy(), rtol=1e-5)
            assert stored["scores"].dtype == np.float32
        with Image.open(out / "masks" / f"{p.name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette() == voc_palette().ravel().tolist()
            np.testing.assert_array_equal(np.asarray(mask), combine(maps, p.scores[p.classes], p.classes, 0.4).numpy())
        for c in p.classes:
            with Image.open(out / "overlays" / f"{p.name}.{CLASSES[c]}.png") as picture:
                assert picture.size == (p.size[1], p.size[0])
        expected |= {f"overlays/{p.name}.{CLASSES[c]}.png" for c in p.classes}
        expected |= {f"maps/{p.name}.npz", f"masks/{p.name}.png"}
    assert set(files(out)) == expected


def test_goes_on_where_it_stopped(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(net, photographs, out)
    whole = files(out)
    stamps = {p: p.stat().st_mtime_ns for p in (out / "maps").rglob("*.npz")}
    (out / "maps" / "zoo" / "c.npz").unlink()
    (out / "maps" / "b.npz").write_bytes(b"PK\x03\x04 cut off")
    done = run(net, photographs, out)
    assert (done.written, done.skipped) == (2, 3)
    assert files(out).keys() == whole.keys()
    assert (out / "maps" / "a.npz").stat().st_mtime_ns == stamps[out / "maps" / "a.npz"]
    assert run(net, photographs, out) == Done(written=0, skipped=5)


def test_masks_wanted_later_are_added(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    run(net, photographs, tmp_path / "out")
    assert run(net, photographs, tmp_path / "out", masks=True).written == 5
    assert run(net, photographs, tmp_path / "out", masks=True).skipped == 5
    assert run(net, photographs, tmp_path / "out").skipped == 5


def test_the_folder_of_another_run_is_refused_unless_overwritten(
    net: nn.Module, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(net, photographs, out)
    with pytest.raises(InputError, match=r"got those of another \(identity differ\).*--overwrite: .*out"):
        run(net, photographs, out, identity={"checkpoint": "other"})
    with torch.no_grad():  # the other run sees another class, so that stale overlays would show
        net.last.bias.copy_(torch.tensor([-9.0, -9, 9]))
    done = run(net, photographs, out, identity={"checkpoint": "other"}, overwrite=True)
    assert done.written == 5
    assert all(p.name.endswith(".sheep.png") for p in (out / "overlays").rglob("*.png"))
    assert json.loads((out / "attend.json").read_text())["identity"] == {"run": "r1", "checkpoint": "other"}
    # an overwriting run that was interrupted goes on, and takes nothing of the earlier run for its own
    assert run(net, photographs, out, identity={"checkpoint": "other"}).skipped == 5


def test_the_threshold_belongs_to_the_masks(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(net, photographs, out, threshold=0.2)
    assert run(net, photographs, out, threshold=0.3).skipped == 5  # no masks: nothing depends on it
    assert run(net, photographs, out, masks=True, threshold=0.4).written == 5
    low = files(out / "masks")
    with pytest.raises(InputError, match=r"\(threshold differ\)"):
        run(net, photographs, out, masks=True, threshold=0.9)
    assert run(net, photographs, out, threshold=0.9).skipped == 5
    assert run(net, photographs, out, masks=True, threshold=0.9, overwrite=True).written == 5
    assert files(out / "masks") != low


def test_processes_share_the_work(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    run(net, photographs, tmp_path / "one")
    parts = [run(net, photographs, tmp_path / "two", shard=Shard(rank, 2)) for rank in range(2)]
    assert sum(part.written for part in parts) == 5
    assert all(part.written for part in parts)
    assert files(tmp_path / "two").keys() == files(tmp_path / "one").keys()
    assert run(net, photographs, tmp_path / "two").skipped == 5  # another number of processes goes on too


def test_a_broken_photograph(net: nn.Module, photographs: Path, tmp_path: Path) -> None:
    (photographs / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        run(net, photographs, tmp_path / "out")
    done = run(net, photographs, tmp_path / "out", skip_broken=True)
    assert len(done.broken) == 1
    assert "broken.jpg" in done.broken[0]
    assert done.written + done.skipped == 5


def test_results_inside_the_photographs_folder_are_not_photographs(net: nn.Module, photographs: Path) -> None:
    assert run(net, photographs, photographs / "out").written == 5
    assert run(net, photographs, photographs / "out").skipped == 5


def test_file_names_of_classes() -> None:
    assert file_names(["tv/monitor", "a b", "a.b", "été", ""]) == ["tv_monitor", "a_b", "a_b_2", "été", "_4"]
