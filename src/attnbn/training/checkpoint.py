"""Checkpoints: tensors as safetensors, the rest as JSON, checksummed, appearing whole or not at all.

A checkpoint is a folder ``step-00001000`` with ``tensors.safetensors`` and ``state.json``; the latter holds the former's SHA-256.
It is written under a temporary name and renamed, so that a kill at any moment leaves the one before untouched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from attnbn.io.atomic import explained, sync_folder
from attnbn.io.errors import InputError
from attnbn.io.json_file import read_json
from attnbn.io.reading import read_bytes

TENSORS, STATE = "tensors.safetensors", "state.json"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on.

    Attributes:
        step: Steps that are done.
        tensors: ``modules.NAME.KEY`` and ``optimizers.NAME.INDEX.KEY`` -> tensor.
        state: Whatever else, as JSON.
        sha256: Of the tensors' file, once it is one.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str = ""

    def module(self, name: str) -> dict[str, Tensor]:
        """State dict of one module."""
        prefix = f"modules.{name}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def module_tensors(name: str, module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's tensors under their names in a checkpoint."""
    return {f"modules.{name}.{key}": value for key, value in module.state_dict().items()}


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state, its tensors and its plain numbers apart; learning rates come from the schedule."""
    tensors, plain = {}, {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            place = f"optimizers.{name}.{index}.{key}"
            if isinstance(value, Tensor):
                tensors[place] = value
            else:
                plain[place] = value
    return tensors, plain


def load_optimizer(name: str, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Give a fresh optimiser of the same parameters the state that it had."""
    prefix = f"optimizers.{name}."
    state: dict[int, dict[str, Any]] = {}
    plain = checkpoint.state.get("optimizers", {})
    for key, value in [*checkpoint.tensors.items(), *plain.items()]:
        if key.startswith(prefix):
            index, entry = key.removeprefix(prefix).split(".", 1)
            state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class CheckpointFolder:
    """A run's checkpoints: the newest two and, apart, the best.

    Args:
        path: The run's ``checkpoints`` folder.
        keep: How many of the newest to keep; two, so that a damaged one has a predecessor.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path, self.keep = path, keep

    def save(self, checkpoint: Checkpoint, name: str | None = None) -> None:
        """Write a checkpoint, then drop the oldest beyond ``keep``.

        Raises:
            RunError: if it cannot be written; those before it stay.
        """
        final = self.path / (name or f"step-{checkpoint.step:08d}")
        temporary = self.path / f".{final.name}.part"
        with explained(final):
            self.path.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                self._write(temporary, checkpoint)
                self._swap(temporary, final)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        if name is None:
            self.drop_older(checkpoint.step)

    def drop_older(self, step: int) -> None:
        """Remove what is older than the newest ``keep``, counted from a whole one down.

        Damaged ones with a higher number must not push that out.
        """
        older = [folder for folder in self._steps() if folder.name < f"step-{step:08d}"]
        for old in older[self.keep - 1 :]:
            part = self.path / f".{old.name}.part"  # a kill in the middle leaves no checkpoint with half its files
            with contextlib.suppress(OSError):
                old.rename(part)
            shutil.rmtree(part, ignore_errors=True)

    def recover(self) -> None:
        """Tidy up after a kill in the middle of a save; only the process that writes may call this."""
        for old in self.path.glob(".*.old"):
            final = self.path / old.name[1:].removesuffix(".old")
            if final.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(final)
        for part in self.path.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)

    @staticmethod
    def _write(folder: Path, checkpoint: Checkpoint) -> None:
        tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
        data = safetensors.torch.save(tensors)
        state = {
            "format": FORMAT,
            "step": checkpoint.step,
            "sha256": hashlib.sha256(data).hexdigest(),
            "state": checkpoint.state,
        }
        for name, content in ((TENSORS, data), (STATE, json.dumps(state, indent=1).encode())):
            with (folder / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(folder)

    @staticmethod
    def _swap(temporary: Path, final: Path) -> None:
        if final.exists():  # a folder cannot be replaced in one go; the older ones cover the moment between
            old = final.with_name(f".{final.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
            try:
                temporary.rename(final)
            except OSError:
                old.rename(final)
                raise
            sync_folder(final.parent)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(final)
            sync_folder(final.parent)  # before the older ones are dropped

    def _steps(self) -> list[Path]:
        """Folders of the regular checkpoints, newest first."""
        return sorted(self.path.glob("step-*"), reverse=True)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and a line for each damaged one passed over."""
        damaged: list[str] = []
        for folder in self._steps():
            try:
                return read_checkpoint(folder), damaged
            except InputError as error:
                damaged.append(str(error))
        return None, damaged

    def named(self, name: str) -> Checkpoint:
        """The checkpoint ``best``, or the newest for ``last``.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        if name != "last":
            return read_checkpoint(self.path / name)
        damaged: list[str] = []
        for folder in self._steps():
            found = _read(folder)
            if isinstance(found, Checkpoint):
                return found
            damaged.append(f"{folder.name}: {found}")
        if not damaged:
            raise InputError(f"expected a checkpoint, none was written yet: {self.path}")
        raise InputError(
            f"expected a whole checkpoint, all are damaged ({'; '.join(damaged)}); bring one back from a copy or train the run "
            f"again: {self.path}"
        )

    def weights_file(self) -> Path:
        """The file that holds the newest checkpoint's tensors.

        Raises:
            InputError: As :meth:`named`.
        """
        return self.path / f"step-{self.named('last').step:08d}" / TENSORS

    def __iter__(self) -> Iterator[Path]:
        return iter(self._steps())


class Budget:
    """How much of a training's time its checkpoints may take, from now on.

    Which checkpoints there are depends on the machine then; what is trained does not.

    Args:
        share: Of the time, in (0, 1]; the first checkpoint is within it whatever it takes.
        clock: Seconds that never go back.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.share, self.clock = share, clock
        self.began, self.spent = clock(), 0.0

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """Count the time of the block."""
        began = self.clock()
        try:
            yield
        finally:
            self.spent += self.clock() - began

    def allows(self) -> bool:
        """Whether there is time for another checkpoint."""
        return self.spent <= self.share * (self.clock() - self.began)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        InputError: if a file is missing, cut off or changed.
    """
    found = _read(folder)
    if isinstance(found, Checkpoint):
        return found
    raise InputError(f"expected a whole checkpoint, {found}: {folder}")


def _read(folder: Path) -> Checkpoint | str:
    """A checkpoint, or what is wrong with it."""
    if missing := [name for name in (STATE, TENSORS) if not (folder / name).is_file()]:
        return f"found no file {missing[0]}"
    try:
        state = read_json(folder / STATE)
    except InputError:
        return f"{STATE} is cut off or no JSON"
    try:
        data = read_bytes(folder / TENSORS, "file of tensors")
    except InputError as error:
        return f"could not read {TENSORS} ({error})"
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"{STATE} is not of format {FORMAT}"
    if hashlib.sha256(data).hexdigest() != state.get("sha256"):
        return f"the checksum of {TENSORS} differs"
    step = state.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0 or not isinstance(state.get("state"), dict):
        return f"{STATE} has no step or no state"
    try:
        return Checkpoint(step, safetensors.torch.load(data), state["state"], str(state["sha256"]))
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        return f"{TENSORS} lacks what was written to it ({error!r})"
