"""Every page with names that want to be scripts: of files, folders, classes, rows, runs, splits, titles and commands."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.inference.photographs import Photograph
from attnbn.inference.predict import Prediction
from attnbn.inference.saliency import MANIFEST
from attnbn.inference.saliency_summary import Summary, figures_of
from attnbn.report import transfer_galleries as adaptation_views
from attnbn.report import views as ablation_views
from attnbn.report.ablation import AblationReport
from attnbn.report.adaptation import AdaptationReport, DirectionView
from attnbn.report.cues import CueTally, Shown
from attnbn.report.cues import write_page as write_cue_page
from attnbn.report.figures import Series, line_chart
from attnbn.report.html import Page
from attnbn.report.masks import MaskReport, MaskRow
from attnbn.report.saliency import SHEET, write_sheet
from attnbn.report.tables import ReportRow
from attnbn.report.transfer import TRANSFER
from attnbn.report.views import Views
from report.test_adaptation_report import ROWS, content, features, make_run

NASTY = (
    '"><script>alert(1)</script>', "' onerror='alert(1)' x='", "</title></style><script>alert(2)</script>",
    "javascript:alert(3)", "--><svg onload=alert(4)><!--", "]]><img src=x onerror=alert(5)>", "two\nlines $x^",
    '"onmouseover="alert(6)', "&lt;script&gt;alert(7)", "</pre></code><iframe src=//evil>", "\udcff<base href=//evil>",
    "{0}%s\\$x<form action=//evil>",
)  # fmt: skip
_TAGS = (
    "html head meta title style body main header h1 h2 h3 p pre code dl div dt dd table caption thead tbody tr th td strong "
    "small span figure figcaption img details summary svg g path defs use rect clippath image metadata lineargradient "
    "rdf:rdf cc:work dc:type dc:format dc:creator cc:agent dc:title dc:date"
)
TAGS = frozenset(_TAGS.split())
ATTRIBUTES = {"http-equiv", "content", "charset", "name", "lang", "scope", "class", "alt", "loading", "open", "role"}


class Found(HTMLParser):
    """Everything on a page that a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self._in_style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        if tag not in TAGS:
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            value = (value or "").strip().lower()
            place = name.rpartition(":")[2]
            allowed = value.startswith(("#", "data:image/png;base64,", "data:image/jpeg;base64,"))
            if name.startswith("on") or place in ("formaction", "action", "background", "srcdoc"):
                self.wrong.append(f"{tag} {name}")
            elif place in ("href", "src", "data", "poster") and not allowed:
                self.wrong.append(f"{tag} {name}={value}")
            elif place == "style" and ("url(" in value.replace("url(#", "") or "expression" in value):
                self.wrong.append(f"{tag} style={value}")
            elif tag in ("meta", "img", "p", "div", "td", "th") and name not in ATTRIBUTES | {"src", "style"}:
                self.wrong.append(f"{tag} {name}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        (self.styles if self._in_style else self.text).append(data)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        if decl != "doctype html":
            self.wrong.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(data)


def check(page: Path, *expected: str) -> None:
    """Nothing but our own elements, and these names as text."""
    text = page.read_text(encoding="utf-8")
    found = Found(text)
    assert found.wrong == []
    style = (files("attnbn.report") / "style.css").read_text(encoding="utf-8")
    assert "".join(found.styles).replace("*{stroke-linejoin: round; stroke-linecap: butt}", "").strip() == style.strip()
    assert "default-src 'none'" in text  # a script that got in would not run
    shown = "\n".join(found.text)
    for name in expected:
        assert name.encode("utf-8", "backslashreplace").decode() in shown, name


@pytest.mark.parametrize(
    "text",
    [
        "<script>1</script>", '<p onclick="x">', '<a href="javascript:x">', '<img src="https://x">', "<iframe>",
        "<style>p{}</style>", '<svg><use xlink:href="https://x"/></svg>', "<!-- x -->", '<div style="background: url(https://x)">',
    ],
)  # fmt: skip
def test_the_check_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(Page("t").render().replace("</main>", f"{text}</main>"))
    with pytest.raises(AssertionError):
        check(tmp_path / "p")


class Pictures(ImageDataset):
    """Random photographs with masks and labels, under any names."""

    def __init__(self, classes: tuple[str, ...], names: list[str], labels: Tensor | None = None) -> None:
        super().__init__(classes, names, labels, has_masks=True, title=f"folders:{NASTY[0]}")
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randint(0, 256, (len(names), 3, 8, 8), dtype=torch.uint8, generator=generator)
        self.masks = torch.randint(0, len(classes) + 1, (len(names), 8, 8), dtype=torch.uint8, generator=generator)

    def __getitem__(self, index: int) -> Sample:
        labels = torch.zeros(len(self.classes)) if self.labels is None else self.labels[index]
        return Sample(self.images[index], labels, None, self.masks[index], self.names[index])


CLASSES = (NASTY[0], NASTY[5] + " $y^", NASTY[9])


def test_the_page_of_an_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``report.html`` of ``demo`` and ``reproduce``."""
    dataset = Pictures(CLASSES, list(NASTY))

    def predict(network: str, dataset: Pictures, *, indices: Any = None, **_: Any) -> Any:
        generator = torch.Generator().manual_seed(len(network))
        for index in range(len(dataset)) if indices is None else indices:
            maps, scores = torch.rand(3, 8, 8, generator=generator), torch.randn(3, generator=generator)
            yield Prediction(dataset.names[index], (8, 8), scores, torch.arange(3), maps, dataset.masks[index], None)

    run = SimpleNamespace(threshold=0.5, config=SimpleNamespace(data=SimpleNamespace(size=8)))
    monkeypatch.setattr(ablation_views, "load", lambda run_, device: SimpleNamespace(**vars(run), network=str(run_)))
    monkeypatch.setattr(ablation_views, "predict", predict)
    rows = []
    for place, name in enumerate((NASTY[2], NASTY[6], NASTY[10])):
        folder = tmp_path / f"{place}<script>"
        folder.mkdir()
        line = {"step": 1, "terms": {NASTY[4]: 0.5, NASTY[6]: 1.0, "source_cl": 2.0}}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"step": 2}) + "\n")
        iou = dict.fromkeys(("background", *CLASSES), 0.1 * (place + 1))
        figures = {
            "miou": 0.3, "iou": iou, "precision": iou, "recall": iou, "threshold": 0.4, "threshold_split": NASTY[3],
            "cross_fitted": place == 0, "curve": [{"threshold": t, "miou": t} for t in (0.1, 0.4, 0.9)],
        }  # fmt: skip
        runs = [{"seed": 0, "miou": 0.3, "threshold": 0.4, "mean_ap": 0.5, "seconds": 3.0}]
        rows.append(ReportRow(name, runs, [figures], folder, 0.5, dict.fromkeys(CLASSES, 0.4)))
    AblationReport(
        NASTY[2], NASTY[1], f"attnbn reproduce {NASTY[7]}", rows, Views(dataset), NASTY[6], further=True,
        published=NASTY[8], caveat=NASTY[11],
    ).write(tmp_path / "report.html")  # fmt: skip
    check(tmp_path / "report.html", *NASTY[:3], *NASTY[5:12], *CLASSES)


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A JSON value with other texts in it, keys too."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def test_the_page_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``report.html`` of ``adapt``."""
    names = {"C": NASTY[0], "M": NASTY[6], "L_s-cl": NASTY[4], "L_s-cl + L_ac + L_adv": NASTY[10], "Five <classes>": NASTY[2],
             "cat": CLASSES[0], "<dog>": CLASSES[1], "cow": CLASSES[2], "0.1.0": NASTY[5], "attnbn adapt": NASTY[9],
             "loss.attention": NASTY[7]}  # fmt: skip
    names |= {f"{letter}{i}": f"{letter}{i}{NASTY[i % len(NASTY)]}" for letter in "st" for i in range(30)}
    runs = {row: make_run(tmp_path / row, seed, True) for seed, row in enumerate(ROWS)}
    for folder in runs.values():
        file = folder / TRANSFER
        file.write_text(json.dumps(renamed(json.loads(file.read_text()), names)))
    data = [
        Pictures(CLASSES, [names[f"{letter}{i}"] for i in range(count)], features(seed, count, 0)[1])
        for letter, count, seed in (("s", 20, 100), ("t", 30, 0))
    ]

    def predict(_: Path, dataset: Pictures, *, size: int, indices: list[int], attend: str) -> Any:
        assert dataset.labels is not None
        for index in indices:
            there = (dataset.labels[index] == 1).nonzero().squeeze(1)
            maps, scores = torch.ones(len(there), 2, 2), torch.randn(3)
            yield Prediction(dataset.names[index], (8, 8), scores, there, maps, None, dataset.labels[index])

    run = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(size=8)))
    monkeypatch.setattr(adaptation_views, "load", lambda run_, device: SimpleNamespace(**vars(run), network=run_))
    monkeypatch.setattr(adaptation_views, "predict", predict)
    results = renamed(content([("C", "M"), ("M", "C")]), names)
    results |= {"baseline": "source", "method": "attnbn"}
    view = DirectionView(NASTY[0], NASTY[6], runs, {}, data[0], data[1])
    AdaptationReport(results, [view], NASTY[1], NASTY[3]).write(tmp_path / "report.html")
    check(tmp_path / "report.html", *(NASTY[i] for i in (0, 1, 2, 4, 5, 6, 7, 9, 10)), *CLASSES)


def test_the_page_of_cues(tmp_path: Path) -> None:
    """``report.html`` of ``cues``."""
    tally, shown = CueTally(CLASSES), []
    generator = torch.Generator().manual_seed(0)
    for place, name in enumerate(NASTY):
        cues = torch.rand(4, 4, 5, generator=generator) < 0.3
        cues[place % 2] = False
        mask = torch.randint(0, 4, (8, 8), dtype=torch.uint8, generator=generator)
        tally.add(name, cues, [0, place % 3], mask)
        image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)
        shown.append(Shown(name, image, cues, [0, place % 3], torch.rand(1, 8, 8), mask))
    settings = {NASTY[6]: NASTY[1], "grid": [41, NASTY[7]], "saliency": {"folder": NASTY[3]}}
    report = {**tally.figures(), "target": NASTY[5], "split": NASTY[8], "settings": settings, "notes": [NASTY[9]]}
    write_cue_page(tmp_path / "report.html", report, shown, CLASSES)
    check(tmp_path / "report.html", *NASTY, *CLASSES)


def test_the_sheet_of_saliency_maps(tmp_path: Path) -> None:
    """``saliency.html``; a file's name has no ``/``."""
    names = [name.replace("/", "_") for name in NASTY]
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / MANIFEST).write_text(json.dumps({NASTY[0]: NASTY[1], "model": {NASTY[2]: [NASTY[4]]}}))
    photographs, figures = [], {}
    for place, name in enumerate(names):
        pixels = np.full((24, 32), 5, np.uint8)
        pixels[: 2 * place] = 250
        for folder, picture in (("maps", pixels), ("photos", np.full((24, 32, 3), 90, np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
        photographs.append(Photograph(str(tmp_path / "photos" / f"{name}.png"), name))
        figures[name] = figures_of(pixels)
    write_sheet(tmp_path / "maps", photographs, Summary(figures, (NASTY[9],)), NASTY[7])
    check(tmp_path / "maps" / SHEET, *names, *(NASTY[i] for i in (0, 1, 7, 9)))


def test_the_page_of_masks(tmp_path: Path) -> None:
    """``masks.html`` of ``demo --full`` and of Table 3's studies."""
    dataset = Pictures(CLASSES, list(NASTY))
    iou = dict.fromkeys(("background", *CLASSES), 0.5)
    cues = {"classes": {name: {"precision": 0.5, "recall": 0.5, "coverage": 0.5} for name in iou}}
    figures = {"miou": 0.5, "iou": iou, "before_crf": {"miou": 0.4}, "cues": cues}
    rows = [MaskRow(name, [{"miou": 0.3, "iou": iou}], [figures], 0.5) for name in (NASTY[2], NASTY[6])]
    counts = [torch.randint(1, 9, (len(NASTY), 4, 4)) for _ in range(2)]
    MaskReport(
        NASTY[0], NASTY[1], NASTY[9], rows, dataset, (counts[0], counts[1]),
        lambda place, name: torch.zeros(8, 8, dtype=torch.uint8), NASTY[6],
    ).write(tmp_path / "masks.html")  # fmt: skip
    check(tmp_path / "masks.html", *(NASTY[i] for i in (0, 1, 2, 6, 9)), *CLASSES)


WRITERS = {"cues", "masks", "saliency", "adaptation", "ablation"}


def test_no_page_is_left_out() -> None:
    """Whoever adds a page adds it here."""
    modules = {Path(str(file)).stem for file in files("attnbn.report").iterdir() if str(file).endswith(".py")}
    makers = {name for name in modules if re.search(r"= Page\(", (files("attnbn.report") / f"{name}.py").read_text())}
    assert makers == WRITERS
    package = Path(str(files("attnbn")))
    others = [
        file.name
        for file in package.rglob("*.py")
        if file.parent.name != "report" and re.search(r"\bPage\(|<html|text/html", file.read_text(encoding="utf-8"))
    ]
    assert others == ["pictures.py"] or others == []  # io/pictures.py tells a page from a photograph


def test_charts_take_any_name(tmp_path: Path) -> None:
    page = Page("t")
    series = [Series(text, [0, 1], [0, place]) for place, text in enumerate(NASTY)]
    for text in (NASTY[6], NASTY[10], NASTY[11]):
        page.figure(line_chart(series, x_label=text, y_label=text), text)
    page.write(tmp_path / "p.html")
    check(tmp_path / "p.html")
