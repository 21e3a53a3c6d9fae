"""The photographs that saliency is wanted of: files, folders and whole data sets, named as their data sets name them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from attnbn.data.open import KINDS, open_dataset
from attnbn.data.photos import PhotoDataset
from attnbn.inference.photographs import Photograph, check_name, list_photographs
from attnbn.io.errors import InputError

_KINDS = tuple(kind for kind in KINDS if kind != "scenes")
"""Scenes are no files, and bring their own saliency."""


def list_sources(paths: Sequence[str], output: Path) -> list[Photograph]:
    """Find the photographs.

    Args:
        paths: Files and folders, named relative to the folder that was named; and data sets as ``KIND:PATH``, whose names are
            kept: all photographs of ``voc:``'s JPEGImages, the class folders of ``folders:``, the rows of ``csv:``.
        output: Where the maps will lie; not searched.

    Raises:
        InputError: Something is missing, nothing was found, two photographs have one name, or the maps would lie among a
            data set's photographs and be taken for some of them.
    """
    plain = [os.path.expanduser(path) for path in paths if not _is_data_set(path)]
    sources = list_photographs(plain, leave_out=output) if plain or not paths else []
    for spec in dict.fromkeys(paths):
        if _is_data_set(spec):
            sources += _of_data_set(spec, output)
    _check_unique(sources)
    return sources


def _is_data_set(text: str) -> bool:
    kind, colon, _ = text.partition(":")
    if not colon or os.path.exists(text) or len(kind) == 1 or set(kind) & set("/\\."):  # one letter is a drive
        return False
    if kind.startswith("["):
        raise InputError(
            f"expected each data set as a word of its own, got a list; write {text.strip('[]').replace(',', '')}"
        )
    if kind not in _KINDS:
        raise InputError(
            f"expected photographs, folders, or KIND:PATH, KIND one of {', '.join(_KINDS)}; got the kind {kind!r}: {text}"
        )
    return True


def _of_data_set(spec: str, output: Path) -> Iterator[Photograph]:
    """A data set's photographs.

    ``folders:`` would take a folder of maps for a class, ``voc:`` maps in JPEGImages for photographs; ``csv:`` reads what
    it lists.
    """
    dataset = open_dataset(spec, split="all", labels=False)
    assert isinstance(dataset, PhotoDataset)
    root = dataset.root.resolve()
    if not spec.startswith("csv:") and root in (output.resolve(), *output.resolve().parents):
        raise InputError(f"expected an output folder outside the data set's photographs ({root}), got {output}")
    for index, name in enumerate(dataset.names):
        yield Photograph(str(dataset.path(index)), check_name(name))


def _check_unique(sources: Sequence[Photograph]) -> None:
    first: dict[str, Photograph] = {}
    for source in sources:
        other = first.setdefault(source.name, source)
        if other is not source:
            raise InputError(
                f"expected photographs of different names, got {source.name!r} twice, of {other.path} and {source.path}; "
                "give them to two commands with an --output each"
            )
