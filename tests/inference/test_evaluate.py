"""Evaluation against a loop: predict, combine, count."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torchvision import tv_tensors

from attnbn.data.dataset import ImageDataset, Sample
from attnbn.evaluation.confusion import confusion_matrix, iou, mean_iou, precision, recall
from attnbn.evaluation.direct import ThresholdCurve, combine
from attnbn.inference.evaluate import evaluate, image_miou, segment, summary
from attnbn.inference.predict import full_size, predict
from attnbn.io.errors import InputError

KEYS = {"miou", "iou", "precision", "recall", "threshold", "threshold_split", "cross_fitted", "thresholds", "curve",
        "mean_ap", "ap", "images", "broken", "given_labels", "unseen"}  # fmt: skip


class Binary(ImageDataset):
    """Pictures whose masks say object (1, the first class) and background alone."""

    def __init__(self, pictures: ImageDataset) -> None:
        super().__init__(
            pictures.classes, pictures.names, pictures.labels, has_masks=pictures.has_masks, title=pictures.title
        )
        self.pictures = pictures

    def __getitem__(self, index: int) -> Sample:
        sample = self.pictures[index]
        assert sample.mask is not None
        return replace(sample, mask=tv_tensors.Mask((sample.mask > 0).to(torch.uint8)))


def matrix_by_hand(net: nn.Module, dataset: Any, threshold: dict[int, float] | float) -> torch.Tensor:
    total = torch.zeros(4, 4, dtype=torch.int64)
    parts = ThresholdCurve(4)
    for p in predict(net, dataset, size=32):
        t = threshold if isinstance(threshold, float) else threshold[parts.part(p.name)]
        mask = combine(full_size(p.maps, p.size), p.scores[p.classes], p.classes, t)
        total += confusion_matrix(mask, p.mask, 4)
    return total


def test_figures_at_a_threshold(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(12)
    result = summary(evaluate(net, dataset, size=32, batch_size=5), threshold=0.35, threshold_split="dev")
    matrix = matrix_by_hand(net, dataset, 0.35)
    assert set(result) == KEYS
    assert result["miou"] == float(mean_iou(matrix))
    names = ["background", "cat", "dog", "sheep"]
    for key, figure in (("iou", iou), ("precision", precision), ("recall", recall)):
        assert list(result[key]) == names
        expected = [None if math.isnan(v) else v for v in figure(matrix).tolist()]
        assert list(result[key].values()) == expected
    assert (result["threshold"], result["threshold_split"], result["cross_fitted"]) == (0.35, "dev", False)
    assert [p["threshold"] for p in result["curve"]] == [i / 100 for i in range(1, 100)]
    assert result["curve"][34]["miou"] == result["miou"]
    assert result["images"] == 12
    json.dumps(result, allow_nan=False)


def test_mean_average_precision_leaves_unknown_labels_out(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(12)
    result = summary(evaluate(net, dataset, size=32))
    scores = torch.stack([p.scores for p in predict(net, dataset, size=32)])
    expected = []
    for n in range(3):
        known = ~dataset.labels[:, n].isnan()
        expected.append(average_precision_score(dataset.labels[known, n].numpy(), scores[known, n].numpy()))
    assert list(result["ap"].values()) == pytest.approx(expected)
    assert result["mean_ap"] == pytest.approx(sum(expected) / 3)


def test_a_threshold_between_the_usual_ones(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(6)
    result = summary(evaluate(net, dataset, size=32, threshold=0.123), threshold=0.123)
    assert result["miou"] == float(mean_iou(matrix_by_hand(net, dataset, 0.123)))
    assert len(result["curve"]) == 100
    assert len(evaluate(net, dataset, size=32, threshold=0.2).curve.thresholds) == 99


def test_cross_fitting(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(16)
    evaluation = evaluate(net, dataset, size=32)
    result = summary(evaluation, cross_fit=True, threshold_split="dev")
    assert result["cross_fitted"] is True
    matrix = matrix_by_hand(net, dataset, dict(enumerate(result["thresholds"])))
    assert result["miou"] == float(mean_iou(matrix))
    best = max(result["curve"], key=lambda point: point["miou"])
    assert result["threshold"] == best["threshold"]
    assert result["miou"] <= best["miou"]


def test_cross_fitting_with_an_empty_half_gives_no_figures(net: nn.Module, make_pictures: Any) -> None:
    result = summary(evaluate(net, make_pictures(1), size=32), cross_fit=True, threshold_split="dev")
    assert result["miou"] is result["iou"] is result["precision"] is None
    assert result["cross_fitted"] is False
    assert 0 < result["threshold"] < 1
    assert result["images"] == 1


def test_one_photograph(net: nn.Module, make_pictures: Any) -> None:
    dataset = make_pictures(3)
    for p in predict(net, dataset, size=32):
        mask = segment(p, 0.3)
        values = []
        for c in range(4):
            here, there = (mask == c) & (p.mask != 255), p.mask == c
            if (here | there).any():
                values.append(((here & there).sum() / (here | there).sum()).item())
        assert image_miou(p, 0.3) == pytest.approx(sum(values) / len(values))
    unmasked = next(predict(net, make_pictures(1, masks=False), size=32))
    assert math.isnan(image_miou(unmasked, 0.3))


def test_without_masks_or_labels(net: nn.Module, make_pictures: Any) -> None:
    result = summary(evaluate(net, make_pictures(4, masks=False), size=32))
    assert set(result) == KEYS
    assert result["miou"] is result["curve"] is result["threshold"] is None
    assert result["mean_ap"] > 0
    result = summary(evaluate(net, make_pictures(4, labels=False), size=32))
    assert result["mean_ap"] is result["ap"] is None
    assert result["miou"] > 0
    assert result["threshold"] == 0.2


def test_labelled_classes_that_no_mask_shows_are_named(net: nn.Module, make_pictures: Any) -> None:
    assert summary(evaluate(net, make_pictures(6), size=32))["unseen"] == []
    assert summary(evaluate(net, Binary(make_pictures(6)), size=32))["unseen"] == ["dog", "sheep"]
    unlabelled = Binary(make_pictures(6))
    unlabelled.labels[:, 2] = 0  # a class without photographs is missed by nobody
    unlabelled.labels[:, 1] = float("nan")
    assert summary(evaluate(net, unlabelled, size=32))["unseen"] == []
    assert summary(evaluate(net, make_pictures(6, masks=False), size=32))["unseen"] == []
    assert summary(evaluate(net, Binary(make_pictures(6, labels=False)), size=32))["unseen"] == []


def test_bad_input(net: nn.Module, make_pictures: Any) -> None:
    with pytest.raises(InputError, match=r"threshold in \(0, 1\], got 1\.5: --threshold"):
        evaluate(net, make_pictures(2), size=32, threshold=1.5)
    with pytest.raises(InputError, match="got none that can be read: pictures"):
        evaluate(net, make_pictures(0), size=32)
    assert summary(evaluate(net, make_pictures(3, bad=(1,)), size=32, skip_broken=True))["broken"] == 1
