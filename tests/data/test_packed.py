"""Strings in one block of memory are the strings."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbn.data.packed import Packed

FILE_NAMES = st.binary(max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(st.lists(FILE_NAMES, max_size=8), st.slices(8))
def test_the_strings_come_back(strings: list[str], some: slice) -> None:
    packed = Packed(strings)
    assert list(packed) == strings and len(packed) == len(strings)
    assert [packed[i - len(strings)] for i in range(len(strings))] == strings
    assert packed[some] == strings[some]
    assert list(pickle.loads(pickle.dumps(packed))) == strings


def test_beyond_the_end() -> None:
    for index in (2, -3):
        with pytest.raises(IndexError):
            Packed(["a", "b"])[index]
