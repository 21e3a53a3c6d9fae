"""A small trunk that learns from scratch on two cores, for the embedded scenes and for tests."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8


class Residual(nn.Module):
    """x + conv(relu(norm(x))): a correction to its input, so that depth does not slow the first steps.

    Args:
        channels: Of input and output, a multiple of 8.
        dilation: Spacing of the 3×3 taps.
    """

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """``B×C×h×w`` to the same shape."""
        change: Tensor = self.conv(F.relu(self.norm(x)))
        return x + change


def small_trunk(channels: int = 64) -> nn.Sequential:
    """Six convolutions from ``B×3×H×W`` to features ``B×C×H/8×W/8`` after their ReLU.

    Made for a minute or two of training from random weights. Group normalisation, because it keeps no running
    statistics: two domains share the trunk, and many processes must agree with one. None just before the pooling
    of the head: it would pin the mean of every group of channels, which is what the head reads. The last two
    convolutions are dilated, so that a feature at an object's far end still sees the part that tells its class;
    without that view no weights could make the attention of Eq. 2 cover the whole object.

    Args:
        channels: C, the channels of the features; a multiple of 16.

    Returns:
        The trunk; stride 8, receptive field 104 pixels.
    """
    half = channels // 2
    trunk = nn.Sequential(
        nn.Conv2d(3, half, 8, stride=4, padding=2),
        nn.GroupNorm(GROUPS, half),
        nn.ReLU(),
        nn.Conv2d(half, channels, 3, padding=1),
        nn.GroupNorm(GROUPS, channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1),
        Residual(channels),
        Residual(channels, dilation=2),
        Residual(channels, dilation=2),
        nn.ReLU(),
    )
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return trunk
