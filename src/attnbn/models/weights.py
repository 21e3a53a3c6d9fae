"""Weights from torchvision by name or from a file, never unpickled, with a report of what matched."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from attnbn.io.errors import InputError
from attnbn.io.reading import check_filled
from attnbn.io.torch_file import look_through

OWN = "modules.network."
"""What the network's tensors are called in a checkpoint of ours."""


@dataclass
class WeightsReport:
    """What a file of weights gave a network.

    Attributes:
        origin: Name or path of the weights.
        loaded: Names of the network's tensors that were set.
        missing: Names of the network's tensors that the weights lack.
        unused: Names in the weights that the network has no place for.
        resized: Names whose shapes differ, left as initialised.
    """

    origin: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors from {self.origin}"]
        for title, names in (("missing", self.missing), ("other shape", self.resized), ("unused", self.unused)):
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {title} ({shown})")
        return "; ".join(parts)


def read_state_dict(weights: str, backbone: str) -> dict[str, Tensor]:
    """A state dict by torchvision name (``IMAGENET1K_V1``, ``DEFAULT``) or from a ``.safetensors`` or ``.pth`` file.

    Raises:
        InputError: naming the file and the remedy.
    """
    if weights.isidentifier() and not Path(weights).exists():
        return _from_torchvision(weights, backbone)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise InputError(
            f"expected model.weights to be a .safetensors or .pth file or a torchvision name such as IMAGENET1K_V1, "
            f"found no file: {weights}"
        )
    check_filled(path, "file of weights")
    try:
        if path.suffix == ".safetensors":
            return _network_of(safetensors.torch.load_file(path))
        look_through(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the version of the pickle, which nobody can do anything about
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged pickle fails in every way there is: IndexError, struct.error, AssertionError
        raise InputError(
            f"expected tensors only (a state dict saved by torch.save or safetensors), could not read ({_reason(error)}); "
            f"the file may be cut off or hold code, which is never executed: save it again as .safetensors: {path}"
        ) from error
    return _plain_state_dict(loaded, path)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it names {found[1]}"
    lines = str(error).strip().splitlines()
    if not lines or lines[0].startswith("Weights only load failed"):
        return "no pickle of tensors" if lines else type(error).__name__
    return lines[0][:120]


def _network_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's part of one of our own checkpoints; anything else as it is."""
    own = {k.removeprefix(OWN): v for k, v in state.items() if k.startswith(OWN)}
    return own or {name.removeprefix("module."): value for name, value in state.items()}


def _from_torchvision(name: str, backbone: str) -> dict[str, Tensor]:
    try:
        enum = torchvision.models.get_model_weights(backbone)
    except ValueError as error:
        raise InputError(
            f"expected model.weights to be a file for the backbone {backbone!r}: torchvision has no weights for it"
        ) from error
    known = list(enum.__members__)
    if name not in known:
        raise InputError(
            f"expected model.weights to be a file or one of {', '.join(known)} for {backbone}, got {name!r}"
        )
    try:
        state: dict[str, Tensor] = enum[name].get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise InputError(
            f"could not download {name} of {backbone} ({error}); download {enum[name].url} elsewhere and give the file "
            "as model.weights"
        ) from error
    return state


def _plain_state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    # training scripts often keep the weights one level down
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()) or not loaded:
        raise InputError(f"expected a state dict (names to tensors), got {type(loaded).__name__}: {path}")
    for name, value in loaded.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise InputError(f"expected plain dense tensors, got a sparse, quantised or empty one, {name}: {path}")
    # without attributes of a tensor's own, which might take the place of methods
    return {str(name).removeprefix("module."): torch.Tensor.detach(value) for name, value in loaded.items()}


def load_weights(
    module: nn.Module, state: Mapping[str, Tensor], origin: str, rename: Mapping[str, str]
) -> WeightsReport:
    """Set the module's weights from ``state`` as far as names and shapes agree, and report.

    Args:
        module: The network.
        state: Names to tensors, in torchvision's names or the module's own.
        origin: For the report and errors.
        rename: Prefixes in ``state`` -> prefixes in ``module``; the longest that fits is used.

    Raises:
        InputError: if nothing fits: weights of another architecture.
    """
    own = module.state_dict()
    report = WeightsReport(origin)
    fitting: dict[str, Tensor] = {}
    for name, value in state.items():
        target = name if name in own else _renamed(name, rename)
        if target not in own:
            report.unused.append(name)
        elif own[target].numel() != value.numel() or (
            own[target].ndim == value.ndim and own[target].shape != value.shape
        ):
            report.resized.append(name)
        else:
            # same numbers in another layout: SqueezeNet's 1×1 convolution is our linear layer
            fitting[target] = value.reshape(own[target].shape)
    report.loaded = sorted(fitting)
    report.missing = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    convolutions = [name for name, value in own.items() if value.ndim == 4]
    found = sum(name in fitting for name in convolutions)
    if found < len(convolutions):
        raise InputError(
            f"expected weights of this architecture, but only {found} of its {len(convolutions)} convolutions are in the "
            f"file (first missing: {next(n for n in convolutions if n not in fitting)}); check model.backbone: {origin}"
        )
    module.load_state_dict(fitting, strict=False)
    return report


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    for prefix in sorted(rename, key=len, reverse=True):
        if name.startswith(prefix):
            return rename[prefix] + name[len(prefix) :]
    return name
