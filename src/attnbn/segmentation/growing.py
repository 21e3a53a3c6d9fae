"""Seeded region growing (DSRG, Huang et al., CVPR 2018, Sec. 3.3): cues spread over what the network is already sure of.

Each pixel gets at most one class: the network's most probable class where its probability is high enough, else the cue's.
An 8-connected region of one class joins that class's seeds if it touches one of them. Two ways find the same regions:

* :func:`labelled`: connected components by SciPy, all images and classes of a batch in one call; for tensors on the CPU;
* :func:`flooded`: the seeds spread by a pixel a step, all images and classes at once, until nothing changes; elsewhere.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

EIGHT_CONNECTED = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], dtype=bool)
"""Neighbours of a place in a stack of planes: the eight in its own plane, none in the next."""

STEPS = 8
"""Steps of the flood between two looks at whether it still spreads, since a look waits for the accelerator."""


@torch.no_grad()
def grow_seeds(
    cues: Tensor, probabilities: Tensor, labels: Tensor, *, foreground: float = 0.85, background: float = 0.99
) -> Tensor:
    """Let the cues grow into the regions that the network is sure of.

    A class of the image, or the background, wins a pixel where it is the most probable of them (of equals the first) and
    its probability exceeds the threshold. Elsewhere a pixel has the class of its cue (of several the last, as in the
    original), and else none. A won pixel has left its cue's class for the search of regions, though never as a seed. Then,
    for each of those classes, the pixels of its 8-connected regions that hold at least one of its seeds become its seeds;
    a pixel that is already seeded by exactly one class does not take a second, but a region may reach through it.

    Seeds are never lost, new ones lie only on won pixels, and growing the result again changes nothing.

    Args:
        cues: bool ``B×(N+1)×h×w``, channel 0 the background. Cues of classes that the image does not have stay, and do
            not grow.
        probabilities: float ``B×(N+1)×h×w`` in [0, 1], of the network or refined by a CRF.
        labels: ``B×N``, 1 = the image has the class.
        foreground: Threshold of the classes' probabilities.
        background: Threshold of the background's.

    Returns:
        bool ``B×(N+1)×h×w`` on the cues' device.

    Raises:
        ValueError: The shapes do not fit together or the cues are not boolean.

    >>> cues = torch.tensor([[[[0, 0, 0, 0]], [[1, 0, 0, 0]]]]).bool()
    >>> sure = torch.tensor([[[[0.1, 0.1, 0.1, 0.4]], [[0.9, 0.9, 0.9, 0.6]]]])
    >>> grow_seeds(cues, sure, torch.tensor([[1.0]]))[0, 1].int().tolist()
    [[1, 1, 1, 0]]
    """
    _check(cues, probabilities, labels)
    image, channel, known = _present(labels.to(cues.device))
    own = cues[image, channel]
    class_of = _one_class_a_pixel(cues, probabilities[image, channel], channel, known, foreground, background)
    members = (class_of[:, None] == channel[:, :, None, None]) & known[:, :, None, None]
    find = labelled if cues.device.type == "cpu" else flooded
    regions = find(members.flatten(0, 1), (members & own).flatten(0, 1)).reshape(members.shape)
    free = cues.sum(1, keepdim=True, dtype=torch.int16) != 1
    grown = cues.clone()
    grown[image, channel] = own | (regions & free)
    return grown


def labelled(members: Tensor, seeds: Tensor) -> Tensor:
    """The regions of each plane that hold a seed, by connected components.

    Args:
        members: bool ``P×h×w`` on the CPU.
        seeds: bool ``P×h×w``, within ``members``.

    Returns:
        bool ``P×h×w``: 8-connected regions of ``members`` with at least one seed.
    """
    components, count = ndimage.label(members.numpy(), EIGHT_CONNECTED)
    touched = np.zeros(count + 1, dtype=bool)
    touched[components[seeds.numpy()]] = True
    return torch.from_numpy(touched.take(components))


def flooded(members: Tensor, seeds: Tensor) -> Tensor:
    """The regions of each plane that hold a seed, by spreading from the seeds; as :func:`labelled`, on any device.

    Args:
        members: bool ``P×h×w``.
        seeds: bool ``P×h×w``, within ``members``.

    Returns:
        bool ``P×h×w``.
    """
    within, reached = members[:, None].float(), seeds[:, None].float()
    while True:
        before = reached
        for _ in range(STEPS):
            reached = F.max_pool2d(reached, 3, stride=1, padding=1) * within
        if torch.equal(before, reached):
            return reached[:, 0].bool()


def _present(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The channels that may grow, so that no work is done on the others: most images have few of many classes.

    Returns:
        Images ``B×1`` and their channels ``B×K``, int64, for indexing ``B×C×…`` tensors: the background, the image's classes
        rising, and, where an image has fewer than K - 1, further ones. Which are the image's own: bool ``B×K``.
    """
    present = F.pad(labels == 1, (1, 0), value=True)
    counts = present.sum(1)
    most = int(counts.max()) if len(counts) else 1
    channel = present.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    image = torch.arange(len(labels), device=labels.device)[:, None]
    return image, channel, present[image, channel]


def _one_class_a_pixel(
    cues: Tensor, probabilities: Tensor, channel: Tensor, known: Tensor, foreground: float, background: float
) -> Tensor:
    """The channel of each pixel, int16 ``B×h×w``; -1 where there is none. Probabilities are those of ``channel``."""
    numbers = torch.arange(1, cues.shape[1] + 1, device=cues.device, dtype=torch.int16)[:, None, None]
    seeded = (cues * numbers).amax(1) - 1
    highest, best = probabilities.masked_fill(~known[:, :, None, None], -1).max(1)
    won = highest > torch.where(best == 0, background, foreground)
    winner = channel.to(torch.int16).gather(1, best.flatten(1)).reshape(best.shape)
    return torch.where(won, winner, seeded)


def _check(cues: Tensor, probabilities: Tensor, labels: Tensor) -> None:
    if cues.ndim != 4 or cues.dtype != torch.bool:
        raise ValueError(f"expected boolean cues B×(N+1)×h×w, got {cues.dtype} {[*cues.shape]}")
    if probabilities.shape != cues.shape:
        raise ValueError(f"expected probabilities of {[*cues.shape]} like the cues, got {[*probabilities.shape]}")
    if labels.shape != (len(cues), cues.shape[1] - 1):
        raise ValueError(f"expected labels of {[len(cues), cues.shape[1] - 1]} (B×N), got {[*labels.shape]}")
