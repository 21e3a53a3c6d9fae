"""A run's settings by name, and whether others are the same: a run goes on under its own, or it is another run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnbn.config import PLACES
from attnbn.io.errors import InputError

_FREE = frozenset(
    [*PLACES, "output", "versions"]
    + [
        f"training.{name}"
        for name in ("max_steps", "checkpoint_every", "checkpoint_share", "validate_every", "log_every")
    ]
)
"""What may differ when a run goes on: it changes nothing in what is trained."""

_DATA = frozenset({"data.source", "data.target"})
"""Data sets may lie elsewhere than before; that they are the same is for the checkpoint's digest of their names to say."""

_FILES = frozenset({"data.saliency", "data.cache", "model.weights", "cues", "masks"})
"""Of files and folders only whether there are any."""

_SHOWN = 3


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting by its name on the command line, as JSON would hold it.

    >>> flat({"seed": 1, "data": {"size": 224, "scale": (0.5, 1.0)}, "versions": {"torch": "2"}})
    {'seed': 1, 'data.size': 224, 'data.scale': [0.5, 1.0], 'versions': {'torch': '2'}}
    """
    values: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(settings)).items():
        grouped = isinstance(value, dict) and key != "versions"
        values.update({f"{key}.{name}": inner for name, inner in value.items()} if grouped else {key: value})
    return values


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Up to three settings that differ, with both values; None where none does.

    >>> differing({"seed": 0, "data.size": 224}, {"seed": 1, "data.size": 224, "data.flip": True})
    'seed 0, now 1; data.flip nothing, now True'
    """
    names = dict.fromkeys([*before, *now])
    told = [
        f"{name} {before.get(name, 'nothing')}, now {now.get(name, 'nothing')}"
        for name in names
        if name not in before or name not in now or before[name] != now[name]
    ]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return f"{'; '.join(told[:_SHOWN])}{more}" if told else None


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder whose run has other settings than the one that is wanted.

    Raises:
        InputError: naming up to three that differ.
    """
    if told := differing(before, now):
        raise InputError(
            f"the folder holds a run with other settings ({told}); choose another --output or add --overwrite: {folder}"
        )


def lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a run keeps from its beginning to its end, but for where it computes and how often it says so."""
    return {name: value for name, value in flat(settings).items() if name not in _FREE}


def remembered(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint remembers of them: files may be moved before the run goes on.

    >>> remembered({"seed": 1, "device": "cpu", "data": {"target": "voc:/old/place", "cache": None}})
    {'seed': 1, 'data.target': 'voc', 'data.cache': False}
    """
    values = lasting(settings)
    for name in values.keys() & _DATA:
        value = values[name]
        values[name] = [_kind(one) for one in value] if isinstance(value, list) else _kind(value)
    for name in values.keys() & _FILES:
        values[name] = values[name] is not None
    return values


def _kind(spec: Any) -> Any:
    kind = str(spec).partition(":")[0]
    return spec if spec is None or kind == "scenes" else kind


def check_remembered(then: object, settings: Mapping[str, Any], file: Path) -> None:
    """Refuse to go on under other settings: what follows would be no continuation of what was.

    Args:
        then: What a checkpoint remembers; None: nothing, as those of version 0.1.0.
        settings: The run's now.
        file: Where they stand.

    Raises:
        InputError: naming up to three that differ.
    """
    if isinstance(then, Mapping) and (told := differing(then, remembered(settings))):
        raise InputError(
            f"expected the settings that the run was trained under so far, got others ({told}); put them back, or train a new "
            f"run: {file}"
        )
