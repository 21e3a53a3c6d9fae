"""The confusion matrix and its figures against plain loops and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from attnbn.evaluation.confusion import confusion_matrix, figures_of, in_truth, iou, mean_iou, precision, recall


def masks(seed: int, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (9, 7)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    return torch.tensor(rng.integers(0, classes, (9, 7)).astype(np.uint8)), torch.tensor(truth)


@pytest.mark.parametrize("seed", range(3))
def test_matrix_and_iou_equal_torchmetrics(seed: int) -> None:
    pred, truth = masks(seed)
    matrix = confusion_matrix(pred, truth, 4)
    expected = multiclass_confusion_matrix(pred.long(), truth.long(), 4, ignore_index=255)
    assert torch.equal(matrix, expected)
    jaccard = multiclass_jaccard_index(pred.long(), truth.long(), 4, average=None, ignore_index=255)
    torch.testing.assert_close(iou(matrix), jaccard.double(), rtol=1e-6, atol=0)


def test_figures_equal_a_loop_over_pixels() -> None:
    pred, truth = masks(7)
    matrix = confusion_matrix(pred, truth, 4)
    pairs = [(p, t) for p, t in zip(pred.flatten().tolist(), truth.flatten().tolist(), strict=True) if t != 255]
    for c in range(4):
        hit = sum(p == t == c for p, t in pairs)
        assert precision(matrix)[c] == hit / sum(p == c for p, _ in pairs)
        assert recall(matrix)[c] == hit / sum(t == c for _, t in pairs)
        assert iou(matrix)[c] == hit / sum(c in pair for pair in pairs)


def test_absent_classes_are_nan_and_left_out() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert iou(matrix).isnan().tolist() == [False, False, True]  # class 1 was predicted, wrongly: it counts, as 0
    assert mean_iou(matrix) == (0.75 + 0) / 2
    assert precision(matrix).isnan().tolist() == [False, False, True]
    assert recall(matrix).isnan().tolist() == [False, True, True]
    assert mean_iou(torch.zeros(3, 3, dtype=torch.int64)).isnan()


def test_a_mean_over_chosen_classes() -> None:
    matrix = torch.tensor([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    assert in_truth(matrix).tolist() == [True, False, True]
    assert mean_iou(matrix, in_truth(matrix)) == pytest.approx((6 / 9 + 3 / 4) / 2)
    assert mean_iou(matrix) == pytest.approx((6 / 9 + 0 + 3 / 4) / 3)
    figures = figures_of(matrix, ("cat", "dog"), in_truth(matrix))
    assert figures["miou"] == mean_iou(matrix, in_truth(matrix))
    assert figures["iou"] == dict(zip(("background", "cat", "dog"), iou(matrix).tolist(), strict=True))


def test_a_stack_of_matrices_is_read_at_once() -> None:
    stack = torch.stack([confusion_matrix(*masks(s), 4) for s in range(3)])
    for figure in (iou, mean_iou, precision, recall):
        torch.testing.assert_close(figure(stack), torch.stack([figure(m) for m in stack]), equal_nan=True)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3), r"prediction of \[2, 3\] like the truth, got \[2, 2\]"),
        (torch.tensor([0]), torch.tensor([4]), "a truth in 0 … 3, got 4 … 4"),
        (torch.tensor([9]), torch.tensor([3]), "a prediction in 0 … 3, got 9 … 9"),
        (torch.tensor([-1]), torch.tensor([3]), "a prediction in 0 … 3, got -1 … -1"),
    ],
)
def test_bad_input(pred: torch.Tensor, truth: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(pred, truth, 4)


def test_prediction_under_void_does_not_count() -> None:
    assert confusion_matrix(torch.tensor([200]), torch.tensor([255]), 2).sum() == 0
