"""Results never lie among the data: a folder in a data set's is a class, a photograph or a map of it next time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnbn.config import RunConfig
from attnbn.data.open import place_of
from attnbn.io.errors import InputError
from attnbn.segment_config import SegmentConfig


def check_output(config: RunConfig | SegmentConfig) -> None:
    """Refuse settings whose output is, or lies in, a folder that they name as data.

    Raises:
        InputError: naming both.
    """
    if config.output is None:
        return
    if isinstance(config, SegmentConfig):
        specs, folders = [config.data.target], [config.cues, config.masks]
    else:
        specs, folders = [*_each(config.data.source), config.data.target], [*_each(config.data.saliency)]
    check_apart(Path(config.output), specs, folders)


def check_apart(output: Path, specs: Iterable[str | None], folders: Iterable[str | None] = ()) -> None:
    """Refuse an output folder that is, or lies in, one that is read.

    Args:
        output: Where results go.
        specs: Data sets, ``KIND:PATH``.
        folders: Saliency maps, cues and the like; what is no folder (a detector's name) is passed over.

    Raises:
        InputError: naming both.
    """
    places = [Path(path) for kind, path in map(place_of, filter(None, specs)) if kind != "scenes"]
    places += [Path(folder).expanduser().resolve() for folder in filter(None, folders)]
    mine = output.expanduser().resolve()
    for place in places:
        if place.is_dir() and (mine == place or place in mine.parents):
            raise InputError(
                f"expected an --output apart from the data, got one in {place}, where it would be read as data; choose another: "
                f"{output}"
            )


def _each(value: Any) -> list[str | None]:
    """A setting that is one or a list."""
    return value if isinstance(value, list) else [value]
