"""The page on masks names the colours of its masks and what made it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.report.figures import class_hex
from attnbn.report.masks import MaskReport, MaskRow

CLASSES = ("cat", "dog", "cow")


class Pictures(ImageDataset):
    """Two photographs, one with a cat and one without anything."""

    def __init__(self) -> None:
        super().__init__(CLASSES, ["p0", "p1"], None, has_masks=True)

    def __getitem__(self, index: int) -> Sample:
        mask = torch.zeros(6, 6, dtype=torch.uint8)
        mask[:3] = 1 - index
        return Sample(torch.full((3, 6, 6), 90, dtype=torch.uint8), torch.zeros(3), None, mask, self.names[index])


def test_the_page(tmp_path: Path) -> None:
    iou = dict.fromkeys(("background", *CLASSES), 0.5)
    cues = {"classes": {name: {"precision": 0.5, "recall": 0.5, "coverage": 0.5} for name in iou}}
    figures = {"miou": 0.5, "iou": iou, "before_crf": {"miou": 0.4}, "cues": cues}
    rows = [MaskRow(name, [{"miou": 0.3, "iou": iou}], [figures]) for name in ("A", "B")]
    counts = torch.eye(4, dtype=torch.int64).expand(2, 4, 4)
    said = torch.full((6, 6), 3, dtype=torch.uint8)
    MaskReport(
        "t", "lead", "attnbn table3", rows, Pictures(), (counts, counts), lambda place, name: said, "dev",
        versions={"torch": "2.0", "numpy": "2.4"},
    ).write(tmp_path / "masks.html")  # fmt: skip
    text = (tmp_path / "masks.html").read_text(encoding="utf-8")
    keys = re.findall(r'<span style="background:(.*?)"></span>(.*?)</span>', text)
    # of both galleries, without the dog that no mask has
    assert keys == [(class_hex(0), "cat"), (class_hex(2), "cow")] * 2
    assert "<code>attnbn table3</code></pre>\n<p>torch 2.0, numpy 2.4</p>" in text
