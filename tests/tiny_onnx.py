"""Saliency models of one 1×1 convolution, written as ONNX bytes field by field (protocol buffers need no package).

Field numbers are those of onnx.proto; a model is ``output_k = activation(weights_k · pixel + bias_k)`` for each k.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, HALF = 1, 10


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, *parts: bytes | str) -> bytes:
    data = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _value(name: str, shape: Sequence[int | str], kind: int = FLOAT) -> bytes:
    dims = [_bytes(1, _number(1, d) if isinstance(d, int) else _bytes(2, d)) for d in shape]
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind), _bytes(2, *dims)))


def _tensor(name: str, shape: Sequence[int], values: Sequence[float], kind: int) -> bytes:
    dims = [_number(1, size) for size in shape]
    data = struct.pack(f"<{len(values)}{'e' if kind == HALF else 'f'}", *values)
    return b"".join([*dims, _number(2, kind), _bytes(8, name), _bytes(9, data)])


def _node(kind: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    return b"".join([*(_bytes(1, i) for i in inputs), _bytes(2, output), _bytes(4, kind), *attributes])


def _integers(name: str, values: Sequence[int]) -> bytes:
    return _bytes(5, _bytes(1, name), *(_number(8, value) for value in values), _number(20, 7))


def _integer(name: str, value: int) -> bytes:
    return _bytes(5, _bytes(1, name), _number(3, value), _number(20, 2))


def write_model(
    path: Path,
    *,
    weights: Sequence[Sequence[float]] = ((1.0, 0.0, 0.0),),
    biases: Sequence[float] = (0.0,),
    size: tuple[int | str, int | str] = (16, 16),
    batch: int | str = 1,
    channels: int | str = 3,
    sigmoid: bool = True,
    maps: int = 1,
    flat: bool = False,
    inputs: int = 1,
    kind: int = FLOAT,
) -> Path:
    """Write a model with one output for each row of ``weights``.

    ``maps`` repeats an output's channel, ``flat`` gives ``B×h×w`` instead of ``B×1×h×w``; ``channels``, ``inputs`` and ``kind``
    make models that take something else than a batch of RGB pictures, ``kind=HALF`` one of 16-bit numbers throughout.
    """
    number = HALF if kind == HALF else FLOAT
    nodes, constants, outputs = [], [], []
    for k, (row, bias) in enumerate(zip(weights, biases, strict=True)):
        constants.append(_tensor(f"w{k}", (maps, 3, 1, 1), [*row] * maps, number))
        constants.append(_tensor(f"b{k}", (maps,), [bias] * maps, number))
        nodes.append(_node("Conv", ["x", f"w{k}", f"b{k}"], f"c{k}"))
        nodes.append(_node("Sigmoid" if sigmoid else "Identity", [f"c{k}"], f"s{k}"))
        flatten = [_integers("axes", [1]), _integer("keepdims", 0)]
        nodes.append(
            _node("ReduceMean", [f"s{k}"], f"y{k}", *flatten) if flat else _node("Identity", [f"s{k}"], f"y{k}")
        )
        outputs.append(_value(f"y{k}", [batch, *size] if flat else [batch, maps, *size], number))
    named = [_value("x", [batch, channels, *size], kind)] + [_value(f"extra{i}", [1]) for i in range(1, inputs)]
    graph = b"".join(
        [*(_bytes(1, n) for n in nodes), _bytes(2, "tiny"), *(_bytes(5, c) for c in constants),
         *(_bytes(11, n) for n in named), *(_bytes(12, o) for o in outputs)]
    )  # fmt: skip
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, ""), _number(2, 13)))
    return path
