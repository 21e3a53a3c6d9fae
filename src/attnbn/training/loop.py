"""The training loop: for every task, device and number of processes. It knows no loss.

A task yields, for each of its optimisers in turn, a dict of named terms (:class:`attnbn.losses.Mean`); the loop sums, checks,
differentiates and steps. What happens at step k depends on k, the seed and the weights alone: randomness is seeded anew at
each step, the streams are functions of the step. So a resumed run is bit-identical to one that was never stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from attnbn.io.errors import DivergedError, InputError
from attnbn.io.run_folder import Metrics
from attnbn.training.batch_norm import share_batch_norms
from attnbn.training.checkpoint import (
    Budget,
    Checkpoint,
    CheckpointFolder,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
)
from attnbn.training.devices import together
from attnbn.training.optimize import optimize
from attnbn.training.schedules import Stretch
from attnbn.training.stops import Interrupted, Stops
from attnbn.training.streams import Stream, fold
from attnbn.training.task import Task

Validate = Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class Progress:
    """What a progress display is told after each step."""

    step: int
    steps: int
    terms: dict[str, float]
    images_per_second: float


@dataclass
class Every:
    """Intervals in steps, 0 = never but at the end; of time, the share that checkpoints may take before some are left out."""

    log: int = 10
    checkpoint: int = 500
    validate: int = 0
    share: float = 1.0


@dataclass
class _State:
    """What besides weights and optimisers a resumed run needs."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: float = -math.inf


class Loop:
    """Trains a task over its stretches.

    Args:
        task: What to train.
        streams: All streams by name.
        stretches: The phases placed on steps.
        factor: Factor on the learning rates at a step.
        fabric: Devices and processes, launched.
        seed: The run's.
        settings: The run's, as each checkpoint shall remember them.
        checkpoints: Where to keep them.
        metrics: Opens the metrics file at a step, whose validation is done or is not; called on the first process only.
        every: Intervals.
        workers: Loader processes per stream.
        accumulate: Parts in which a process's batch goes through the networks.
        validate: ``step -> metrics`` with a ``score``, called in all processes; the best score's checkpoint is kept as ``best``.
        watch: Told after each step.
    """

    def __init__(
        self,
        task: Task,
        streams: Mapping[str, Stream],
        stretches: list[Stretch],
        factor: Callable[[Stretch, int], float],
        fabric: Fabric,
        *,
        seed: int,
        settings: Mapping[str, Any] | None = None,
        checkpoints: CheckpointFolder,
        metrics: Callable[[int, bool], Metrics],
        every: Every,
        workers: int = 0,
        accumulate: int = 1,
        validate: Validate | None = None,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.task, self.streams, self.fabric = task, streams, fabric
        self.stretches, self.factor = stretches, factor
        self.seed, self.checkpoints, self.open_metrics, self.every = seed, checkpoints, metrics, every
        self.workers, self.accumulate, self.validate, self.watch = workers, accumulate, validate, watch
        self.plain = dict(task.modules)  # unwrapped: their names are the checkpoint's
        self.state = _State()
        self.settings = settings
        self.stops = Stops(fabric)

    def run(self, resume: Checkpoint | None = None) -> None:
        """Train from the beginning or from ``resume`` to the end.

        Raises:
            InputError: if ``resume`` was trained on other data.
            DivergedError: if a loss or a weight is not finite.
            Interrupted: after Ctrl-C or SIGTERM, with a checkpoint written.
        """
        done = 0 if resume is None else resume.step
        if resume is not None:
            _check_data(resume, self.streams)
        for name, module in self.plain.items():
            if self.fabric.world_size > 1:
                share_batch_norms(module)
            self.task.modules[name] = self.fabric.setup_module(module)
            if resume is not None:  # after the wrapper gave the module its device and precision
                _load(module, resume.module(name), name)
        if resume is not None:
            if "precision" in resume.state:
                self.fabric.strategy.precision.load_state_dict(resume.state["precision"])
            self.state = _State(**resume.state["loop"])
            self.state.best = -math.inf if self.state.best is None else self.state.best
        self.budget = Budget(self.every.share)
        due = resume is not None and _validation_due(resume)
        self.metrics = self.open_metrics(done, not due) if self.fabric.is_global_zero else None
        try:
            with self.stops.heard():
                for index, stretch in enumerate(self.stretches):
                    mid_phase = resume if resume is not None and resume.state["phase"] == index else None
                    if stretch.stop > done or (due and mid_phase):
                        self._stretch(index, stretch, max(done, stretch.start), mid_phase)
        finally:
            if self.metrics is not None:
                self.metrics.close()
        if self.stops.asked():  # in the last step, or while its checkpoint was written: scoring may take long
            raise Interrupted(self.stops.signum, self.stretches[-1].stop)

    def _stretch(self, index: int, stretch: Stretch, start: int, resume: Checkpoint | None) -> None:
        optimizers = self.task.optimizers(stretch.phase, stretch.lr)
        if resume is not None:
            for name, optimizer in optimizers.items():
                load_optimizer(name, optimizer, resume)
        rates = {name: [group["lr"] for group in opt.param_groups] for name, opt in optimizers.items()}
        prepared = {name: self.fabric.setup_optimizers(optimizer) for name, optimizer in optimizers.items()}
        for module in self.task.modules.values():
            module.train()
        if resume is not None and _validation_due(resume):
            self._keep(index, start, optimizers, left=self._validation_left(index, start, optimizers), must=True)
        with self._batches(stretch, start) as batches:
            for step in range(start, stretch.stop):
                began = time.perf_counter()
                parts = together(self.fabric, lambda: [self._next(batches) for _ in range(self.accumulate)])
                factor = self.factor(stretch, step)
                for name, optimizer in optimizers.items():
                    for group, rate in zip(optimizer.param_groups, rates[name], strict=True):
                        group["lr"] = rate * factor
                # dropout and the like: a function of the step, not of what ran before
                torch.manual_seed(fold(self.seed, "step", step, self.fabric.global_rank))
                # outputs of a wrapped network come back in the default dtype, which must not be below float64's
                with self.fabric.strategy.precision.tensor_init_context():
                    values = optimize(self.fabric, self.task, parts, stretch.phase, prepared, step)
                images = sum(stream.batch_size for name, stream in self.streams.items() if name in batches)
                speed = images / (time.perf_counter() - began)
                self._after(index, step + 1, values, optimizers, factor, speed)

    @contextlib.contextmanager
    def _batches(self, stretch: Stretch, start: int) -> Iterator[Mapping[str, Iterator[Any]]]:
        """Each stream's; the processes that read them end with the stretch, whatever ends it."""
        place = {"rank": self.fabric.global_rank, "world": self.fabric.world_size, "workers": self.workers}
        place["parts"] = self.accumulate
        pin = self.fabric.device.type == "cuda"
        with contextlib.ExitStack() as ends:
            streams = {name: self.streams[name] for name in self.task.stream_names(stretch.phase)}
            batches = {name: one.batches(start, stretch.stop, pin=pin, **place) for name, one in streams.items()}
            yield {name: ends.enter_context(contextlib.closing(generator)) for name, generator in batches.items()}

    def _next(self, batches: Mapping[str, Iterator[Any]]) -> dict[str, Any]:
        return {name: self.fabric.to_device(next(stream)) for name, stream in batches.items()}

    def _after(
        self,
        phase: int,
        done: int,
        values: dict[str, float],
        optimizers: dict[str, Optimizer],
        factor: float,
        speed: float,
    ) -> None:
        """Log, validate and checkpoint, in this order, so that a checkpoint knows all that was written before it."""
        state, steps = self.state, self.stretches[-1].stop
        last = done == steps
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
            state.counts[name] = state.counts.get(name, 0) + 1
        self.watch(Progress(done, steps, values, speed))
        if last or (self.every.log and done % self.every.log == 0):
            means = {name: total / state.counts[name] for name, total in state.sums.items()}
            line = {
                "step": done,
                "phase": phase,
                "lr_factor": factor,
                "terms": means,
                "images_per_second": round(speed, 2),
            }
            self._write({**line, "time": round(time.time(), 3)})
            state.sums, state.counts = {}, {}
        due = bool(self.every.validate) and done % self.every.validate == 0 and not last
        left = due and self._validation_left(phase, done, optimizers)
        self._keep(phase, done, optimizers, left=left, must=last or self._checkpoint_due(done))

    def _keep(self, phase: int, done: int, optimizers: dict[str, Optimizer], *, left: bool, must: bool) -> None:
        """Write a checkpoint where there must be one, or where the training is to stop; a validation left undone is noted."""
        stop = self.stops.asked() and done < self.stretches[-1].stop
        if must or stop:
            self._save(phase, done, optimizers, notes={"validation_due": True} if left else {})
        if stop:
            raise Interrupted(self.stops.signum, done)

    def _checkpoint_due(self, done: int) -> bool:
        if not self.every.checkpoint or done % self.every.checkpoint:
            return False
        return bool(self.fabric.broadcast(self.budget.allows()))  # the first process writes, and knows what it takes

    def _validation_left(self, phase: int, done: int, optimizers: dict[str, Optimizer]) -> bool:
        """Validate; whether a request to stop has left it to the run that goes on."""
        validate = self.validate
        if validate is None:
            return False
        result = self.stops.unless_asked(lambda: self.fabric.broadcast(validate(done)))
        for module in self.task.modules.values():
            module.train()
        if result is None:
            return True
        self._write({"step": done, "validation": result, "time": round(time.time(), 3)})
        score = result.get("score")
        if score is not None and score > self.state.best:
            self.state.best = score
            self._save(phase, done, optimizers, name="best", notes={"validation": result})
        return False

    def _save(
        self,
        phase: int,
        done: int,
        optimizers: dict[str, Optimizer],
        *,
        name: str | None = None,
        notes: Mapping[str, Any],
    ) -> None:
        with self.budget.spending():
            together(self.fabric, lambda: self._write_checkpoint(phase, done, optimizers, name, notes))

    def _write_checkpoint(
        self,
        phase: int,
        done: int,
        optimizers: dict[str, Optimizer],
        name: str | None,
        notes: Mapping[str, Any],
    ) -> None:
        broken = [key for module in self.plain.values() for key, value in module.state_dict().items()
                  if value.is_floating_point() and not value.isfinite().all()]  # fmt: skip
        if broken:
            raise DivergedError(
                f"weights are not finite after step {done} (first: {broken[0]}); the checkpoints before it are kept: "
                "start anew with a lower learning rate or a longer warm-up"
            )
        if self.fabric.is_global_zero:
            tensors: dict[str, Tensor] = {}
            plain: dict[str, Any] = {}
            for key, module in self.plain.items():
                tensors |= module_tensors(key, module)
            for key, optimizer in optimizers.items():
                moving, fixed = optimizer_tensors(key, optimizer)
                tensors |= moving
                plain |= fixed
            best = None if math.isinf(self.state.best) else self.state.best
            loop = {"sums": self.state.sums, "counts": self.state.counts, "best": best}
            state: dict[str, Any] = {"phase": phase, "loop": loop, "optimizers": plain}
            state["steps"] = self.stretches[-1].stop
            if self.settings is not None:
                state["settings"] = dict(self.settings)
            state["data"] = {key: stream.data for key, stream in self.streams.items()}
            state |= notes
            if precision := self.fabric.strategy.precision.state_dict():
                state["precision"] = precision
            if self.metrics is not None:
                self.metrics.sync()  # a checkpoint counts on the lines before it
            self.checkpoints.save(Checkpoint(done, tensors, state), name)

    def _write(self, line: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(line)


def _validation_due(resume: Checkpoint) -> bool:
    return bool(resume.state.get("validation_due"))


def _check_data(resume: Checkpoint, streams: Mapping[str, Stream]) -> None:
    """Refuse to go on with other images than before: what follows would be no continuation of what was.

    Raises:
        InputError: naming the stream, and how many images it had and has.
    """
    before = resume.state.get("data", {})  # earlier versions did not note it
    for name, stream in streams.items():
        if (had := before.get(name, stream.data)) != stream.data:
            raise InputError(
                f"expected the {name} data to be as before, with {had['images']:,} images, got {stream.length:,}"
                f"{'' if stream.length != had['images'] else ' under other names'}; bring back what is missing, take out what is "
                "new, or train a new run: --resume"
            )


def _load(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the checkpoint's {name} is of another architecture than config.yaml says: {reason}"
        ) from error
