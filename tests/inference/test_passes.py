"""Several looks at a photograph: the averages and fusions of a plain loop, in one pass each, leaving no trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.data.transforms import eval_transform, normalize
from attnbn.evaluation.confusion import mean_iou
from attnbn.evaluation.direct import ThresholdCurve
from attnbn.inference.attend import attend
from attnbn.inference.evaluate import evaluate, summary
from attnbn.inference.maps import full_size, max_normalized
from attnbn.inference.passes import Passes, check_passes
from attnbn.inference.photographs import Photographs, list_photographs
from attnbn.inference.predict import Prediction, predict
from attnbn.io.errors import InputError, RunError
from attnbn.models.network import AttnBN, TappedClassifier
from conftest import tiny_network

LOOKS: list[dict[str, Any]] = [
    {"flip": True},
    {"scales": (1.5,)},
    {"scales": (0.75, 1.0, 1.25)},
    {"scales": (0.5, 1), "flip": True},
]


def bridge(dataset: ImageDataset | None = None) -> AttnBN:
    """A network; its scores of the data set lie about zero, so that passes disagree on the classes."""
    net = tiny_network(hidden=6, width=8)
    if dataset is not None:
        scores = torch.stack([p.scores for p in predict(net, dataset, size=32)])
        with torch.no_grad():
            net.head.after[-1].bias.sub_(scores.median(0).values)
    return net


def unit(map_: np.ndarray) -> np.ndarray:
    return map_ / map_.max() if map_.max() > 0 else map_


def by_hand(net: nn.Module, sample: Sample, look: dict[str, Any], labelled: bool = False) -> tuple[Any, ...]:
    """Scores, classes and maps of one photograph, pass by pass and class by class, with the classes of each pass."""
    net.eval()
    views = []
    for scale in look.get("scales", (1.0,)):
        image = normalize(eval_transform(int(32 * scale))(sample).image)[None]
        views += [(image, False), (image.flip(-1), True)] if look.get("flip") else [(image, False)]
    with torch.no_grad():
        each = np.stack([net(image).scores[0].double().numpy() for image, _ in views])
        scores = each.mean(0)
        classes = [c for c in range(3) if (sample.labels[c] == 1 if labelled else scores[c] > 0)]
        classes = classes if classes or labelled else [int(scores.argmax())]
        maps = []
        for c in classes:
            seen = []
            for image, mirrored in views:
                m = unit(net(image, torch.tensor([c])).attention[0].double().numpy())
                seen.append(m[:, ::-1].copy() if mirrored else m)
            side = max(len(m) for m in seen)
            grown = [full_size(torch.from_numpy(m)[None], (side, side))[0].numpy() for m in seen]
            maps.append(unit(sum(grown) / len(grown)))
    return scores, classes, maps, [{c for c in range(3) if one[c] > 0} for one in each]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("labelled", [False, True])
def test_equals_a_loop_over_passes(make_pictures: Any, look: dict[str, Any], labelled: bool) -> None:
    dataset = make_pictures(10)
    net = bridge(dataset)
    got = list(predict(net, dataset, size=32, batch_size=4, attend="labels" if labelled else "predicted", **look))
    disagreed = 0
    for i, prediction in enumerate(got):
        scores, classes, maps, passes = by_hand(net, dataset[i], look, labelled)
        np.testing.assert_allclose(prediction.scores.numpy(), scores, atol=1e-5)
        assert prediction.classes.tolist() == classes
        assert prediction.maps.dtype == torch.float32
        for mine, theirs in zip(prediction.maps, maps, strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs, atol=2e-4)
        disagreed += any(p != set(classes) for p in passes)
    if len(look.get("scales", ())) > 1 and not labelled:
        assert disagreed  # else the test would not see whether classes come from a pass or from the average


@pytest.mark.parametrize("look", LOOKS)
def test_any_network_with_the_call_gives_the_same(make_pictures: Any, look: dict[str, Any]) -> None:
    """One whose layers cannot be captured is run a second time for its maps."""
    net = bridge(make_pictures(6))

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, images: Tensor, attend: Any = None) -> Any:
            return self.inner(images, attend)

    tapped = TappedClassifier(nn.Sequential(net.trunk, net.head), "0")
    expected = list(predict(net, make_pictures(6), size=32, **look))
    for other in (Wrapped(), tapped):
        for a, b in zip(predict(other, make_pictures(6), size=32, **look), expected, strict=True):
            torch.testing.assert_close(a.scores, b.scores)
            assert torch.equal(a.classes, b.classes)
            torch.testing.assert_close(a.maps, b.maps, atol=1e-5, rtol=1e-4)


class Mirrored(ImageDataset):
    def __init__(self, dataset: ImageDataset) -> None:
        super().__init__(dataset.classes, dataset.names, None)
        self.dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return replace(sample, image=type(sample.image)(sample.image.flip(-1)), mask=None)


@pytest.mark.parametrize("layers", [("last",), ("trunk.1", "last")])
def test_flipped_a_mirror_image_gives_the_mirrored_maps(make_pictures: Any, layers: tuple[str, ...]) -> None:
    look: dict[str, Any] = {"scales": (0.75, 1), "flip": True, "layers": layers}
    dataset, net = make_pictures(5), bridge()
    for a, b in zip(predict(net, dataset, size=32, **look), predict(net, Mirrored(dataset), size=32, **look),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a.scores, b.scores)
        assert torch.equal(a.classes, b.classes)
        torch.testing.assert_close(a.maps, b.maps.flip(-1), atol=1e-5, rtol=1e-4)


def test_one_walk_through_the_trunk_for_each_pass(make_pictures: Any) -> None:
    net, sides = bridge(), []
    net.trunk.register_forward_hook(lambda _module, inputs, _output: sides.append(inputs[0].shape[-1]))
    list(predict(net, make_pictures(3), size=32, scales=(1.5, 1), flip=True, layers=("trunk.1", "last")))
    assert sides == [48, 48, 32, 32]


def test_layers_come_to_the_finest_grid(make_pictures: Any) -> None:
    net, dataset = bridge(), make_pictures(4)
    for fuse in ("mean", "product"):
        got = list(predict(net, dataset, size=32, layers=("trunk.1", "last"), fuse=fuse))
        fine = list(predict(net, dataset, size=32, layers=("trunk.1",)))
        last = list(predict(net, dataset, size=32))
        for g, f, l in zip(got, fine, last, strict=True):
            a, b = f.maps, full_size(l.maps, (32, 32))
            expected = (a + b) / 2 if fuse == "mean" else (a * b).sqrt()
            torch.testing.assert_close(g.maps, max_normalized(expected), atol=1e-5, rtol=1e-4)
            assert torch.equal(g.scores, l.scores)
            assert g.maps.shape[1:] == (32, 32)


def same(got: list[Prediction], expected: list[Prediction]) -> bool:
    return all(
        torch.equal(a.maps, b.maps) and torch.equal(a.scores, b.scores) for a, b in zip(got, expected, strict=True)
    )


def test_a_single_look_is_the_networks_own_pass_to_the_bit(make_pictures: Any) -> None:
    net, dataset = bridge(), make_pictures(5)
    usual = list(predict(net, dataset, size=32))
    for look in ({"scales": [1]}, {"layers": ["last"]}, {"fuse": "product"}, {"flip": False}):
        assert same(list(predict(net, dataset, size=32, **look)), usual)
    assert same(list(predict(net, dataset, size=32, scales=(1.5,))), list(predict(net, dataset, size=48)))


def test_workers_and_inference_mode_change_nothing(make_pictures: Any) -> None:
    look: dict[str, Any] = {"scales": (0.5, 1), "flip": True, "layers": ("trunk.1", "last"), "size": 32}
    net, dataset = bridge(), make_pictures(5)
    alone = list(predict(net, dataset, **look, batch_size=2))
    assert same(list(predict(net, dataset, **look, batch_size=2, workers=2)), alone)
    with torch.inference_mode():
        inside = list(predict(net, dataset, **look, batch_size=2))
    assert same(inside, alone)


def test_leaves_modes_random_state_hooks_and_gradients_as_they_were(make_pictures: Any) -> None:
    net = bridge().train()
    net.trunk.eval()  # frozen on purpose
    state, modes = torch.get_rng_state(), [m.training for m in net.modules()]
    for _ in predict(net, make_pictures(5), size=32, batch_size=2, scales=(0.5, 1), flip=True, layers=("trunk.1",)):
        assert torch.is_grad_enabled()
        assert [m.training for m in net.modules()] == modes
    with pytest.raises(InputError):
        list(predict(net, make_pictures(3), size=32, layers=("head.first",)))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


def test_not_finite_in_any_pass_names_the_photograph(make_pictures: Any) -> None:
    net = bridge()

    def spoil(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if inputs[0].shape[-1] == 16:
            output = output.clone()
            output[0, :, 0, 0] = float("inf")
        return output

    net.trunk[1].register_forward_hook(spoil)
    list(predict(net, make_pictures(2), size=32, flip=True))
    with pytest.raises(RunError, match=r"finite scores and attention.*: picture0"):
        list(predict(net, make_pictures(2), size=32, scales=(1, 0.5)))


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"scales": ()}, "expected one or more --scales, all different, got none"),
        ({"scales": (1, 0.5, 1.0)}, "all different, got 1 0.5 1"),
        ({"scales": (0.0, 1)}, r"--scales as factors on the run's own size, above 0 and at most 8, got 0 1"),
        ({"scales": (float("nan"),)}, "above 0 and at most 8, got nan"),
        ({"scales": (288,)}, "above 0 and at most 8, got 288"),
        ({"layers": "last"}, "expected a list of --layers, got 'last'"),
        ({"layers": ("last", "last")}, "--layers, all different, got last last"),
        ({"layers": ("trunk.7",)}, "expected --layers to name layers of the network"),
        ({"fuse": "max"}, "expected --fuse to be one of mean, product, got max"),
        ({"scales": (1, 0.06)}, r"that leave the network enough pixels, got 0.06 \(2×2 pixels\): .*too small"),
    ],
)
def test_bad_looks_are_refused_before_anything_is_read(make_pictures: Any, look: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list(predict(bridge(), make_pictures(3, deadly=True), size=32, **look))
    assert "\n" not in str(error.value)


def test_other_layers_of_a_network_of_another_make(net: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(InputError, match="expected an AttnBN network.*got TinyNet"):
        list(predict(net, make_pictures(1), size=32, layers=("trunk",)))
    check_passes(net, Passes((0.5, 1), True), 32)


def test_settings_are_plain_and_only_what_differs_is_changed() -> None:
    assert Passes([1.0], layers=["last"]).changed() == {}
    passes = Passes((0.75, 1), True, ("trunk.1", "last"), "product")
    assert json.loads(json.dumps(passes.settings())) == passes.settings() == passes.changed()
    assert passes.sides(288) == [216, 288]
    assert Passes(flip=True).changed() == {"flip": True}


@pytest.mark.parametrize("look", [{}, {"scales": (0.75, 1), "flip": True}])
def test_evaluation_of_given_labels_leaves_recognition_out(make_pictures: Any, look: dict[str, Any]) -> None:
    dataset = make_pictures(12)
    net = bridge(dataset)
    dataset.labels[1] = 0  # shows none of the classes: all background
    evaluation = evaluate(net, dataset, size=32, **look)
    hits = torch.zeros(4, 4, dtype=torch.int64)
    for p in predict(net, dataset, size=32, attend="labels", **look):
        assert p.classes.tolist() == [c for c in range(3) if p.labels[c] == 1]
        pixels, order = full_size(p.maps, p.size) >= 0.3, p.scores[p.classes].argsort()
        mask = torch.zeros(p.size, dtype=torch.int64)
        for k in order.tolist():
            mask[pixels[k]] = int(p.classes[k]) + 1
        for t, m in zip(p.mask.flatten().tolist(), mask.flatten().tolist(), strict=True):
            if t != 255:
                hits[t, m] += 1
    assert torch.equal(evaluation.given.at(0.3), hits)
    assert not torch.equal(evaluation.given.counts, evaluation.curve.counts)
    assert summary(evaluation, threshold=0.3)["given_labels"]["miou"] == pytest.approx(float(mean_iou(hits)), abs=1e-12)
    alone = ThresholdCurve(4)
    for p in predict(net, dataset, size=32, **look):
        alone.update(full_size(p.maps, p.size), p.scores[p.classes], p.classes, p.mask, p.name)
    assert torch.equal(evaluation.curve.counts, alone.counts)  # the labelled classes' maps change nothing in it


def test_attend_keeps_results_of_other_looks_apart(photographs: Path, tmp_path: Path) -> None:
    net, out = bridge(), tmp_path / "out"

    def go(**look: Any) -> Any:
        return attend(net, [photographs], out, ("cat", "dog", "sheep"), size=32, **look)

    def manifest() -> dict[str, Any]:
        return dict(json.loads((out / "attend.json").read_text()))

    go()
    assert not {"scales", "flip", "layers", "fuse"} & set(manifest())  # folders of before are taken up as they were
    with pytest.raises(InputError, match=r"\(scales, flip differ\)"):
        go(scales=(0.5, 1), flip=True)
    assert go(scales=(0.5, 1), flip=True, overwrite=True).written == 5
    assert (manifest()["scales"], manifest()["flip"]) == ([0.5, 1], True)
    assert go(scales=(0.5, 1), flip=True).skipped == 5
    with pytest.raises(InputError, match=r"\(scales, flip differ\)"):
        go()
    dataset = Photographs(list_photographs([photographs / "a.jpg"]), ("cat", "dog", "sheep"))
    prediction = next(predict(net, dataset, size=32, scales=(0.5, 1), flip=True))
    expected = full_size(prediction.maps, prediction.size).numpy().astype(np.float16)
    with np.load(out / "maps" / "a.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["maps"], expected, atol=1e-3)


def test_double_precision(make_pictures: Any) -> None:
    look: dict[str, Any] = {"size": 32, "scales": (0.5, 1), "layers": ("trunk.1", "last")}
    single = list(predict(bridge(), make_pictures(3), **look))
    double = list(predict(bridge().double(), make_pictures(3), **look))
    for a, b in zip(double, single, strict=True):
        assert a.scores.dtype == a.maps.dtype == torch.float32
        torch.testing.assert_close(a.maps, b.maps, atol=1e-4, rtol=1e-3)
