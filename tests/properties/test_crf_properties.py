"""The dense CRF on any picture and any probabilities: still probabilities, by the same rule for every label."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbn.segmentation.crf import SMALLEST, dense_crf
from properties.draws import LONG, SEEDS, generator, images, normal

settings.load_profile("properties")

METHODS = st.sampled_from(["exact", "lattice"])
UNARY = st.sampled_from(["log", "linear"])
SHARPNESS = st.sampled_from([0.0, 1.0, 10.0, 1e4])
"""Of the scores whose softmax the probabilities are: equal for all labels, up to exact zeros and ones."""
PICTURES = st.sampled_from(["noise", "even", "two halves", "black and white"])


def picture(kind: str, seed: int, batch: int, size: tuple[int, int]) -> Tensor:
    if kind == "even":
        return torch.full((batch, 3, *size), seed % 256, dtype=torch.uint8)
    made = images(seed, batch, 3, *size)
    if kind == "black and white":
        return (made > 127).to(torch.uint8) * 255
    if kind == "two halves":
        made = made // 32 + 20
        made[..., size[1] // 2 :] += 200
    return made


def probable(seed: int, sharpness: float, batch: int, labels: int, size: tuple[int, int]) -> Tensor:
    return (normal(seed + 7, batch, labels, *size, dtype=torch.float32) * sharpness).softmax(1)


@given(PICTURES, LONG, SEEDS, st.integers(0, 2), st.integers(1, 5), SHARPNESS, METHODS, UNARY, st.integers(0, 4))
def test_what_comes_out_are_probabilities_by_image_and_in_any_order_of_labels(
    kind: str, size: tuple[int, int], seed: int, batch: int, labels: int, sharp: float, method: Any, unary: Any, n: int
) -> None:
    how: dict[str, Any] = {"method": method, "unary": unary, "iterations": n}
    photo, p = picture(kind, seed, batch, size), probable(seed, sharp, batch, labels, size)
    before = photo.clone(), p.clone()
    q = dense_crf(photo, p, **how)
    assert q.shape == p.shape and bool(((q >= 0) & (q <= 1)).all())
    torch.testing.assert_close(q.sum(1), torch.ones(batch, *size), atol=1e-5, rtol=0)
    assert torch.equal(photo, before[0]) and torch.equal(p, before[1])
    order = torch.randperm(labels, generator=generator(seed))
    torch.testing.assert_close(dense_crf(photo, p[:, order], **how), q[:, order], atol=1e-4, rtol=0)
    for image in range(batch):
        one = slice(image, image + 1)
        torch.testing.assert_close(dense_crf(photo[one], p[one], **how), q[one], atol=1e-4, rtol=0)
    if labels == 1:
        assert torch.equal(q, torch.ones_like(q))
    if sharp == 0:  # no label is better than another, nor becomes so
        torch.testing.assert_close(q, p, atol=1e-5, rtol=0)


@given(PICTURES, LONG, SEEDS, st.integers(1, 5), SHARPNESS, METHODS, UNARY)
def test_without_weights_it_is_the_softmax_of_the_unary(
    kind: str, size: tuple[int, int], seed: int, labels: int, sharp: float, method: Any, unary: Any
) -> None:
    photo, p = picture(kind, seed, 1, size), probable(seed, sharp, 1, labels, size)
    q = dense_crf(photo, p, bilateral_weight=0, gaussian_weight=0, method=method, unary=unary)
    taking_part = (p > 0).flatten(2).any(2)[..., None, None]
    energy = p.clamp(min=SMALLEST).log() if unary == "log" else p
    torch.testing.assert_close(q, energy.masked_fill(~taking_part, -torch.inf).softmax(1), atol=1e-6, rtol=1e-5)


@given(PICTURES, LONG, SEEDS, st.integers(2, 4), SHARPNESS, METHODS,
       st.sampled_from([{"bilateral_weight": 1e30}, {"gaussian_weight": 3e38}, {"bilateral_weight": 1e-40},
                        {"bilateral_xy": 1e200}, {"bilateral_rgb": 1e200}, {"gaussian_xy": 1e200}, {"gaussian_xy": 1e-3},
                        {"bilateral_rgb": 0.5}]))  # fmt: skip
def test_settings_at_the_edges_of_the_number_range(
    kind: str, size: tuple[int, int], seed: int, labels: int, sharp: float, method: Any, edge: dict[str, float]
) -> None:
    photo, p = picture(kind, seed, 1, size), probable(seed, sharp, 1, labels, size)
    q = dense_crf(photo, p, iterations=3, method=method, **edge)
    assert bool(q.isfinite().all())
    torch.testing.assert_close(q.sum(1), torch.ones(1, *size), atol=1e-5, rtol=0)


@given(PICTURES, LONG, SEEDS, st.integers(2, 4), SHARPNESS, UNARY)
def test_the_exact_one_follows_mirror_images(
    kind: str, size: tuple[int, int], seed: int, labels: int, sharp: float, unary: Any
) -> None:
    photo, p = picture(kind, seed, 1, size), probable(seed, sharp, 1, labels, size)
    q = dense_crf(photo, p, unary=unary, iterations=3)
    for turn in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.mT.contiguous()):
        torch.testing.assert_close(
            dense_crf(turn(photo), turn(p), unary=unary, iterations=3), turn(q), atol=1e-3, rtol=0
        )


@given(
    PICTURES,
    st.sampled_from([(24, 24), (1, 40), (40, 1), (9, 31)]),
    SEEDS,
    st.integers(2, 4),
    st.sampled_from([0.5, 2.0]),
)
@settings(max_examples=20)
def test_the_lattice_stays_near_the_exact_one(
    kind: str, size: tuple[int, int], seed: int, labels: int, sharp: float
) -> None:
    """After one update: ten amplify a difference, whoever computes them, where labels are as level as in random ones."""
    photo, p = picture(kind, seed, 1, size), probable(seed, sharp, 1, labels, size)
    exact, lattice = (dense_crf(photo, p, method=method, iterations=1) for method in ("exact", "lattice"))
    error = (exact - lattice).abs()
    assert float(error.mean()) < min(0.02, 0.5 * float((exact - p).abs().mean()))
    assert float(error.max()) < 0.4


@given(SEEDS, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), METHODS)
def test_probabilities_of_any_type_whose_sum_is_one_to_its_rounding(seed: int, dtype: torch.dtype, method: Any) -> None:
    photo, p = images(seed, 1, 3, 5, 6), normal(seed, 1, 21, 5, 6, dtype=torch.float32).softmax(1)
    q = dense_crf(photo, p.to(dtype), method=method, iterations=2)
    assert q.dtype == dtype
    torch.testing.assert_close(q.float(), dense_crf(photo, p, method=method, iterations=2), atol=0.05, rtol=0)
