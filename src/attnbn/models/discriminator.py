"""The fully convolutional domain discriminator (paper Sec. 4.1, after DCGAN), and the frozen view of it for L_adv."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

KERNEL, STRIDE, PADDING, SLOPE = 4, 2, 1, 0.2
LAYERS = 5


class UpsampledConv(nn.Conv2d):
    """A 4×4 stride-2 convolution of the bilinearly up-sampled input, without ever up-sampling it.

    Up-sampling acts on places, the convolution's channel mixing on channels, so they commute: mix the channels at the small
    size, one 1×1 convolution for all 16 taps, then let each tap read its up-sampled places, a small matrix along each axis.
    Equal to ``conv(interpolate(x))`` to rounding, with the same parameters, at about a sixth of the work for ×5.

    Args:
        in_channels: Of the features.
        out_channels: Of the result.
        factor: Up-sampling, a whole number of at least 1.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE, PADDING)
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        """``B×C×h×w`` -> ``B×O×(f*h/2)×(f*w/2)``."""
        if self.factor == 1:  # nothing to spare
            return super().forward(features)
        batch, _, height, width = features.shape
        taps = self.weight.permute(2, 3, 0, 1)  # a×b×o×c
        mixed = F.conv2d(features, taps.reshape(-1, self.in_channels, 1, 1))
        mixed = mixed.reshape(batch, KERNEL, KERNEL, self.out_channels, height, width)
        rows, columns = self._taps(height, features), self._taps(width, features)
        along_x = torch.einsum("nabohw,bxw->naohx", mixed, columns)
        out = torch.einsum("naohx,ayh->noyx", along_x, rows)
        return out if self.bias is None else out + self.bias[:, None, None]

    def _taps(self, length: int, like: Tensor) -> Tensor:
        """What each output place reads through each tap: ``4 × outputs × length``, zero in the padding."""
        eye = torch.eye(length, dtype=like.dtype, device=like.device)[None]
        up = F.interpolate(eye, scale_factor=float(self.factor), mode="linear", align_corners=False)[0].T
        padded = F.pad(up, (0, 0, PADDING, PADDING))
        outputs = (len(padded) - KERNEL) // STRIDE + 1
        return torch.stack([padded[tap : tap + STRIDE * outputs : STRIDE][:outputs] for tap in range(KERNEL)])


class Discriminator(nn.Module):
    """×5 bilinear up-sampling, 4×4 stride-2 convolutions of 64-128-256-512 channels, a last one to a map of logits.

    LeakyReLU 0.2 between, no batch normalisation. D(x) is the probability of the source. Always computed in at least
    float32: small, and its logits feed a logarithm.

    Args:
        channels: C of the features.
        size: Their height and width; small maps get fewer layers (all five need 7×7 at ×5).
        upsample: Up-sampling factor.
        width: Channels of the first layer.

    Raises:
        ValueError: if the up-sampled map is below 2×2.
    """

    def __init__(self, channels: int, size: tuple[int, int], upsample: int = 5, width: int = 64) -> None:
        super().__init__()
        smallest = min(size) * upsample
        layers = min(
            LAYERS, smallest.bit_length() - 1
        )  # each halves the map, rounding down; the last leaves at least 1
        if upsample < 1 or layers < 1:
            raise ValueError(
                f"expected features of at least 2×2 after up-sampling, got {size[0]}×{size[1]} at ×{upsample}"
            )
        widths = [width * 2**i for i in range(layers - 1)] + [1]
        self.layers = nn.ModuleList([UpsampledConv(channels, widths[0], upsample)])
        self.layers.extend(nn.Conv2d(before, after, KERNEL, STRIDE, PADDING) for before, after in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``B×1×u×v`` of features ``B×C×h×w``; positive means source."""
        with torch.autocast(features.device.type, enabled=False):
            x = features.to(next(self.parameters()).dtype)
            for index, layer in enumerate(self.layers):
                x = layer(x) if index == 0 else layer(F.leaky_relu(x, SLOPE))
            return x


class Frozen:
    """A module called with detached weights: gradients pass through to its input and stop at its parameters.

    It holds the plain module, not a wrapped one, so that no wrapper waits for gradients that never come.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, inputs: Tensor) -> Tensor:
        state = {name: value.detach() for name, value in self.module.named_parameters()}
        output: Tensor = functional_call(self.module, state, (inputs,))
        return output
