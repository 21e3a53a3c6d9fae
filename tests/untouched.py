"""All that a look at a network must leave as it was: the network to the bit, and what is global in the process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CACHES = {"_summed"}
"""What a module may keep for itself: no state, and rebuilt when the weights move."""


def network_state(net: nn.Module) -> dict[str, Any]:
    """Everything about a network, with tensors as (identity, version, bytes): written again with equal values counts too."""
    state: dict[str, Any] = {}
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            place = f"{name}.{key}"
            if key in ("_parameters", "_buffers"):
                for own, tensor in value.items():
                    state[f"{place}.{own}"] = _tensor_state(tensor)
            elif key == "_modules" or key.endswith("hooks") or "hooks_" in key:
                state[place] = {own: id(part) for own, part in value.items()} if isinstance(value, dict) else value
            elif key not in CACHES:
                state[place] = _tensor_state(value) if isinstance(value, Tensor) else (id(value), repr(value)[:200])
    return state


def global_state() -> dict[str, Any]:
    """Random states, gradient modes, precision and hooks of the whole process."""
    module = torch.nn.modules.module
    return {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002
        "Python's random state": random.getstate(),
        "gradients enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.is_autocast_cache_enabled(),
        ),
        "anomalies": torch.is_anomaly_enabled(),
        "default type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matrix precision": (torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision),
        "batching depth": _batching_depth(),
        "hooks of all modules": {name: len(hooks) for name, hooks in vars(module).items() if name.endswith("_hooks")},
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what changed, came or went."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key, ...) != after.get(key, ...))


@contextmanager
def untouched(*networks: nn.Module) -> Iterator[None]:
    """Fail unless the block, however it ends, leaves the networks and the process as they were."""
    before = [global_state(), *map(network_state, networks)]
    try:
        yield
    finally:
        after = [global_state(), *map(network_state, networks)]
        changed = [differences(b, a) for b, a in zip(before, after, strict=True)]
        assert not any(changed), f"changed: {changed}"


def _tensor_state(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    # version counters tell of a write that has put the same value back
    version = None if tensor.is_inference() else tensor._version
    gradient = _tensor_state(tensor.grad) if tensor.is_leaf else None
    hooks = (len(tensor._backward_hooks or ()), len(getattr(tensor, "_post_accumulate_grad_hooks", None) or ()))
    values = (
        tensor.detach().flatten().view(torch.uint8) if tensor.dim() else tensor.detach().reshape(1).view(torch.uint8)
    )
    return id(tensor), tensor.data_ptr(), version, tensor.requires_grad, hooks, gradient, values.numpy().tobytes()


def _batching_depth() -> int:
    """How deep in batched products the process is: an exception amid one must not leave it inside."""
    depth: int = torch._C._vmapmode_increment_nesting()  # type: ignore[attr-defined]
    torch._C._vmapmode_decrement_nesting()  # type: ignore[attr-defined]
    return depth
