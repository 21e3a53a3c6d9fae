"""A network used amid its training, without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """``net.eval()`` for the length of the block; each part gets its own mode back, frozen parts theirs."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def parameter(net: nn.Module) -> Tensor:
    """A weight, for the network's device and number type; a network without weights counts as float32 on the CPU."""
    return next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
