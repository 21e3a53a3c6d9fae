"""Joint transforms: all parts of a sample move together, and only as the seed says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from attnbn.data.sample import Saliency, Sample
from attnbn.data.transforms import JointTransform, eval_transform, normalize, seeded, train_transform


def ramp_sample(height: int = 40, width: int = 60) -> Sample:
    """Image, saliency and mask that all show the same smooth ramp, so that any misalignment is seen."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    ramp = (x + 2 * y) / 3
    image = (ramp * 255).round().to(torch.uint8).expand(3, -1, -1).contiguous()
    mask = (ramp * 200).round().to(torch.uint8)
    return Sample(tv_tensors.Image(image), torch.ones(2), Saliency(ramp), tv_tensors.Mask(mask), "ramp")


def plain(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return tensor.as_subclass(Tensor).double().numpy()


@pytest.mark.parametrize("seed", range(8))
def test_parts_move_together(seed: int) -> None:
    sample = seeded(train_transform(32), seed)(ramp_sample())
    assert sample.image.shape == (3, 32, 32) and isinstance(sample.image, tv_tensors.Image)
    assert isinstance(sample.saliency, Saliency) and sample.saliency.shape == (1, 32, 32)
    assert isinstance(sample.mask, tv_tensors.Mask) and sample.mask.shape == (32, 32)
    np.testing.assert_allclose(plain(sample.image)[0] / 255, plain(sample.saliency)[0], atol=0.01)
    np.testing.assert_allclose(plain(sample.mask) / 200, plain(sample.saliency)[0], atol=0.06)
    assert sample.labels is not None and sample.labels.tolist() == [1, 1] and sample.name == "ramp"


def test_half_of_the_samples_are_mirrored() -> None:
    sample = ramp_sample()
    transform = train_transform(16, scale=(1.0, 1.0))
    mirrored = 0
    for seed in range(200):
        image = plain(seeded(transform, seed)(sample).image)[0]
        mirrored += image[:, 0].mean() > image[:, -1].mean()
    assert 75 < mirrored < 125
    for seed in range(20):
        image = plain(seeded(train_transform(16, flip=False), seed)(sample).image)[0]
        assert image[:, 0].mean() < image[:, -1].mean()


def test_scale_is_the_area_of_the_crop() -> None:
    # each pixel holds its column; the crop's width shows in the range of values that come out
    image = torch.arange(100, dtype=torch.uint8).expand(3, 100, 100).contiguous()
    sample = Sample(tv_tensors.Image(image), None, None, None, "a")
    for seed in range(30):
        moved = plain(seeded(train_transform(100, scale=(0.25, 0.25), flip=False), seed)(sample).image)
        width = moved.max() - moved.min() + 1
        assert 0.25 * 0.75 * 0.9 < (width / 100) ** 2 < 0.25 * 4 / 3 * 1.1


def test_seeded_is_a_pure_function_and_leaves_the_global_generator() -> None:
    sample, transform = ramp_sample(), train_transform(16)
    torch.manual_seed(1)
    first = seeded(transform, 7)(sample)
    drawn = torch.rand(3)
    torch.manual_seed(2)
    second = seeded(transform, 7)(sample)
    other = seeded(transform, 8)(sample)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert torch.equal(first.image, second.image) and torch.equal(first.saliency, second.saliency)
    assert not torch.equal(first.image, other.image)


def test_seeded_restores_the_generator_after_an_error() -> None:
    def fail(_: Sample) -> Sample:
        torch.rand(1)
        raise RuntimeError("no")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        seeded(fail, 0)(ramp_sample())
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_does_not_reseed_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    def reseeded(_: int) -> None:
        raise AssertionError("the accelerator was reseeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded)
    seeded(train_transform(8), 0)(ramp_sample())


def test_eval_takes_the_whole_image_and_leaves_the_mask() -> None:
    sample = ramp_sample()
    moved = eval_transform(20)(sample)
    assert moved.image.shape == (3, 20, 20) and moved.saliency is not None and moved.saliency.shape == (1, 20, 20)
    assert torch.equal(moved.mask, sample.mask)
    picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy()).resize((20, 20), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(plain(moved.image), np.asarray(picture).transpose(2, 0, 1), atol=1)


def test_saliency_is_resized_bilinearly_with_antialiasing() -> None:
    grey = torch.rand(50, 37, generator=torch.Generator().manual_seed(0))
    sample = Sample(tv_tensors.Image(torch.zeros(3, 50, 37, dtype=torch.uint8)), None, Saliency(grey), None, "a")
    expected = np.asarray(Image.fromarray(grey.numpy()).resize((12, 12), Image.Resampling.BILINEAR))
    # even where the image is resized by nearest neighbour
    nearest = JointTransform(v2.Resize((12, 12), interpolation=v2.InterpolationMode.NEAREST), mask=False)
    for transform in (eval_transform(12), nearest):
        np.testing.assert_allclose(plain(transform(sample).saliency)[0], expected, atol=1e-5)


def test_saliency_stays_in_range_and_is_not_changed_in_place() -> None:
    ones = Saliency(torch.ones(31, 17))
    sample = Sample(tv_tensors.Image(torch.zeros(3, 31, 17, dtype=torch.uint8)), None, ones, None, "a")
    for size in (5, 64):
        moved = eval_transform(size)(sample).saliency
        assert moved is not None and moved.max() <= 1 and moved.min() > 0.999
    same = Sample(
        tv_tensors.Image(torch.zeros(3, 8, 8, dtype=torch.uint8)), None, Saliency(torch.ones(8, 8)), None, "a"
    )
    moved = eval_transform(8)(same).saliency
    assert moved is not None and same.saliency is not None
    moved.zero_()
    assert same.saliency.min() == 1


def test_crop_and_pad_put_nothing_beyond_the_photograph() -> None:
    sample = Sample(
        tv_tensors.Image(torch.zeros(3, 4, 4, dtype=torch.uint8)), None, Saliency(torch.ones(4, 4)), None, "a"
    )
    padded = JointTransform(v2.Pad(2, fill=255), mask=False)(sample).saliency
    assert isinstance(padded, Saliency) and padded.shape == (1, 8, 8)
    assert padded.sum() == 16 and padded[0, 2:6, 2:6].min() == 1
    cropped = v2.functional.crop(sample.saliency, -1, 2, 6, 4)
    assert isinstance(cropped, Saliency) and cropped.shape == (1, 6, 4)
    assert cropped.sum() == 8 and cropped[0, 1:5, :2].min() == 1


def test_transforms_that_do_not_know_saliency_are_refused() -> None:
    # torchvision would pass the map through unchanged, and it would no longer lie over its image
    with pytest.raises(ValueError, match="leaves the saliency behind"):
        JointTransform(v2.CenterCrop(8), mask=False)(ramp_sample())


def test_colour_transforms_leave_saliency_alone() -> None:
    sample = ramp_sample()
    moved = JointTransform(v2.ColorJitter(0.5, 0.5), mask=True)(sample)
    assert torch.equal(moved.saliency, sample.saliency) and torch.equal(moved.mask, sample.mask)


def test_normalize() -> None:
    image = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (image.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    result = normalize(tv_tensors.Image(image))
    assert type(result) is Tensor and result.dtype == torch.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert image.dtype == torch.uint8 and torch.equal(normalize(image), result)


@pytest.mark.parametrize("image", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)])
def test_normalize_refuses(image: Tensor) -> None:
    with pytest.raises(ValueError, match="expected uint8 images"):
        normalize(image)
