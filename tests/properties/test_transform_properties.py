"""Joint transforms on pictures of any size, single pixels too: the parts stay together, and the seed decides all."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from attnbn.data.collate import collate
from attnbn.data.sample import Saliency, Sample
from attnbn.data.transforms import IMAGENET_MEAN, IMAGENET_STD, eval_transform, normalize, seeded, train_transform
from properties.draws import SEEDS, images, uniform

settings.load_profile("properties")

SIDES = st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 80))
SIZES = st.sampled_from([2, 7, 16, 33])
SCALES = st.sampled_from([(0.5, 1.0), (1.0, 1.0), (0.01, 0.02)])


def plain(part: Tensor | None) -> Tensor:
    assert part is not None
    return part.as_subclass(Tensor)


def ramp(height: int, width: int) -> Sample:
    """All parts show one smooth slope, down and to the right."""
    y = torch.linspace(0, 1, height)[:, None] if height > 1 else torch.full((1, 1), 0.5)
    x = torch.linspace(0, 1, width)[None] if width > 1 else torch.full((1, 1), 0.5)
    slope = (x + 2 * y) / 3
    image = (slope * 255).round().to(torch.uint8).expand(3, -1, -1).contiguous()
    mask = tv_tensors.Mask((slope * 250).round().to(torch.uint8))
    return Sample(tv_tensors.Image(image), torch.ones(2), Saliency(slope), mask, "ramp")


@given(SIDES, SIDES, SIZES, SCALES, st.booleans(), SEEDS)
def test_parts_stay_together_whatever_the_size(
    height: int, width: int, size: int, scale: tuple[float, float], flip: bool, seed: int
) -> None:
    sample = ramp(height, width)
    moved = seeded(train_transform(size, scale, flip), seed)(sample)
    assert moved.image.shape == (3, size, size) and moved.image.dtype == torch.uint8
    assert moved.saliency is not None and moved.saliency.shape == (1, size, size) and moved.mask.shape == (size, size)
    saliency = plain(moved.saliency)[0]
    assert bool(((saliency >= 0) & (saliency <= 1)).all())
    assert float((plain(moved.image)[0] / 255 - saliency).abs().max()) < 0.02
    # the nearest pixel may lie a step of the slope, or of the result's grid, away
    step = (1 / max(width - 1, 1) + 2 / max(height - 1, 1)) / 3 + 1 / size
    assert float((plain(moved.mask) / 250 - saliency).abs().max()) < step + 0.02
    assert set(plain(moved.mask).unique().tolist()) <= set(plain(sample.mask).unique().tolist())  # no id is made up
    assert moved.name == sample.name and moved.labels is sample.labels
    fresh = ramp(height, width)
    assert all(
        torch.equal(plain(getattr(sample, part)), plain(getattr(fresh, part))) for part in ("image", "saliency", "mask")
    )


@given(SIDES, SIDES, SIZES, SEEDS, SEEDS)
def test_a_sample_is_a_function_of_its_seed_alone(height: int, width: int, size: int, seed: int, other: int) -> None:
    sample, transform = ramp(height, width), train_transform(size)
    torch.manual_seed(other)
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    first = seeded(transform, seed)(sample)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    seeded(transform, other)(ramp(3, 5))
    torch.rand(seed % 5)
    again = seeded(train_transform(size), seed)(ramp(height, width))
    for part in ("image", "saliency", "mask"):
        assert torch.equal(plain(getattr(first, part)), plain(getattr(again, part)))


@given(SIDES, SEEDS, SEEDS)
def test_the_whole_of_a_square_is_itself_or_its_mirror_image(side: int, seed: int, pixels: int) -> None:
    image = tv_tensors.Image(images(pixels, 3, side, side))
    saliency = Saliency(uniform(pixels, side, side, dtype=torch.float32))
    sample = Sample(image, None, saliency, tv_tensors.Mask(images(pixels + 1, side, side)), "square")
    same = eval_transform(side)(sample)
    assert torch.equal(plain(same.image), plain(image)) and torch.equal(plain(same.saliency), plain(saliency))
    moved = seeded(train_transform(side, scale=(1.0, 1.0)), seed)(sample)
    whole = [
        all(torch.equal(plain(getattr(moved, part)), turn(plain(getattr(sample, part)))) for part in
            ("image", "saliency", "mask"))
        for turn in (lambda t: t, lambda t: t.flip(-1))
    ]  # fmt: skip
    assert any(whole) or side > 1  # of larger ones another shape may be cropped


@given(SIDES, SIDES, SIZES)
def test_looking_at_the_whole_leaves_the_mask_and_follows_mirror_images(height: int, width: int, size: int) -> None:
    sample = ramp(height, width)
    seen = eval_transform(size)(sample)
    assert seen.image.shape == (3, size, size) and torch.equal(plain(seen.mask), plain(sample.mask))
    mirrored = Sample(
        tv_tensors.Image(plain(sample.image).flip(-1)), None, Saliency(plain(sample.saliency).flip(-1)), None, "m"
    )
    turned = eval_transform(size)(mirrored)
    difference = plain(turned.image).flip(-1).int() - plain(seen.image).int()
    assert int(difference.abs().max()) <= 1
    torch.testing.assert_close(plain(turned.saliency).flip(-1), plain(seen.saliency), atol=1e-5, rtol=0)


@given(st.lists(st.tuples(SIDES, SIDES, st.booleans()), min_size=1, max_size=4), SIZES, SEEDS)
def test_samples_of_any_sizes_become_a_batch(parts: list[tuple[int, int, bool]], size: int, seed: int) -> None:
    samples = [seeded(train_transform(size), seed + i)(ramp(h, w)) for i, (h, w, _) in enumerate(parts)]
    given_ = [s if has else Sample(s.image, s.labels, None, None, s.name) for s, (_, _, has) in
              zip(samples, parts, strict=True)]  # fmt: skip
    batch = collate(given_)
    assert batch.has_saliency.tolist() == [has for _, _, has in parts]
    assert (batch.saliency is None) == (not any(has for _, _, has in parts))
    for i, sample in enumerate(given_):
        assert torch.equal(batch.image[i], plain(sample.image))
        if batch.saliency is not None:
            zero = torch.zeros(1, size, size)
            assert torch.equal(batch.saliency[i], zero if sample.saliency is None else plain(sample.saliency))


@given(st.lists(st.integers(0, 3), max_size=2), SIDES, SIDES, SEEDS)
def test_normalising_is_undone_by_its_inverse(leading: list[int], height: int, width: int, seed: int) -> None:
    image = images(seed, *leading, 3, height, width)
    made = normalize(image)
    assert made.dtype == torch.float32 and made.shape == image.shape
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.equal(((made * std + mean) * 255).round().to(torch.uint8), image)
