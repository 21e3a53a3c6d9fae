"""Whether two folders of results hold the same, byte for byte; times aside, which no two runs have in common."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

TIMES = {"time", "seconds", "images_per_second", "seconds_since_resume_at_step"}
"""Keys whose values say when, how fast or in how many goes something was done."""

_CHECKPOINT = re.compile(r"(^|/)checkpoints/(?P<step>step-\d+)/")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too, by its path in it; JSON without :data:`TIMES`. Empty folders end with ``/``."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = b""
        else:
            found[name] = _timeless(path)
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without(json.loads(data)), indent=1).encode()
    if path.suffix == ".jsonl":
        if data and not data.endswith(b"\n"):
            return data  # half a line
        return b"\n".join(json.dumps(_without(json.loads(line))).encode() for line in data.splitlines())
    return data


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in TIMES}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def differences(reference: dict[str, bytes], folder: Path, *, stopped: bool = False) -> list[str]:
    """What a folder has too much, too little or otherwise than the contents of another; empty where they are the same.

    Args:
        reference: The other's, from :func:`contents`.
        folder: The folder.
        stopped: It was asked to stop once: the checkpoint written for that may be among the newest two, which are kept.
    """
    try:
        came = contents(folder)
    except ValueError as error:
        return [f"JSON that cannot be read: {error}"]
    if stopped:
        reference, came = _newest(reference), _newest(came)
    lines = [f"missing: {name}" for name in reference if name not in came]
    lines += [f"left over: {name}" for name in came if name not in reference]
    lines += [f"differs: {name}" for name in came if name in reference and came[name] != reference[name]]
    return lines or [line for path in sorted(folder.rglob("metrics.jsonl")) for line in _order(path)]


def _newest(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the checkpoints of each run before its newest."""
    steps = {name: (name[: found.start()], found["step"]) for name in files if (found := _CHECKPOINT.search(name))}
    newest: dict[str, str] = {}
    for run, step in steps.values():
        newest[run] = max(step, newest.get(run, step))
    return {name: data for name, data in files.items() if name not in steps or newest[steps[name][0]] == steps[name][1]}


def _order(metrics: Path) -> list[str]:
    """Lines of losses that are repeated or out of order, and gaps between them."""
    steps = [line["step"] for line in map(json.loads, metrics.read_text().splitlines()) if "terms" in line]
    gaps = [b - a for a, b in pairwise(steps)]
    good = all(gap > 0 for gap in gaps) and len(set(gaps)) <= 1
    return [] if good else [f"steps are {steps}: {metrics.name}"]
