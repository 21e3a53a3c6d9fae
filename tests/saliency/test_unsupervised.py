"""The weight-free detector on drawn pictures: what it finds, what it leaves, and odd shapes."""

import json
import pickle

import numpy as np
import pytest
import torch
from scipy import ndimage

from attnbn.saliency.scores import score, standardised
from attnbn.saliency.unsupervised import UnsupervisedDetector, confidence, saliency_map


def scene(height=90, width=120, seed=0, colour=(200, 80, 60), place=(45, 55), radii=(22, 30)):
    """An ellipse on shaded, noisy ground, and where it is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((y - place[0]) / radii[0]) ** 2 + ((x - place[1]) / radii[1]) ** 2 < 1
    ground = np.array([70, 120, 70]) + 40 * (y / height)[..., None]
    pixels = np.where(inside[..., None], colour, ground) + random.normal(0, 10, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), inside


def tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


def found(pixels):
    return UnsupervisedDetector().of(tensor(pixels), "x")[0].numpy()


@pytest.mark.parametrize("colour", [(200, 80, 60), (240, 240, 240), (30, 30, 60)])
def test_the_object_is_covered_and_the_ground_is_not(colour):
    pixels, inside = scene(colour=colour)
    saliency = found(pixels)
    core, far = ndimage.binary_erosion(inside, iterations=4), ~ndimage.binary_dilation(inside, iterations=4)
    assert saliency[core].mean() > 0.9 and saliency[core].min() > 0.5
    assert saliency[far].mean() < 0.05


def test_an_object_of_two_colours_that_the_frame_cuts_is_covered():
    pixels, inside = scene(place=(70, 60), radii=(40, 24))
    half = inside & (np.arange(120) < 60)
    pixels[half] = (60, 60, 190)
    saliency = found(pixels)
    assert saliency[inside].mean() > 0.7 and saliency[~inside].mean() < 0.1


def test_where_nothing_stands_out_the_map_is_low():
    random = np.random.default_rng(0)
    plain = np.full((80, 100, 3), 128, np.uint8)
    assert not found(plain).any()
    assert not found(np.zeros_like(plain)).any()
    grain = np.clip(plain + random.normal(0, 5, plain.shape), 0, 255).astype(np.uint8)
    assert found(grain).max() < 0.05
    ramp = np.linspace(0, 255, 100)[None, :, None].repeat(80, 0).repeat(3, 2).astype(np.uint8)
    assert found(ramp).max() < 0.05
    meadow = grain.copy()
    meadow[:40], meadow[40:] = (120, 170, 230), (60, 130, 50)
    assert found(meadow).max() < 0.1


def test_confidence_rises_from_0_to_1():
    values = [confidence(distance) for distance in (0, 2, 5, 10, 20, 40, 1e6)]
    assert values == sorted(values) and values[0] == 0 and values[-1] == 1
    assert values[3] == pytest.approx(1 - np.exp(-0.5))


def test_a_plain_frame_is_left_at_0():
    pixels, _ = scene()
    whole = np.full((110, 140, 3), 255, np.uint8)
    whole[10:100, 10:130] = pixels
    saliency = found(whole)
    assert saliency[:8].max() < 0.02 and saliency[:, -8:].max() < 0.02
    assert np.abs(saliency[10:100, 10:130] - found(pixels)).mean() < 0.03


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (300, 1), (2, 2), (3, 5), (20, 2000), (37, 53)])
def test_odd_shapes_have_maps_in_range(size):
    random = np.random.default_rng(0)
    image = torch.from_numpy(random.integers(0, 256, (3, *size)).astype(np.uint8))
    detector = UnsupervisedDetector()
    saliency = detector.of(image, "odd")
    assert saliency.shape == (1, *size) and saliency.dtype == torch.float32
    assert torch.isfinite(saliency).all() and saliency.min() >= 0 and saliency.max() <= 1


def test_of_is_prepare_and_maps():
    pixels, _ = scene()
    detector = UnsupervisedDetector()
    prepared = detector.prepare(tensor(pixels))
    assert prepared.dtype == np.float32 and prepared.ndim == 3 and len(prepared) == 1
    maps = detector.maps([prepared], ["a"])
    assert maps.shape == (1, *prepared.shape) and maps.dtype == torch.float32
    assert np.array_equal(maps[0].numpy(), prepared)
    assert detector.batch == 1


def test_the_same_photograph_has_the_same_map_also_after_pickling():
    image = tensor(scene()[0])
    detector = UnsupervisedDetector()
    copy = pickle.loads(pickle.dumps(detector))
    assert torch.equal(detector.of(image, "a"), copy.of(image, "b"))
    assert copy.identity() == detector.identity() == json.loads(json.dumps(detector.identity()))


def test_the_photograph_is_left_as_it_was():
    image = tensor(scene()[0])
    before = image.clone()
    UnsupervisedDetector().of(image, "a")
    assert torch.equal(image, before)


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.rot90])
def test_a_turned_photograph_has_the_turned_map(turn):
    pixels, _ = scene(height=96, width=96, place=(40, 50))
    assert np.abs(found(np.ascontiguousarray(turn(pixels))) - turn(found(pixels))).mean() < 0.02


def test_the_size_of_a_photograph_hardly_matters():
    pixels, _ = scene()
    large = pixels.repeat(8, 0).repeat(8, 1)
    assert saliency_map(large).size < 60_000
    assert np.abs(found(large)[::8, ::8] - found(pixels)).mean() < 0.03


def test_of_a_huge_photograph_every_nth_pixel_is_read():
    pixels, _ = scene()
    huge = pixels.repeat(24, 0).repeat(24, 1)  # 6 million
    assert np.abs(found(huge)[::24, ::24] - found(pixels)).mean() < 0.03


def test_grey_photographs_work_and_hue_does_not_decide():
    pixels, inside = scene(colour=(230, 230, 230))
    grey = pixels.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
    saliency = found(grey)
    assert saliency[inside].mean() > 0.8 and saliency[~inside].mean() < 0.1


def test_scores_reach_from_0_to_1_or_are_0():
    random = np.random.default_rng(0)
    scores, seclusion = score(random.uniform(0, 80, (48, 60, 3)), (4, 5))
    assert scores.shape == (48, 60) and scores.min() == 0 and scores.max() == 1 and seclusion > 0
    scores, seclusion = score(np.full((48, 60, 3), 40.0), (4, 5))
    assert not scores.any() and seclusion == 0
    scores, seclusion = score(random.uniform(0, 80, (12, 12, 3)), (1, 1))
    assert not scores.any() and seclusion == 0


def test_constant_features_are_not_blown_up():
    features = np.c_[np.full(5, 3.0), np.arange(5.0)]
    assert standardised(features)[:, 0].tolist() == [0] * 5
    assert standardised(features)[:, 1].std() == pytest.approx(1)
