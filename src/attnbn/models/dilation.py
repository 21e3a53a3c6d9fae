"""Finer maps from a pretrained trunk: its last halving left out, the layers behind it dilated instead (à trous)."""

from __future__ import annotations

from typing import Any

from torch import nn

from attnbn.io.errors import InputError


def undo_last_halving(trunk: nn.Module) -> None:
    """Give F twice the side, with the same weights.

    The last child that halves (a pooling, or a stage that begins with strided convolutions) keeps its kernels and loses
    its stride; each convolution behind it reads every second place, as it did before.

    Args:
        trunk: Changed in place.

    Raises:
        InputError: if nothing in it halves.
    """
    children = list(trunk.children())
    halving = [index for index, child in enumerate(children) if any(_halves(m) for m in child.modules())]
    if not halving:
        raise InputError("expected a backbone that halves its features somewhere, found none: leave out model.dilate")
    first = halving[-1]
    behind = False
    for module in (m for child in children[first:] for m in child.modules()):
        if behind and isinstance(module, nn.Conv2d):
            _dilate(module)
        if _halves(module):
            behind = behind or not _is_shortcut(module)
            _unstride(module)


def _halves(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.MaxPool2d) and _pair(module.stride) == (2, 2)


def _is_shortcut(module: nn.Module) -> bool:
    """A strided 1×1 convolution: it runs beside a strided one that counts (ResNet), and reads single places."""
    return isinstance(module, nn.Conv2d) and _pair(module.kernel_size) == (1, 1)


def _unstride(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        module.stride = (1, 1)
    elif isinstance(module, nn.MaxPool2d):
        module.stride = 1
        # an odd kernel is centred; an even one (VGG's 2×2) has no centre and would shift: 3×3 takes its place
        kernel = _pair(module.kernel_size)[0] | 1
        module.kernel_size, module.padding, module.ceil_mode = kernel, kernel // 2, False


def _dilate(conv: nn.Conv2d) -> None:
    kernel = _pair(conv.kernel_size)
    if kernel == (1, 1):
        return
    spacing, padding = _pair(conv.dilation), _pair(conv.padding)
    conv.dilation = (2 * spacing[0], 2 * spacing[1])
    conv.padding = (2 * padding[0], 2 * padding[1])


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
