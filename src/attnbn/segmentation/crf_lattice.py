"""A Gaussian filter in d dimensions at linear cost: the permutohedral lattice, in plain tensor operations.

Adams, Baek and Davis, *Fast High-Dimensional Filtering Using the Permutohedral Lattice* (2010). Values are splatted from each
point onto the d + 1 corners of its simplex, blurred along the lattice's d + 1 axes, and sliced back. Each of the three is a
weighted sum of rows, which ``embedding_bag`` computes on every device without a compiler.

One thing is done better than usual: the lattice holds not only the corners that points touch but also *their* neighbours.
Without these a blur along one axis loses what should have passed on along the next; with them the result is markedly closer
to the true Gaussian, where colours are sparse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_PIECE = 512
"""Points summed in one go when splatting. Corners of an even sky have ten thousands, which would keep one thread busy."""


_FARTHEST = 2**20
"""Deviations from 0 at most: coordinates on the lattice are then below 2²³, where float32 still has halves."""


@dataclass(frozen=True)
class Bags:
    """A sparse matrix as weighted sums of rows: output row r = Σ_k weights[k] · values[rows[k]] over its k.

    Attributes:
        rows: int32, ``R×K``, or flat with ``starts``.
        weights: float32, like ``rows``.
        starts: Where each output row begins in flat ``rows``.
    """

    rows: Tensor
    weights: Tensor
    starts: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Sums for values ``M×C``: ``R×C``."""
        return F.embedding_bag(self.rows, values, offsets=self.starts, per_sample_weights=self.weights, mode="sum")


class Lattice:
    """The lattice of N points. ``slice(blur(splat(values)))`` filters with a Gaussian of deviation 1, up to a factor.

    Args:
        points: float32 ``d×N``, in units of the standard deviation.

    Raises:
        ValueError: The points lie so many deviations apart that float32 cannot tell corners from one another, or 63 bits not
            number them.
    """

    def __init__(self, points: Tensor) -> None:
        farthest = float(points.abs().amax())
        if not farthest <= _FARTHEST:  # nor NaN
            raise ValueError(
                f"points lie up to {farthest:.3g} deviations from 0, at most {_FARTHEST:,} can be told apart"
            )
        corner, ranks, weights = _simplices(points)
        strides, keys = _keys(corner, ranks)
        steps = _steps(strides, points.device)
        keys, order = keys.flatten().sort(stable=True)
        touched, where, counts = torch.unique_consecutive(keys, return_inverse=True, return_counts=True)
        corners = torch.unique(torch.cat([touched, (touched + steps[:, None]).flatten()]))
        place = torch.searchsorted(corners, touched)
        self.size = len(corners)
        owners = torch.empty_like(order).scatter_(0, order, place[where]).view_as(weights)
        self.slice = Bags(owners.T.int().contiguous(), weights.T.contiguous())
        counts = torch.zeros_like(corners).scatter_(0, place, counts)
        self._pieces, self._sums = _splat(order, weights, counts)
        self._axes = [_blur(corners, step) for step in steps[: len(steps) // 2]]

    def splat(self, values: Tensor) -> Tensor:
        """Onto the corners: ``N×C`` to ``size×C``."""
        return self._sums(self._pieces(values))

    def blur(self, values: Tensor) -> Tensor:
        """By [½, 1, ½] along each axis: ``size×C``."""
        for axis in self._axes:
            values = axis(values)
        return values

    def scale(self, points: Tensor) -> None:
        """Multiply what each point splats and what it slices by ``points`` (N)."""
        self._pieces = Bags(self._pieces.rows, self._pieces.weights * points[self._pieces.rows], self._pieces.starts)
        self.slice = Bags(self.slice.rows, self.slice.weights * points[:, None])


def _simplices(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point (sections 3.1 and 3.2 of the paper).

    Returns:
        int64 ``(d+1)×N``: the simplex's corner of remainder 0; int64 ``(d+1)×N``: the rank of each coordinate's distance
        from it, 0 the largest; float32 ``(d+1)×N``: the barycentric weight of the corner of each remainder.
    """
    d, count = points.shape
    elevated = _elevation(d).to(points) @ points
    rounded = (elevated / (d + 1)).round_()
    ranks = torch.zeros(d + 1, count, dtype=torch.int8, device=points.device)
    difference = elevated.sub_(rounded, alpha=d + 1)
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = (difference[i] < difference[j]).view(torch.int8)
            ranks[i] += less
            ranks[j] += 1 - less
    # the rounded point may lie off the plane of coordinates that sum to 0; as many steps as the sum bring it back
    ranks += rounded.sum(0).to(torch.int8)
    wrapped = (ranks < 0).view(torch.int8) - (ranks > d).view(torch.int8)
    ranks += wrapped * (d + 1)
    rounded += wrapped
    difference = difference.sub_(wrapped, alpha=d + 1).div_(d + 1)
    order = ranks.long()
    ordered = torch.empty_like(difference).scatter_(0, order, difference)
    weights = torch.empty_like(ordered)
    weights[0] = 1 + ordered[d] - ordered[0]
    weights[1:] = ordered[:-1].flip(0) - ordered[1:].flip(0)
    return rounded.long() * (d + 1), order, weights


def _elevation(d: int) -> Tensor:
    """From d dimensions onto the plane of the lattice in d + 1, scaled so that blurring has a deviation of 1."""
    matrix = torch.zeros(d + 1, d, dtype=torch.float64)
    for i in range(d):
        length = math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2))
        matrix[: i + 1, i] = length
        matrix[i + 1, i] = -(i + 1) * length
    return matrix


def _keys(corner: Tensor, ranks: Tensor) -> tuple[list[int], Tensor]:
    """A number for every corner of every simplex, linear in its coordinates.

    Returns:
        What a step of 1 in each coordinate adds to the number (the last coordinate, minus the sum of the others, adds
        nothing); int64 ``(d+1)×N``, the corners of remainder 0 to d.
    """
    d = len(corner) - 1
    margin = 2 * (d + 1)  # for the neighbours of the outermost corners, and theirs
    low = corner.amin(1) - margin
    extent = (corner.amax(1) - low + margin + 1).tolist()
    strides = [math.prod(extent[:i]) for i in range(d)]
    if strides[-1] * extent[d - 1] >= 2**63:
        raise ValueError(
            f"points span {max(extent) // (d + 1):,} cells of the lattice along one axis, too many to number"
        )
    strides.append(0)
    stride = torch.tensor(strides, device=corner.device)
    keys = torch.empty_like(corner)
    keys[0] = ((corner - low[:, None]) * stride[:, None]).sum(0)
    by_rank = torch.empty_like(corner).scatter_(0, ranks, stride[:, None].expand_as(corner))
    for k in range(d):  # the next corner: a step of 1 in each coordinate, but of -d in that of rank d - k
        keys[k + 1] = keys[k] + (sum(strides) - (d + 1) * by_rank[d - k])
    return strides, keys


def _steps(strides: list[int], device: torch.device) -> Tensor:
    """What the key of a neighbour has more: first along each of the d + 1 axes, then backwards."""
    forward = torch.tensor([len(strides) * stride - sum(strides) for stride in strides], device=device)
    return torch.cat([forward, -forward])


def _splat(order: Tensor, weights: Tensor, counts: Tensor) -> tuple[Bags, Bags]:
    """From points to corners: sums of at most :data:`_PIECE` points, then sums of these.

    Args:
        order: Flat indices into ``weights``, sorted by corner.
        weights: ``(d+1)×N``.
        counts: How many points touch each corner.
    """
    begins = counts.cumsum(0) - counts
    pieces = (counts + _PIECE - 1) // _PIECE
    firsts = pieces.cumsum(0) - pieces
    corner = torch.arange(len(counts), device=order.device).repeat_interleave(pieces)
    number = torch.arange(len(corner), device=order.device)
    starts = begins[corner] + (number - firsts[corner]) * _PIECE
    splat = Bags((order % weights.shape[1]).int(), weights.flatten()[order], starts.int())
    return splat, Bags(number.int(), torch.ones(len(corner)).to(weights), firsts.int())


def _blur(corners: Tensor, step: Tensor) -> Bags:
    """A corner and half of its two neighbours along an axis; a neighbour that is not there counts as 0."""
    count = len(corners)
    own = torch.arange(count, device=corners.device)
    wanted = corners + step
    place = torch.searchsorted(corners, wanted).clamp_(max=count - 1)
    there = corners[place] == wanted
    ahead = torch.where(there, place, own)
    # what lies ahead of one is that which the other has behind; those with none write past the end
    target = torch.where(there, place, count)
    behind = torch.arange(count + 1, device=corners.device).scatter_(0, target, own)[:count]
    has = torch.zeros(count + 1, device=corners.device).scatter_(0, target, 0.5)[:count]
    weights = torch.stack([torch.ones_like(has), 0.5 * there, has], 1)
    return Bags(torch.stack([own, ahead, behind], 1).int(), weights)
