"""What the properties are tried on: shapes from the smallest on, and numbers that include the extreme ones."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

settings.register_profile(
    "properties", derandomize=True, deadline=None, database=None, max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
# derandomised: the same examples on every machine

SEEDS = st.integers(0, 2**32)
SIDES = st.integers(1, 6)
LONG = st.sampled_from([(1, 1), (1, 13), (17, 1), (2, 9), (7, 5), (8, 8)])
"""Heights and widths, among them single rows and columns."""

FILE_PARTS = (
    st.binary(min_size=1, max_size=40)
    .map(lambda data: data.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape"))
    .filter(lambda name: name not in ("", ".", ".."))
)
"""Names that a file may have on a POSIX system: any bytes but NUL and the slash."""

FILE_NAMES = st.lists(FILE_PARTS, min_size=1, max_size=3).map("/".join)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """In [0, 1)."""
    return torch.rand(*shape, generator=generator(seed), dtype=dtype)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def chance(seed: int, share: float, *shape: int) -> Tensor:
    """Booleans, true with a chance of ``share`` (never at 0, always at 1)."""
    return uniform(seed, *shape) < share


def images(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)


MAPS = st.sampled_from(["some", "zero", "one zero", "constant", "one place", "huge", "tiny", "below normal"])


def maps(kind: str, seed: int, count: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """``P×h×w``, not negative."""
    made = uniform(seed, count, height, width, dtype=dtype) * chance(seed + 1, 0.8, count, height, width)
    if kind in ("zero", "one zero"):
        made[: 1 if kind == "one zero" else None] = 0
    elif kind == "constant":
        made[:] = 0.7
    elif kind == "one place":
        made[:] = 0
        made[:, -1, 0] = 3
    return made * {"huge": 1e30, "tiny": 1e-12, "below normal": 1e-40}.get(kind, 1)
