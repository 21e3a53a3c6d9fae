"""Prediction: right values in order, whatever the number of workers, and no trace left behind."""

import os
from typing import Any

import pytest
import torch
from torch import nn

from attnbn.data.transforms import eval_transform, normalize
from attnbn.inference.maps import full_size
from attnbn.inference.predict import Prediction, predict
from attnbn.io.errors import InputError, RunError


def one_by_one(net: nn.Module, dataset: Any, labelled: bool = False) -> list[Prediction]:
    """The same by a plain loop, image by image and map by map."""
    net.eval()
    result = []
    for i in range(len(dataset)):
        sample = dataset[i]
        with torch.no_grad():
            image = normalize(eval_transform(32)(sample).image[None])
            scores = net(image).scores[0]
            if labelled:
                classes = [c for c in range(3) if sample.labels[c] == 1]
            else:
                classes = [c for c in range(3) if torch.sigmoid(scores[c]) > 0.5] or [int(scores.argmax())]
            maps = []
            for c in classes:
                wanted = torch.zeros(1, 3)
                wanted[0, c] = 1
                m = net(image, wanted).attention[0]
                maps.append(m / m.max() if m.max() > 0 else m)
        size = tuple(sample.image.shape[-2:])
        result.append(
            Prediction(sample.name, size, scores, torch.tensor(classes), torch.stack(maps), sample.mask, sample.labels)
        )
    return result


def assert_same(got: list[Prediction], expected: list[Prediction], exact: bool = False) -> None:
    assert [p.name for p in got] == [p.name for p in expected]
    for a, b in zip(got, expected, strict=True):
        assert a.size == b.size
        assert a.classes.tolist() == b.classes.tolist()
        tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(a.scores, b.scores, **tolerance)
        torch.testing.assert_close(a.maps, b.maps, **tolerance)
        if b.mask is not None:
            assert torch.equal(a.mask, torch.as_tensor(b.mask))
        if b.labels is not None:
            torch.testing.assert_close(a.labels, b.labels, equal_nan=True)


@pytest.mark.parametrize("labelled", [False, True])
def test_equals_a_loop_over_photographs(net: nn.Module, make_pictures: Any, labelled: bool) -> None:
    dataset = make_pictures(7)
    got = list(predict(net, dataset, size=32, batch_size=3, attend="labels" if labelled else "predicted"))
    assert_same(got, one_by_one(net, dataset, labelled))
    assert all(p.maps.dtype == torch.float32 and p.maps.min() >= 0 and p.maps.max() <= 1 for p in got)
    assert type(got[0].mask) is torch.Tensor


def test_workers_change_nothing(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(9)
    alone = list(predict(net, dataset, size=32, batch_size=2))
    assert_same(list(predict(net, dataset, size=32, batch_size=2, workers=2)), alone, exact=True)


def test_indices_choose_and_order(net: nn.Module, make_pictures: Any) -> None:
    names = [p.name for p in predict(net, make_pictures(6), size=32, indices=[4, 1], batch_size=1)]
    assert names == ["picture4", "picture1"]
    assert list(predict(net, make_pictures(6), size=32, indices=[])) == []


def test_leaves_modes_random_state_and_gradients_as_they_were(net: nn.Module, make_pictures: Any) -> None:
    net.train()
    net.trunk.eval()  # frozen on purpose
    state = torch.get_rng_state()
    for _ in predict(net, make_pictures(5), size=32, batch_size=2):
        assert torch.is_grad_enabled()
        assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in (net, net.trunk, net.drop, net.last)] == [True, False, True, True]
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_photographs(net: nn.Module, make_pictures: Any, workers: int) -> None:
    dataset = make_pictures(7, bad=(1, 2, 5))
    with pytest.raises(InputError, match=r"^expected a photograph, got rubbish: folder/picture1\.jpg$"):
        list(predict(net, dataset, size=32, batch_size=2, workers=workers))
    broken: list[str] = []
    got = list(predict(net, dataset, size=32, batch_size=2, workers=workers, skip_broken=True, broken=broken))
    assert [p.name for p in got] == ["picture0", "picture3", "picture4", "picture6"]
    assert [line.rsplit("/")[-1] for line in broken] == ["picture1.jpg", "picture2.jpg", "picture5.jpg"]


def test_not_finite_names_the_photograph(net: nn.Module, make_pictures: Any) -> None:
    with torch.no_grad():
        net.last.bias[1] = float("nan")
    with pytest.raises(RunError, match=r"finite scores and attention.*: picture0"):
        list(predict(net, make_pictures(2), size=32))


def test_labels_wanted_but_missing(net: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(InputError, match=r"expected labels.*got none: picture0"):
        list(predict(net, make_pictures(2, labels=False), size=32, attend="labels"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types(net: nn.Module, make_pictures: Any, dtype: torch.dtype) -> None:
    prediction = next(predict(net.to(dtype), make_pictures(1), size=32))
    assert prediction.scores.dtype == prediction.maps.dtype == torch.float32


def test_an_image_without_labelled_class_has_no_maps(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(2)
    dataset.labels[1] = 0
    prediction = list(predict(net, dataset, size=32, attend="labels"))[1]
    assert prediction.maps.shape == (0, 4, 4)
    assert full_size(prediction.maps, (5, 6)).shape == (0, 5, 6)


def test_a_reading_process_that_dies(net: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(RunError, match=r"reads photographs died.*--workers"):
        list(predict(net, make_pictures(3, deadly=True), size=32, workers=1))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux lists them")
def test_kept_predictions_hold_no_open_files(net: nn.Module, make_pictures: Any) -> None:
    """A tensor from a worker holds a file handle as long as it lives; thousands would exhaust them."""
    before = len(os.listdir("/proc/self/fd"))
    kept = list(predict(net, make_pictures(40), size=32, workers=2, batch_size=4))
    assert len(kept) == 40
    assert len(os.listdir("/proc/self/fd")) <= before + 8
