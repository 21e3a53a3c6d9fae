"""A folder of results belongs to one run with its settings: what it leaves there goes on, what another left is refused.

A manifest in the folder says who made it. A digest of the same marks each photograph's results, so that those of an
earlier run that is being overwritten are never taken for those of the present one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from attnbn.inference.shards import Shard
from attnbn.io.atomic import explained, write_json
from attnbn.io.errors import InputError, RunError
from attnbn.io.folder_lock import FolderLock
from attnbn.io.json_file import read_object
from attnbn.io.run_folder import CONFIG

_NAMED = 6
"""Settings that are named where two makings differ; two detectors differ in nearly all of theirs."""


@dataclass
class Done:
    """What a command that writes a folder of results did.

    Attributes:
        written: Photographs done now.
        skipped: Photographs that were complete already.
        broken: One line for each photograph that could not be read.
        missing: Photographs that other processes have still to do.
    """

    written: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)
    missing: int = 0


@dataclass(frozen=True)
class Claim:
    """The right to write to a folder.

    Attributes:
        digest: Marks what this run and these settings make.
        path: The manifest's file.
        manifest: What is to stand in it; None: it stands there already.
        lock: Of the folder; let go of at the end of a ``with`` block.
    """

    digest: str
    path: Path
    manifest: dict[str, Any] | None
    lock: FolderLock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release(remove=True)

    def announce(self) -> None:
        """Write the manifest; to be called when the first result is there, so that a command that fails leaves no folder.

        Raises:
            InputError: Another process has begun to write to the folder.
            RunError: It cannot be written.
        """
        hold(self.lock)
        if self.manifest is not None:
            write_json(self.path, self.manifest)


def claim(
    path: Path,
    made_by: Mapping[str, Any],
    *,
    command: str,
    overwrite: bool,
    loose: Mapping[str, Any] | None = None,
    shard: Shard = Shard(),  # noqa: B008  immutable
) -> Claim:
    """Claim a folder for what is about to be made.

    Args:
        path: The manifest's file in the folder.
        made_by: The run and its settings, plain values.
        command: The command that makes such folders, for messages.
        overwrite: Take over a folder that another run or other settings made.
        loose: Settings that a part of the files alone depends on; None: without effect this time, an earlier value stays.
            They are no part of the digest.
        shard: This process; several that share the work write to the folder together, one alone lets no other in.

    Raises:
        InputError: The folder is a file or a run's own, holds the results of another run or of other settings, was made by
            nothing we know, or is being written by another process.
    """
    folder = path.parent
    check_place(folder)
    wanted = as_stored(made_by)
    # Hidden files: the manifest that another process of this work is just writing. Looked for before the manifest is read,
    # which is the first file that such a process leaves.
    occupied = folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir())
    earlier = read_manifest(path)
    if earlier is None and not overwrite and occupied:
        raise InputError(
            f"expected a new or empty folder, or one that {command} made; choose another --output or say --overwrite: {folder}"
        )
    before, now = earlier or {}, dict(loose or {})
    keys = [key for key in {**wanted, **before} if key not in now]
    different = [key for key in keys if earlier is not None and before.get(key) != wanted.get(key)]
    different += [key for key, value in now.items() if None not in (before.get(key), value) and before[key] != value]
    if different and not overwrite:
        raise InputError(
            f"expected a new folder or results of the same run, got those of another ({in_words(different, before, wanted)}): "
            f"choose another --output or say --overwrite: {folder}"
        )
    kept = {key: before.get(key) if value is None and not different else value for key, value in now.items()}
    manifest = {**wanted, **kept}
    lock = FolderLock(folder, shared=shard.world > 1)
    if folder.is_dir():
        hold(lock)
    return Claim(digest_of(wanted), path, None if manifest == earlier else manifest, lock)


def hold(lock: FolderLock) -> None:
    """Make the folder of results, unless it is there, and let nobody else write to it.

    Raises:
        InputError: Another process is writing to it.
        RunError: It cannot be made.
    """
    with explained(lock.folder):
        lock.folder.mkdir(parents=True, exist_ok=True)
    # without a lock, where there can be none: nothing is lost as long as one does not start the same command twice
    with contextlib.suppress(RunError):
        lock.take(
            "another process is writing to this folder; wait for it or stop it first (to share the work among processes, "
            "start them with RANK and WORLD_SIZE, as torchrun does)"
        )


def check_place(folder: Path) -> None:
    """Refuse what never becomes a folder of results, whatever is said of overwriting.

    Raises:
        InputError: It is a file, or a run's own folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected --output to be a folder, got a file: {folder}")
    if (folder / CONFIG).is_file():
        raise InputError(
            f"expected a folder for results, got that of a run, which is kept; choose another --output: {folder}"
        )


def as_stored(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """Through JSON once, so that what is compared is what a file can hold (no tuples, no paths)."""
    stored: dict[str, Any] = json.loads(json.dumps(made_by, default=str))
    return stored


def in_words(different: Sequence[str], earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two makings; of another run its folder is named, of the same run its other checkpoint.

    >>> in_words(["identity", "flip"], {"identity": {"run": "/a", "step": 5}}, {"identity": {"run": "/b", "step": 5}})
    'made by the run /a; flip differ'
    """
    before, after = earlier.get("identity"), now.get("identity")
    words = []
    if (
        "identity" in different
        and isinstance(before, dict)
        and isinstance(after, dict)
        and {"run", "step"} <= before.keys()
    ):
        if before["run"] != after.get("run"):
            words.append(f"made by the run {before['run']}")
        elif any(before.get(key) != after.get(key) for key in ("checkpoint", "step")):
            words.append(f"made by the same run's checkpoint {before.get('checkpoint')} of step {before.get('step')}")
        elif before.get("sha256") != after.get("sha256"):
            words.append("made by the same run before it was trained anew")
    rest = [key for key in different if key != "identity" or not words]
    shown = ", ".join(rest) if len(rest) <= _NAMED else f"{', '.join(rest[:_NAMED])} and {len(rest) - _NAMED} more"
    return "; ".join(words + ([f"{shown} differ"] if rest else []))


def digest_of(made_by: Mapping[str, Any]) -> str:
    """32 hexadecimal digits that stand for a run and its settings."""
    text = json.dumps(made_by, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_manifest(path: Path) -> dict[str, Any] | None:
    """What a manifest holds; None where there is none, empty where it is damaged or no manifest."""
    try:
        return read_object(path, "a manifest")
    except InputError:
        return {} if os.path.lexists(path) else None
