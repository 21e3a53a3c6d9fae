"""What a pickle of tensors would make, found out without making any of it.

``torch.load(weights_only=True)`` runs no code, but what it does call it calls with whatever a file says: 100 bytes have it fill
gigabytes (``bytearray(2 * 10**9)``, a list copied over and over, ``hex`` of ``hex`` of ...) or end the process (a key of tuples
in tuples in tuples). So the program of a pickle is followed here first, with marks in place of tensors and functions, and refused
where it calls anything else than what a file of weights is made of.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import Any

LARGEST = 8_000_000
"""Bytes of a pickle; that of a ResNet-152 with Adam's moments and a second copy of the weights has 340,000."""
MOST = 200_000
"""Steps of its program and values that it copies; the same has 140,000."""

_TENSOR = 8
"""Values whose memory a tensor takes, its numbers apart."""
_LARGEST_KEY = 2**60
"""Larger whole numbers can be chosen so that all have one hash, and a table of them takes hours."""
_INERT = re.compile(
    r"torch\.[a-z]\w*|torch\.(Tensor|Size)|(torch|torch\.storage|torch\.cuda)\.[A-Z]\w*Storage|torch\.nn\.parameter\.Parameter"
)
"""Names that stand for a kind of values (``torch.float32``, ``torch.FloatStorage``) or are called by the rules below alone."""
_PLAIN_TENSOR = frozenset(
    f"torch._utils._rebuild_{kind}"
    for kind in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "meta_tensor_no_storage")
)
_OTHER_TENSOR = frozenset(
    f"torch._utils._rebuild_{kind}"
    for kind in (
        "sparse_tensor",
        "qtensor",
        "wrapper_subclass",
        "device_tensor_from_numpy",
        "device_tensor_from_cpu_tensor",
    )
)
_NEW = frozenset({"torch.nn.parameter.Parameter", "collections.OrderedDict", "collections.Counter"})
_BUILT = _NEW | _PLAIN_TENSOR
_WRITTEN = frozenset({"real", "imag"})
"""Attributes of a tensor that copy what they are set to."""


class NoWeightsError(ValueError):
    """The pickle is cut off, or calls for what no file of weights needs."""


@dataclass(frozen=True)
class _Name:
    """A class or a function by its full name."""

    full: str


@dataclass(frozen=True)
class _Made:
    """What a call would give."""

    by: str


@dataclass
class Pickles:
    """Pickles one after another, as they stand in a file.

    Args:
        data: The file's beginning, or all of it.

    Attributes:
        storages: Key of each storage of numbers that was asked for, with its kind and the count of its numbers.
    """

    data: bytes
    storages: dict[str, tuple[str, int]] = field(default_factory=dict)
    _place: int = 0
    _left: int = MOST
    _stack: list[Any] = field(default_factory=list)
    _below: list[list[Any]] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    def follow(self) -> Any:
        """What the next one makes: plain values as they are, tensors and the like as marks.

        Raises:
            NoWeightsError: It is cut off, of an unknown kind, too long, or calls for what no file of weights needs.
        """
        self._stack, self._below, self._memo = [], [], {}
        try:
            while (code := self.data[self._place]) != _STOP:
                self._place += 1
                self._left -= 1
                if self._left < 0:
                    self._spend(0)
                _STEPS[code](self)
            self._place += 1
            return self._stack.pop()
        except NoWeightsError:
            raise
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise NoWeightsError("no pickle of tensors") from error

    def _read(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self.data):
            raise NoWeightsError("it is cut off, or longer than that of any weights")
        part = self.data[self._place : end]
        self._place = end
        return part

    def _number(self, kind: str) -> Any:
        return struct.unpack(kind, self._read(struct.calcsize(kind)))[0]

    def _line(self) -> str:
        end = self.data.index(b"\n", self._place) if b"\n" in self.data[self._place : self._place + 1000] else -1
        return self._read(end + 1 - self._place)[:-1].decode() if end >= 0 else ""

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise NoWeightsError(f"more than {MOST:,} values besides the tensors")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _container(self, empty: list[Any] | dict[Any, Any]) -> None:
        self._spend(1)
        self._stack.append(empty)

    def _take_marked(self) -> list[Any]:
        taken, self._stack = self._stack, self._below.pop()
        return taken

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise NoWeightsError("no pickle of tensors")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _set_items(self, items: list[Any]) -> None:
        into = self._stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            if isinstance(into, dict):
                into[key] = value
            elif into not in (_Made("collections.OrderedDict"), _Made("collections.Counter")):
                raise NoWeightsError("no pickle of tensors")

    def _append(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise NoWeightsError("no pickle of tensors")
        self._stack[-1].extend(items)

    def _global(self) -> None:
        module, name = self._line(), self._line()
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full in _OTHER_TENSOR:
            raise NoWeightsError(f"plain dense tensors are needed, {name.removeprefix('_rebuild_')} is another kind")
        if full not in _CALLS and not _INERT.fullmatch(full):
            raise NoWeightsError(f"it names {full}")
        self._push(_Name(full))

    def _storage(self) -> None:
        identity = self._stack.pop()
        word, kind, key, location, count, *view = identity
        known = isinstance(kind, _Name) and kind.full.endswith("Storage") and isinstance(location, str)
        if word != "storage" or not known or not isinstance(key, str) or not re.fullmatch("[0-9]{1,20}", key):
            raise NoWeightsError("storages that torch.save does not write")
        if type(count) is not int or len(view) > 1 or not all(one is None or _is_view(one) for one in view):
            raise NoWeightsError("storages that torch.save does not write")
        # an empty one may be of any kind; each reading of another would be one more in memory
        if count and self.storages.setdefault(key, (kind.full, count)) != (kind.full, count):
            raise NoWeightsError(f"a storage that is of two kinds, {key}")
        self._push(_Made("storage"))

    def _call(self) -> None:
        given, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or type(given) is not tuple:
            raise NoWeightsError("no pickle of tensors")
        self._spend(_TENSOR if function.full in _PLAIN_TENSOR else sum(map(_weight, given)))
        self._push(_called(function.full, given))

    def _new(self) -> None:
        given, kind = self._stack.pop(), self._stack.pop()
        if not isinstance(kind, _Name) or kind.full not in _NEW or type(given) is not tuple or len(given) > 3:
            raise NoWeightsError("no pickle of tensors")
        self._spend(sum(map(_weight, given)))
        self._push(_Made(kind.full))

    def _build(self) -> None:
        state = self._stack.pop()
        self._spend(_weight(state))
        made = self._stack[-1]
        if not isinstance(made, _Made) or made.by not in _BUILT or not isinstance(state, dict | tuple):
            raise NoWeightsError("no pickle of tensors")


def _weight(value: Any) -> int:
    """How much is copied of an argument, as a count of values."""
    if isinstance(value, str | bytes):
        return len(value) // 16
    return len(value) if isinstance(value, Sized) else 0


def _is_view(value: Any) -> bool:
    return (
        type(value) is tuple
        and len(value) == 3
        and isinstance(value[0], str)
        and all(type(one) is int for one in value[1:])
    )


def _check_key(key: Any) -> None:
    """Keys are names or numbers: the hash of a tuple of tuples takes as long as it likes, and so much of the stack.

    Raises:
        NoWeightsError: It is another value.
    """
    if not (key is None or isinstance(key, str | bytes | float) or (isinstance(key, int) and abs(key) < _LARGEST_KEY)):
        raise NoWeightsError("keys that are neither names nor numbers")


def _check_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        _check_key(key)


def _called(name: str, given: tuple[Any, ...]) -> Any:
    if name not in _CALLS or not _CALLS[name](given):
        raise NoWeightsError(f"it calls {name} as no weights need")
    if name == "_codecs.encode":
        return given[0].encode("latin-1")
    return _Made(name)


def _pairs(given: tuple[Any, ...]) -> bool:
    """Nothing, a dictionary (whose keys are known), or a list of names and values."""
    if not given or (len(given) == 1 and isinstance(given[0], dict)):
        return True
    if (
        len(given) != 1
        or type(given[0]) is not list
        or not all(type(p) in (list, tuple) and len(p) == 2 for p in given[0])
    ):
        return False
    _check_keys(key for key, _ in given[0])
    return True


def _set(given: tuple[Any, ...]) -> bool:
    if len(given) != 1 or type(given[0]) not in (list, tuple):
        return False
    _check_keys(given[0])
    return True


def _bytes(given: tuple[Any, ...]) -> bool:
    """``bytearray(b"...")`` or ``bytearray("...", "latin-1")``: never a number."""
    return not given or (isinstance(given[0], bytes) and len(given) == 1) or _text(given)


def _text(given: tuple[Any, ...]) -> bool:
    return len(given) == 2 and isinstance(given[0], str) and given[1] in ("latin1", "latin-1")


def _kinds(*kinds: type) -> Callable[[tuple[Any, ...]], bool]:
    return lambda given: 1 <= len(given) <= len(kinds) and all(map(isinstance, given, kinds))


def _of_another_type(given: tuple[Any, ...]) -> bool:
    """A tensor of a class of its own, or one with attributes: made by one of the functions for plain ones."""
    return (
        len(given) == 4
        and isinstance(given[0], _Name)
        and given[0].full in _PLAIN_TENSOR
        and isinstance(given[1], _Name)
        and type(given[2]) is tuple
        and _attributes(given[3])
    )


def _attributes(state: Any) -> bool:
    """Values of a tensor's own that take no memory where they are set."""
    parts = state if type(state) is tuple else (state,)
    return all((part is None or isinstance(part, dict)) and not _WRITTEN & set(part or ()) for part in parts)


_CALLS: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "collections.OrderedDict": _pairs,
    "collections.Counter": lambda given: not given or (len(given) == 1 and isinstance(given[0], dict)),
    "builtins.set": _set,
    "builtins.complex": _kinds(float, float),
    "builtins.bytearray": _bytes,
    "_codecs.encode": _text,
    "torch.Size": lambda given: len(given) == 1 and type(given[0]) in (list, tuple),
    "torch.device": _kinds(str, int),
    "torch.serialization._get_layout": _kinds(str),
    "torch._tensor._rebuild_from_type_v2": _of_another_type,
    **dict.fromkeys(_PLAIN_TENSOR, lambda given: True),
    "torch._utils._rebuild_parameter_with_state": lambda given: len(given) == 4 and _attributes(given[3]),
}
"""What weights are made by, and whether it may be called with these arguments."""


def _get(memo: Pickles, index: int) -> None:
    memo._push(memo._memo[index])


def _put(memo: Pickles, index: int) -> None:
    memo._memo[index] = memo._stack[-1]


_STOP = ord(".")
_BY_CODE: dict[bytes, Callable[[Pickles], Any]] = {
    b"\x80": lambda p: p._read(1),
    b"c": Pickles._global,
    b"Q": Pickles._storage,
    b"R": Pickles._call,
    b"\x81": Pickles._new,
    b"b": Pickles._build,
    b"(": Pickles._mark,
    b"a": lambda p: p._append([p._stack.pop()]),
    b"e": lambda p: p._append(p._take_marked()),
    b"s": lambda p: p._set_items([p._stack.pop(-2), p._stack.pop()]),
    b"u": lambda p: p._set_items(p._take_marked()),
    b"t": lambda p: p._push(tuple(p._take_marked())),
    b")": lambda p: p._push(()),
    b"\x85": lambda p: p._tuple(1),
    b"\x86": lambda p: p._tuple(2),
    b"\x87": lambda p: p._tuple(3),
    b"]": lambda p: p._container([]),
    b"}": lambda p: p._container({}),
    b"N": lambda p: p._push(None),
    b"\x88": lambda p: p._push(True),
    b"\x89": lambda p: p._push(False),
    b"J": lambda p: p._push(p._number("<i")),
    b"K": lambda p: p._push(p._number("B")),
    b"M": lambda p: p._push(p._number("<H")),
    b"\x8a": lambda p: p._push(int.from_bytes(p._read(p._number("B")), "little", signed=True)),
    b"G": lambda p: p._push(p._number(">d")),
    b"X": lambda p: p._push(p._read(p._number("<I")).decode("utf-8", "surrogatepass")),
    b"U": lambda p: p._push(p._read(p._number("B")).decode()),
    b"q": lambda p: _put(p, p._number("B")),
    b"r": lambda p: _put(p, p._number("<I")),
    b"h": lambda p: _get(p, p._number("B")),
    b"j": lambda p: _get(p, p._number("<I")),
}
"""The steps that torch's reader of weights knows (protocol 2, in which torch.save writes), by their codes."""
_STEPS = {code[0]: step for code, step in _BY_CODE.items()}
