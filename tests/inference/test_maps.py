"""Normalising, resizing and fusing maps, against loops in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnbn.inference.maps import full_size, fused, max_normalized


def bilinear(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resizing with pixel centres aligned, by its definition."""
    low, wide = maps.shape[1:]
    grown = np.zeros((len(maps), height, width))
    for y, x in np.ndindex(height, width):
        sy, sx = (min(max((p + 0.5) * n / t - 0.5, 0), n - 1) for p, n, t in ((y, low, height), (x, wide, width)))
        y0, x0 = int(sy), int(sx)
        y1, x1 = min(y0 + 1, low - 1), min(x0 + 1, wide - 1)
        above = maps[:, y0, x0] * (1 - (sx - x0)) + maps[:, y0, x1] * (sx - x0)
        below = maps[:, y1, x0] * (1 - (sx - x0)) + maps[:, y1, x1] * (sx - x0)
        grown[:, y, x] = above * (1 - (sy - y0)) + below * (sy - y0)
    return grown


def fuse_by_hand(views: list[np.ndarray], how: str) -> np.ndarray:
    height, width = max(v.shape[1] for v in views), max(v.shape[2] for v in views)
    result = np.zeros((len(views[0]), height, width))
    for k in range(len(result)):
        seen = []
        for view in views:
            peak = view[k].max()
            seen.append(bilinear(view[k : k + 1] / peak if peak > 0 else 0 * view[k : k + 1], height, width)[0])
        value = sum(seen) / len(seen) if how == "mean" else np.prod(seen, axis=0) ** (1 / len(seen))
        result[k] = value / value.max() if value.max() > 0 else value
    return result


@pytest.mark.parametrize("how", ["mean", "product"])
@pytest.mark.parametrize("shapes", [[(4, 5)], [(3, 3), (7, 7), (5, 5)], [(2, 6), (6, 3)]])
def test_fused_equals_a_loop(how: str, shapes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(len(shapes))
    # views of very different scale, as the gradients of different layers are; one map that one view does not see
    views = [rng.random((3, *shape)).clip(0.2) * 10.0**i for i, shape in enumerate(shapes)]
    views[0][2] = 0
    got = fused([torch.from_numpy(view) for view in views], how)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), fuse_by_hand(views, how), atol=1e-6)


def test_fused_of_no_map_and_of_one_that_is_not_finite() -> None:
    assert fused([torch.zeros(0, 3, 3), torch.zeros(0, 5, 4)]).shape == (0, 5, 4)
    for bad in (float("nan"), float("inf")):
        broken = torch.rand(2, 3, 3)
        broken[1, 2, 0] = bad
        result = fused([torch.rand(2, 5, 5), broken])
        assert result[0].isfinite().all()
        assert not result[1].isfinite().all()  # not passed off as a map of zeros


def test_max_normalized() -> None:
    maps = torch.tensor([[[0.0, 0.3], [0.6, 1.2]], [[0, 0], [0, 0]], [[1e-42, 0], [0, 0]]])
    result = max_normalized(maps)
    torch.testing.assert_close(result[0], torch.tensor([[0, 0.25], [0.5, 1]]))
    assert (result[1] == 0).all()
    assert result[2].max() == 1


def test_full_size_equals_bilinear_by_hand() -> None:
    maps = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(full_size(maps, (8, 7)).numpy(), bilinear(maps.double().numpy(), 8, 7), atol=1e-6)
    assert torch.equal(full_size(maps, (3, 4)), maps)


def test_full_size_stays_in_range() -> None:
    grown = full_size(torch.ones(1, 4, 4), (20, 21))  # sizes at which the weights add up to more than one
    assert grown.max() <= 1
