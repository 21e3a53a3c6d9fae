"""The embedded scenes: the same everywhere, exact, and as hard as they say."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from attnbn.data.sample import Sample
from attnbn.data.scenes import open_scenes
from attnbn.data.scenes.canvas import Canvas, Pen
from attnbn.data.scenes.compose import NAMES, target_scene
from attnbn.data.scenes.dice import Dice
from attnbn.data.scenes.toys import TOYS
from attnbn.data.scenes.trio import BACKDROPS, LOOKS, TRIO_NAMES, trio_backdrop, trio_present, trio_scene
from attnbn.io.errors import InputError

DIGEST = """
import hashlib
from attnbn.data.scenes import open_scenes
h = hashlib.sha256()
for spec in ("source?count=4", "target?count=4&difficulty=0.7"):
    data = open_scenes(spec, split="dev", masks=True)
    for i in (3, 0, 2):
        sample = data[i]
        h.update(sample.image.numpy().tobytes() + sample.mask.numpy().tobytes() + sample.labels.numpy().tobytes())
print(h.hexdigest())
"""


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample.image.numpy().tobytes()).hexdigest()


def test_another_process_draws_the_same_pictures() -> None:
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    here = hashlib.sha256()
    for spec in ("source?count=40", "target?count=40&difficulty=0.7"):  # neither the count nor the order matters
        data = open_scenes(spec, split="dev", masks=True)
        data[17]
        for i in (3, 0, 2):
            sample = data[i]
            assert sample.mask is not None and sample.labels is not None
            here.update(
                sample.image.numpy().tobytes() + sample.mask.numpy().tobytes() + sample.labels.numpy().tobytes()
            )
    assert there == here.hexdigest() + "\n"


def test_source_and_target_are_drawn_as_ever() -> None:
    drawn = hashlib.sha256()
    for spec in ("source?count=6", "target?count=6"):
        for sample in open_scenes(spec, split="test"):
            drawn.update(sample.image.numpy().tobytes())
    assert drawn.hexdigest()[:16] == "75069609d471be2a"


def test_splits_and_seeds_share_no_picture() -> None:
    specs = [("target?count=25", split) for split in ("train", "dev", "test")]
    specs += [("target?count=25&seed=1", "train"), ("source?count=25", "train"), ("source?count=25", "dev")]
    seen = [digest(sample) for spec, split in specs for sample in open_scenes(spec, split=split)]
    assert len(set(seen)) == len(seen) == 150


def test_source_is_single_label_with_exact_saliency() -> None:
    data = open_scenes("source?count=40", split="train", masks=True)
    assert data.has_saliency and data.has_masks and data.labels is not None
    assert torch.equal(data.labels.sum(1), torch.ones(40))
    for i in range(40):
        sample = data[i]
        assert sample.saliency is not None and sample.mask is not None and sample.labels is not None
        assert sample.image.shape == (3, 96, 96) and sample.image.dtype == torch.uint8
        ident = int(sample.labels.argmax()) + 1
        saliency = sample.saliency[0]
        assert torch.equal(saliency == 1, sample.mask == ident)  # wholly covered
        assert torch.equal(saliency == 0, sample.mask == 0)  # wholly free
        assert 0.02 < saliency.mean() < 0.6


def test_target_masks_show_exactly_the_labelled_classes() -> None:
    data = open_scenes("target", split="dev", masks=True)
    assert not data.has_saliency and data.labels is not None and len(data) == 200
    for i in range(200):
        sample = data[i]
        assert sample.saliency is None and sample.mask is not None and sample.labels is not None
        counts = np.bincount(sample.mask.numpy().ravel(), minlength=256)
        assert ((counts[1:7] > 0) == sample.labels.numpy().astype(bool)).all()
        assert counts[1:7][counts[1:7] > 0].min() >= 16
        assert counts[7:255].sum() == 0
        assert torch.equal(sample.labels, data.labels[i])
    assert 0.2 < data.labels.mean() < 0.5 and data.labels.sum(1).max() == 3


def test_mask_and_coverage_equal_a_loop_over_fine_pixels() -> None:
    canvas = Canvas(20, (255, 255, 255))
    canvas.ellipse(40, 50, 30, 21, (9, 9, 9), 2)
    canvas.polygon([(10, 10), (70, 30), (30, 90)], (99, 9, 9), 5)
    canvas.rectangle(33, 40, 52, 57, (0, 200, 0))  # scenery in front hides what is behind
    fine = np.asarray(canvas._ids)
    mask, coverage = canvas.mask(), canvas.coverage()
    for y in range(20):
        for x in range(20):
            block = fine[3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
            assert mask[y, x] == (block[0, 0] if (block == block[0, 0]).all() else 255)
            assert abs(int(coverage[y, x]) - 255 * (block > 0).mean()) <= 1
    assert {0, 2, 5, 255} == set(np.unique(mask).tolist())


def test_class_subset_renumbers_and_clears_the_rest() -> None:
    whole = open_scenes("target?count=60", split="train", masks=True)
    part = open_scenes("target?count=60", split="train", masks=True, classes=["train", "boat"])
    assert part.classes == ("train", "boat") and len(part) < 60 and len(part.notes) == 1
    assert str(60 - len(part)) in part.notes[0]
    for i, name in enumerate(part.names):
        sample, full = part[i], whole[whole.names.index(name)]
        assert (
            sample.mask is not None and full.mask is not None and sample.labels is not None and full.labels is not None
        )
        assert torch.equal(sample.image, full.image)
        assert torch.equal(sample.mask == 1, full.mask == NAMES.index("train") + 1)
        assert torch.equal(sample.mask == 2, full.mask == NAMES.index("boat") + 1)
        assert torch.equal(sample.mask == 255, full.mask == 255)
        assert sample.labels.tolist() == [float(full.labels[NAMES.index(n)]) for n in part.classes]
        assert sample.labels.sum() > 0


def test_labels_left_out_are_absent() -> None:
    data = open_scenes("target?count=3", split="train", labels=False)
    assert data.labels is None and data[0].labels is None and data[0].mask is None


@pytest.mark.parametrize("size", [48, 128])
def test_other_sizes_draw_the_same_scene(size: int) -> None:
    data, usual = (open_scenes("target?count=6", split="train", masks=True, size=s) for s in (size, 96))
    for i in range(6):
        small, big = data[i].mask, usual[i].mask
        assert small is not None and big is not None and small.shape == (size, size)
        assert abs((small == 0).float().mean() - (big == 0).float().mean()) < 0.06


def test_difficulty_ties_scenery_to_classes_and_darkens() -> None:
    easy, hard = ([target_scene(Dice(7, i), 32, d).image.mean() for i in range(20)] for d in (0.0, 1.0))
    assert np.mean(hard) < 0.85 * np.mean(easy)


def test_every_toy_fills_its_box_and_has_a_context_of_its_own() -> None:
    assert len({toy.context for toy in TOYS.values()}) == len(TOYS)
    for toy in TOYS.values():
        canvas = Canvas(96, (255, 255, 255))
        toy.draw(Pen(canvas, 48, 90, 30, 1), (200, 80, 80), (80, 80, 200))
        rows, columns = np.nonzero(canvas.coverage())
        assert abs((rows.max() - rows.min()) - toy.height * 30) < 6
        assert 50 < columns.max() - columns.min() < 68


def test_pen_mirrors_and_tilts_about_the_standing_point() -> None:
    def drawn(**how: object) -> np.ndarray:
        canvas = Canvas(96, (255, 255, 255))
        Pen(canvas, 48, 48, 10, 1, **how).polygon([(0, 0), (3, 0), (0, 1)], (0, 0, 0))  # type: ignore[arg-type]
        return canvas.coverage() > 127

    plain, mirrored, tilted = drawn(), drawn(mirror=True), drawn(tilt=90)
    assert plain[40:48, 48:78].sum() > 60 and plain[:, :47].sum() == 0
    assert (mirrored != plain[:, ::-1]).sum() < 60
    assert tilted[49:80, 48:59].sum() > 100 and tilted[:47].sum() == 0


def test_dice_are_fair_and_repeatable() -> None:
    dice, again = Dice(1, 2), Dice(1, 2)
    draws = [dice.whole(0, 5) for _ in range(6000)]
    assert draws == [again.whole(0, 5) for _ in range(6000)]
    counts = np.bincount(draws)
    assert len(counts) == 6 and counts.min() > 880 and counts.max() < 1120
    assert sorted(dice.order("abcde")) == list("abcde")
    grain = dice.grain((50, 61))
    assert grain.shape == (50, 61) and abs(grain.mean()) < 3 and 45 < grain.std() < 60


@pytest.mark.parametrize("name", LOOKS)
def test_each_look_shows_one_toy_with_its_exact_saliency(name: str) -> None:
    data = open_scenes(f"{name}?count=24", split="train", masks=True)
    assert data.classes == TRIO_NAMES and data.has_saliency and data.labels is not None
    assert torch.equal(data.labels.sum(1), torch.ones(24)) and (data.labels.sum(0) > 0).all()
    for i in range(24):
        sample, ident = data[i], int(data.labels[i].argmax()) + 1
        assert sample.saliency is not None and sample.mask is not None
        assert torch.equal(sample.saliency[0] == 1, sample.mask == ident)
        assert torch.equal(sample.saliency[0] == 0, sample.mask == 0)
        assert 0.05 < sample.saliency.mean() < 0.5


def test_looks_differ_and_share_no_picture() -> None:
    seen = [
        digest(s) for name in LOOKS for split in ("train", "test") for s in open_scenes(f"{name}?count=8", split=split)
    ]
    assert len(set(seen)) == 48
    tones = {name: trio_scene(Dice(3), 96, name, 0.8).image.reshape(-1, 3) for name in LOOKS}
    # a print has a few flat tones of two inks, and pixels on the toy's edge between them
    common = {name: np.unique(pixels, axis=0, return_counts=True)[1] for name, pixels in tones.items()}
    assert np.sort(common["print"])[-6:].sum() > 0.85 * 96 * 96 > 2 * np.sort(common["dusk"])[-6:].sum()
    assert tones["dusk"].mean() < 0.9 * tones["studio"].mean()


@pytest.mark.parametrize(("bias", "expected"), [(0.0, 0.0), (0.25, 0.25), (0.8, 0.8), (1.0, 1.0)])
def test_a_class_comes_with_its_backdrop_at_the_rate_of_the_bias(bias: float, expected: float) -> None:
    own = {name: [] for name in LOOKS}
    others: list[int] = []
    for name, look in LOOKS.items():
        for i in range(1200):
            dice = Dice(5, i)
            (index,) = trio_present(dice)
            drawn = trio_backdrop(dice, index, look.shift, bias)
            own[name].append(drawn == (index + look.shift) % 4)
            others += [(drawn - index - look.shift) % 4] * (not own[name][-1])
        assert abs(np.mean(own[name]) - expected) < 0.04
    if others:  # the other backdrops are alike
        assert np.bincount(others, minlength=4)[1:].min() > 0.28 * len(others)


def test_no_class_has_one_backdrop_in_two_domains() -> None:
    for index in range(len(TRIO_NAMES)):
        assert len({(index + look.shift) % len(BACKDROPS) for look in LOOKS.values()}) == len(LOOKS)


def test_bias_moves_the_backdrop_alone() -> None:
    low, high = (open_scenes(f"dusk?count=20&bias={bias}", split="train") for bias in (0, 1))
    assert low.labels is not None and high.labels is not None and torch.equal(low.labels, high.labels)
    assert all(digest(low[i]) != digest(high[i]) for i in range(20))


@pytest.mark.parametrize(
    ("spec", "keywords", "message"),
    [
        ("garden", {}, "scenes:dusk or scenes:print, got scenes:garden"),
        (
            "target?count=0",
            {},
            "expected a whole number from 1 to 10000000 for count, got '0': scenes:target[?]count=0",
        ),
        ("target?count=2.5", {}, "whole number .* for count, got '2.5'"),
        ("target?difficulty=1.5", {}, "a number from 0 to 1 for difficulty, got '1.5'"),
        ("target?difficulty=nan", {}, "a number from 0 to 1 for difficulty, got 'nan'"),
        ("target?seed=-1", {}, "for seed, got '-1'"),
        ("target?seed=", {}, "for seed, got ''"),
        ("target?hard=1", {}, "expected an option among count, seed, difficulty, got 'hard'"),
        ("target?bias=0.5", {}, "expected an option among count, seed, difficulty, got 'bias'"),
        ("dusk?difficulty=0.5", {}, "expected an option among count, seed, bias, got 'difficulty'"),
        ("print?bias=2", {}, "a number from 0 to 1 for bias, got '2'"),
        ("dusk", {"classes": ["boat", "car"]}, "no class 'car'; they have balloon, boat, sheep, tent: scenes:dusk"),
        ("target", {"split": "val"}, "one of train, dev, test, got 'val'"),
        ("target", {"classes": ["boat", "dog"]}, "no class 'dog'; they have balloon, boat"),
        ("target", {"classes": ["boat", "boat"]}, "each once, got boat, boat"),
        ("target", {"classes": []}, "one or more classes, each once, got none"),
        ("target", {"size": 8}, "at least 16 pixels, got 8"),
    ],
)
def test_bad_specifications_say_what_was_expected(spec: str, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_scenes(spec, **{"split": "train", **keywords})  # type: ignore[arg-type]
