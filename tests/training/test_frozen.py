"""Fixed views, and the frozen layers' outputs kept for them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attnbn.cli.main import main
from attnbn.data.collate import collate
from attnbn.data.dataset import Subset
from attnbn.data.open import open_dataset
from attnbn.data.transforms import normalize, train_transform
from attnbn.experiments.train import train
from attnbn.io.errors import InputError, RunError
from attnbn.saliency.files import SaliencyFolder
from attnbn.training.frozen import Keeper, choose_kept, collate_kept
from attnbn.training.views import FixedViews, choose_view

SIZE, VIEWS = 32, 3


def keeper(folder: Path, *, settings: str = "a", say: list[str] | None = None) -> Keeper:
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Conv2d(3, 5, 4, stride=4), nn.ReLU()).eval()
    said = [] if say is None else say
    return Keeper(folder, frozen, 2, VIEWS, train_transform(SIZE), settings, (8, 8), say=said.append)


@pytest.fixture(scope="module")
def source() -> object:
    return open_dataset("scenes:source?count=7", split="train")


def test_kept_features_are_those_of_the_fixed_views(source, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = keeper(tmp_path)
    kept, views = made.keep(source), FixedViews(source, train_transform(SIZE), VIEWS)
    assert len(kept) == len(views) == 7
    for seeds in ([5, 6, 7], [0, 1, 2]):
        items = [0, 3, 6]
        batch = collate_kept([choose_kept(kept[i], s) for i, s in zip(items, seeds, strict=True)])
        images = collate([choose_view(views[i], s) for i, s in zip(items, seeds, strict=True)])
        with torch.no_grad():
            expected = made.frozen(normalize(images.image))
        torch.testing.assert_close(batch.image, expected, rtol=1e-3, atol=1e-3)  # half precision on disk
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        assert (batch.layers, images.layers) == (2, 0)
        assert torch.equal(batch.labels, images.labels)
        assert batch.names == images.names
        assert images.saliency is not None
        small = images.saliency.reshape(3, 1, 8, 4, 8, 4).mean((3, 5))
        torch.testing.assert_close(batch.saliency, small)
        assert batch.has_saliency.all()


def test_views_differ_from_one_another_and_are_the_same_each_time(source) -> None:  # type: ignore[no-untyped-def]
    views = FixedViews(source, train_transform(SIZE), VIEWS)
    shown = [choose_view(views[2], seed).image.as_subclass(Tensor) for seed in range(VIEWS)]
    again = [choose_view(views[2], seed + VIEWS).image.as_subclass(Tensor) for seed in range(VIEWS)]
    assert all(torch.equal(a, b) for a, b in zip(shown, again, strict=True))
    assert not torch.equal(shown[0], shown[1])


def test_files_are_computed_once_and_for_their_own_settings_only(source, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    keeper(tmp_path, say=said).keep(source)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(first) == 2
    assert len(said) == 1
    keeper(tmp_path, say=said).keep(source)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == first
    assert len(said) == 1
    keeper(tmp_path, settings="b").keep(source)
    other = keeper(tmp_path)
    with torch.no_grad():
        next(other.frozen.parameters()).add_(1)
    other.keep(source)
    keeper(tmp_path).keep(open_dataset("scenes:source?count=8", split="train"))
    assert len(list(tmp_path.glob("features-*.npy"))) == 4
    assert len(list(tmp_path.glob("saliency-*.npy"))) == 3


def test_an_image_or_a_map_made_anew_is_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write(kind: str, index: int) -> None:
        side = (24, 24, 3) if kind == "photos" else (24, 24)
        path = tmp_path / kind / "cat" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, side, dtype=np.uint8)).save(path)

    for index in range(20):
        write("photos", index)
        write("maps", index)

    def kept() -> tuple[int, int]:
        maps = SaliencyFolder(tmp_path / "maps")
        keeper(tmp_path / "cache").keep(open_dataset(f"folders:{tmp_path / 'photos'}", split="train", saliency=maps))
        keeper(tmp_path / "cache").keep(open_dataset(f"folders:{tmp_path / 'photos'}", split="train"))
        return tuple(len(list((tmp_path / "cache").glob(f"{kind}-*.npy"))) for kind in ("features", "saliency"))

    assert kept() == (1, 1)  # the same features with and without maps
    write("maps", 13)
    assert kept() == (1, 2)
    write("photos", 7)
    assert kept() == (2, 3)


def test_a_loader_process_reopens_the_files(source, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    kept = keeper(tmp_path).keep(source)
    sent = pickle.dumps(kept)
    assert len(sent) < 100_000
    there = pickle.loads(sent)
    assert np.array_equal(there[4].features, kept[4].features)


def test_nothing_half_written_stays_and_a_full_disk_is_said_before(source, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = keeper(tmp_path)
    monkeypatch.setattr(type(source), "__getitem__", _fails_at(3, type(source).__getitem__))
    with pytest.raises(InputError, match="cannot be read"):
        made.keep(source)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(RunError, match="GB free"):
        made.keep(source)
    monkeypatch.undo()
    monkeypatch.setattr(os, "posix_fallocate", _full)
    with pytest.raises(RunError, match="no space left"):
        made.keep(source)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def _fails_at(index: int, read):  # type: ignore[no-untyped-def]
    def wrapped(self, i: int):  # type: ignore[no-untyped-def]
        if i == index:
            raise InputError("cannot be read")
        return read(self, i)

    return wrapped


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


SETTINGS = [
    "--config", "demo-attnbn", "--data.source", "scenes:source?count=24", "--data.target", "scenes:target?count=24",
    "--training.steps", "4", "--training.batch_size", "4", "--data.size", "64", "--device", "cpu", "--workers", "0",
    "--data.selection_split", "null", "--model.freeze", "3", "--data.views", "2",
]  # fmt: skip


def test_a_training_on_kept_features_follows_the_one_on_the_views_themselves(tmp_path: Path) -> None:
    runs = {"views": [], "kept": ["--data.cache", str(tmp_path / "cache")]}
    losses = {}
    for name, more in runs.items():
        assert main(["train", *SETTINGS, *more, "--training.log_every", "1", "--output", str(tmp_path / name)]) == 0
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [line["terms"] for line in lines]
    assert len(losses["kept"]) == 4
    for one, other in zip(losses["views"], losses["kept"], strict=True):
        assert one == pytest.approx(other, rel=5e-3)


def test_a_resumed_run_on_kept_features_is_bit_identical(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    words = [
        *SETTINGS,
        "--training.checkpoint_share",
        "1",
        "--training.checkpoint_every",
        "2",
        "--data.cache",
        str(tmp_path / "cache"),
        "--output",
        str(run),
    ]
    assert main(["train", *words]) == 0
    shutil.copytree(run, again)
    (again / "results.json").unlink()
    last = "checkpoints/step-00000004"
    shutil.rmtree(again / last)
    assert main(["train", "--resume", str(again)]) == 0
    tensors = [(folder / last / "tensors.safetensors").read_bytes() for folder in (run, again)]
    assert tensors[0] == tensors[1]


def test_a_cache_without_fixed_views_or_frozen_layers_is_refused(tmp_path: Path) -> None:
    from attnbn.config import DataConfig, ModelConfig, RunConfig

    for data, model in (
        (DataConfig(source="scenes:source", cache="c"), ModelConfig(backbone="small", freeze=3)),
        (DataConfig(source="scenes:source", cache="c", views=2), ModelConfig(backbone="small")),
    ):
        with pytest.raises(InputError, match=r"data\.views and model\.freeze above 0"):
            train(RunConfig(data=data, model=model, output=str(tmp_path / "run")))


def test_a_place_that_can_hold_no_cache_is_refused_before_the_run_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        output = tmp_path / "run"
        assert main(["train", *SETTINGS, "--data.cache", str(place), "--output", str(output)]) == 2
        assert capsys.readouterr().err.strip().endswith(f"give another --data.cache: {place}")
        assert not output.exists()


def test_most_of_a_data_set_shares_the_files_of_the_whole_and_a_small_part_does_not(source, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    whole = keeper(tmp_path).keep(source)
    files = sorted(tmp_path.glob("*.npy"))
    most = Subset(Subset(source, range(1, 7)), range(1, 5))
    assert most.names == source.names[2:6]
    kept = keeper(tmp_path).keep(most)
    assert sorted(tmp_path.glob("*.npy")) == files
    assert len(kept) == 4
    for index in range(4):
        assert kept[index].name == whole[index + 2].name
        assert (kept[index].features == whole[index + 2].features).all()
        assert (kept[index].saliency == whole[index + 2].saliency).all()
        assert torch.equal(kept[index].labels, most.labels[index])
    few = keeper(tmp_path).keep(Subset(source, [4]))
    assert len(list(tmp_path.glob("*.npy"))) > len(files)
    assert (few[0].features == whole[4].features).all()
