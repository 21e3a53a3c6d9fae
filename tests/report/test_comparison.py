"""A row of the gallery says and shows what the predictions hold."""

import numpy as np
import torch

from attnbn.inference.predict import Prediction
from attnbn.report.comparison import comparison_headings, comparison_row
from attnbn.report.figures import mask_picture, overlay


def prediction(mask: torch.Tensor | None) -> Prediction:
    scores = torch.tensor([3.0, -4.0, 0.5, 1.0])
    classes = torch.tensor([0, 2, 3])
    maps = torch.zeros(3, 2, 2)
    maps[0, 0, 0], maps[1, 1, 1] = 1, 0.5
    return Prediction("p", (2, 2), scores, classes, maps, mask, None)


def test_a_row() -> None:
    image = torch.randint(0, 256, (3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([[1, 0], [0, 255]], dtype=torch.uint8)
    row = comparison_row("first", image, [prediction(truth)] * 2, [0.3, 0.6], ["cat", "dog", "cow", "sheep"])
    assert len(row.cells) == len(comparison_headings(["Grad-CAM", "AttnBN"])) == 6
    captions = [cell.caption for cell in row.cells]
    assert captions == [
        "",
        "cat",
        "cat 95\u00a0%, sheep 73\u00a0% and 1 more",
        "100.0 % mIoU",
        "cat 95\u00a0%, sheep 73\u00a0% and 1 more",
        "100.0 % mIoU",
    ]
    np.testing.assert_array_equal(row.cells[0].picture, image.numpy().transpose(1, 2, 0))
    np.testing.assert_array_equal(row.cells[1].picture, mask_picture(image, truth))
    np.testing.assert_array_equal(row.cells[2].picture, overlay(image, torch.tensor([[1.0, 0], [0, 0.5]])))
    shown = [sorted(cell.classes) for cell in row.cells]
    assert shown == [[], [0], [], [0, 2], [], [0]]  # classes of the masks, for the legend
    low, high = torch.tensor([[1, 0], [0, 3]]), torch.tensor([[1, 0], [0, 0]])
    np.testing.assert_array_equal(row.cells[3].picture, mask_picture(image, low))
    np.testing.assert_array_equal(row.cells[5].picture, mask_picture(image, high))


def test_without_a_true_mask() -> None:
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    row = comparison_row("first", image, [prediction(None)], [0.3], ["cat", "dog", "cow", "sheep"])
    assert [cell.caption for cell in row.cells] == ["", "no mask", "cat 95\u00a0%, sheep 73\u00a0% and 1 more", ""]
