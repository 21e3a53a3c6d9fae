"""One step of every optimiser of a task, on a batch that comes whole or in parts, in one process or many.

Every term is a mean over the items of the whole batch: of all parts and of all processes. A mean of the parts' means would be
another figure wherever parts have different numbers of items (images with a saliency map, known labels). So the numbers
are summed first, and each part's total is divided by the whole's number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from attnbn.config import Phase
from attnbn.io.errors import DivergedError
from attnbn.training.task import Task, Terms


def optimize(
    fabric: Fabric,
    task: Task,
    parts: Sequence[Mapping[str, Any]],
    phase: Phase,
    optimizers: Mapping[str, Any],
    step: int,
) -> dict[str, float]:
    """Compute a task's terms and move every optimiser in turn.

    Args:
        fabric: Launched.
        task: With the modules that ``fabric`` wrapped.
        parts: The batch of this process: whole, or in parts that go through the networks one after the other, each time
            keeping one part's graph alone.
        phase: What is trained.
        optimizers: Those that ``fabric`` wrapped, by name.
        step: Counts from 0 over all phases.

    Returns:
        The value of each term, over all processes and parts.

    Raises:
        DivergedError: if one is not finite.
    """
    values: dict[str, float] = {}
    counts = _counts(fabric, task, parts, phase) if len(parts) > 1 else {}
    rounds = [task.losses(part, phase, step) for part in parts]
    while True:
        name, found = _round(fabric, task, rounds, optimizers, counts, values, step)
        if name is None:
            return values
        values |= found
        optimizers[name].step()


def _round(
    fabric: Fabric,
    task: Task,
    rounds: Sequence[Iterator[tuple[str, Terms]]],
    optimizers: Mapping[str, Any],
    counts: Mapping[str, Tensor],
    before: Mapping[str, float],
    step: int,
) -> tuple[str | None, dict[str, float]]:
    """The next optimiser's gradients, summed over the parts: its name and the values of its terms; None at the end."""
    values: dict[str, float] = {}
    so_far: list[Tensor] = []
    for number, losses in enumerate(rounds, start=1):
        with ExitStack() as stack:
            if number < len(rounds) and fabric.world_size > 1:  # the last part's exchange carries all gradients
                for module in task.modules.values():
                    stack.enter_context(fabric.no_backward_sync(cast(Any, module)))
            name, terms = next(losses, (None, {}))
            if name is None:
                return None, {}
            if number == 1:
                optimizers[name].zero_grad()
            so_far.append(_sums(fabric, terms))
            totals, numbers = sum_of(so_far)
            values = dict(zip(terms, (totals / numbers.clamp(min=1)).tolist(), strict=True))
            guard_finite({**before, **values}, step + 1)
            fabric.backward(_share(fabric, terms, numbers, counts))
    return name, values


def _sums(fabric: Fabric, terms: Terms) -> Tensor:
    """Each term's total and count over all processes, ``2×terms``."""
    own = [torch.stack([term.total.detach(), term.count.to(term.total.dtype)]) for term in terms.values()]
    return summed(fabric, torch.stack(own, 1))


def _share(fabric: Fabric, terms: Terms, numbers: Tensor, counts: Mapping[str, Tensor]) -> Tensor:
    """This part's and process's share of the objective: each total over the whole batch's number of items."""
    loss = torch.zeros_like(numbers[0])
    for term, (name, own) in zip(numbers, terms.items(), strict=True):
        whole = counts[name].to(term.dtype) if counts and own.weight else term
        # the wrapper averages gradients over processes, hence world
        loss = loss + own.weight * own.total * (fabric.world_size / whole.clamp(min=1))
    return loss


def _counts(fabric: Fabric, task: Task, parts: Sequence[Mapping[str, Any]], phase: Phase) -> dict[str, Tensor]:
    """How many items each term's mean is over, in all parts and processes: known before any of them is computed."""
    own = [task.counts(part, phase) for part in parts]
    names = list(own[0])
    whole = summed(fabric, torch.stack([sum_of([counts[name] for counts in own]) for name in names]))
    return dict(zip(names, whole, strict=True))


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape."""
    return torch.stack(list(tensors)).sum(0)


def summed(fabric: Fabric, tensor: Tensor) -> Tensor:
    """The tensor's sum over all processes."""
    return cast(Tensor, fabric.all_reduce(tensor, reduce_op="sum"))


def guard_finite(terms: Mapping[str, float], step: int) -> None:
    """Stop at the first loss that is NaN or infinite.

    Raises:
        DivergedError: naming the step and every term.
    """
    if not all(math.isfinite(value) for value in terms.values()):
        shown = ", ".join(f"{name} {value:.6g}" for name, value in terms.items())
        raise DivergedError(
            f"a loss is not finite at step {step} ({shown}); the checkpoints before it are kept: "
            "start anew with a lower learning rate, a longer warm-up or a smaller weight of the term that left the others"
        )
