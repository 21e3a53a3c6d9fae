"""Devices, precision and processes: Lightning Fabric, set up from the run's settings; and exchanges between processes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbn.io.errors import AttnbnError, InputError
from attnbn.training.launch import PATIENCE, OwnProcesses, launch

# Where nobody has set logging up, Lightning tells stderr of each process and of mixed precision: no concern of a person's.
for _handler in logging.getLogger("lightning_fabric").handlers:
    _handler.setLevel(logging.WARNING)

T = TypeVar("T")
Precision = Literal["32-true", "64-true", "16-mixed", "bf16-mixed"]


class Devices(Fabric):
    """Fabric, whose processes on this machine we start ourselves."""

    own: OwnProcesses | None = None

    def join(self) -> None:
        """Bring all processes together; start those that nobody else starts."""
        launch(self, self.own)


def make_fabric(*, device: str = "auto", precision: str = "32-true", devices: int = 1, nodes: int = 1) -> Devices:
    """A Fabric for the given device and number of processes; not launched yet.

    Raises:
        InputError: for a device that this machine lacks or a precision that the device cannot do.
    """
    choices = ("32-true", "64-true", "16-mixed", "bf16-mixed")
    if precision not in choices:
        raise InputError(f"expected --precision to be one of {', '.join(choices)}, got {precision!r}")
    accelerator = check_device(device)
    if precision == "16-mixed" and accelerator == "cpu":
        raise InputError("16-mixed needs a GPU; on the CPU use --precision bf16-mixed or 32-true")
    if accelerator == "cuda" and devices > torch.cuda.device_count():
        raise InputError(f"expected --devices of at most {torch.cuda.device_count()} (the GPUs here), got {devices}")
    if devices < 1 or nodes < 1:
        raise InputError(f"expected at least one device and one node, got {devices} and {nodes}")
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    if nodes > 1 and not launched:
        raise InputError(f"--nodes {nodes} needs torchrun on each machine, with --nnodes {nodes} (docs/reliability.md)")
    many = devices * nodes > 1 or (launched and int(os.environ.get("WORLD_SIZE", "1")) > 1)
    # Two forward passes (source, target) precede one backward: broadcasting buffers in between would change tensors
    # that the first pass's graph still needs.
    warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)  # its new name is not in PyTorch 2.14
    strategy: DDPStrategy | str = DDPStrategy(broadcast_buffers=False, timeout=PATIENCE) if many else "auto"
    if launched:
        devices, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    own = OwnProcesses()
    fabric = Devices(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=cast(Precision, precision),
        strategy=strategy,
        plugins=TorchElasticEnvironment() if launched else own,  # whatever SLURM's variables say of its tasks
    )
    fabric.own = own if many and not launched else None
    return fabric


def loader_processes(workers: int | None, device: str) -> int:
    """Loader processes per stream: as wished, else 4 beside a GPU and none on the CPU."""
    return workers if workers is not None else (0 if check_device(device) == "cpu" else 4)


def check_device(device: str) -> str:
    """``cpu``, ``cuda`` or ``mps`` for a wish that may be ``auto``.

    Raises:
        InputError: for a device that this machine lacks.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((name for name in ("cuda", "mps") if here[name]), "cpu")
    if device not in here:
        raise InputError(f"expected --device to be one of auto, {', '.join(here)}, got {device!r}")
    if not here[device]:
        raise InputError(f"--device {device}: this machine or this build of PyTorch has none; use --device cpu")
    return device


def own_device(device: str) -> str:
    """As :func:`check_device`, for one of several processes that share photographs: of torchrun's, each takes a GPU of its own.

    With fewer GPUs than processes some share one.
    """
    kind = check_device(device)
    place = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{int(place) % torch.cuda.device_count()}" if kind == "cuda" and place.isdecimal() else kind


def together(fabric: Fabric, work: Callable[[], T]) -> T:
    """Do what may fail in one process alone; if it does, all raise its error instead of waiting for it.

    Args:
        fabric: Launched.
        work: Without exchanges between the processes.
    """
    if fabric.world_size == 1:
        return work()
    failure: AttnbnError | None = None
    outcome: T | None = None
    try:
        outcome = work()
    except AttnbnError as error:
        failure = error
    failed = torch.tensor(float(failure is not None), device=fabric.device)
    if cast(Tensor, fabric.all_reduce(failed, reduce_op="sum")) > 0:
        failures: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(failures, failure)
        raise next(error for error in failures if error is not None)
    return cast(T, outcome)


def exchanged(fabric: Fabric, work: Callable[[], T]) -> list[T]:
    """What each process makes of its share, in the order of the processes, for all of them.

    Args:
        fabric: Launched.
        work: As for :func:`together`.
    """
    own = together(fabric, work)
    if fabric.world_size == 1:
        return [own]
    parts: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(parts, own)
    return parts


def from_first(fabric: Fabric, work: Callable[[], T]) -> T:
    """What the first process makes, for all of them.

    Args:
        fabric: Launched.
        work: As for :func:`together`.
    """
    made = together(fabric, lambda: work() if fabric.is_global_zero else None)
    return cast(T, fabric.broadcast(made))


def gathered(items: Tensor) -> Tensor:
    """The items of all processes, in the batch's order, with gradients back to each: for what is of a whole batch, no mean.

    A loss of them is the same in every process. Taken as one process's item of as many, its gradient is the whole batch's
    once the processes' gradients are averaged.

    Args:
        items: ``n×…``, as many in every process.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return items
    everyone: Tensor = _Gathered.apply(items.contiguous())
    return everyone


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor) -> Tensor:
        parts = [torch.empty_like(items) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, items)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        torch.distributed.all_reduce(whole)
        return whole.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]
