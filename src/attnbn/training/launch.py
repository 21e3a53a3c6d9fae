"""The processes of one training on this machine: started, watched, and ended together when one of them dies.

Without a launcher around it (torchrun), the process that a person started starts the others with its own command line, as
Lightning would. Ours because of the end: whichever process dies, however, the others end within half a minute, and exactly
one line says what happened.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from attnbn.io.errors import AttnbnError, RunError
from attnbn.io.stopping import STOP_STATUS, STOPPING, Stopped

FIRST = "ATTNBN_FIRST_PROCESS"
"""Tells the processes that the first one started its id, and a pipe on which it says that it has spoken."""

PATIENCE = timedelta(hours=2)
"""How long processes wait for one another. Shares of a validation take unequally long, which the libraries' ten minutes may not
cover; a process that dies is noticed at once, not by this."""
POLL_SECONDS = 0.5
GRACE_SECONDS = 15.0
"""For a process to end by itself, by the error that a broken connection gives it, before it is made to."""
STOP_GRACE_SECONDS = 2.0
"""The same where it was asked to stop: it would have done so unless it waits for the others to join, deaf to signals."""
VERDICT_SECONDS = 5.0
"""For whoever sees a broken connection to learn whose death broke it."""
REMEDY = "the others were ended too; run the command again (a training with --resume)"


class OwnProcesses(LightningEnvironment):
    """Lightning's environment, but for processes that :func:`launch` starts."""

    @property
    def creates_processes_externally(self) -> bool:
        """Yes: not by Lightning."""
        return True


def launch(fabric: Fabric, environment: OwnProcesses | None) -> None:
    """Bring all processes of a training together; start the others of this machine where nobody else does.

    Args:
        fabric: Not launched yet.
        environment: The processes' own; None: there is one process only, or torchrun starts them.
    """
    global _watch
    if environment is not None and FIRST in os.environ and _watch is None:
        _watch = _First(*map(int, os.environ[FIRST].split(",")))
    elif environment is not None and "LOCAL_RANK" not in os.environ and _watch is None:
        here = fabric.world_size // max(1, int(getattr(fabric.strategy, "num_nodes", 1)))
        _watch = _Others(*_start_others(environment, here, fabric.world_size))
    if _watch is not None and not _watch.is_alive():
        _watch.start()
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
        _join_again(fabric)
    fabric.launch()
    if _watch is not None:
        _watch.joined = True
    if torch.distributed.is_initialized():
        atexit.unregister(_leave)
        atexit.register(_leave)


def _leave() -> None:
    """End the exchange while the interpreter is whole: gloo's threads hold objects of Python, and abort the process after it.

    An exchange that a failure left open waits for the other processes, as its end then would; so it is given little time.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":  # Lightning ends NCCL's
        thread = threading.Thread(target=torch.distributed.destroy_process_group, daemon=True, name="leave-processes")
        with contextlib.suppress(RuntimeError):  # Python 3.12.0 and .1 begin no thread here
            thread.start()
            thread.join(GRACE_SECONDS / 3)


def _join_again(fabric: Fabric) -> None:
    """Join the processes that torchrun started anew without meeting the addresses of those before them.

    torchrun keeps one store over its restarts, and a process may read there where a dead one was listening. On several machines
    nobody can tell the restarts apart (each counts its own); there ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` helps.
    """
    given = os.environ
    if given.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or given.get("GROUP_WORLD_SIZE") != "1":
        return
    if torch.distributed.is_initialized():
        return
    store = TCPStore(given["MASTER_ADDR"], int(given["MASTER_PORT"]), timeout=PATIENCE)
    torch.distributed.init_process_group(
        "nccl" if fabric.device.type == "cuda" else "gloo",
        store=PrefixStore(f"restart-{given['TORCHELASTIC_RESTART_COUNT']}", store),
        rank=int(given["RANK"]),
        world_size=int(given["WORLD_SIZE"]),
        timeout=PATIENCE,
    )


@contextlib.contextmanager
def ended_together(fabric: Fabric) -> Iterator[None]:
    """What another process's death breaks in here is told as that, in one line.

    Args:
        fabric: Launched.

    Raises:
        RunError: in place of a broken connection's error.
    """
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or isinstance(error, AttnbnError) or not _broken_connection(error):
            raise
        message = _watch.verdict() if _watch is not None else None
        raise RunError(message or f"another process of this command ended; {REMEDY}") from error


def _broken_connection(error: RuntimeError) -> bool:
    # gloo raises plain RuntimeErrors, which name the place in its sources
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error).replace("\\", "/")


def _start_others(environment: OwnProcesses, here: int, world: int) -> tuple[list[subprocess.Popen[bytes]], int]:
    """Start the other processes of this machine: the same command line, told their places. Also the pipe to them."""
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    reading, writing = os.pipe()
    places = {"NODE_RANK": str(environment.node_rank()), "WORLD_SIZE": str(world), FIRST: f"{os.getpid()},{reading}"}
    spec = sys.modules["__main__"].__spec__
    program = [os.path.abspath(sys.argv[0])] if spec is None else ["-m", spec.name]
    command = [sys.executable, *program, *sys.argv[1:]]
    others = [
        subprocess.Popen(command, env=os.environ | places | {"LOCAL_RANK": str(rank)}, pass_fds=[reading])
        for rank in range(1, here)
    ]
    os.close(reading)
    return others, writing


class _Death(NamedTuple):
    """What to say of a process that died, the status of those that end with it, and how long they may take."""

    message: str
    status: int = 1
    grace: float = GRACE_SECONDS


class _Watch(threading.Thread):
    """Looks after other processes until one of them dies; gives this one time to end by itself, then ends it."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="watch-processes")
        self.told = threading.Event()
        self.joined = False

    def run(self) -> None:
        while (death := self.death()) is None:
            time.sleep(POLL_SECONDS)
        time.sleep(death.grace)
        if not self.told.is_set():
            self.tell(death.message)
        self.end_others()
        os._exit(death.status)  # this process is stuck in an exchange that will never end

    def verdict(self) -> str | None:
        """Who died, once a connection is broken; it is this call's answer that is told, by whoever may speak."""
        self.told.set()
        until = time.monotonic() + VERDICT_SECONDS
        while (death := self.death()) is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 10)
        return None if death is None else death.message

    def death(self) -> _Death | None:
        """Of one that died; None while all live."""
        raise NotImplementedError

    def tell(self, message: str) -> None:
        """Say it, where this process is the one to speak."""
        sys.stderr.write(f"attnbn: {message}\n")
        sys.stderr.flush()

    def end_others(self) -> None:
        """Nothing: they have a watch of their own."""


class _Others(_Watch):
    """The first process's watch over those that it started."""

    def __init__(self, processes: list[subprocess.Popen[bytes]], pipe: int) -> None:
        super().__init__()
        self.processes, self.pipe, self.world = processes, pipe, len(processes) + 1

    def death(self) -> _Death | None:
        for number, process in enumerate(self.processes, start=2):
            status = process.poll()
            # how one ends that leaves the last word to the first, which knows once they have joined
            if status is None or (self.joined and (status == 0 or status > STOP_STATUS)):
                continue
            signum = -status if status < 0 else status - STOP_STATUS
            if signum in STOPPING and not self.joined:
                return _Death(str(Stopped(signum)), STOP_STATUS + signum, STOP_GRACE_SECONDS)
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            return _Death(f"process {number} of {self.world} {how}; {REMEDY}")
        return None

    def verdict(self) -> str | None:
        with contextlib.suppress(OSError):  # none is left to read it
            os.write(self.pipe, b"!" * len(self.processes))
        return super().verdict()

    def end_others(self) -> None:
        for process in self.processes:
            process.kill()


class _First(_Watch):
    """The others' watch over the first, without which nobody would look after them."""

    def __init__(self, parent: int, pipe: int) -> None:
        super().__init__()
        self.parent, self.pipe = parent, pipe
        os.set_blocking(pipe, False)

    def death(self) -> _Death | None:
        if os.getppid() == self.parent:
            return None
        return _Death(f"the first process was killed or ended before its time; {REMEDY}")

    def verdict(self) -> str | None:
        message = super().verdict()
        if message is not None:
            self.tell(message)  # the command line lets the first process alone speak
        return message

    def tell(self, message: str) -> None:
        try:
            spoken = bool(os.read(self.pipe, 1))
        except BlockingIOError:  # a loader process of the first still holds its end
            spoken = False
        if os.environ["LOCAL_RANK"] == "1" and not spoken:
            super().tell(message)


_watch: _Watch | None = None
