"""The dense CRF against its definition in plain loops and in float64, and against the field's compiled implementation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnbn.data.scenes.compose import target_scene
from attnbn.data.scenes.dice import Dice
from attnbn.segmentation import crf as crf_module
from attnbn.segmentation import crf_exact, crf_kernels, crf_large
from attnbn.segmentation.crf import dense_crf

DEFAULTS = {
    "bilateral_weight": 10.0,
    "bilateral_xy": 80.0,
    "bilateral_rgb": 13.0,
    "gaussian_weight": 3.0,
    "gaussian_xy": 3.0,
}
TRAINING = {**DEFAULTS, "bilateral_xy": 80 / 12, "gaussian_xy": 0.25}


def scene(index: int, height: int, width: int, labels: int) -> tuple[Tensor, Tensor]:
    """A drawn photograph with sensor noise, ``1×3×H×W``; its mask, blurred and with smooth errors, as ``1×C×H×W``."""
    size = max(height, width)
    drawn = target_scene(Dice(0, index), size, 1.0)
    pixels = drawn.image[:height, :width] + np.random.default_rng(index).normal(0, 6, (height, width, 3))
    image = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)[None].contiguous()
    ids = torch.from_numpy(drawn.mask[:height, :width].astype(np.int64)) % labels
    ones = torch.nn.functional.one_hot(ids, labels).permute(2, 0, 1)[None].float()
    coarse = torch.nn.functional.interpolate(ones, size=(8, 8), mode="area")
    errors = torch.randn(1, labels, 8, 8, generator=torch.Generator().manual_seed(index))
    scores = torch.nn.functional.interpolate(4 * coarse + errors, size=(height, width), mode="bilinear")
    return image, scores.softmax(1)


def energies(probabilities: Tensor, unary: str) -> Tensor:
    return -probabilities.clamp(min=1e-5).log() if unary == "log" else -probabilities


def brute_force(
    image: Tensor, probabilities: Tensor, *, iterations: int = 10, unary: str = "log", **kernels: float
) -> Tensor:
    """The definition in float64 with whole matrices: ``3×H×W`` and ``C×H×W`` to ``C×H×W``."""
    height, width = image.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows, columns], -1).reshape(-1, 2).double()
    colour = image.reshape(3, -1).T.double()
    total = torch.zeros(height * width, height * width, dtype=torch.float64)
    for weight, features in (
        (kernels["bilateral_weight"], [place / kernels["bilateral_xy"], colour / kernels["bilateral_rgb"]]),
        (kernels["gaussian_weight"], [place / kernels["gaussian_xy"]]),
    ):
        points = torch.cat(features, 1)
        squared = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square_()
        kernel = torch.exp((-0.5 * squared).clamp_(min=-300))  # 1e-130 does for 0: float64 is slow beyond 1e-308
        norm = kernel.sum(1).sqrt()
        total += weight * kernel / norm[:, None] / norm
    energy = energies(probabilities.double(), unary).reshape(len(probabilities), -1)
    marginals = (-energy).softmax(0)
    for _ in range(iterations):
        marginals = (-energy + marginals @ total).softmax(0)
    return marginals.reshape(probabilities.shape)


def loops(image: Tensor, probabilities: Tensor, iterations: int, **kernels: float) -> list[list[float]]:
    """The definition pixel by pixel, label by label: a list of marginals per pixel."""
    height, width = image.shape[1:]
    pixels = [(y, x) for y in range(height) for x in range(width)]
    colour = {(y, x): [float(v) for v in image[:, y, x]] for y, x in pixels}

    def value(i: tuple[int, int], j: tuple[int, int], xy: float, rgb: float) -> float:
        place = ((i[0] - j[0]) ** 2 + (i[1] - j[1]) ** 2) / (2 * xy**2)
        return math.exp(-place - sum((a - b) ** 2 for a, b in zip(colour[i], colour[j], strict=True)) / (2 * rgb**2))

    def normalised(xy: float, rgb: float) -> dict[Any, float]:
        raw = {(i, j): value(i, j, xy, rgb) for i in pixels for j in pixels}
        sums = {i: sum(raw[i, j] for j in pixels) for i in pixels}  # i itself is one of them
        return {(i, j): raw[i, j] / math.sqrt(sums[i] * sums[j]) for i in pixels for j in pixels}

    bilateral = normalised(kernels["bilateral_xy"], kernels["bilateral_rgb"])
    gaussian = normalised(kernels["gaussian_xy"], math.inf)
    labels = range(len(probabilities))
    unary = {(i, k): -math.log(max(float(probabilities[k, i[0], i[1]]), 1e-5)) for i in pixels for k in labels}

    def normalise(exponents: list[float]) -> list[float]:
        powers = [math.exp(e - max(exponents)) for e in exponents]
        return [p / sum(powers) for p in powers]

    q = {i: normalise([-unary[i, k] for k in labels]) for i in pixels}
    for _ in range(iterations):
        q = {
            i: normalise([
                -unary[i, k]
                + kernels["bilateral_weight"] * sum(bilateral[i, j] * q[j][k] for j in pixels)
                + kernels["gaussian_weight"] * sum(gaussian[i, j] * q[j][k] for j in pixels)
                for k in labels
            ])
            for i in pixels
        }  # fmt: skip
    return [q[i] for i in pixels]


def test_plain_loops() -> None:
    image, probabilities = scene(0, 4, 5, 3)
    settings = {**DEFAULTS, "bilateral_xy": 2.0, "bilateral_rgb": 40.0, "gaussian_xy": 0.7}
    want = torch.tensor(loops(image[0], probabilities[0], 3, **settings)).T.reshape(3, 4, 5)
    got = dense_crf(image, probabilities, iterations=3, **settings)[0]
    assert (got - want).abs().max() < 1e-5
    assert (brute_force(image[0], probabilities[0], iterations=3, **settings) - want).abs().max() < 1e-6


@pytest.mark.parametrize("settings", [DEFAULTS, TRAINING], ids=["photograph", "training"])
@pytest.mark.parametrize("unary", ["log", "linear"])
def test_exact_is_the_definition(settings: dict[str, float], unary: Any) -> None:
    image, probabilities = scene(1, 41, 37, 6)
    got = dense_crf(image, probabilities, unary=unary, **settings)[0]
    want = brute_force(image[0], probabilities[0], unary=unary, **settings)
    assert (want - probabilities[0]).abs().max() > 0.5  # the CRF does something here
    assert (got - want).abs().max() < 1e-4


@pytest.mark.parametrize("weights", [(0.0, 3.0), (10.0, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_a_kernel_of_weight_zero_is_left_out(weights: tuple[float, float], method: Any) -> None:
    image, probabilities = scene(2, 12, 14, 4)
    settings = {**DEFAULTS, "bilateral_weight": weights[0], "gaussian_weight": weights[1]}
    got = dense_crf(image, probabilities, method=method, **settings)[0]
    want = brute_force(image[0], probabilities[0], **settings)
    difference = (got - want).abs()
    assert difference.max() < 1e-4 if method == "exact" else difference.mean() < 0.01


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_no_iterations_give_the_unary(method: Any) -> None:
    image, probabilities = scene(2, 12, 14, 4)
    assert torch.allclose(dense_crf(image, probabilities, iterations=0, method=method), probabilities, atol=1e-5)
    linear = dense_crf(image, probabilities, iterations=0, unary="linear", method=method)
    assert torch.allclose(linear, probabilities.softmax(1), atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_images_of_a_batch_are_on_their_own(method: Any) -> None:
    pairs = [scene(index, 16, 20, 5) for index in range(3)]
    images, probabilities = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    together = dense_crf(images, probabilities, method=method)
    apart = torch.cat([dense_crf(*pair, method=method) for pair in pairs])
    assert torch.allclose(together, apart, atol=1e-6)
    assert torch.allclose(together.sum(1), torch.ones(3, 16, 20), atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_chunks_of_an_accelerator_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [scene(index, 10, 9, 5) for index in range(3)]
    images, probabilities = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    probabilities[1, 2:4] = 0  # labels that one image of a chunk has and another has not
    probabilities[1] /= probabilities[1].sum(0)
    want = dense_crf(images, probabilities)
    monkeypatch.setattr(crf_exact, "_images_at_once", lambda images: at_once)
    got = dense_crf(images, probabilities)
    assert torch.allclose(got, want, atol=1e-6)
    assert (got[1, 2:4] == 0).all()


@pytest.mark.parametrize("method", ["exact", "lattice"])
@pytest.mark.parametrize("unary", ["log", "linear"])
def test_a_label_without_any_probability_stays_out(method: Any, unary: Any) -> None:
    image, probabilities = scene(3, 16, 20, 3)
    wider = torch.zeros(1, 7, 16, 20)
    wider[:, [1, 4, 6]] = probabilities
    got = dense_crf(image, wider, method=method, unary=unary)
    assert torch.allclose(got[:, [1, 4, 6]], dense_crf(image, probabilities, method=method, unary=unary), atol=1e-6)
    assert (got[:, [0, 2, 3, 5]] == 0).all()


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_no_label_is_dropped_by_a_threshold(method: Any) -> None:
    """A label with 1e-6 at a single pixel takes part everywhere, clamped, as the definition says."""
    image, probabilities = scene(3, 16, 20, 3)
    rare = torch.zeros(1, 1, 16, 20)
    rare[..., 0, 0] = 1e-6
    probabilities = torch.cat([probabilities, rare], 1)
    got = dense_crf(image, probabilities, method=method, iterations=1)[0, 3]
    want = brute_force(image[0], probabilities[0], iterations=1, **DEFAULTS)[3]
    assert (got > 0).all()
    assert (got.log() - want.log()).abs().max() < (1e-3 if method == "exact" else 1)


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_labels_that_send_no_message_change_nothing(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, probabilities = scene(5, 16, 20, 3)
    absent = torch.full((1, 4, 16, 20), 1e-4)
    probabilities = torch.cat([probabilities * (1 - 4e-4), absent], 1)
    module = crf_exact if method == "exact" else crf_large
    sent: list[int] = []
    decide = crf_kernels.sending

    def spy(mass: Tensor) -> Tensor | None:
        labels = decide(mass)
        sent.append(len(mass) if labels is None else len(labels))
        return labels

    monkeypatch.setattr(module, "sending", spy)
    got = dense_crf(image, probabilities, method=method)
    assert sent[0] == 7 and sent[-1] == 3
    monkeypatch.setattr(module, "sending", lambda mass: None)
    assert torch.allclose(got, dense_crf(image, probabilities, method=method), atol=1e-6)


def agreement(marginals: Tensor, truth: Tensor) -> float:
    return float((marginals.argmax(0) == truth.argmax(0)).double().mean())


CROPS = [(index, 50, 46, 8) for index in range(5)]


@pytest.fixture(scope="module")
def crops() -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    found = []
    for crop in CROPS:
        image, probabilities = scene(*crop)
        found.append((image, probabilities, brute_force(image[0], probabilities[0], **DEFAULTS)))
    return found


def test_lattice_is_close_to_the_definition(crops: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    agree = [agreement(dense_crf(i, p, method="lattice")[0], truth) for i, p, truth in crops]
    before = [agreement(p[0], truth) for _, p, truth in crops]
    assert np.mean(before) < 0.95  # so it is no agreement by doing nothing
    assert np.mean(agree) > 0.995, agree


def reference(image: Tensor, probabilities: Tensor) -> Tensor:
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    labels, height, width = probabilities.shape
    theirs = densecrf.DenseCRF2D(width, height, labels)
    theirs.setUnaryEnergy(np.ascontiguousarray(energies(probabilities, "log").reshape(labels, -1).numpy()))
    theirs.addPairwiseGaussian(sxy=3, compat=3)
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    theirs.addPairwiseBilateral(sxy=80, srgb=13, rgbim=pixels, compat=10)
    return torch.from_numpy(np.array(theirs.inference(10)).reshape(labels, height, width))


def test_no_further_from_the_definition_than_the_compiled_one(crops: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    ours = [agreement(dense_crf(i, p, method="lattice")[0], truth) for i, p, truth in crops]
    theirs = [agreement(reference(i[0], p[0]), truth) for i, p, truth in crops]
    exact = [agreement(dense_crf(i, p, method="exact")[0], truth) for i, p, truth in crops]
    assert np.mean(ours) >= np.mean(theirs), (ours, theirs)
    assert min(exact) > 0.9995
    assert np.mean(theirs) > 0.99  # the same definition


def test_chooses_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []

    def fake(name: str) -> Any:
        return lambda images, energies, kernels, iterations: (chosen.append(name), energies)[1]

    monkeypatch.setattr(crf_module, "exact_mean_field", fake("exact"))
    monkeypatch.setattr(crf_module, "lattice_mean_field", fake("lattice"))
    for height, width, method in ((64, 64, "auto"), (64, 65, "auto"), (64, 65, "exact"), (8, 8, "lattice")):
        probabilities = torch.full((1, 2, height, width), 0.5)
        dense_crf(torch.zeros(1, 3, height, width, dtype=torch.uint8), probabilities, method=method)  # type: ignore[arg-type]
    assert chosen == ["exact", "lattice", "exact", "lattice"]


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_precision_does_not_depend_on_the_caller(method: Any) -> None:
    image, probabilities = scene(4, 16, 20, 5)
    want = dense_crf(image, probabilities, method=method)
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    try:
        backend.fp32_precision = "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = dense_crf(image, probabilities, method=method)
        assert backend.fp32_precision == "bf16"
    finally:
        backend.fp32_precision = before
    assert torch.equal(got, want)


def test_dtype_and_graph() -> None:
    image, probabilities = scene(4, 6, 7, 3)
    got = dense_crf(image, probabilities.double().requires_grad_())
    assert got.dtype == torch.float64 and not got.requires_grad
    assert torch.allclose(got.float(), dense_crf(image, probabilities))


def test_what_is_kept_of_a_size_is_not_used_for_other_settings() -> None:
    image, probabilities = scene(4, 12, 14, 4)
    first = dense_crf(image, probabilities, method="lattice")
    for changed in ({"gaussian_xy": 1.0}, {"gaussian_weight": 30.0}, {"gaussian_weight": 0.0}):
        assert not torch.allclose(dense_crf(image, probabilities, method="lattice", **changed), first, atol=1e-4)
    turned = dense_crf(image.mT.contiguous(), probabilities.mT.contiguous(), method="lattice")
    assert turned.shape == (1, 4, 14, 12)
    assert torch.equal(dense_crf(image, probabilities, method="lattice"), first)


@pytest.mark.parametrize("method", ["exact", "lattice"])
def test_one_pixel_and_one_label(method: Any) -> None:
    assert dense_crf(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1, 1), method=method).item() == 1
    image, _ = scene(4, 5, 6, 2)
    assert (dense_crf(image, torch.ones(1, 1, 5, 6), method=method) == 1).all()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"images": torch.zeros(1, 3, 4, 5)}, "expected images uint8 B×3×H×W, got torch.float32 1×3×4×5"),
    ({"images": torch.zeros(3, 4, 5, dtype=torch.uint8)}, "expected images uint8 B×3×H×W, got torch.uint8 3×4×5"),
    ({"probabilities": torch.ones(1, 1, 4, 5, dtype=torch.long)}, "expected floating-point probabilities"),
    ({"probabilities": torch.ones(1, 1, 5, 4)}, "expected probabilities 1×C×4×5 like the images, got 1×1×5×4"),
    ({"probabilities": torch.ones(2, 1, 4, 5)}, "expected probabilities 1×C×4×5 like the images, got 2×1×4×5"),
    ({"probabilities": torch.full((1, 2, 4, 5), 0.6)}, "sum to one over the labels .* got sums from 1.2 to 1.2"),
    ({"probabilities": torch.full((1, 2, 4, 5), torch.nan)}, "expected finite probabilities"),
    ({"probabilities": torch.tensor([1.5, -0.5]).view(1, 2, 1, 1).expand(1, 2, 4, 5)}, "of at least 0, got -0.5"),
    ({"iterations": -1}, "expected iterations of at least 0, got -1"),
    ({"gaussian_weight": -1.0}, "expected weights of at least 0"),
    ({"bilateral_rgb": 0.0}, "expected standard deviations above 0, got .*bilateral_rgb=0.0"),
    ({"gaussian_xy": math.nan}, "expected standard deviations above 0, got .*gaussian_xy=nan"),
    ({"unary": "exp"}, "expected unary to be one of log, linear, got exp"),
    ({"method": "fast"}, "expected method to be one of auto, exact, lattice, got fast"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_input(given: dict[str, Any], message: str) -> None:
    good = {"images": torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "probabilities": torch.full((1, 2, 4, 5), 0.5)}
    with pytest.raises(ValueError, match=message):
        dense_crf(**{**good, **given})


def test_arrays_in_place_of_tensors_are_named() -> None:
    image, probabilities = scene(0, 8, 8, 2)
    for arguments, name in (
        ((image.numpy(), probabilities), "images"),
        ((image, probabilities.numpy()), "probabilities"),
    ):
        with pytest.raises(TypeError, match=rf"expected {name} as a torch.Tensor, got numpy.ndarray; torch.from_numpy"):
            dense_crf(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("deviation", [1e-6, 1e-20, 1e-45, 1e-300])
@pytest.mark.parametrize("name", ["bilateral_xy", "bilateral_rgb", "gaussian_xy"])
def test_a_deviation_too_small_for_the_lattice_is_named(name: str, deviation: float) -> None:
    image, probabilities = scene(1, 24, 24, 3)
    with pytest.raises(
        ValueError, match=rf"expected a larger {name} for an image of this size, got {deviation:g}: points"
    ):
        dense_crf(image, probabilities, method="lattice", **{name: deviation})
    # where there is a matrix it is a kernel of single pixels, which tie to no other
    tiny = dense_crf(image, probabilities, method="exact", **{name: deviation})
    small = dense_crf(image, probabilities, method="exact", **{name: 0.05})
    assert torch.allclose(tiny, small, atol=1e-6)


def test_the_lattice_works_up_to_its_limit() -> None:
    image, probabilities = scene(1, 24, 24, 3)
    weights = {"bilateral_weight": 0.0, "gaussian_weight": 3.0}
    for deviation in (0.05, 1e-3, 23 / 2**20):
        got = dense_crf(image, probabilities, method="lattice", gaussian_xy=deviation, **weights)
        want = dense_crf(image, probabilities, method="exact", gaussian_xy=deviation, **weights)
        assert (got - want).abs().max() < 1e-3
