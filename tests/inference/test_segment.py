"""Segmentation of photographs: right values in order, and no trace left behind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as reference_confusion
from torch import Tensor, nn
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.data.transforms import eval_transform, normalize
from attnbn.inference import segment
from attnbn.inference.segment import Segmentation, segment_photographs
from attnbn.inference.segment_score import SegmentationScore, score_segmentation
from attnbn.io.errors import InputError, RunError
from attnbn.segment_config import CrfConfig

CLASSES = ("cat", "dog", "sheep")


class TinySegmenter(nn.Module):
    """One strided convolution to the logits of three classes and the background."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, len(CLASSES) + 1, 8, stride=8)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.conv(images))


class Flat(ImageDataset):
    """Photographs of given sizes, with labels."""

    def __init__(self, *sizes: tuple[int, int], labels: list[float] | None = None) -> None:
        table = None if labels is None else torch.tensor([labels] * len(sizes))
        super().__init__(CLASSES, [f"{h}x{w}" for h, w in sizes], table, title="flat")
        self.sizes = sizes

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        pixels = torch.tensor(rng.integers(0, 256, (3, *self.sizes[index]), dtype=np.uint8))
        return Sample(tv_tensors.Image(pixels), None if self.labels is None else self.labels[index], None, None,
                      self.names[index])  # fmt: skip


@pytest.fixture
def seg() -> TinySegmenter:
    return TinySegmenter()


def run(net: nn.Module, dataset: ImageDataset, **how: Any) -> list[Segmentation]:
    return list(segment_photographs(net, dataset, **{"size": 32, "batch_size": 3, **how}))


def bilinear(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel's centre carried to the small grid, its four neighbours weighted by their nearness; clamped at the rim."""
    grown = np.zeros((len(small), height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * small.shape[1] / height - 0.5, 0), small.shape[1] - 1)
            u = min(max((x + 0.5) * small.shape[2] / width - 0.5, 0), small.shape[2] - 1)
            top, left = int(v), int(u)
            below, right = min(top + 1, small.shape[1] - 1), min(left + 1, small.shape[2] - 1)
            a, b = v - top, u - left
            grown[:, y, x] = (
                (1 - a) * (1 - b) * small[:, top, left] + (1 - a) * b * small[:, top, right]
                + a * (1 - b) * small[:, below, left] + a * b * small[:, below, right]
            )  # fmt: skip
    return grown


def by_hand(net: nn.Module, sample: Sample, sides: list[int], flip: bool) -> np.ndarray:
    """Probabilities ``(N+1)×H×W`` by loops over passes and pixels."""
    net.eval()
    height, width = sample.image.shape[-2:]
    total = np.zeros((len(CLASSES) + 1, height, width))
    for side in sides:
        view = normalize(eval_transform(side)(sample).image[None])
        with torch.no_grad():
            total += bilinear(net(view)[0].double().numpy(), height, width)
            if flip:
                total += bilinear(net(view.flip(-1))[0].flip(-1).double().numpy(), height, width)
    powers = np.exp(total - total.max(0))
    return powers / powers.sum(0)


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.75, 1.0, 1.25), False), ((0.5, 1.0), True)])
def test_equals_loops_over_passes_and_pixels(seg: nn.Module, make_pictures: Any, scales: Any, flip: bool) -> None:
    dataset = make_pictures(4)
    got = run(seg, dataset, scales=scales, flip=flip, probabilities=True)
    assert [one.name for one in got] == dataset.names
    for index, one in enumerate(got):
        sample = dataset[index]
        expected = by_hand(seg, sample, [round(32 * scale) for scale in scales], flip)
        assert one.size == tuple(sample.image.shape[-2:])
        assert torch.equal(one.image, sample.image.as_subclass(Tensor))
        np.testing.assert_allclose(one.probabilities, expected, atol=2e-5)
        assert one.mask.dtype == torch.uint8
        clear = np.diff(np.sort(expected, 0)[-2:], axis=0)[0] > 1e-4
        np.testing.assert_array_equal(one.mask.numpy()[clear], expected.argmax(0)[clear])
        assert one.before is one.mask
        assert torch.equal(one.truth, sample.mask.as_subclass(Tensor))
        torch.testing.assert_close(one.labels, sample.labels, equal_nan=True)


def test_neither_batches_nor_workers_change_the_result(seg: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(5)
    first = run(seg, dataset, probabilities=True)
    for how in ({"batch_size": 1}, {"workers": 2}):
        for one, other in zip(first, run(seg, dataset, probabilities=True, **how), strict=True):
            assert one.name == other.name
            torch.testing.assert_close(one.probabilities, other.probabilities)
    assert [one.name for one in run(seg, dataset, indices=[3, 1])] == ["picture3", "picture1"]


def test_leaves_no_trace(seg: TinySegmenter, make_pictures: Any) -> None:
    seg.train()
    seg.conv.eval()  # a frozen part
    before = torch.random.get_rng_state()
    steps = segment_photographs(seg, make_pictures(3), size=32, batch_size=2)
    next(steps)
    assert seg.training and seg.drop.training and not seg.conv.training
    list(steps)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(p.grad is None for p in seg.parameters())


def test_given_labels_filter_and_renormalise(seg: TinySegmenter) -> None:
    with torch.no_grad():
        seg.conv.bias += torch.tensor([-2.0, 1.0, 1.0, 1.0])
    free = run(seg, Flat((20, 30), labels=[1, 0, float("nan")]), probabilities=True)[0]
    kept = run(seg, Flat((20, 30), labels=[1, 0, float("nan")]), probabilities=True, given_labels=True)[0]
    assert (free.mask == 2).any()
    assert not (kept.probabilities[2] > 0).any()  # absent
    assert {0, 1, 3} >= set(kept.mask.unique().tolist())
    assert (kept.mask == 3).any()  # unknown: may be there
    expected = free.probabilities * torch.tensor([1.0, 1, 0, 1]).view(4, 1, 1)
    torch.testing.assert_close(kept.probabilities, expected / expected.sum(0), atol=1e-6, rtol=1e-5)
    none = run(seg, Flat((20, 30), labels=[0, 0, 0]), given_labels=True)[0]
    assert not none.mask.any()
    with pytest.raises(InputError, match=r"expected labels, to keep to the classes they name, got none: flat"):
        run(seg, Flat((20, 30)), given_labels=True)


def test_the_crf_refines_at_the_photographs_size(
    seg: nn.Module, make_pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Tensor, Tensor, dict[str, Any]]] = []

    def recorded(images: Tensor, probabilities: Tensor, **settings: Any) -> Tensor:
        calls.append((images, probabilities, settings))
        return probabilities.roll(1, dims=1)

    monkeypatch.setattr(segment, "dense_crf", recorded)
    crf = CrfConfig(iterations=3, bilateral_xy=48, gaussian_xy=6, bilateral_rgb=5, unary="linear", shrink=12)
    dataset = make_pictures(2)
    for one, (images, probabilities, settings) in zip(
        run(seg, dataset, crf=crf, probabilities=True), calls, strict=True
    ):
        assert images.dtype == torch.uint8 and images.shape == (1, 3, *one.size)
        assert torch.equal(probabilities[0], one.probabilities)  # kept as they are before the CRF
        assert torch.equal(one.before.long(), one.probabilities.argmax(0))
        assert torch.equal(one.mask, (one.before + 1) % 4)
        assert settings == {
            "iterations": 3, "bilateral_weight": 10.0, "bilateral_xy": 4.0, "bilateral_rgb": 5, "gaussian_weight": 3.0,
            "gaussian_xy": 0.5, "unary": "linear",
        }  # fmt: skip


def test_the_real_crf_follows_colours(seg: TinySegmenter) -> None:
    class Halves(Flat):
        def __getitem__(self, index: int) -> Sample:
            image = torch.zeros(3, 24, 24, dtype=torch.uint8)
            image[:, :, 10:] = 255  # a black and a white half, where the network's own places are 8 wide
            return Sample(tv_tensors.Image(image), self.labels[index], None, None, "halves")

    with torch.no_grad():
        seg.conv.weight.zero_()
        seg.conv.weight[1] = 0.02
        seg.conv.bias.copy_(torch.tensor([0.0, 0, -9, -9]))
    one = run(seg, Halves((24, 24), labels=[1, 0, 0]), size=24, crf=CrfConfig(), given_labels=True)[0]
    expected = (torch.arange(24) >= 10).to(torch.uint8).expand(24, 24)
    assert torch.equal(one.mask, expected)
    assert not torch.equal(one.before, expected)


def test_settings_that_no_crf_can_have(seg: nn.Module) -> None:
    with pytest.raises(InputError, match=r"expected a larger bilateral_rgb .*: the settings inference\.crf$"):
        run(seg, Flat((90, 80)), crf=CrfConfig(bilateral_rgb=1e-3, bilateral_xy=1e-3))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 40)])
def test_photographs_smaller_than_the_networks_stride(seg: nn.Module, size: tuple[int, int]) -> None:
    one = run(seg, Flat(size), crf=CrfConfig(), scales=(0.5, 1.0))[0]
    assert one.mask.shape == one.before.shape == size


def test_very_large_photographs_are_segmented_smaller(seg: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "LARGEST", 24)
    one, small = run(seg, Flat((60, 40), (20, 24)), probabilities=True)
    assert one.image.shape == (3, 24, 16) and one.probabilities.shape == (4, 24, 16)
    assert one.mask.shape == (60, 40)
    expected = bilinear(one.probabilities.double().numpy(), 60, 40)
    clear = np.diff(np.sort(expected, 0)[-2:], axis=0)[0] > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(one.mask.numpy()[clear], expected.argmax(0)[clear])
    assert small.image.shape == (3, 20, 24)  # untouched


def test_broken_photographs_and_numbers(seg: TinySegmenter, make_pictures: Any) -> None:
    dataset = make_pictures(4, bad=(1,))
    with pytest.raises(InputError, match=r"got rubbish: folder/picture1\.jpg"):
        run(seg, dataset)
    broken: list[str] = []
    seen: list[tuple[int, int]] = []
    got = run(seg, dataset, skip_broken=True, broken=broken, progress=lambda *done: seen.append(done))
    assert [one.name for one in got] == ["picture0", "picture2", "picture3"]
    assert len(broken) == 1 and seen[-1] == (4, 4)
    with pytest.raises(InputError, match=r"expected --scales as factors"):
        run(seg, dataset, scales=(0.0,))
    with pytest.raises(InputError, match=r"that leave the network enough pixels, got 0\.1 \(3×3 pixels\)"):
        run(seg, dataset, scales=(0.1,))
    with torch.no_grad():
        seg.conv.bias[2] = float("nan")
    with pytest.raises(RunError, match=r"expected finite logits, got NaN or infinity, check the weights: picture0"):
        run(seg, make_pictures(1))


def test_scores_are_those_of_the_masks(seg: nn.Module, make_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "dense_crf", lambda images, probabilities, **_: probabilities.roll(1, dims=1))
    dataset = make_pictures(5, bad=(2,))
    scored = score_segmentation(seg, dataset, size=32, crf=CrfConfig(), skip_broken=True)
    assert (scored.images, len(scored.broken)) == (4, 1)
    for kind, matrix in (("before", scored.before), ("mask", scored.after)):
        expected = np.zeros((4, 4), dtype=np.int64)
        for one in run(seg, dataset, crf=CrfConfig(), skip_broken=True):
            counted = one.truth.numpy() != 255
            mask = getattr(one, kind).numpy()
            expected += reference_confusion(one.truth.numpy()[counted], mask[counted], labels=range(4))
        np.testing.assert_array_equal(matrix.numpy(), expected)
    figures = scored.figures(CLASSES)
    cells = scored.after.tolist()
    for i, name in enumerate(("background", *CLASSES)):
        column, row = sum(cells[j][i] for j in range(4)), sum(cells[i])
        assert figures["iou"][name] == pytest.approx(cells[i][i] / (column + row - cells[i][i]))
        assert figures["precision"][name] == pytest.approx(cells[i][i] / column)
        assert figures["recall"][name] == pytest.approx(cells[i][i] / row)
    assert figures["miou"] == pytest.approx(sum(figures["iou"].values()) / 4)
    assert figures["mean_over"] == ["background", *CLASSES] and figures["images"] == 4


def test_a_class_that_is_only_predicted_is_in_neither_mean() -> None:
    before = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # the second class is predicted before the CRF alone
    after = before.clone()
    before[0, 2] = 1
    figures = SegmentationScore(before, after, 2, []).figures(("cat", "dog"))
    assert figures["mean_over"] == ["background", "cat"]
    assert figures["miou"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert figures["before_crf"]["miou"] == pytest.approx((6 / 10 + 3 / 6) / 2)
    assert (figures["iou"]["dog"], figures["before_crf"]["iou"]["dog"]) == (None, 0)


def test_scores_need_masks(seg: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(InputError, match="expected a data set with masks, to score a segmentation, got none: pictures"):
        score_segmentation(seg, make_pictures(2, masks=False), size=32)
    with pytest.raises(InputError, match="got none that can be read: pictures"):
        score_segmentation(seg, make_pictures(2, bad=(0, 1)), size=32, skip_broken=True)
