"""Which photographs an ablation shows follows from counts of pixels, checked against plain loops over pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.inference.predict import Prediction
from attnbn.report import views as module
from attnbn.report.ablation import AblationReport
from attnbn.report.galleries import Compared
from attnbn.report.gallery import highest, lowest
from attnbn.report.tables import ReportRow
from attnbn.report.views import Views, class_ious, image_mious, spill

CLASSES = ("cat", "dog")
SIZE = 6


class Pictures(ImageDataset):
    """Seven random photographs with random masks; the last has no mask."""

    def __init__(self) -> None:
        super().__init__(CLASSES, [f"p{i}" for i in range(7)], None, has_masks=True)
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randint(0, 256, (7, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        self.masks = torch.randint(0, 3, (7, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        self.masks[:, 0, 0] = 255
        self.masks[2][self.masks[2] == 2] = 0  # no dog in p2

    def __getitem__(self, index: int) -> Sample:
        return Sample(image=self.images[index], labels=torch.zeros(2), saliency=None, mask=None, name=self.names[index])


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> Views:
    """Three runs with maps of noise; ``asked`` counts the photographs that each has predicted."""
    dataset = Pictures()
    asked: list[tuple[str, int]] = []

    def load(run: Path, device: str) -> SimpleNamespace:
        config = SimpleNamespace(data=SimpleNamespace(size=SIZE))
        return SimpleNamespace(network=str(run), threshold=0.5, config=config)

    def predict(network: str, dataset: Pictures, *, size: int, indices=None, skip_broken=False):
        for index in range(6) if indices is None else indices:  # p6 cannot be read
            asked.append((network, index))
            yield prediction(network, dataset, index)

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(module, "predict", predict)
    built = Views(dataset)
    built.asked = asked
    return built


def prediction(run: str, dataset: Pictures, index: int) -> Prediction:
    generator = torch.Generator().manual_seed(10 * index + len(run))
    maps = torch.rand(2, SIZE, SIZE, generator=generator)
    scores = torch.randn(2, generator=generator)
    return Prediction(
        dataset.names[index], (SIZE, SIZE), scores, torch.tensor([0, 1]), maps, dataset.masks[index], None
    )


def masks_by_hand(run: str, dataset: Pictures, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth where the truth counts."""
    seen = prediction(run, dataset, index)
    picture = np.zeros((SIZE, SIZE), int)
    for y in range(SIZE):
        for x in range(SIZE):
            there = [c for c in range(2) if seen.maps[c, y, x] >= 0.5]
            if there:
                picture[y, x] = 1 + max(there, key=lambda c: float(seen.scores[c]))
    truth = dataset.masks[index].numpy().astype(int)
    return picture[truth != 255], truth[truth != 255]


RUNS = [Path("a"), Path("bb"), Path("ccc")]


def test_figures_of_photographs_against_loops(views: Views) -> None:
    for run in RUNS:
        counts = views.counts(run)
        for index in range(6):
            picture, truth = masks_by_hand(str(run), views.dataset, index)
            ious = [
                (picture == c)[truth == c].sum() / ((picture == c) | (truth == c)).sum()
                for c in range(3)
                if ((picture == c) | (truth == c)).any()
            ]
            assert float(image_mious(counts)[index]) == pytest.approx(np.mean(ious))
            wrong = ((truth == 0) & (picture > 0)).sum() / len(truth)
            assert float(spill(counts)[index]) == pytest.approx(wrong)
            for c in (1, 2):
                value = float(class_ious(counts, c)[index])
                if (truth == c).any():
                    assert value == pytest.approx(
                        ((picture == c) & (truth == c)).sum() / ((picture == c) | (truth == c)).sum()
                    )
                else:
                    assert math.isnan(value)
        for figure in (image_mious, spill, lambda counts: class_ious(counts, 1)):
            assert math.isnan(float(figure(counts)[6]))


def test_every_photograph_is_looked_at_once(views: Views) -> None:
    views.counts(RUNS[0])
    views.counts(RUNS[0])
    assert (views.threshold(RUNS[0]), len(views.asked)) == (0.5, 6)
    assert [seen.name for seen in views.predictions(RUNS[0], [4, 1, 4])] == ["p4", "p1", "p4"]
    views.predictions(RUNS[0], [1, 3])
    assert views.asked[6:] == [("a", 1), ("a", 4), ("a", 3)]


def test_photographs_are_chosen_by_rule(views: Views) -> None:
    compared = Compared(["A", "B", "C"], RUNS, views)
    first, last = views.counts(RUNS[0]), views.counts(RUNS[-1])
    gains = {f"p{i}": float(image_mious(last)[i] - image_mious(first)[i]) for i in range(6)}
    ranked = sorted(gains, key=gains.get, reverse=True)
    rows = compared.even_steps(2)
    assert [row.title for row in rows] == [
        f"{ranked[0]}: {100 * gains[ranked[0]]:+.1f} points, largest gain", "",
        f"{ranked[-1]}: {100 * gains[ranked[-1]]:+.1f} points, largest loss", "",
    ]  # fmt: skip
    assert [len(row.cells) for row in rows] == [len(compared.headings)] * 4 == [4] * 4
    np.testing.assert_array_equal(
        rows[0].cells[0].picture, views.dataset.images[int(ranked[0][1])].permute(1, 2, 0).numpy()
    )
    worst = min(range(6), key=lambda i: float(image_mious(last)[i]))
    assert compared.failures(1)[0].title == f"p{worst}: {100 * float(image_mious(last)[worst]):.1f} % mIoU"
    most = max(range(6), key=lambda i: float(spill(first)[i]))
    share = [100 * float(spill(counts)[most]) for counts in (first, last)]
    title = f"p{most}: background taken for an object, of all pixels: A {share[0]:.1f} %, C {share[1]:.1f} %"
    assert compared.background(1)[0].title == title


def test_classes_that_gain_with_the_photograph_in_which_they_do(views: Views) -> None:
    compared = Compared(["A", "C"], [RUNS[0], RUNS[-1]], views)
    rows = compared.gaining({"cat": -0.1, "dog": 0.2}, 5)
    assert len(rows) == 1  # a class that loses has no strip
    before, after = (class_ious(views.counts(run), 2) for run in (RUNS[0], RUNS[-1]))
    best = max((i for i in range(6) if i != 2), key=lambda i: float(after[i] - before[i]))
    here = f"{100 * float(before[best]):.1f} to {100 * float(after[best]):.1f} % here"
    assert rows[0].title == f"dog: +20.0 points of IoU over all photographs; p{best}: {here}"
    assert len(rows[0].cells) == len(compared.headings) == 6  # two models stand beside one another
    assert compared.gaining({"cat": 0.0, "dog": -0.2}, 5) == []


def test_the_page_explains_what_it_shows(views: Views, tmp_path: Path) -> None:
    rows = []
    for name, run, iou in (("A", tmp_path / "a", 0.2), ("B", tmp_path / "bb", 0.3)):
        run.mkdir()
        (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "terms": {"target_cl": 0.5}}) + "\n")
        ious = dict.fromkeys(("background", *CLASSES), iou)
        figures = {"miou": iou, "iou": ious, "precision": None, "recall": None, "threshold": 0.5, "cross_fitted": True}
        figures["curve"] = [{"threshold": 0.5, "miou": iou}]
        seen = {"seed": 0, "miou": iou, "threshold": 0.5, "mean_ap": 0.5, "seconds": 1.0}
        rows.append(ReportRow(name, [seen], [figures], run))
    report = AblationReport(
        "t", "", "attnbn it", rows, views, "dev", further=True, versions={"torch": "2.0", "numpy": "2.4"}
    )
    report.write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "exceeds one half; where none does, the class of the highest score." in text
    assert "has the IoU of that class alone, the line under a mask the mean IoU over all classes" in text
    assert "<code>attnbn it</code></pre>\n<p>torch 2.0, numpy 2.4</p>" in text
    assert text.count('<p class="keys">') == text.count('class="gallery"') == 4
    assert text.count("</span>cat</span>") == 4  # each gallery names the colours of its masks


def test_highest_and_lowest() -> None:
    figures = {"b": 0.5, "a": 0.5, "c": float("nan"), "d": 0.1}
    assert (highest(figures, 2), highest(figures, 9)) == (["a", "b"], ["a", "b", "d"])
    assert (lowest(figures, 2), lowest({}, 3)) == (["d", "a"], [])
    with pytest.raises(ValueError, match="at least 0, got -1"):
        lowest(figures, -1)
