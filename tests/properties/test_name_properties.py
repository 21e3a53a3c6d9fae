"""What hangs on names, of any bytes that a file's may have: shares of work, seeds, cue files, files written whole."""

from __future__ import annotations

import json
import math
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbn.data.class_maps import resolve_class_map
from attnbn.data.classes import match_classes, parse_classes, select_classes
from attnbn.data.cue_files import (
    ARCHIVE,
    picture_file,
    read_seeds,
    remove_others,
    seeds_file,
    to_grid,
    write_archive,
    write_seeds,
)
from attnbn.inference.shards import Shard, current_shard, own, remaining, shard_of
from attnbn.io.atomic import part_stem, remove_parts, without_nan, write_bytes, write_json, write_text
from attnbn.io.errors import InputError
from attnbn.io.text import LONGEST, one_line, printable
from attnbn.training.streams import Stream, augmentation_seed, fold, item_of
from properties.draws import FILE_NAMES, FILE_PARTS, SEEDS, chance

settings.load_profile("properties")

WORLDS = st.integers(1, 9)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)

# -- shares of work ------------------------------------------------------------------------------------------------------


@given(st.lists(FILE_NAMES, max_size=20, unique=True), WORLDS)
def test_each_photograph_is_some_ones_and_no_two_ones(names: list[str], world: int) -> None:
    shares = [own(names, Shard(rank, world)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(len(names)))
    assert all(share == sorted(share) for share in shares)
    for rank, share in enumerate(shares):
        assert all(shard_of(names[index], world) == rank for index in share)
        backwards = own(names[::-1], Shard(rank, world))
        assert sorted(names[::-1][i] for i in backwards) == sorted(names[i] for i in share)
        done = set(names[::2])
        todo, finished = remaining(names, done.__contains__, Shard(rank, world))
        assert todo == [i for i in share if names[i] not in done] and len(todo) + finished == len(share)


@given(st.integers(-2, 12), st.integers(-2, 12))
def test_a_shard_is_one_of_its_world_or_refused(rank: int, world: int) -> None:
    launcher = {"RANK": str(rank), "WORLD_SIZE": str(world)}
    if 0 <= rank < world:
        assert current_shard(rank, world) == current_shard(environment=launcher) == (rank, world)
    else:
        with pytest.raises(InputError, match="expected a rank from 0 to"):
            current_shard(environment=launcher)


# -- streams -------------------------------------------------------------------------------------------------------------


@given(SEEDS, TEXT, st.integers(1, 40), st.integers(0, 5))
def test_each_epoch_shows_every_item_once(seed: int, name: str, length: int, epoch: int) -> None:
    assert sorted(item_of(seed, name, epoch * length + i, length) for i in range(length)) == list(range(length))
    assert all(0 <= augmentation_seed(seed, name, j) < 2**63 for j in range(3))


@given(st.lists(st.one_of(FILE_PARTS, st.integers()), max_size=4))
def test_seeds_are_numbers_for_any_parts(parts: list[object]) -> None:
    assert 0 <= fold(*parts) < 2**63
    assert fold(*parts) == fold(*parts) != fold(*parts, "more")


@given(SEEDS, st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 6), st.integers(0, 4))
def test_the_processes_batches_are_the_one_processs_in_shares(
    seed: int, length: int, world: int, share: int, start: int, steps: int
) -> None:
    stream = Stream("target", list(range(length)), lambda item, s: (item, s), list, seed=seed, batch_size=world * share)
    whole = list(stream.batches(start, start + steps))
    parts = [list(stream.batches(start, start + steps, rank=rank, world=world)) for rank in range(world)]
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == whole
    assert list(stream.batches(0, start + steps))[start:] == whole


# -- cue files -----------------------------------------------------------------------------------------------------------


@given(st.lists(FILE_NAMES, min_size=1, max_size=4, unique=True), SEEDS, st.integers(1, 6), st.integers(1, 9),
       st.integers(1, 9), st.sampled_from([0.0, 0.2, 1.0]))  # fmt: skip
@settings(max_examples=25)
def test_cues_come_back_from_their_files_and_from_the_archive(
    names: list[str], seed: int, classes: int, rows: int, columns: int, share: float
) -> None:
    # the folder of one is not the file of another
    names = [name for name in names if not any(other.startswith(f"{name}.safetensors/") for other in names)]
    with tempfile.TemporaryDirectory() as folder:
        made = {name: chance(seed + i, share, classes + 1, rows, columns) for i, name in enumerate(names)}
        for name, cues in made.items():
            write_seeds(folder, name, cues, mark=f"{name!a}")
        for name, cues in made.items():
            file = seeds_file(folder, name)
            assert Path(folder) in file.parents and Path(folder) in picture_file(folder, name).parents
            seeds = read_seeds(file)
            assert torch.equal(to_grid(seeds.places, classes, (rows, columns), file), cues)
            assert seeds.labels.tolist() == [c for c in range(1, classes + 1) if cues[c].any()]
            assert seeds.mark == f"{name!a}"
        write_archive(folder, names)
        with np.load(Path(folder, ARCHIVE), allow_pickle=False) as archive:
            assert len(archive.files) == 2 * len(names)
            for name, cues in made.items():
                key = name.encode("utf-8", "backslashreplace").decode()
                assert archive[f"{key}_cues"].T.tolist() == cues.nonzero().tolist()
        remove_others(folder, names[:1])
        assert [name for name in names if seeds_file(folder, name).exists()] == names[:1]


# -- files written whole -------------------------------------------------------------------------------------------------


@given(FILE_NAMES, st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_under_any_name_and_nothing_beside_them(name: str, first: bytes, second: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        for data in (first, second):
            write_bytes(path, data)
            assert path.read_bytes() == data
            assert list(path.parent.iterdir()) == [path]
        assert len(part_stem(path).encode()) <= 100
        begun = path.parent / f".{part_stem(path)}.abcdefgh.part"
        other = path.parent / ".of another.abcdefgh.part"
        begun.touch()
        other.touch()
        remove_parts([Path(folder)], [path])
        assert other.exists() and path.exists()
        assert begun.exists() == (part_stem(path) != path.name)  # of a name that is cut it might be another file's


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), FILE_PARTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FILE_PARTS, inner, max_size=3)),
    max_leaves=8,
)


@given(JSON)
def test_json_comes_back_with_every_name_and_null_for_no_number(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder, "a.json"), value)
        assert json.loads(Path(folder, "a.json").read_text(encoding="utf-8")) == without_nan(value)
    assert without_nan(without_nan(value)) == without_nan(value)
    assert without_nan([math.nan, math.inf, -math.inf, 1.5]) == [None, None, None, 1.5]


@given(st.one_of(FILE_NAMES, st.text(max_size=60)))
def test_text_for_a_terminal_is_one_line_of_text(text: str) -> None:
    assert printable(text).isprintable() and printable(printable(text)) == printable(text)
    assert text.isprintable() == (printable(text) == text)
    long = one_line(text * 200)
    assert long.isprintable() and len(long) <= LONGEST and "\n" not in long
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder, "a.txt"), text)
        stored = Path(folder, "a.txt").read_bytes().decode("utf-8")
    assert stored == text.encode("utf-8", "backslashreplace").decode()


# -- classes -------------------------------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["cat", "dog", "sheep", "Hund", "ice cream", "тигр", "e\u0301"]), min_size=1, max_size=5,
                 unique=True)  # fmt: skip


@given(NAMES, st.data())
def test_classes_keep_their_order_and_place(own_names: list[str], data: st.DataObject) -> None:
    renamed = data.draw(st.dictionaries(st.sampled_from(own_names), st.sampled_from(["animal", "thing"]), max_size=3))
    assert resolve_class_map(renamed) == renamed
    became = [renamed.get(name, name) for name in own_names]
    everything = select_classes(own_names, None, renamed, "here")
    assert sorted(everything.classes) == sorted(set(became)) and not everything.is_subset
    assert [everything.classes[i] for i in everything.index if i is not None] == became
    wanted = data.draw(st.permutations(everything.classes))[: data.draw(st.integers(1, len(everything.classes)))]
    some = select_classes(own_names, wanted, renamed, "here")
    assert some.classes == tuple(wanted) == parse_classes(wanted)
    for name, index in zip(became, some.index, strict=True):
        assert (index is None) == (name not in wanted) and (index is None or some.classes[index] == name)
    assert match_classes(own_names, own_names[::-1], None, renamed) == tuple(dict.fromkeys(became[::-1]))
    assert match_classes(own_names, own_names[::-1], wanted, renamed) == tuple(wanted)
