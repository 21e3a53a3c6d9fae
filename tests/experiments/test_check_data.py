"""The data check: every kind of defect planted in small data sets is found, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnbn.cli.main import main
from attnbn.config import DataConfig, LossConfig, RunConfig
from attnbn.data.check.labels import cooccurrence
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.images import voc_palette
from attnbn.data.open import open_dataset
from attnbn.experiments import check_data as module
from attnbn.experiments.check_data import check_data, write_sheet
from attnbn.experiments.domains import open_domains
from attnbn.io.errors import InputError

SIZE = (48, 64)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Soft shapes of random colours, as different from each other as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize(size[::-1], Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def save_mask(path: Path, ids: np.ndarray) -> Path:
    mask = Image.fromarray(ids.astype(np.uint8))
    mask.putpalette(voc_palette().ravel().tolist())
    return save(path, mask)


def half(identity: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    ids = np.zeros(size, dtype=np.uint8)
    ids[: size[0] // 2] = identity
    return ids


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Classes cat and dog; ``train`` a, b, c and ``val`` d, e with masks."""
    root = tmp_path / "voc"
    labels = {"a": "cat", "b": "dog", "c": "cat", "d": "cat", "e": "dog"}
    for seed, name in enumerate(labels):
        save(root / "JPEGImages" / f"{name}.png", picture(seed))
    for kind in ("Main", "Segmentation"):
        (root / "ImageSets" / kind).mkdir(parents=True)
    for split, names in {"train": "abc", "val": "de"}.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for label in ("cat", "dog"):
            lines = [f"{name} {1 if labels[name] == label else -1}" for name in names]
            (root / f"ImageSets/Main/{label}_{split}.txt").write_text("\n".join(lines))
    (root / "ImageSets/Segmentation/val.txt").write_text("d\ne\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    save_mask(root / "SegmentationClass/d.png", half(1))
    save_mask(root / "SegmentationClass/e.png", half(2))
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three photographs of cats and of dogs with saliency in ``maps`` beside them."""
    root = tmp_path / "simple"
    for number, label in enumerate(("cat", "dog")):
        for i in range(3):
            save(root / label / f"{i}.png", picture(100 + 10 * number + i))
            save(tmp_path / "maps" / label / f"{i}.png", Image.fromarray(half(255, (24, 32))))
    return root


def found(*specs: str, **options: Any) -> list[tuple[str, str, str | None, str]]:
    """Severity, kind, split and the file's name of every finding."""
    findings = check_data(specs, **options).findings
    return [(f.severity, f.kind, f.split, Path(f.file).name) for f in findings]


def test_sound_data_have_no_finding(voc: Path, folders: Path) -> None:
    checked = check_data([f"voc:{voc}", f"folders:{folders}"], saliency=[str(folders.parent / "maps")], workers=2)
    assert checked.findings == [] and len(checked.looks) == 11
    parts = {part["split"]: part for part in checked.as_json()["datasets"]}
    assert parts["train"]["classes"] == {"cat": 2, "dog": 1} and parts["val"]["masks"] == 2
    assert parts[None]["saliency_maps"] == 6 and parts["train"]["saliency"] is None


def test_broken_photographs(voc: Path) -> None:
    (voc / "JPEGImages/a.png").write_bytes((voc / "JPEGImages/a.png").read_bytes()[:200])
    (voc / "JPEGImages/b.png").write_bytes(b"")
    (voc / "JPEGImages/c.png").unlink()
    assert sorted(found(f"voc:{voc}")) == [
        ("error", "image-empty", "train", "b.png"),
        ("error", "image-missing", "train", "c.jpg"),
        ("error", "image-unreadable", "train", "a.png"),
    ]


def test_wrong_masks(voc: Path) -> None:
    save_mask(voc / "SegmentationClass/d.png", half(7, SIZE[::-1]))  # turned, and an id outside the classes
    (voc / "SegmentationClass/e.png").write_bytes(b"no picture")
    save_mask(voc / "SegmentationClass/zebra.png", half(1))
    assert sorted(found(f"voc:{voc}")) == [
        ("error", "mask-ids", "val", "d.png"),
        ("error", "mask-size", "val", "d.png"),
        ("error", "mask-unreadable", "val", "e.png"),
        ("warning", "mask-unused", None, "zebra.png"),
    ]
    size = next(f for f in check_data([f"voc:{voc}"]).findings if f.kind == "mask-size")
    assert size.line() == (
        "expected a mask of 48×64 like its image, got 64×48 (turned by a quarter); make it anew over the upright "
        f"photograph: {voc / 'SegmentationClass/d.png'}"
    )


def test_missing_masks_and_a_split_without_any(voc: Path) -> None:
    (voc / "SegmentationClass/d.png").unlink()
    assert found(f"voc:{voc}") == [("error", "mask-missing", "val", "d.png")]
    (voc / "SegmentationClass/e.png").unlink()
    assert found(f"voc:{voc}") == [("note", "mask-missing", "val", "Segmentation")]


def test_labels_that_are_missing_damaged_or_denied_by_the_mask(voc: Path) -> None:
    (voc / "ImageSets/Main/cat_train.txt").write_text("a 1\nb -1\nc -1")
    (voc / "ImageSets/Main/dog_train.txt").write_text("a -1\nb 1\nc -1")
    save_mask(voc / "SegmentationClass/d.png", half(2))
    assert found(f"voc:{voc}") == [
        ("error", "label-missing", "train", "c.png"),
        ("error", "mask-class", "val", "d.png"),  # the only cat of the split
        ("warning", "mask-label", "val", "d.png"),
    ]
    (voc / "ImageSets/Main/dog_train.txt").write_text("a -1\nb maybe\nc 1")
    kinds = [(kind, split) for _, kind, split, _ in found(f"voc:{voc}", splits=["train"])]
    assert kinds == [("label-file", "train")]  # one bad line is one error, not one for each photograph besides


def test_annotations_and_masks_label_where_lists_do_not(voc: Path) -> None:
    for file in (voc / "ImageSets/Main").glob("*_*.txt"):
        file.unlink()
    (voc / "Annotations").mkdir()
    for name, label in (("a", "cat"), ("b", "dog"), ("c", "cow")):
        text = f"<annotation><object><name>{label}</name></object></annotation>"
        (voc / f"Annotations/{name}.xml").write_text(text)
    checked = check_data([f"voc:{voc}"])
    assert [(f.kind, f.split, Path(f.file).name) for f in checked.findings] == [("label-file", "train", "c.xml")]
    counts = {part["split"]: part["classes"] for part in checked.as_json()["datasets"]}
    assert counts == {"train": {"cat": 1, "dog": 1}, "val": {"cat": 1, "dog": 1}}


def test_a_photograph_in_no_list_is_noted(voc: Path) -> None:
    save(voc / "JPEGImages/z.png", picture(70))
    assert found(f"voc:{voc}") == [("note", "unlisted", None, "z.png")]
    assert found(f"voc:{voc}", splits=["val"]) == []


def test_wrong_saliency(folders: Path) -> None:
    maps = folders.parent / "maps"
    (maps / "cat/0.png").unlink()
    save(maps / "cat/1.png", Image.new("L", (32, 24), 128))
    save(maps / "cat/2.png", Image.fromarray(half(255, (24, 24))))
    (maps / "dog/0.png").write_bytes(b"")
    save(maps / "dog/1.jpg", Image.fromarray(half(255, (24, 32))))
    save(maps / "dog/lost.png", Image.fromarray(half(255, (24, 32))))
    assert sorted(found(f"folders:{folders}", saliency=[str(maps)])) == [
        ("error", "saliency-constant", None, "1.png"),
        ("error", "saliency-missing", None, "0.png"),
        ("error", "saliency-shape", None, "2.png"),
        ("error", "saliency-twice", None, "1.png"),
        ("error", "saliency-unreadable", None, "0.png"),
        ("note", "saliency-unused", None, "lost.png"),
    ]


def test_classes_that_are_absent_or_differ(voc: Path, folders: Path) -> None:
    shutil.rmtree(folders / "dog")
    (folders / "bird").mkdir()
    specs = f"voc:{voc}", f"folders:{folders}"
    assert found(*specs) == [
        ("error", "class-absent", None, "bird"),
        ("error", "classes-differ", None, "voc"),
    ]
    left = ("note", "left-out", None, "simple")
    assert found(*specs, classes="cat,dog") == [("error", "class-absent", None, "simple"), left]
    assert found(*specs, classes="cat") == [left]
    (folders / "dogg").mkdir()
    shutil.copy(next((folders / "cat").iterdir()), folders / "dogg")
    (lost,) = [f for f in check_data(specs, classes=["cat", "dog"]).findings if f.kind == "class-absent"]
    assert lost.remedy.endswith("(closest there: dogg)")
    shutil.rmtree(folders / "dogg")
    (voc / "ImageSets/Main/val.txt").write_text("d")
    (voc / "ImageSets/Segmentation/val.txt").write_text("d")
    assert ("warning", "class-absent", "val", "voc") in found(f"voc:{voc}")


def test_a_class_map_renames(voc: Path, folders: Path) -> None:
    (folders / "dog").rename(folders / "hound")
    assert [kind for _, kind, _, _ in found(f"voc:{voc}", f"folders:{folders}")] == ["classes-differ"] * 2
    assert found(f"voc:{voc}", f"folders:{folders}", class_map={"hound": "dog"}) == []


def test_exact_duplicates_within_and_across(voc: Path, folders: Path) -> None:
    shutil.copy(folders / "cat/0.png", folders / "dog/copy.png")
    shutil.copy(folders / "cat/1.png", voc / "JPEGImages/a.png")  # into train: no figure is computed there
    save(voc / "JPEGImages/e.png", picture(101), compress_level=0)  # into val: the same pixels in another file
    checked = check_data([f"voc:{voc}", f"folders:{folders}"])
    pairs = {(f.severity, f.kind, Path(f.file).name, Path(f.other or "").name): f for f in checked.findings}
    assert set(pairs) == {
        ("warning", "duplicate", "copy.png", "0.png"),
        ("error", "duplicate", "1.png", "e.png"),
        ("error", "duplicate", "a.png", "e.png"),
    }
    within = pairs["warning", "duplicate", "copy.png", "0.png"]
    assert "the same file" in within.got and "labelled cat, not dog" in within.got
    across = pairs["error", "duplicate", "1.png", "e.png"]
    assert "the same pixels" in across.got and f"in voc:{voc} val" in across.got
    assert across.dataset == f"folders:{folders}" and across.remedy == f"take it out of folders:{folders}"


@pytest.mark.parametrize("mirrored", [False, True])
def test_near_duplicates_leak(voc: Path, mirrored: bool) -> None:
    twin = picture(0, (96, 128))
    twin = twin.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else twin
    save(voc / "JPEGImages/d.jpg", twin.resize(SIZE[::-1]), quality=60)
    (voc / "JPEGImages/d.png").unlink()
    (finding,) = check_data([f"voc:{voc}"]).findings
    assert (finding.severity, finding.kind, finding.split) == ("error", "near-duplicate", "train")
    assert Path(finding.file).name == "a.png" and Path(finding.other or "").name == "d.jpg"
    assert ("mirrored" in finding.got) == mirrored


def test_splits_that_share_photographs(voc: Path) -> None:
    main_lists = voc / "ImageSets/Main"
    (main_lists / "trainval.txt").write_text("a\nb\nc\nd\ne")
    for label in ("cat", "dog"):
        both = [(main_lists / f"{label}_{split}.txt").read_text() for split in ("train", "val")]
        (main_lists / f"{label}_trainval.txt").write_text("\n".join(both))
    assert found(f"voc:{voc}") == []  # made of the two on purpose
    for label in ("cat", "dog"):
        (main_lists / f"{label}_train.txt").write_text((main_lists / f"{label}_trainval.txt").read_text())
    (main_lists / "train.txt").write_text("a\nb\nc\ne\nd")
    (finding,) = check_data([f"voc:{voc}"]).findings
    assert (finding.severity, finding.kind, finding.split, finding.files) == ("error", "split-overlap", "train", 2)
    assert finding.other == f"voc:{voc} val"


def test_a_list_row_by_row(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", picture(200 + i))
    rows = ["path,label", "0.png,cat", "1.png,cat,dog", "2.png", "gone.png,dog", "0.png,dog", "3.png,zebra"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    findings = check_data([f"csv:{tmp_path / 'list.csv'}"], classes="cat,dog").findings
    assert sorted((f.kind, Path(f.file).name) for f in findings) == [
        ("image-missing", "gone.png"),
        ("label-missing", "list.csv, line 4"),
        ("label-unknown", "list.csv, line 7"),
        ("listed-twice", "list.csv, line 6"),
    ]


def test_what_only_the_reader_finds_is_told_in_its_words(tmp_path: Path, folders: Path) -> None:
    save(tmp_path / "a/0.png", picture(1))
    save(tmp_path / "list/a/0.png", picture(2))
    (tmp_path / "list/list.csv").write_text("a/0.png,cat\n../a/0.png,dog\n")
    findings = check_data([f"csv:{tmp_path / 'list/list.csv'}", f"folders:{folders}"], classes="cat,dog").findings
    assert [f.kind for f in findings] == ["refused"] and "both 'a/0.png'" in findings[0].got


def test_scenes_are_checked_too() -> None:
    checked = check_data(["scenes:source?count=20", "scenes:target?count=20"], splits=["train", "dev"])
    assert checked.findings == [] and len(checked.looks) == 80


def test_cooccurrence_is_that_of_plain_loops() -> None:
    import torch

    rng = np.random.default_rng(0)
    labels = rng.choice([0.0, 1.0, np.nan], (40, 5), p=[0.5, 0.4, 0.1])
    plain = [[sum(bool(row[i] == 1 and row[j] == 1) for row in labels) for j in range(5)] for i in range(5)]
    assert cooccurrence(torch.from_numpy(labels)).tolist() == plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["voc:{0}", "--split", "dev"], "no split 'dev'; splits here: train, val, all"),
        (["voc:{0}/nowhere"], "found nothing; check the path"),
        (["{0}"], "KIND one of"),
        (["voc:{0}", "voc:{0}"], "each data set once"),
        (["voc:{0}", "--saliency", "{0}"], "for each --saliency, got 0"),
        (["voc:{0}", "--class-map", "dog=,cat"], "expected OLD=NEW"),
        (["voc:{0}", "--class-map", "dog"], "or a table out of five, voc20"),
        (["voc:{0}", "--classes", "cat,cat"], "each class once"),
    ],
)
def test_bad_usage(voc: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", *(argument.format(voc) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_command(voc: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check-data", f"voc:{voc}", f"folders:{folders}", "--saliency", str(tmp_path / "maps")]
    written = ["--json", str(tmp_path / "check.json"), "--sheet", str(tmp_path / "sheet.png"), "--workers", "1"]
    assert main([*command, *written]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "0 errors, 0 warnings, 0 notes" in out and "images/s" in out
    assert "6 usable saliency maps of" in out and "[2] voc:" in out
    assert Image.open(tmp_path / "sheet.png").width == 1600

    for name in "abc":
        (voc / f"JPEGImages/{name}.png").write_bytes(b"")
    (folders / "cat/0.png").write_bytes(b"")
    assert main([*command, *written]) == 1
    out, err = capsys.readouterr()
    assert err == "attnbn: the data have 4 errors; correct them before training\n"
    assert "error image-empty: 4" in out and "... and 1 more" in out and "4 errors, 0 warnings, 0 notes" in out
    result = json.loads((tmp_path / "check.json").read_text())
    assert result["counts"] == {"errors": 4, "warnings": 0, "notes": 0}
    assert [f["split"] for f in result["findings"]] == ["train"] * 3 + [None]
    assert {"severity", "kind", "dataset", "file", "expected", "got", "remedy"} <= set(result["findings"][0])
    assert result["datasets"][0]["cooccurrence"] == [[2, 0], [0, 1]]


def test_the_sheet_shows_photograph_mask_saliency_and_duplicates(voc: Path, folders: Path, tmp_path: Path) -> None:
    save(voc / "JPEGImages/e.png", Image.new("RGB", SIZE[::-1], (250, 0, 250)))
    save(folders / "dog/3.png", Image.new("RGB", SIZE[::-1], (0, 250, 250)))
    save(folders / "dog/4.png", Image.new("RGB", SIZE[::-1], (0, 250, 250)), compress_level=0)
    for i in (3, 4):
        save(tmp_path / f"maps/dog/{i}.png", Image.fromarray(half(255, (24, 32))))
    checked = check_data([f"voc:{voc}", f"folders:{folders}"], saliency=[str(tmp_path / "maps")])
    write_sheet(tmp_path / "sheet.png", checked)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)

    def share(*colour: int) -> float:
        return float((np.abs(pixels - colour).max(2) < 6).mean() * pixels.shape[0] * pixels.shape[1] / (132 * 176))

    assert share(250, 0, 250) == pytest.approx(1, abs=0.1)
    tinted = 0.4 * np.array([250, 0, 250]) + 0.6 * voc_palette()[2]  # the upper half of e's mask is a dog
    assert share(*tinted.astype(int)) == pytest.approx(0.5, abs=0.1)
    assert share(0, 250, 250) == pytest.approx(4, abs=0.3)  # two photographs, and both as a pair
    assert share(0, 0, 0) == pytest.approx(8 / 2, abs=0.5)  # the lower halves of eight maps


def test_the_sheet_refuses_a_folder_it_cannot_write(voc: Path, tmp_path: Path) -> None:
    checked = check_data([f"voc:{voc}"])
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, RuntimeError), match="could not write"):
        write_sheet(tmp_path / "file/sheet.png", checked)


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """Caltech-256 and ImageNet in small: dogs in both, horses in one, cats in the other, a goat and a zebra beside."""
    folders = {
        "256_ObjectCategories/056.dog": 4, "256_ObjectCategories/254.greyhound": 2, "256_ObjectCategories/105.horse": 5,
        "256_ObjectCategories/085.goat": 1, "256_ObjectCategories/257.clutter": 1,
        "ILSVRC/Data/CLS-LOC/train/n02085620": 3, "ILSVRC/Data/CLS-LOC/train/n02085782": 3,
        "ILSVRC/Data/CLS-LOC/train/n02123045": 5, "ILSVRC/Data/CLS-LOC/train/n02391049": 1,
    }  # fmt: skip
    for number, (folder, count) in enumerate(folders.items()):
        for i in range(count):
            save(tmp_path / folder / f"{i}.jpg", picture(300 + 10 * number + i))
    return tmp_path


def test_what_is_taken_of_class_and_folder(simple: Path) -> None:
    specs = [f"caltech256:{simple}", f"imagenet:{simple}"]
    checked = check_data(specs, class_map="voc20", classes="cat,dog,horse", source_cap=4, workers=1)
    found = {(row.label, row.dataset[:7]): 0 for row in checked.taken}
    taken = dict(found)
    for row in checked.taken:
        found[row.label, row.dataset[:7]] += row.found
        taken[row.label, row.dataset[:7]] += row.taken
    assert found == {("dog", "caltech"): 6, ("horse", "caltech"): 5, ("cat", "imagene"): 5, ("dog", "imagene"): 6}
    assert taken == {("dog", "caltech"): 2, ("horse", "caltech"): 4, ("cat", "imagene"): 4, ("dog", "imagene"): 2}
    assert len(checked.looks) == 12 and {row.folder for row in checked.taken if row.label == "horse"} == {"105.horse"}
    result = checked.as_json()
    assert result["classes"] == ["cat", "dog", "horse"] and result["table"] == "voc20"
    assert [part["classes"] for part in result["datasets"]] == [{"dog": 2, "horse": 4}, {"cat": 4, "dog": 2}]
    # it is what a run takes
    source = open_domains(
        RunConfig(
            data=DataConfig(source=specs, class_map="voc20", classes="cat,dog,horse", source_cap=4),
            loss=LossConfig(attention=0, target_cl=0, adversarial=0),
        )
    ).source
    assert source is not None
    assert [name.partition("/")[2] for name in source.names] == [n for part in checked.parts for n in part.names]
    other = check_data(specs, class_map="voc20", classes="cat,dog,horse", source_cap=4, seed=1, workers=1)
    assert [part.names for part in other.parts] != [part.names for part in checked.parts]


def test_what_a_table_wants_in_vain_and_leaves_out(simple: Path) -> None:
    specs = [f"caltech256:{simple}", f"imagenet:{simple}"]
    checked = check_data(specs, class_map="voc20", classes="cat,dog,horse", workers=1)
    assert {finding.severity for finding in checked.findings} == {"warning", "note"}
    lacking = [finding for finding in checked.findings if finding.kind == "table-lacks"]
    assert len(lacking) == 120  # 4 cats and 116 breeds of dogs; the sorrel is of a class that ImageNet has none of here
    assert lacking[0].line() == (
        "expected a folder of n02123159 (tiger cat), got none; fetch it, or go without: cat of the table voc20: "
        f"{simple / 'ILSVRC/Data/CLS-LOC/train'}"
    )
    left = {(Path(f.file).name, f.got) for f in checked.findings if f.kind == "table-leaves-out"}
    assert left == {
        ("085.goat", "no class of the table voc20: VOC's sheep is no goat"),
        ("257.clutter", "no class of the table voc20: of no class"),
        ("n02391049", "no class of the table voc20: zebra: no horse, mule or donkey"),
    }


def test_classes_that_no_simple_data_set_has(simple: Path) -> None:
    specs = [f"caltech256:{simple}", f"imagenet:{simple}"]
    errors = [f for f in check_data(specs, class_map="voc20", workers=1).findings if f.severity == "error"]
    absent = ", ".join(n for n in VOC_CLASSES if n not in ("cat", "dog", "horse"))
    assert [f.line() for f in errors] == [
        f"expected photographs of every class of the table voc20, got none of {absent}; check and train with "
        f"--classes cat,dog,horse, or name another source beside it that has them: {' + '.join(specs)}"
    ]
    (single,) = [f for f in check_data(specs[:1], class_map="voc20").findings if f.severity == "error"]
    assert single.kind == "class-absent" and "none of aeroplane" in single.got and " cat," in single.got
    assert "--classes dog,horse, or name another source" in single.remedy
    named = check_data(specs, class_map="voc20", classes="cow,dog,sheep").findings
    assert {f.expected for f in named if f.severity == "error"} == {
        "photographs of class 'cow'", "photographs of class 'sheep'"
    }  # fmt: skip
    alone = [f for f in check_data(specs[:1], class_map="voc20", classes="cat,dog").findings if f.severity == "error"]
    assert [(f.kind, f.dataset, f.expected) for f in alone] == [
        ("class-absent", specs[0], "photographs of class 'cat'")
    ]
    none = check_data(specs[1:], classes="cow", class_map="voc20").findings
    assert [(f.severity, f.kind) for f in none] == [("error", "refused")]


def test_a_list_of_what_is_taken_is_a_source(
    simple: Path, voc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(simple)
    words = ["check-data", "caltech256:.", "imagenet:.", "--class-map", "voc20", "--classes", "cat,dog,horse"]
    assert main([*words, "--source-cap", "4", "--list", "list.csv", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["all", "22", "12"] in rows and any(row[:5] == ["dog", "[1]", "6", "2", "056.dog"] for row in rows)
    listed = open_dataset("csv:list.csv", split="train")
    assert listed.labels is not None and listed.classes == ("cat", "dog", "horse")
    assert listed.labels.sum(0).tolist() == [4, 4, 4] and not (simple / "list.csv").read_text().count(str(simple))
    (simple / "lists").mkdir()
    assert main([*words, "--list", "lists/list.csv", "--workers", "1"]) == 0
    assert len(open_dataset("csv:lists/list.csv", split="train")) == 22
    capsys.readouterr()
    assert main(["check-data", f"voc:{voc}", "--list", "list.csv"]) == 2
    assert "expected data sets of simple images (folders, csv, " in capsys.readouterr().err


def test_a_folder_of_photographs_and_masks(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        save(tmp_path / "set/images" / f"{name}.png", picture(400 + number))
        save_mask(tmp_path / "set/masks" / f"{name}.png", half(1 + number % 2))
    (tmp_path / "set/classes.txt").write_text("cat\ndog\n")
    checked = check_data([f"masks:{tmp_path / 'set'}"], workers=1)
    assert checked.findings == [] and checked.as_json()["datasets"][0]["masks"] == 3
    assert checked.as_json()["datasets"][0]["classes"] == {"cat": 2, "dog": 1}
    save_mask(tmp_path / "set/masks/b.png", half(2, (48, 60)))
    tabled = check_data([f"masks:{tmp_path / 'set'}"], class_map="voc20", workers=1).findings
    (absent,) = [f for f in tabled if f.kind == "class-absent"]
    assert absent.remedy == "check and train with --classes cat,dog, or choose another split"
    findings = check_data([f"masks:{tmp_path / 'set'}"], workers=1).findings
    assert [(f.kind, f.severity) for f in findings] == [("mask-unreadable", "error")] and "48×60" in findings[0].got


def test_one_list_of_a_class_is_missing(voc: Path) -> None:
    (voc / "ImageSets/Main/dog_train.txt").unlink()
    (finding,) = [f for f in check_data([f"voc:{voc}"]).findings if f.severity == "error"]
    with pytest.raises(InputError) as refusal:
        open_dataset(f"voc:{voc}", split="train")
    reasons = "no ImageSets/Main/dog_train.txt; no Annotations/a.xml; no SegmentationClass/a.png"
    assert f"found {reasons}" in str(refusal.value)
    assert (finding.kind, finding.split, finding.files) == ("label-missing", "train", 3)
    assert finding.line() == (
        f"expected a label for every photograph, got {reasons} (3 photographs without); add the list or label them: {voc}"
    )


def test_where_the_labels_of_a_split_come_from(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "ImageSets/Main/dog_val.txt").unlink()
    assert main(["check-data", f"voc:{voc}"]) == 0
    out = capsys.readouterr().out
    assert "train: 3 images, labels from ImageSets/Main\n" in out
    assert "val: 2 images, 2 masks, labels from the masks\n" in out
    save_mask(voc / "SegmentationClass/d.png", half(1, (20, 20)))  # an error: the reader is not asked
    (voc / "JPEGImages/a.png").unlink()
    (train, val) = check_data([f"voc:{voc}"]).as_json()["datasets"]
    assert train["labels_from"] == "ImageSets/Main" and val["labels_from"] == "the masks"


def test_the_split_of_voc_and_sbd(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check-data", f"voc:{voc}", "--split"]
    assert main([*command, "train_aug"]) == 2
    assert "no split 'train_aug', for which VOC 2012 alone is not enough" in capsys.readouterr().err
    (voc / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    sbd = voc.parent / "benchmark_RELEASE/dataset"
    sbd.mkdir(parents=True)
    (sbd / "train.txt").write_text("a\nd\n")
    (sbd / "val.txt").write_text("c\nf\n")
    save(voc / "JPEGImages/f.png", picture(50))
    with (voc / "ImageSets/Main/val.txt").open("a") as file:
        file.write("\nf\n")  # as in VOC 2012, val of Main holds photographs of train_aug
    for label, mark in (("cat", 1), ("dog", -1)):
        with (voc / f"ImageSets/Main/{label}_val.txt").open("a") as file:
            file.write(f"\nf {mark}\n")
    assert main([*command, "dev"]) == 2
    assert "splits here: train, val, train_aug, all" in capsys.readouterr().err
    checked = check_data([f"voc:{voc}"], splits=["train_aug", "val"])
    trained = open_dataset(f"voc:{voc}", split="train_aug")
    assert [part.names for part in checked.parts] == [trained.names, ["d", "e"]]
    assert trained.names == ["a", "b", "c", "f"] and trained.labels is not None
    assert checked.parts[0].labels.tolist() == trained.labels.tolist()
    assert checked.parts[0].labels_from == "ImageSets/Main"
    assert [(f.severity, f.kind, f.split) for f in checked.findings] == [("note", "train-aug", "train_aug")] * 2
    assert [f.got for f in checked.findings] == trained.notes[:2]
    assert check_data([f"voc:{voc}"], splits=["trainaug"]).parts[0].names == trained.names


def test_a_class_folder_without_photographs_in_the_readers_words(simple: Path) -> None:
    (simple / "256_ObjectCategories/198.spider").mkdir()
    (finding,) = check_data([f"caltech256:{simple}"], workers=1).findings
    assert finding.expected == "photographs of class 'spider'" and finding.got.startswith("none")
    assert "got found" not in finding.line() and ", got none; " in finding.line()


def test_saliency_maps_of_other_photographs(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = folders.parent / "other"
    for i in range(4):
        save(maps / f"x{i}.png", Image.fromarray(half(255, (24, 32))))
    (finding,) = check_data([f"folders:{folders}"], saliency=[str(maps)]).findings
    assert (finding.severity, finding.kind, finding.files) == ("error", "saliency-missing", 6)
    assert finding.line() == (
        "none of the 6 photographs has a map, the folder has 4 of other names (e.g. x0.png, not cat/0.png); it belongs to "
        f"other photographs: {maps}"
    )
    for i in range(2):
        save(folders.parent / f"maps/cat/lost{i}.png", Image.fromarray(half(255, (24, 32))))
    assert main(["check-data", f"folders:{folders}", "--saliency", str(folders.parent / "maps")]) == 0
    out = capsys.readouterr().out
    assert "note saliency-unused: 1 (2 files)\n" in out and "got 2 without" in out


ANY_CLASS = "expected pixels of every labelled class in the masks of the split"
AS_IDS = "save the masks as class ids (0 background, i the i-th class, 255 void)"


@pytest.mark.parametrize(
    ("values", "got", "remedy"),
    [
        ((255, 255), "none of cat (1), dog (1) in 2 masks (all their pixels are 0 or 255: binary masks?)", AS_IDS),
        ((0, 0), "none of cat (1), dog (1) in 2 masks (all their pixels are 0: empty masks?)", AS_IDS),
        ((1, 1), "none of dog (1) in 1 mask (all their pixels are 0 or 1: binary masks?)", AS_IDS),
        ((2, 2), "none of cat (1) in 1 mask", "correct the masks or the labels"),
    ],
)
def test_masks_that_never_show_a_class_of_their_labels(
    voc: Path, values: tuple[int, int], got: str, remedy: str
) -> None:
    for name, value in zip("de", values, strict=True):
        save(voc / f"SegmentationClass/{name}.png", Image.fromarray(half(value)))
    lines = [f.line() for f in check_data([f"voc:{voc}"]).findings if f.severity == "error"]
    first = "e" if values == (1, 1) else "d"
    assert lines == [f"{ANY_CLASS}, got {got}; {remedy}: {voc / f'SegmentationClass/{first}.png'}"]


def with_photographs(voc: Path, labels: dict[str, str], masks: dict[str, np.ndarray]) -> None:
    """More photographs in ``val``, with masks."""
    for number, (name, label) in enumerate(labels.items()):
        save(voc / "JPEGImages" / f"{name}.png", picture(500 + number))
        save_mask(voc / "SegmentationClass" / f"{name}.png", masks[name])
        for own in ("cat", "dog"):
            with (voc / f"ImageSets/Main/{own}_val.txt").open("a") as file:
                file.write(f"\n{name} {1 if own in label.split('+') else -1}")
        for kind in ("Main", "Segmentation"):
            with (voc / f"ImageSets/{kind}/val.txt").open("a") as file:
                file.write(f"\n{name}\n")


def test_a_mask_that_shows_none_of_its_photographs_classes(voc: Path) -> None:
    small = half(2)
    small[:2] = 255
    with_photographs(
        voc,
        {"f": "cat", "g": "dog", "h": "cat+dog", "i": "cat"},
        {"f": half(255), "g": half(0), "h": small, "i": half(2)},  # of h only the cat is too small
    )
    findings = check_data([f"voc:{voc}"]).findings
    warned = [(f.severity, f.kind, Path(f.file).name) for f in findings]
    assert warned == [
        ("warning", "mask-label", "i.png"),  # said once: it shows a dog, which the labels deny
        ("warning", "mask-object", "f.png"),
        ("warning", "mask-object", "g.png"),
    ]
    expected = "expected a pixel of a class that the photograph is labelled with"
    assert [f.line() for f in findings[1:]] == [
        f"{expected} (cat), got only background and void (0 and 255); correct the mask or the labels: "
        f"{voc / 'SegmentationClass/f.png'}",
        f"{expected} (dog), got only background (0); correct the mask or the labels: {voc / 'SegmentationClass/g.png'}",
    ]


def test_a_mask_of_a_class_that_is_not_used_may_be_right(voc: Path) -> None:
    with_photographs(voc, {"f": "cat+dog"}, {"f": half(2)})
    assert found(f"voc:{voc}", classes="cat") == []  # f's dog may hide the cat
    save_mask(voc / "SegmentationClass/f.png", half(0))
    assert found(f"voc:{voc}", classes="cat") == [("warning", "mask-object", "val", "f.png")]


def test_photographs_without_the_wanted_classes_are_counted(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["check-data", f"voc:{voc}", "--classes", "cat", "--json", str(tmp_path / "check.json")]
    assert main(command) == 0
    out = capsys.readouterr().out
    notes = open_dataset(f"voc:{voc}", split="train", classes="cat").notes
    assert "left out 1 of 3 images with none of the classes" in notes
    assert "train: 2 images, labels from ImageSets/Main, left out 1 of 3 images with none of the classes\n" in out
    assert "0 warnings" in out  # b is a dog
    assert [part["left_out"] for part in json.loads((tmp_path / "check.json").read_text())["datasets"]] == [1, 1]
    (voc / "ImageSets/Main/dog_train.txt").write_text("a -1\nb -1\nc -1\n")
    findings = check_data([f"voc:{voc}"], classes="cat").findings
    assert [f.line() for f in findings] == [
        "expected at least one class, got none in lists, annotation or mask; label it or take it out of the split: "
        f"{voc / 'JPEGImages/b.png'}"
    ]
    assert [(f.severity, f.kind, f.split) for f in findings] == [("warning", "label-missing", "train")]
    (voc / "ImageSets/Main/dog_train.txt").unlink()  # then nothing tells whether b has a class
    assert found(f"voc:{voc}", classes="cat") == []
    (voc / "Annotations").mkdir()
    (voc / "Annotations/b.xml").write_text("<annotation></annotation>")
    assert found(f"voc:{voc}", classes="cat") == [("warning", "label-missing", "train", "b.png")]
    (voc / "Annotations/b.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    assert found(f"voc:{voc}", classes="cat") == []


def test_masks_without_the_wanted_classes_are_counted(tmp_path: Path) -> None:
    for number, identity in enumerate((1, 2, 0)):
        save(tmp_path / f"set/images/{number}.png", picture(400 + number))
        save_mask(tmp_path / f"set/masks/{number}.png", half(identity))
    (tmp_path / "set/classes.txt").write_text("cat\ndog\n")
    checked = check_data([f"masks:{tmp_path / 'set'}"], classes="cat")
    assert checked.as_json()["datasets"][0]["left_out"] == 2
    assert [f.line() for f in checked.findings] == [
        "expected at least one class, got none in its mask; correct the mask, or take the photograph out: "
        f"{tmp_path / 'set/images/2.png'}"
    ]
    assert checked.findings[0].severity == "warning"


def test_class_folders_that_are_another_layout(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*words: str) -> str:
        assert main(["check-data", *words]) == 2
        return capsys.readouterr().err.rstrip("\n")

    (voc / "Annotations").mkdir()  # empty, and not to be removed
    shown = "Annotations, ImageSets, JPEGImages, SegmentationClass"
    for words in ([], ["--classes", "cat,dog"]):
        assert line(f"folders:{voc}", *words) == (
            f"attnbn: expected a folder per class, got VOC's layout ({shown}); write voc:{voc}: {voc}"
        )
    for images, masks in (("Images", "GroundTruth"), ("images", "masks")):
        root = tmp_path / images
        save(root / images / "0.png", picture(1))
        save_mask(root / masks / "0.png", half(1))
        assert line(f"folders:{root}") == (
            f"attnbn: expected a folder per class, got photographs and masks ({images} and {masks}); "
            f"write masks:{root}: {root}"
        )


def test_the_folder_above_the_class_folders(folders: Path, tmp_path: Path) -> None:
    shutil.move(folders, tmp_path / "amazon/images")
    (warning,) = check_data([f"folders:{tmp_path / 'amazon'}"]).findings
    assert (warning.severity, warning.kind) == ("warning", "one-class")
    assert warning.line() == (
        "expected a folder per class, got one alone, with photographs in 2 folders in it (cat, dog); "
        f"if those are the classes, write folders:{tmp_path / 'amazon/images'}: {tmp_path / 'amazon/images'}"
    )
    assert ("warning", "one-class", None, "images") in found(f"folders:{tmp_path / 'amazon'}", classes="cat,dog")
    assert found(f"folders:{tmp_path / 'amazon'}", classes="images") == []
    shutil.rmtree(tmp_path / "amazon/images/dog")
    assert found(f"folders:{tmp_path / 'amazon/images'}") == []  # one class, and no folder in it


def test_lists_that_name_photographs_with_their_endings(voc: Path) -> None:
    for file in ("train.txt", "cat_train.txt", "dog_train.txt"):
        path = voc / "ImageSets/Main" / file
        path.write_text("".join(f"{line[0]}.png{line[1:]}\n" for line in path.read_text().splitlines()))
    (finding,) = check_data([f"voc:{voc}"]).findings
    assert (finding.kind, finding.split, finding.files) == ("image-missing", "train", 3)
    assert finding.line() == (
        "expected names of photographs without endings, got a.png and 2 more; drop the endings here and in 2 more of the "
        f"split's lists (write a): {voc / 'ImageSets/Main/train.txt'}"
    )
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\nc\ngone.jpg\n")
    assert found(f"voc:{voc}") == [
        ("error", "image-missing", "train", "cat_train.txt"),
        ("error", "image-missing", "train", "gone.jpg.jpg"),
    ]


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet.txt", "sheet"])
def test_a_sheet_is_a_png(voc: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "JPEGImages/a.png").write_bytes(b"")
    assert main(["check-data", f"voc:{voc}", "--sheet", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and not (tmp_path / name).exists()
    assert f"expected a name that ends in .png, got another; write {tmp_path / 'sheet.png'}: {tmp_path / name}" in err
    assert main(["check-data", f"voc:{voc}", "--sheet", str(tmp_path / "SHEET.PNG")]) == 1


def test_the_sheet_says_what_its_red_is(voc: Path, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(module, "draw_sheet", lambda path, rows: drawn.extend(rows))
    shutil.copy(folders / "cat/0.png", folders / "dog/copy.png")
    write_sheet("sheet.png", check_data([f"folders:{folders}"]))
    assert drawn[-1].title == "duplicates: 1 of 1 pairs" and not drawn[-1].tiles[0].warn
    shutil.copy(folders / "cat/1.png", voc / "JPEGImages/e.png")
    write_sheet("sheet.png", check_data([f"voc:{voc}", f"folders:{folders}"]))
    assert drawn[-1].title == (
        "duplicates: 2 of 2 pairs; in red: errors, on both sides of a split on which figures are computed"
    )
    assert [tile.warn for tile in drawn[-1].tiles] == [True, False]
