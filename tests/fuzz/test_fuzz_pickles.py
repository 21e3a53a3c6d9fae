"""Files of ``torch.save`` from anywhere: refused before they are loaded where loading would fill the memory or never end."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attnbn.io.pickled import MOST, NoWeightsError, Pickles
from attnbn.models.weights import read_state_dict
from fuzz.guards import alone, small_and_fast

TWO_BILLION = b"\x8a\x08" + struct.pack("<q", 2 * 10**9)
LEGACY = b"".join(pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def text(word: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word


def hex_of_hex(times: int) -> bytes:
    """Each call of ``encode`` makes it twice as long."""
    once = b"h\0h\1" + text(b"hex") + b"\x86Rq\1"
    return b"c_codecs\nencode\nq\0" + text(b"a" * 1000) + text(b"latin1") + b"\x86Rq\1" + once * times


def copies(values: int, times: int) -> bytes:
    """A dictionary, copied over and over."""
    entries = b"".join(b"J" + struct.pack("<i", key) + b"N" for key in range(values))
    return b"}(" + entries + b"u\x85q\0ccollections\nOrderedDict\nq\1" + b"h\1h\0R" * times


def of_one_hash(count: int) -> bytes:
    keys = b"".join(b"\x8a\x0c" + (key * (2**61 - 1)).to_bytes(12, "little") + b"N" for key in range(count))
    return b"}(" + keys + b"u"


def twice(word: bytes) -> bytes:
    return word + TWO_BILLION + b"\x85R"


NO_STATE = "expected a state dict"
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "bytearray": (twice(b"cbuiltins\nbytearray\n"), "it calls builtins.bytearray as no weights need"),
    "bytearray of Python 2": (twice(b"c__builtin__\nbytearray\n"), "it calls builtins.bytearray"),
    "bytearray, made anew": (b"cbuiltins\nbytearray\n" + TWO_BILLION + b"\x85\x81", "no pickle of tensors"),
    "bytearray by another": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\nctorch\nTensor\n" + TWO_BILLION + b"\x85}tR",
        "it calls torch._tensor._rebuild_from_type_v2",
    ),
    "a tensor": (twice(b"ctorch\nTensor\n"), "it calls torch.Tensor"),
    "a storage": (twice(b"ctorch\nFloatStorage\n"), "it calls torch.FloatStorage"),
    "hex of hex": (hex_of_hex(22), "it calls _codecs.encode"),
    "copies": (copies(50_000, 40_000), f"more than {MOST:,} values"),
    "a key whose hash never ends": (b")q\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0K\1s", "keys that are neither names nor numbers"),
    "a key that ends the process": (b"}K\1" + b"\x85" * 190_000 + b"K\1s", "keys that are neither"),
    "a set of such keys": (b"cbuiltins\nset\n](K\1" + b"\x85" * 190_000 + b"e\x85R", "keys that are neither"),
    "keys of one hash": (of_one_hash(80_000), "keys that are neither"),
    "lists": (b"]" * 7_000_000, f"more than {MOST:,} values"),
    "as many lists as are read": (b"]" * (MOST // 2 - 300), NO_STATE),
    "as many places as are read": (b"]" + b"".join(b"r" + struct.pack("<I", i) for i in range(MOST - 400)), NO_STATE),
    "as many dictionaries as are read": (b"ccollections\nOrderedDict\nq\0)q\1" + b"h\0h\1R" * (MOST // 3 - 300), NO_STATE),
    "a long text": (text(b"a" * 7_900_000 + "\U0001f600".encode()), NO_STATE),
    "a longer text": (text(b"a" * 8_000_000), "longer than that of any weights|torch.save does not write"),
    "a sparse tensor": (b"ctorch._utils\n_rebuild_sparse_tensor\n", "plain dense tensors"),
    "a settings object": (b"cargparse\nNamespace\n)\x81", "it names argparse.Namespace"),
    "steps of a later kind": (b"\x8f", "no pickle of tensors"),
    "nothing to call": (b")R", "no pickle of tensors"),
    "a link to nothing": (b"h\7", "no pickle of tensors"),
}  # fmt: skip


def archive(entries: dict[str, bytes], end: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue() + end


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_no_weights_need(tmp_path: Path, name: str, zipped: bool) -> None:
    program, message = PROGRAMS[name]
    program = b"\x80\2" + program + b"."
    path = tmp_path / "a.pth"
    path.write_bytes(
        archive({"x/data.pkl": program, "x/version": b"3\n"}) if zipped else LEGACY + program + pickle.dumps([], 2)
    )
    small_and_fast(lambda: read_state_dict(str(path), "small"), path, message)


@pytest.mark.parametrize("place", range(3))
def test_the_other_parts_of_a_legacy_file(tmp_path: Path, place: int) -> None:
    """Its magic number, the protocol and the order of the storages are pickles, too."""
    bomb = b"\x80\2" + PROGRAMS["bytearray"][0] + b"."
    parts = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {}, {}, [])]
    parts[(0, 2, 4)[place]] = bomb
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join(parts))
    small_and_fast(lambda: read_state_dict(str(path), "small"), path, "it calls builtins.bytearray")


def reference(key: bytes, kind: bytes, count: int) -> bytes:
    return (
        b"("
        + text(b"storage")
        + b"ctorch\n"
        + kind
        + b"\n"
        + text(key)
        + text(b"cpu")
        + b"J"
        + struct.pack("<i", count)
        + b"tQ"
    )


STORAGES = {
    "twice under names that differ by their case": reference(b"a", b"ByteStorage", 100) + reference(b"A", b"ByteStorage", 100),
    "of two kinds": reference(b"0", b"ByteStorage", 100) + reference(b"0", b"CharStorage", 100),
    "of two lengths": reference(b"0", b"ByteStorage", 100) + reference(b"0", b"ByteStorage", 101),
    "of more numbers than bytes": reference(b"0", b"ByteStorage", 10**9),
    "of no length": reference(b"0", b"ByteStorage", 1).replace(b"J\1\0\0\0", b"N"),
}  # fmt: skip


@pytest.mark.parametrize("name", STORAGES)
def test_storages_that_would_be_read_again_and_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(
        archive({"x/data.pkl": b"\x80\2" + STORAGES[name] + b".", "x/data/0": bytes(100), "x/data/a": bytes(100)})
    )
    small_and_fast(lambda: read_state_dict(str(path), "small"), path, "storage|numbers in")


def two_directories() -> bytes:
    """An archive before an archive: some readers would take the first one's entries."""
    return archive({"x/data.pkl": b"\x80\2}."}) + archive({"x/data.pkl": b"\x80\2}."})


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "two directories": two_directories,
    "a comment": lambda: archive({"x/data.pkl": b"\x80\2}."})[:-2] + b"\5\0abcde",
    "no pickle": lambda: archive({"x/data/0": b"1234"}),
    "two pickles": lambda: archive({"x/data.pkl": b"\x80\2}.", "y/data.pkl": b"\x80\2}."}),
    "names that differ by their case": lambda: archive({"x/data.pkl": b"\x80\2}.", "x/DATA.pkl": b"\x80\2}."}),
    "long notes": lambda: archive({"x/data.pkl": b"\x80\2}.", "x/version": bytes(9 * 10**6)}),
    "many entries": lambda: archive({"x/data.pkl": b"\x80\2}."} | {f"x/data/{i}": b"" for i in range(40_000)}),
    "its start alone": lambda: b"PK\3\4",
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_that_torch_does_not_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(ARCHIVES[name]())
    small_and_fast(lambda: read_state_dict(str(path), "small"), path, "could not read .*archive")


def checkpoint() -> dict[str, Any]:
    """All that the restricted reader of PyTorch reads, beside a network's tensors."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    marked = nn.Parameter(torch.ones(2))
    marked.sharded = True  # type: ignore[attr-defined]
    base = torch.arange(6.0)
    return {
        "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.5, "at": 2**70,
        "history": [{"loss": 0.1, "top1": None}] * 3, "done": True, "bytes": b"\0\xff", "array": bytearray(b"\0\xff"),
        "names": {"cat", "dog"}, "counts": collections.Counter("abca"), "order": collections.OrderedDict(a=1),
        "size": torch.Size([2, 3]), "device": torch.device("cuda", 1), "dtype": torch.bfloat16, "layout": torch.strided,
        "z": 1 + 2j, "parameter": nn.Parameter(torch.ones(2)), "marked": marked, "views": [base[:2], base[2:].view(2, 2)],
        "kinds": [torch.zeros(2, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.bool, torch.int8, torch.complex64)],
        "empty": [torch.empty(0), torch.empty(0, dtype=torch.int64)], "expanded": torch.ones(1).expand(5), "t": ((1, "a"),),
        "conjugate": torch.ones(2, dtype=torch.complex64).conj(), "meta": torch.empty(3, device="meta"),
        "rng": torch.get_rng_state(), "keys": {0: 1, 0.5: 2, "a": 3, None: 4, 139_872_345_001_234: 5, True: 6},
    }  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_torch_reads_beside_the_tensors_is_no_hindrance(tmp_path: Path, zipped: bool) -> None:
    path, value = tmp_path / "a.pth", checkpoint()
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    assert set(torch.load(path, weights_only=True)) == set(value)
    state = read_state_dict(str(path), "small")
    assert list(state) == list(value["state_dict"])
    assert all(torch.equal(state[name], value["state_dict"][name]) for name in state)


def test_a_dictionary_as_python_2_wrote_it() -> None:
    """The first files of torchvision's weights: pairs of names and tensors."""
    pairs = b"ccollections\nOrderedDict\n](](" + text(b"a") + b"K\1e](" + text(b"b") + b"K\2ee\x85R."
    assert Pickles(b"\x80\2" + pairs).follow() is not None
    with pytest.raises(NoWeightsError, match="keys"):
        Pickles(b"\x80\2" + pairs.replace(text(b"a"), b"]")).follow()


def test_a_tensors_own_attributes_do_not_take_the_place_of_methods(tmp_path: Path) -> None:
    odd = nn.Parameter(torch.ones(2))
    odd.numel = 3  # type: ignore[assignment, method-assign]
    torch.save({"a": odd}, tmp_path / "a.pth")
    assert read_state_dict(str(tmp_path / "a.pth"), "small")["a"].numel() == 2


def test_a_large_checkpoint_is_within_the_bounds(tmp_path: Path) -> None:
    """As many tensors as ResNet-152 with Adam's moments and a second copy of its weights."""
    state = {f"layer3.{index}.bn2.running_var": torch.zeros(1) for index in range(3300)}
    torch.save(
        {"state_dict": state, "ema": {name: value + 1 for name, value in list(state.items())[:1000]}},
        tmp_path / "a.pth",
    )
    came = alone(lambda: len(read_state_dict(str(tmp_path / "a.pth"), "small")))
    assert came.value == 3300 and came.seconds < 2
