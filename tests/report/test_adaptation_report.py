"""The page of a comparison: its figures against plain loops, its photographs by their rule, and that it stands alone."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.evaluation.classification import classification_figures
from attnbn.inference.predict import Prediction
from attnbn.io.errors import InputError
from attnbn.report import adaptation
from attnbn.report import transfer_galleries as module
from attnbn.report.adaptation import AdaptationReport, DirectionView
from attnbn.report.confusion import confusion_chart
from attnbn.report.curves import loss_chart
from attnbn.report.embedding import POINTS, Panel, embedding_chart, principal_plane
from attnbn.report.figures import Series, line_chart
from attnbn.report.html import Page
from attnbn.report.transfer import TENSORS, TRANSFER, read_transfer
from attnbn.report.transfer_galleries import Galleries, Model, said

CLASSES = ("cat", "<dog>", "cow")
ROWS = {
    "source": ("L_s-cl", "generalization"),
    "source-attention": ("L_s-cl + L_ac", "generalization"),
    "adversarial": ("L_s-cl + L_adv", "adaptation"),
    "attnbn": ("L_s-cl + L_ac + L_adv", "adaptation"),
    "dann": ("DANN", "adaptation"),
}
BOTH = [("C", "M"), ("M", "C")]


def content(directions: list[tuple[str, str]], seeds: int = 3, paper: bool = True) -> dict[str, Any]:
    """A results.json, its summary by plain means; ``dann`` lacks the last seed of the first direction."""
    generator = np.random.default_rng(1)
    entries, summary = [], []
    for row, (_, setting) in ROWS.items():
        for source, target in directions:
            for seed in range(seeds):
                value = None if (row, seed, source) == ("dann", 2, "C") else float(generator.uniform(0.5, 0.9))
                entries.append(
                    {"row": row, "setting": setting, "source": source, "target": target, "seed": seed, "value": value}
                )
    for row, (label, setting) in ROWS.items():
        own = [e for e in entries if e["row"] == row]
        groups = {d: [e["value"] for e in own if (e["source"], e["target"]) == d] for d in directions}
        if len(directions) > 1:
            whole = [[groups[d][seed] for d in directions] for seed in range(seeds)]
            groups["mean", "mean"] = [statistics.mean(v) for v in whole if None not in v]
        for (source, target), values in groups.items():
            known = [v for v in values if v is not None]
            summary.append(
                {
                    "row": row,
                    "label": label,
                    "setting": setting,
                    "peer": row == "dann",
                    "source": source,
                    "target": target,
                    "mean": statistics.mean(known),
                    "deviation": statistics.stdev(known) if len(known) > 1 else None,
                    "seeds": len(known),
                    "paper": 0.613 if paper and row != "dann" else None,
                }
            )
    trials = [
        {
            "row": row,
            "source": s,
            "target": t,
            "seed": 0,
            "trial": {"loss.attention": w},
            "source_loss": w,
            "chosen": w == 0.5,
        }
        | {"source_value": 0.9, "value": 0.8}
        for row in ROWS
        for s, t in directions
        for w in (0.5, 2.0)
    ]
    best = [{"row": row, "source": s, "target": t, "value": 0.75} for row in ROWS for s, t in directions]
    return {
        "study": "five", "title": "Five <classes>", "classes": list(CLASSES), "metric": "accuracy", "rows": entries,
        "summary": summary, "trials": trials, "oracle": best, "versions": {"attnbn": "0.1.0"}, "command": "attnbn adapt",
    }  # fmt: skip


def features(seed: int, count: int, shift: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels and features of images of one class each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.eye(3)[torch.randint(0, 3, (count,), generator=generator)]
    scores = 2 * labels + 1.5 * torch.randn(count, 3, generator=generator)
    return scores, labels, torch.randn(count, 5, generator=generator) + shift


def make_run(folder: Path, seed: int, curve: bool = False) -> Path:
    folder.mkdir(parents=True)
    target, source = features(seed, 30, 1.0), features(seed + 100, 20, 0.0)
    # the images' labels do not depend on the run
    target, source = ((a[0], b[1], a[2]) for a, b in ((target, features(0, 30, 0)), (source, features(100, 20, 0))))
    keys = ("scores", "labels", "features")
    tensors = dict(zip(keys, target, strict=True)) | {f"source_{k}": v for k, v in zip(keys, source, strict=True)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / TENSORS)
    figures = classification_figures(*target[:2], CLASSES) | {
        "validation": classification_figures(*source[:2], CLASSES),
        "names": [f"t{i}" for i in range(30)],
        "source_names": [f"s{i}" for i in range(20)],
    }
    (folder / TRANSFER).write_text(json.dumps(figures))
    lines = [
        {"step": k, "terms": {"source_cl": 0.5} | ({"domain_accuracy": 0.6} if curve else {})} for k in range(1, 9)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


class Images(ImageDataset):
    """Grey pictures named as the runs name them."""

    def __init__(self, letter: str, count: int, labels: Tensor) -> None:
        super().__init__(CLASSES, [f"{letter}{i}" for i in range(count)], labels, title=f"images {letter}")

    def __getitem__(self, index: int) -> Sample:
        assert self.labels is not None
        image = torch.full((3, 9, 7), index, dtype=torch.uint8)
        return Sample(image, self.labels[index], None, None, self.names[index])


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Networks without weights; notes (run, image, what is attended to). They say what the run's files hold."""
    asked: list[tuple[str, str, str]] = []

    def load(run: Path, device: str) -> SimpleNamespace:
        return SimpleNamespace(network=run, config=SimpleNamespace(data=SimpleNamespace(size=8)))

    def predict(network: Path, dataset: Images, *, size: int, indices: list[int], attend: str):
        seen = read_transfer(network)
        part = seen.target if dataset.names[0][0] == "t" else seen.source
        for index in indices:
            asked.append((network.name, dataset.names[index], attend))
            there = (dataset.labels[index] == 1).nonzero().squeeze(1)
            maps = torch.ones(len(there), 2, 2)
            yield Prediction(dataset.names[index], (9, 7), part.scores[index], there, maps, None, dataset.labels[index])

    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(module, "predict", predict)
    return asked


@pytest.fixture
def view(tmp_path: Path) -> DirectionView:
    runs = {row: make_run(tmp_path / row, seed, row in ("adversarial", "dann")) for seed, row in enumerate(ROWS)}
    data = [
        Images(letter, count, features(seed, count, 0)[1]) for letter, count, seed in (("s", 20, 100), ("t", 30, 0))
    ]
    return DirectionView("C", "M", runs, source_dataset=data[0], target_dataset=data[1])


def test_photographs_are_chosen_by_rule(view: DirectionView, looked: list[tuple[str, str, str]]) -> None:
    first, last = (read_transfer(view.runs[row]) for row in ("source", "attnbn"))
    models = [Model("A", view.runs["source"], first), Model("B", view.runs["attnbn"], last)]
    galleries = Galleries(*models, CLASSES)
    page = Page("t")
    assert view.target_dataset is not None
    galleries.add_target(page, view.target_dataset)
    gains, mistakes = {}, {}
    other_way = 0
    for i in range(30):
        true = first.target.labels[i].tolist().index(1)
        said_first, said_last = (
            seen.target.scores[i].tolist().index(max(seen.target.scores[i].tolist())) for seen in (first, last)
        )
        a, b = (1 / (1 + math.exp(-float(seen.target.scores[i, true]))) for seen in (first, last))
        if said_first != true and said_last == true:
            gains[f"t{i}"] = (b - a, f"t{i} ({CLASSES[true]}): {100 * a:.0f} to {100 * b:.0f} % for what is there")
        if said_last != true:
            mistakes[f"t{i}"] = (float(last.target.scores[i].max()), f"t{i} ({CLASSES[true]})")
        other_way += said_first == true and said_last != true
    expected = [sorted(found.values(), reverse=True)[:count] for found, count in ((gains, 5), (mistakes, 4))]
    titles = re.findall(r'<span class="row">(.*?)</span>', page.render())
    assert titles == [title.replace("<", "&lt;").replace(">", "&gt;") for part in expected for _, title in part]
    assert f"{len(gains)} are wrong under A and right under B, {other_way} the other way round" in page.render()
    assert len(gains) >= 2 and len(mistakes) >= 2 and {attend for _, _, attend in looked} == {"labels"}
    assert page.render().count(", wrong</small>") >= len(expected[1])


def test_the_source_gallery_goes_from_gain_to_loss(view: DirectionView, looked: list[tuple[str, str, str]]) -> None:
    first, last = (read_transfer(view.runs[row]) for row in ("source", "attnbn"))
    galleries = Galleries(Model("A", view.runs["source"], first), Model("B", view.runs["attnbn"], last), CLASSES)
    page = Page("t")
    assert view.source_dataset is not None
    galleries.add_source(page, view.source_dataset)
    true = first.source.labels.argmax(1)
    gain = (last.source.scores.sigmoid() - first.source.scores.sigmoid())[torch.arange(20), true]
    shown = [name for run, name, _ in looked if run == "attnbn"]
    assert (shown[0], shown[-1], len(shown)) == (f"s{int(gain.argmax())}", f"s{int(gain.argmin())}", 3)


def test_what_is_said() -> None:
    scores = torch.tensor([3.0, 0.0, 1.0])
    assert said(scores, torch.tensor([1.0, 0.0, 0.0]), CLASSES) == "cat 95\u00a0%"
    assert said(scores, torch.tensor([0.0, 1.0, 0.0]), CLASSES) == "cat 95\u00a0%, wrong"
    assert said(scores, torch.tensor([math.nan, 1.0, 0.0]), CLASSES) == "cow 73\u00a0%, wrong"


def test_images_of_another_data_set_are_refused(view: DirectionView, looked: list[tuple[str, str, str]]) -> None:
    seen = read_transfer(view.runs["source"])
    galleries = Galleries(
        Model("A", view.runs["source"], seen),
        Model("B", view.runs["attnbn"], read_transfer(view.runs["attnbn"])),
        CLASSES,
    )
    with pytest.raises(
        InputError, match="expected the images that the runs were tested on, t[0-9]+ is not in images s"
    ):
        galleries.add_target(Page("t"), Images("s", 30, features(0, 30, 0)[1]))


def test_the_page_stands_alone(view: DirectionView, looked: list[tuple[str, str, str]], tmp_path: Path) -> None:
    checker = _html_checker()
    other = DirectionView("M", "C", view.runs)
    AdaptationReport(content(BOTH), [view, other], "Lead & more.", "paper: VGG16").write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    checked = checker(text)
    assert checked.open == []
    assert not {"script", "dog"} & set(checked.tags)
    assert all(v.startswith(("data:image/", "#")) for k, v in checked.attributes if k in ("src", "href", "xlink:href"))
    found = re.findall(r"<details( open)?><summary>(.*?)</summary>", text)
    assert found == [
        ("", "Each direction as a chart"), ("", "The other directions"), (" open", "C → M"), ("", "M → C"),
    ]  # fmt: skip
    assert text.count("Attention in the target") == 1  # the other direction has no data sets
    assert text.count("The discriminator over time") == 2
    assert "attnbn 0.1.0" in text and "Five &lt;classes&gt;" in text
    confusions = text.count('aria-label="L_s-cl"'), text.count('aria-label="L_s-cl + L_ac + L_adv"')
    assert confusions == (2, 2)


def test_a_page_without_trials_pictures_or_method(view: DirectionView, tmp_path: Path) -> None:
    results = content([("C", "M")], seeds=1) | {"trials": [], "oracle": []}
    results["summary"] = [line for line in results["summary"] if line["row"] in ("source", "dann")]
    alone = DirectionView("C", "M", {"source": view.runs["source"]})
    AdaptationReport(results, [alone]).write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nothing was tried" in text and "ORACLE" not in text
    assert "The discriminator over time" not in text and "Attention in" not in text


def test_a_domain_that_is_called_by_its_role_is_named_once(
    view: DirectionView, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def chart(panels: list[Panel], classes: list[str], domains: tuple[str, str]) -> bytes:
        asked.append(domains)
        return embedding_chart(panels, classes, domains)

    monkeypatch.setattr(adaptation, "embedding_chart", chart)
    for source, target in (("source", "target"), ("C", "M")):
        AdaptationReport(content([(source, target)]), [DirectionView(source, target, view.runs)]).write(tmp_path / "p")
        text = (tmp_path / "p").read_text(encoding="utf-8")
        assert "target target" not in text and "source source" not in text
    assert asked == [("source", "target"), ("source C", "target M")]
    assert "Test images of the target M that show" in text


def _html_checker() -> Any:
    """The checker of the page's own tests."""
    spec = importlib.util.spec_from_file_location("html_checks", Path(__file__).with_name("test_html.py"))
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.check


def test_files_that_are_missing_or_do_not_fit(view: DirectionView, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"figures on both domains.*test the run again: .*/nowhere$"):
        read_transfer(tmp_path / "nowhere")
    folder = view.runs["dann"]
    figures = json.loads((folder / TRANSFER).read_text())
    (folder / TRANSFER).write_text(json.dumps(figures | {"names": ["one"]}))
    with pytest.raises(InputError, match=r"1 names, scores \[30, 3\]"):
        read_transfer(folder)
    (folder / TRANSFER).write_text(json.dumps(figures))
    (folder / TENSORS).write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"test the run again: .*/dann$"):
        read_transfer(folder)


def test_the_plane_is_that_of_a_principal_component_analysis() -> None:
    source, _, _ = features(1, 20, 0)
    wide = torch.randn(20, 9) * torch.arange(1, 10), torch.randn(40, 9) * torch.arange(1, 10) + 2
    source, target, share = principal_plane(*wide)
    doubled = np.concatenate([wide[0], wide[0], wide[1]])  # each domain with the same weight
    pca = PCA(2).fit(doubled)
    assert share == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    expected = pca.transform(np.concatenate(wide))
    np.testing.assert_allclose(np.abs(np.concatenate([source, target])), np.abs(expected), rtol=1e-4, atol=1e-4)
    assert principal_plane(torch.ones(3, 4), torch.ones(2, 4))[2] == 1.0


def test_charts_are_the_same_each_time_and_bounded() -> None:
    _, labels, points = features(1, 400, 0)
    labels[:50] = 1
    panel = Panel("A $x$\nsecond", points, labels, points + 1, labels)
    chart = embedding_chart([panel], CLASSES, ("source C", "target M"))
    assert chart == embedding_chart([panel], CLASSES, ("source C", "target M"))
    keys = 2 + len(CLASSES) + 1  # the domains, the classes, images of several
    assert len(re.findall(rb'<use xlink:href="#m', chart)) == 2 * POINTS + keys
    counts = torch.tensor([[5, 0, 1], [0, 0, 0], [2, 0, 7]])
    chart = confusion_chart(counts, CLASSES)
    assert chart == confusion_chart(counts, CLASSES) and b"<svg" in chart
    Page("t").figure(chart).charts([(confusion_chart(torch.eye(26).long(), [f"c{i}" for i in range(26)]), "many")])


def test_the_discriminators_accuracy_is_no_loss() -> None:
    terms = {"source_cl": [(1, 0.5), (2, 0.4)]}
    assert loss_chart(terms | {"domain_accuracy": [(1, 0.5), (2, 0.6)]}) == loss_chart(terms)


def test_a_level_and_a_lines_own_colour() -> None:
    one = Series("a", [0, 1], [0.2, 0.9])
    plain = line_chart([one], x_label="x", y_label="y")
    assert line_chart([one], x_label="x", y_label="y", level=0.5) != plain
    assert b"#2a7fba" in line_chart([one._replace(colour=1)], x_label="x", y_label="y")
    assert b"#2a7fba" not in plain
