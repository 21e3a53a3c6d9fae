"""Scores and features of a data set: right values in order, no attention, no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnbn.data.transforms import eval_transform, normalize
from attnbn.inference.classify import classify
from attnbn.inference.predict import predict
from attnbn.io.errors import InputError, RunError


def test_equals_a_loop_over_photographs(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(7)
    found = classify(net, dataset, size=32, batch_size=3)
    net.eval()
    for i in range(7):
        sample = dataset[i]
        with torch.no_grad():
            output = net(normalize(eval_transform(32)(sample).image[None]))
        torch.testing.assert_close(found.scores[i], output.scores[0], rtol=1e-4, atol=1e-5)
        channels = [sum(place for row in plane for place in row) / 16 for plane in output.features[0].tolist()]
        torch.testing.assert_close(found.features[i], torch.tensor(channels), rtol=1e-4, atol=1e-5)
    assert found.names == dataset.names
    torch.testing.assert_close(found.labels, dataset.labels, equal_nan=True)
    assert found.scores.dtype == found.features.dtype == torch.float32


def test_says_what_predict_says_and_asks_for_no_attention(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(5, masks=False)
    expected = torch.stack([seen.scores for seen in predict(net, dataset, size=32)])
    asked = []
    net.register_forward_pre_hook(lambda _, args, kwargs: asked.append((len(args), kwargs)), with_kwargs=True)
    torch.testing.assert_close(classify(net, dataset, size=32).scores, expected, rtol=0, atol=0)
    assert asked == [(1, {})]


def test_workers_change_nothing(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(9)
    alone, together = (classify(net, dataset, size=32, batch_size=2, workers=workers) for workers in (0, 2))
    assert alone.names == together.names
    for key in ("scores", "features"):
        assert torch.equal(getattr(alone, key), getattr(together, key))


def test_leaves_modes_random_state_and_gradients_as_they_were(net: nn.Module, make_pictures: Any) -> None:
    net.train()
    net.trunk.eval()  # frozen on purpose
    state = torch.get_rng_state()
    found = classify(net, make_pictures(3), size=32)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in (net, net.trunk, net.drop, net.last)] == [True, False, True, True]
    assert not found.scores.requires_grad and not found.features.requires_grad


def test_broken_photographs(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(5, bad=(1, 2))
    with pytest.raises(InputError, match=r"^expected a photograph, got rubbish: folder/picture1\.jpg$"):
        classify(net, dataset, size=32)
    broken: list[str] = []
    found = classify(net, dataset, size=32, batch_size=2, skip_broken=True, broken=broken)
    assert found.names == ["picture0", "picture3", "picture4"]
    assert found.labels is not None
    torch.testing.assert_close(found.labels, dataset.labels[[0, 3, 4]], equal_nan=True)
    assert (len(found.scores), len(broken)) == (3, 2)


def test_a_data_set_without_labels(net: nn.Module, make_pictures: Any) -> None:
    assert classify(net, make_pictures(2, labels=False), size=32).labels is None


def test_nothing_to_classify(net: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(InputError, match="expected photographs to classify, got none that can be read: pictures"):
        classify(net, make_pictures(0), size=32)
    with pytest.raises(InputError, match="none that can be read"):
        classify(net, make_pictures(1, bad=(0,)), size=32, skip_broken=True)


@pytest.mark.parametrize("where", ["trunk", "last"])
def test_not_finite_names_the_photograph(net: nn.Module, make_pictures: Any, where: str) -> None:
    with torch.no_grad():
        getattr(net, where).bias[1] = float("inf")
    with pytest.raises(RunError, match=r"finite scores and features.*: picture0"):
        classify(net, make_pictures(2), size=32)


def test_other_number_types(net: nn.Module, make_pictures: Any) -> None:
    found = classify(net.to(torch.float64), make_pictures(1), size=32)
    assert found.scores.dtype == found.features.dtype == torch.float32
