"""One look at photographs or several: at other sizes, mirrored, with the attention of other layers.

A class's score is the mean of its logits over the passes, and that mean says which classes are there and in what order.
Its map is fused twice over by :func:`~attnbn.inference.maps.fused`: the layers of each pass, then the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn

from attnbn.attention import Wanted
from attnbn.inference.layers import LAST, captured, find_layers
from attnbn.inference.maps import Fuse, fused
from attnbn.io.errors import InputError
from attnbn.models.network import AttnBN, TappedClassifier

LARGEST_SCALE = 8.0
"""A slip, such as a side in pixels given for a factor, would ask for more memory than there is."""


@dataclass(frozen=True)
class Passes:
    """How often and how a photograph is looked at; the default is once, as in training.

    Attributes:
        scales: Factors on the side that the network sees, each rounded to a whole pixel.
        flip: Look at the mirror image too, at every scale; its maps are mirrored back.
        layers: Whose attention is taken: ``last`` (F) or dotted names, see :func:`~attnbn.inference.layers.find_layers`.
        fuse: How the maps of several layers become one.

    Raises:
        InputError: A value that no photograph can be looked at with.
    """

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    layers: Sequence[str] = (LAST,)
    fuse: Fuse = "mean"

    def __post_init__(self) -> None:
        for key, values in (("--scales", self.scales), ("--layers", self.layers)):
            if isinstance(values, str):
                raise InputError(f"expected a list of {key}, got {values!r}")
            if not values or len(set(values)) < len(values):
                raise InputError(f"expected one or more {key}, all different, got {_listed(values)}")
        if not all(0 < scale <= LARGEST_SCALE for scale in self.scales):
            raise InputError(
                f"expected --scales as factors on the run's own size, above 0 and at most {LARGEST_SCALE:g}, got "
                f"{_listed(self.scales)}"
            )
        if self.fuse not in get_args(Fuse):
            raise InputError(f"expected --fuse to be one of {', '.join(get_args(Fuse))}, got {self.fuse}")

    def sides(self, size: int) -> list[int]:
        """The side of the square that the network sees, in pixels, for each scale."""
        return [round(size * scale) for scale in self.scales]

    def settings(self) -> dict[str, Any]:
        """The settings as plain values, for JSON."""
        return {"scales": list(self.scales), "flip": self.flip, "layers": list(self.layers), "fuse": self.fuse}

    def changed(self) -> dict[str, Any]:
        """Those of the settings that are not the default's."""
        usual = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in self.settings().items() if (tuple(v) if isinstance(v, list) else v) != usual[k]}


def check_passes(net: nn.Module, passes: Passes, size: int) -> None:
    """Find out before any photograph is read whether the network has the layers and can take the smallest side.

    Args:
        net: In evaluation mode.
        passes: What is wanted.
        size: The run's own side, in pixels.

    Raises:
        InputError: It cannot.
    """
    if tuple(passes.layers) != (LAST,):
        find_layers(net, passes.layers)
    side = min(passes.sides(size))
    if side >= size:
        return
    weight = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    try:
        with torch.no_grad():
            net(torch.zeros(1, 3, side, side, device=weight.device, dtype=weight.dtype))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"expected --scales that leave the network enough pixels, got {min(passes.scales):g} ({side}×{side} pixels): "
            f"{reason}"
        ) from error


def look(net: nn.Module, views: Sequence[Tensor], wanted: Wanted, passes: Passes) -> tuple[Tensor, Tensor]:
    """Scores and maps of photographs.

    Args:
        net: ``net(images, attend)``; in evaluation mode, gradients disabled.
        views: The photographs at each scale, ``B×3×S×S``, normalised.
        wanted: The classes to attend to, ``B×N``, or a function that chooses them by the scores.
        passes: How to look. A single look at F gives the network's maps as they are.

    Returns:
        Logits ``B×N`` and maps ``P×h×w``; of several passes or layers float32, in [0, 1], each with maximum 1 (or zero).
    """
    layers = tuple(passes.layers)
    if len(views) == 1 and not passes.flip and layers == (LAST,):
        output = net(views[0], wanted)
        return output.scores, output.attention
    made: list[tuple[_Pass, bool]] = []
    for view in views:
        made.append((_once(net, view, layers), False))
        if passes.flip:
            made.append((_once(net, view.flip(-1), layers), True))
    scores = torch.stack([one.scores.detach().float() for one, _ in made]).mean(0)
    chosen = wanted(scores) if callable(wanted) else wanted
    maps = []
    for one, mirrored in made:
        seen = fused(one.maps(chosen), passes.fuse)
        maps.append(seen.flip(-1) if mirrored else seen)
    return scores, fused(maps)


class _Pass(Protocol):
    """A pass whose maps can be asked for later; see :class:`attnbn.inference.layers.Pass`."""

    @property
    def scores(self) -> Tensor: ...

    def maps(self, wanted: Tensor) -> list[Tensor]: ...


class _Twice:
    """A pass through a network of another make: for its maps it is run again, with the classes that are then known."""

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.net = net
        self.images = images
        self.scores: Tensor = net(images).scores

    def maps(self, wanted: Tensor) -> list[Tensor]:
        return [self.net(self.images, wanted).attention]


def _once(net: nn.Module, images: Tensor, layers: Sequence[str]) -> _Pass:
    if isinstance(net, AttnBN | TappedClassifier):
        return captured(net, images, layers)
    return _Twice(net, images)


def _listed(values: Sequence[Any]) -> str:
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values) or "none"
