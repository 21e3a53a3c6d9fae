"""Cues on disk: what is written is read back, and what is not whole is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attnbn.data.cue_files import (
    ARCHIVE,
    MANIFEST,
    CueFolder,
    picture_file,
    read_seeds,
    remove_others,
    seeds_file,
    write_archive,
    write_seeds,
)
from attnbn.io.errors import InputError

NAMES = ("2007_000032", "zoo/a.b", "bare")


def random_cues(seed: int, share: float = 0.1) -> Tensor:
    """Cues of three classes on 5×7, several in one cell among them."""
    return torch.rand(4, 5, 7, generator=torch.Generator().manual_seed(seed)) < share


def cues_of(name: str) -> Tensor:
    return random_cues(NAMES.index(name), 0 if name == "bare" else 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write_seeds(tmp_path, name, cues_of(name), labels=[0, 2], mark="m")
    manifest = {
        "classes": ["cat", "dog", "cow"],
        "grid": [5, 7],
        "names": NAMES,
        "left_out": ["x"],
        "settings": {"a": 1},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    return tmp_path


def test_what_is_written_is_read_back(folder: Path) -> None:
    cues = CueFolder(folder)
    assert (cues.path, cues.classes, cues.grid) == (folder, ("cat", "dog", "cow"), (5, 7))
    assert (cues.names, cues.left_out, cues.settings, len(cues)) == ([*NAMES], ["x"], {"a": 1}, 3)
    for name in NAMES:
        read = cues.read(name)
        assert read.dtype == torch.bool
        assert torch.equal(read, cues_of(name))
    assert "bare" in cues and "x" not in cues


def test_labels_are_channels_and_of_classes_without_a_cue_too(tmp_path: Path) -> None:
    cues = torch.zeros(4, 2, 2, dtype=torch.bool)
    cues[0, 0, 0] = cues[3, 1, 0] = True
    write_seeds(tmp_path, "given", cues, labels=[1, 2], mark="mine")
    write_seeds(tmp_path, "seen", cues)
    given, seen = (read_seeds(seeds_file(tmp_path, name)) for name in ("given", "seen"))
    assert (given.labels.tolist(), given.mark) == ([2, 3], "mine")
    assert (seen.labels.tolist(), seen.mark) == ([3], "")
    assert given.places.tolist() == [[0, 3], [0, 1], [0, 0]]
    assert given.places.dtype == given.labels.dtype == torch.int16


def test_the_archive_is_what_the_fields_tools_read(folder: Path) -> None:
    write_archive(folder, NAMES)
    with np.load(folder / ARCHIVE, allow_pickle=False) as stored:
        assert set(stored) == {f"{name}_{key}" for name in NAMES for key in ("labels", "cues")}
        for name in NAMES:
            # as DSRG's layer fills its cues
            filled = np.zeros((4, 5, 7))
            places = stored[f"{name}_cues"]
            filled[places[0], places[1], places[2]] = 1.0
            np.testing.assert_array_equal(filled, cues_of(name).numpy())
            assert stored[f"{name}_labels"].tolist() == [1, 3]
    before = (folder / ARCHIVE).read_bytes()
    write_archive(folder, NAMES)
    assert (folder / ARCHIVE).read_bytes() == before


def test_others_are_removed(folder: Path) -> None:
    for name in ("zoo/a", "old"):
        write_seeds(folder, name, random_cues(0))
    for name in (*NAMES, "old"):
        picture_file(folder, name).parent.mkdir(parents=True, exist_ok=True)
        picture_file(folder, name).touch()
    (folder / "seeds" / "zoo" / ".a.b.safetensors.x1.part").touch()  # of a process that was killed
    remove_others(folder, NAMES)
    for room, ending in (("seeds", ".safetensors"), ("png", ".png")):
        found = {p.relative_to(folder / room).as_posix() for p in (folder / room).rglob("*") if p.is_file()}
        assert found == {name + ending for name in NAMES}


@pytest.mark.parametrize(
    ("cues", "message"),
    [
        (torch.zeros(4, 5, 7), "bool .* got torch.float32"),
        (torch.zeros(5, 7, dtype=torch.bool), r"got torch.bool \(5, 7\)"),
    ],
)
def test_what_are_no_cues_is_not_written(tmp_path: Path, cues: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_seeds(tmp_path, "a", cues)
    assert not any(tmp_path.iterdir())


def test_an_unknown_name(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"cues of the photograph 'b', the folder has none; make them .*seeds/b\.safetensors$"
    ):
        CueFolder(folder).read("b")


def damaged(folder: Path, what: str) -> None:
    file = seeds_file(folder, NAMES[0])
    if what == "missing":
        file.unlink()
    elif what == "cut off":
        file.write_bytes(file.read_bytes()[:-3])
    elif what == "empty":
        file.write_bytes(b"")
    elif what == "of others":
        write_seeds(folder, NAMES[0], torch.ones(9, 5, 7, dtype=torch.bool))
    else:
        write_seeds(folder, NAMES[0], torch.ones(4, 5, 8, dtype=torch.bool))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "found no file"),
        ("cut off", "got a damaged file"),
        ("empty", "got a damaged file"),
        ("of others", "cues of 3 classes on 5×7, got a place outside"),
        ("of another grid", "cues of 3 classes on 5×7, got a place outside"),
    ],
)
def test_a_damaged_file(folder: Path, what: str, message: str) -> None:
    damaged(folder, what)
    with pytest.raises(InputError, match=rf"{message}.*anew with attnbn cues: .*2007_000032\.safetensors$") as caught:
        CueFolder(folder).read(NAMES[0])
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_finished(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=rf"not finished: run attnbn cues again: {folder}$"):
        CueFolder(folder)
    with pytest.raises(InputError, match="expected a folder of cues, found none"):
        CueFolder(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"\(with cues\.json\), found another; make it with attnbn cues"):
        CueFolder(tmp_path / "other")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"classes": ["a"], "grid": [5], "names": [], "settings": {}}'])
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"expected a manifest of cues.*cues\.json$") as caught:
        CueFolder(folder)
    assert "\n" not in str(caught.value)
