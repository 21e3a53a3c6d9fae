"""Output stays in its folder, whatever photographs are called and whatever links lie there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.colour_table import read_table
from attnbn.data.cue_files import remove_others
from attnbn.data.masks_folder import find_folders
from attnbn.data.voc_layout import index_pictures
from attnbn.experiments.segmentation.cue_work import CueWork
from attnbn.inference.claim import hold
from attnbn.inference.photographs import Photograph, check_name, list_photographs
from attnbn.inference.saliency import write_saliency
from attnbn.io.atomic import write_bytes
from attnbn.io.errors import InputError
from attnbn.io.folder_lock import LOCK, FolderLock
from attnbn.io.inside import check_inside
from attnbn.io.run_folder import METRICS, Metrics, RunFolder
from attnbn.saliency.unsupervised import UnsupervisedDetector
from fuzz.corpus import encoded, pixels
from fuzz.guards import refused, within
from segment_runs import classifier_run, segmentation_run

OUT = ["../x", "a/../../x", "/x", "..", "", "/"]
STAY = ["a", "a/b", "a..b", "..a", "C:\\x", "C:x", "a/./b", "\\\\server\\x", "~", "-"]


@pytest.mark.parametrize("name", OUT)
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    refused(lambda: check_name(name), None, "stays inside the output folder")
    if name.strip("/."):
        refused(
            lambda: check_inside(tmp_path / "out", Path(tmp_path / "out", f"{name}.png")), None, "results to stay in"
        )


@pytest.mark.parametrize("name", STAY)
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    """A drive's letter is one of the name's own letters here."""
    assert check_name(name) == name
    check_inside(tmp_path, tmp_path / f"{name}.png")
    write_bytes(tmp_path / f"{name}.png", b"x")
    assert [file.read_bytes() for file in tmp_path.rglob("*.png")] == [b"x"]


def test_the_output_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    os.symlink("disk", tmp_path / "out")
    check_inside(tmp_path / "out", tmp_path / "out" / "a" / "b.png")
    os.symlink("b", tmp_path / "disk" / "a")  # and a link that stays
    check_inside(tmp_path / "out", tmp_path / "out" / "a" / "b.png")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    (folder / "x.jpg").write_bytes(encoded(pixels(), "JPEG"))
    return folder.parent


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody's own files, under the very names of results."""
    folder = tmp_path / "elsewhere"
    for name in ("x", "cat/x", "step-00000001/x"):
        for ending in ("png", "jpg", "npz", "safetensors"):
            (folder / f"{name}.{ending}").parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.{ending}").write_bytes(b"mine")
            (folder / name).with_name(f".{Path(name).name}.{ending}.abc.part").write_bytes(b"mine")
    return folder


def untouched(folder: Path) -> bool:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return len(files) == 24 and all(file.read_bytes() == b"mine" for file in files)


def attended(run: Path, photographs: Path, output: Path) -> int:
    words = ["attend", run, photographs, "--output", output, "--masks", "--overwrite", "--device", "cpu"]
    return main([str(word) for word in words])


def segmented(run: Path, photographs: Path, output: Path) -> int:
    words = ["segment", "predict", run, photographs, "--output", output, "--overwrite", "--device", "cpu"]
    return main([str(word) for word in words])


ROOMS = [(attended, "maps"), (attended, "masks"), (attended, "overlays"), (attended, "overlays/cat"), (attended, "maps/cat"),
         (segmented, "masks"), (segmented, "overlays/cat")]  # fmt: skip


@pytest.mark.parametrize(("command", "room"), ROOMS)
def test_links_among_the_results_of_photographs(
    tmp_path: Path, photographs: Path, elsewhere: Path, command: Callable[..., int], room: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make = classifier_run if command is attended else segmentation_run
    run = make(tmp_path / "run", ["cat", "dog"])
    link = tmp_path / "out" / room
    link.parent.mkdir(parents=True)
    os.symlink(elsewhere / "cat" if "/" in room else elsewhere, link)
    assert command(run, photographs, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "results to stay in" in error and error.count("\n") == 1
    assert untouched(elsewhere)


def test_links_among_saliency_maps(tmp_path: Path, photographs: Path, elsewhere: Path) -> None:
    (tmp_path / "maps").mkdir()
    os.symlink(elsewhere / "cat", tmp_path / "maps" / "cat")
    found = list_photographs([photographs])
    assert [one.name for one in found] == ["cat/x"]
    refused(
        lambda: write_saliency(UnsupervisedDetector(), found, tmp_path / "maps", overwrite=True, workers=1),
        tmp_path / "maps", "results to stay in",
    )  # fmt: skip
    lead = [Photograph(found[0].path, "../x")]
    refused(
        lambda: write_saliency(UnsupervisedDetector(), lead, tmp_path / "new", workers=1), None, "results to stay in"
    )
    assert untouched(elsewhere) and not (tmp_path / "x.png").exists()


def test_links_among_cues(tmp_path: Path, elsewhere: Path) -> None:
    cues = torch.zeros(2, 4, 5, dtype=torch.bool)
    for room, target in (("seeds", elsewhere), ("png", elsewhere), ("seeds/cat", elsewhere / "cat")):
        folder = tmp_path / room.replace("/", "-")
        (folder / room).parent.mkdir(parents=True)
        os.symlink(target, folder / room)
        with _work(folder) as work:
            refused(lambda work=work: work.write("cat/x", cues, torch.tensor([0])), None, "results to stay in")  # type: ignore[misc]
        if "/" not in room:
            refused(lambda folder=folder: remove_others(folder, []), None, "results to stay in")  # type: ignore[misc]
        else:
            remove_others(folder, [])  # links below are not followed
        assert untouched(elsewhere)


def _work(folder: Path) -> CueWork:
    (folder / "unfinished.json").write_text('{"classes": ["cat"], "grid": [4, 5]}')
    return CueWork(folder, ["cat"], (4, 5), {}, True)


def test_checkpoints_that_lie_elsewhere(tmp_path: Path, elsewhere: Path) -> None:
    run = classifier_run(tmp_path / "run", ["cat"])
    (run / "checkpoints").rename(tmp_path / "kept")
    os.symlink(elsewhere, run / "checkpoints")
    refused(lambda: RunFolder(run).begin({}, overwrite=True), run / "checkpoints", "results to stay in")
    refused(RunFolder(run).reopen, run / "checkpoints", "results to stay in")
    assert untouched(elsewhere) and (run / "config.yaml").is_file()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_none(tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "out").mkdir()
    lock = tmp_path / "out" / LOCK
    {"link": lambda: os.symlink(mine, lock), "pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir}[kind]()
    with within(10):
        refused(lambda: FolderLock(tmp_path / "out").take("taken"), lock, "the file of a lock")
        refused(lambda: hold(FolderLock(tmp_path / "out")), lock, "the file of a lock")  # not without a lock instead
    assert mine.read_text() == "mine"


def test_a_file_that_is_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("a.png", METRICS):
        os.symlink(mine, tmp_path / name)
    write_bytes(tmp_path / "a.png", b"result")
    log = Metrics(tmp_path / METRICS, 0)
    log.write({"step": 1})
    log.close()
    assert mine.read_text() == "mine" and not (tmp_path / "a.png").is_symlink()


# small things of the readers


def test_folders_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", shut)
    monkeypatch.setattr(Path, "iterdir", lambda self: shut(self))
    refused(lambda: index_pictures(tmp_path), tmp_path, "a folder of pictures, may not read it")
    refused(lambda: find_folders(tmp_path), tmp_path, "a folder of photographs and masks, may not read it")


@pytest.mark.parametrize(("ending", "how"), [("avif", {}), ("tif", {"compression": "jpeg"}), ("webp", {}), ("jpg", {})])
def test_masks_in_colours_that_are_smeared(tmp_path: Path, ending: str, how: dict[str, str]) -> None:
    (tmp_path / "label_colors.txt").write_text("0 0 0 void\n255 0 0 cat\n")
    path = tmp_path / f"m.{ending}"
    try:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, **how)
    except (KeyError, OSError, ValueError):
        pytest.skip(f"this Pillow writes no {ending}")
    table = read_table(tmp_path / "label_colors.txt")
    refused(lambda: table.read(path), path, "a lossless mask")


def test_nothing_is_refused_that_is_a_result(tmp_path: Path, photographs: Path) -> None:
    """The guard lets plain work through."""
    run = classifier_run(tmp_path / "run", ["cat", "dog"])
    try:
        assert attended(run, photographs, tmp_path / "out") == 0
    except InputError as error:
        pytest.fail(str(error))
    assert (tmp_path / "out/maps/cat/x.npz").is_file()
