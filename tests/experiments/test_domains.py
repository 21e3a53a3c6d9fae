"""What a run reads: held-out parts, several sources, test images, and what is refused before anything is trained."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.cli.train import parse
from attnbn.config import DataConfig, LossConfig, RunConfig, check_config, config_from_dict
from attnbn.experiments.domains import open_domains, open_test
from attnbn.experiments.rows import Run, _identity, check_earlier
from attnbn.experiments.train import _stored
from attnbn.io.errors import InputError
from attnbn.io.run_folder import CONFIG

CLASSES = ("cat", "cow", "dog")
SOURCE_ONLY = LossConfig(attention=0, target_cl=0, adversarial=0)
ADVERSARIAL = LossConfig(attention=0, target_cl=0, adversarial=1)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders A and B of ten images a class, with a saliency map each in A_maps and B_maps."""
    for part in "AB":
        for name in CLASSES:
            for i in range(10):
                picture(tmp_path / part / name / f"{i}.png", i)
                grey = np.zeros((8, 8), dtype=np.uint8)
                grey[2:6, 2:6] = 255
                (tmp_path / f"{part}_maps" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(grey).save(tmp_path / f"{part}_maps" / name / f"{i}.png")
    return tmp_path


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Forty photographs in VOC's layout: a cat, a cow, a dog, cat and dog, or a person, in turns."""
    root = tmp_path / "VOC"
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    names = [f"p{i:02d}" for i in range(40)]
    shown = [("cat",), ("cow",), ("dog",), ("cat", "dog"), ("person",)]
    for i, name in enumerate(names):
        picture(root / "JPEGImages" / f"{name}.jpg", i)
    (main / "train.txt").write_text("\n".join(names) + "\n")
    for label in ("cat", "cow", "dog", "person"):
        rows = [f"{name} {1 if label in shown[i % 5] else -1:>2}" for i, name in enumerate(names)]
        (main / f"{label}_train.txt").write_text("\n".join(rows) + "\n")
    return root


def config(loss: LossConfig = SOURCE_ONLY, seed: int = 0, **data: Any) -> RunConfig:
    return RunConfig(data=DataConfig(**data), loss=loss, seed=seed)


def test_the_source_is_parted_within_each_class(folders: Path) -> None:
    domains = open_domains(config(source=f"folders:{folders}/A", hold_out=0.3))
    source, validation = domains.source, domains.validation
    assert source is not None and validation is not None and source.labels is not None and validation.labels is not None
    assert source.labels.sum(0).tolist() == [7] * 3 and validation.labels.sum(0).tolist() == [3] * 3
    assert not set(source.names) & set(validation.names)
    other = open_domains(config(source=f"folders:{folders}/A", hold_out=0.3, seed=1)).validation
    assert other is not None and other.names != validation.names
    assert any(line.startswith("validation: ") for line in domains.notes())
    assert open_domains(config(source=f"folders:{folders}/A")).validation is None


def test_held_out_images_need_no_saliency_and_are_never_a_share_of_the_source(folders: Path) -> None:
    loss = replace(SOURCE_ONLY, attention=1.0)
    settings = {"source": f"folders:{folders}/A", "saliency": str(folders / "A_maps"), "hold_out": 0.3}
    apart = open_domains(config(**settings)).validation
    assert apart is not None
    for name in apart.names:
        (folders / "A_maps" / f"{name}.png").unlink()
    domains = open_domains(config(loss, **settings))
    assert domains.source is not None and domains.validation is not None
    assert domains.validation.names == apart.names and not domains.validation.has_saliency
    assert domains.validation[0].saliency is None and domains.source[0].saliency is not None
    for fraction in (0.1, 0.5, 1.0):
        share = open_domains(config(loss, **settings, source_fraction=fraction)).source
        assert share is not None and not set(share.names) & set(apart.names)
        assert len(share) == {0.1: 3, 0.5: 12, 1.0: 21}[fraction]
    (folders / "A_maps" / f"{domains.source.names[0]}.png").unlink()
    with pytest.raises(InputError, match="expected a saliency map of the photograph"):
        open_domains(config(loss, **settings))


def test_several_sources_with_their_maps(folders: Path) -> None:
    loss = replace(SOURCE_ONLY, attention=1.0)
    sources = [f"folders:{folders}/A", f"folders:{folders}/B"]
    domains = open_domains(config(loss, source=sources, saliency=[str(folders / "A_maps"), None], hold_out=0.3))
    assert domains.source is not None and domains.validation is not None and domains.source.has_saliency
    assert {name[:2] for name in domains.source.names} == {"A/", "B/"} and len(domains.source) == 42
    has = [domains.source[i].saliency is not None for i in range(42)]
    assert has == [name.startswith("A/") for name in domains.source.names]
    # what is held out of a source does not depend on the sources beside it
    alone = open_domains(config(source=sources[0], hold_out=0.3)).validation
    assert alone is not None
    assert [n[2:] for n in domains.validation.names if n.startswith("A/")] == alone.names
    single = open_domains(config(source=sources[:1])).source
    assert single is not None and single.names[0] == "cat/0"  # a list of one is that one


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"saliency": ["A_maps"]},
            "as many folders of saliency maps as sources (2), got 1; write null for a source without",
        ),
        ({"saliency": "A_maps"}, "as many folders of saliency maps as sources (2), got 1"),
        ({"saliency": [None, None]}, "expected saliency maps for the source (loss.attention is 1)"),
        ({"source": ["folders:A", "folders:B/../A"]}, "expected each source once, got folders:"),
        ({"source": []}, "expected data.source for the terms attention, source_cl"),
        ({"class_map": "six"}, "a table out of five, voc20, got 'six': data.class_map"),
    ],
)
def test_sources_that_cannot_be_used(
    folders: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(folders)
    data = {"source": ["folders:A", "folders:B"]} | settings
    with pytest.raises(InputError, match=re.escape(message)):
        open_domains(config(replace(SOURCE_ONLY, attention=1.0), **data))


def test_sources_whose_classes_differ(folders: Path) -> None:
    (folders / "B" / "dog").rename(folders / "B" / "hound")
    sources = [f"folders:{folders}/A", f"folders:{folders}/B"]
    with pytest.raises(InputError) as caught:
        open_domains(config(source=sources))
    assert str(caught.value) == (
        f"the classes of {sources[0]} and {sources[1]} differ: only {sources[0]} has dog; only {sources[1]} has hound; "
        f"choose those wanted with --data.classes or rename with --data.class_map"
    )
    both = open_domains(config(source=sources, class_map={"hound": "dog"})).source
    assert both is not None and both.classes == CLASSES and both.labels is not None
    assert both.labels.sum(0).tolist() == [20, 20, 20]


def test_a_domain_with_an_empty_class(folders: Path, voc: Path) -> None:
    shutil.rmtree(folders / "B" / "cow")
    (folders / "B" / "cow").mkdir()
    with pytest.raises(InputError, match=r"photographs of class 'cow', found none; .*/B/cow"):
        open_domains(config(source=f"folders:{folders}/B"))
    rows = (voc / "ImageSets/Main/cow_train.txt").read_text().replace(" 1", "-1")
    (voc / "ImageSets/Main/cow_train.txt").write_text(rows)
    settings = config(target=f"voc:{voc}", test_split="train", classes="cat,cow,dog")
    with pytest.raises(InputError, match=r"images of every class in the target, got none of class cow; .*: voc:"):
        open_test(settings, CLASSES)


def test_training_sees_the_kept_part_of_the_target_whether_labels_are_read_or_not(voc: Path, folders: Path) -> None:
    # without labels images of other classes stay in: parted by themselves, the two lists would overlap
    settings = {
        "source": f"folders:{folders}/A", "target": f"voc:{voc}", "target_hold_out": 0.3, "classes": "cat,cow,dog"
    }  # fmt: skip
    blind = open_domains(config(ADVERSARIAL, **settings)).target
    seeing = open_domains(config(replace(ADVERSARIAL, target_cl=1), **settings)).target
    test, _ = open_test(config(ADVERSARIAL, **settings), CLASSES)
    single, _ = open_test(config(ADVERSARIAL, **settings, single_label=True), CLASSES)
    assert blind is not None and seeing is not None and blind.labels is None and seeing.labels is not None
    assert len(blind) == 28 and len(seeing) < 28
    assert set(seeing.names) < set(blind.names)
    assert test.labels is not None and not set(test.names) & set(blind.names)
    assert set(single.names) < set(test.names) and single.labels is not None and (single.labels.sum(1) == 1).all()
    everything = {f"p{i:02d}" for i in range(40)}
    assert set(blind.names) | set(test.names) | {n for n in everything if int(n[1:]) % 5 == 4} == everything


def test_the_partition_does_not_follow_the_labels(voc: Path, folders: Path) -> None:
    settings = {
        "source": f"folders:{folders}/A",
        "target": f"voc:{voc}",
        "target_hold_out": 0.3,
        "classes": "cat,cow,dog",
    }
    before = open_domains(config(ADVERSARIAL, **settings)).target
    for file in (voc / "ImageSets/Main").glob("*_train.txt"):
        file.write_text("\n".join(reversed(file.read_text().split("\n")[:-1])) + "\n")
        file.unlink() if file.name != "train.txt" else None
    after = open_domains(config(ADVERSARIAL, **settings)).target
    assert before is not None and after is not None and before.names == after.names


def test_a_split_to_test_on() -> None:
    settings = config(source="scenes:studio?count=24", target="scenes:dusk?count=24", test_split="test")
    test, _ = open_test(settings, ("balloon", "boat", "sheep", "tent"))
    assert test.names[0] == "dusk/test/00000" and test.labels is not None and test.labels.shape == (24, 4)
    domains = open_domains(settings)
    assert domains.target is None  # no term wants it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            "either data.test_split or data.target_hold_out to say which images of the target are tested on, got neither",
        ),
        ({"test_split": "test", "target_hold_out": 0.3}, "either data.test_split or data.target_hold_out .* got both"),
        ({"target": None}, "expected data.target, whose images are tested on: give --data.target KIND:PATH"),
        ({"target": "scenes:source?count=8", "test_split": "test"}, "only the target has car, train"),
    ],
)
def test_nothing_to_test_on(settings: dict[str, Any], message: str) -> None:
    data = {"source": "scenes:studio", "target": "scenes:dusk?count=8"} | settings
    with pytest.raises(InputError, match=message):
        open_test(config(**data), ("balloon", "boat", "sheep", "tent"))


def test_a_class_that_the_test_images_lack_is_told() -> None:
    settings = config(target="scenes:dusk?count=12", target_hold_out=0.1)
    test, (doubt,) = open_test(settings, ("balloon", "boat", "sheep", "tent"))
    assert len(test) == 1 and doubt.startswith("no image of ") and "say nothing of them" in doubt


def test_single_labels_in_the_source(voc: Path) -> None:
    domains = open_domains(config(source=f"voc:{voc}", classes="cat,cow,dog", single_label=True, hold_out=0.25))
    for part in (domains.source, domains.validation):
        assert part is not None and part.labels is not None and torch.equal(part.labels.sum(1), torch.ones(len(part)))
    assert "left out 8 of 32 images: 8 of several classes" in "\n".join(domains.notes())


def test_a_table_names_the_classes_too(tmp_path: Path) -> None:
    for name in ("emu", "ibis", "car_side", "windsor_chair", "dalmatian", "Faces", "Faces_easy", "accordion"):
        picture(tmp_path / name / "a.png", 0)
    source = open_domains(config(source=f"folders:{tmp_path}", class_map="five")).source
    assert source is not None and source.classes == ("bird", "car", "chair", "dog", "person") and len(source) == 6


def test_runs_with_lists_are_stored_whole_and_compared(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    here = config(source=["folders:A", "folders:B"], saliency=["A_maps", None], class_map="five", classes="cat,cow,dog")
    there = [f"folders:{folders}/A", f"folders:{folders}/B"]
    stored = _stored(here, open_domains(here))
    assert stored["data"]["source"] == there
    assert stored["data"]["saliency"] == [str(folders / "A_maps"), None]
    assert stored["data"]["class_map"]["emu"] == "bird"
    whole = replace(here, data=replace(here.data, source=there, saliency=[str(folders / "A_maps"), None]))
    assert _identity(here) == _identity(whole)
    other = replace(here, data=replace(here.data, source=there[::-1]))
    assert _identity(here) != _identity(other)
    run = Run("source", 0, replace(whole, output=str(folders / "run")))
    (folders / "run").mkdir()
    import yaml

    (folders / "run" / CONFIG).write_text(yaml.safe_dump(stored))
    check_earlier(run, overwrite=False)
    with pytest.raises(InputError, match="a run with other settings .data.source"):
        check_earlier(replace(run, config=replace(other, output=str(folders / "run"))), overwrite=False)


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """Caltech-256 and ImageNet in small: dogs and horses in both, cats in ImageNet alone, a goat and a zebra beside."""
    for folder, count in {"056.dog": 6, "254.greyhound": 2, "105.horse": 9, "085.goat": 1}.items():
        for i in range(count):
            picture(tmp_path / "256_ObjectCategories" / folder / f"{folder[:3]}_{i + 1:04d}.jpg", i)
    for folder, count in {"n02085620": 12, "n02389026": 3, "n02123045": 5, "n02391049": 1}.items():
        for i in range(count):
            picture(tmp_path / "ILSVRC/Data/CLS-LOC/train" / folder / f"{folder}_{i}.JPEG", 100 + i)
    return tmp_path


def test_a_table_over_different_kinds_of_sources(simple: Path) -> None:
    sources = [f"caltech256:{simple}", f"imagenet:{simple}"]
    settings = {"source": sources, "class_map": "voc20", "classes": "cat,dog,horse"}
    domains = open_domains(config(**settings))
    assert domains.source is not None and domains.source.labels is not None
    assert domains.source.classes == ("cat", "dog", "horse")
    assert domains.source.labels.sum(0).tolist() == [5, 20, 12] and len(domains.source) == 37
    assert any("no image of cat" in note for note in domains.notes())
    with pytest.raises(InputError, match=r"images of every class in the source, got none of class cow"):
        open_domains(config(**settings | {"classes": "cow,dog,horse"}))
    with pytest.raises(InputError, match="no class 'cat' in the data set"):
        open_domains(config(**settings | {"source": sources[0]}))  # alone it cannot lack one


def test_a_cap_of_the_source_as_a_whole(simple: Path) -> None:
    settings = {
        "source": [f"caltech256:{simple}", f"imagenet:{simple}"], "class_map": "voc20", "classes": "cat,dog,horse"
    }  # fmt: skip

    def names(**more: Any) -> set[str]:
        source = open_domains(config(**settings | more)).source
        assert source is not None
        return set(source.names)

    whole, eight, four = (names(source_cap=cap) for cap in (100, 8, 4))
    assert len(whole) == 37 and four < eight < whole
    assert len(eight) == 5 + 8 + 8 and len(four) == 12
    shares = {
        folder: sum(f"/{folder}/" in name for name in eight) for folder in ("105.horse", "n02389026", "n02085620")
    }
    assert shares == {"105.horse": 5, "n02389026": 3, "n02085620": 4}  # alike, as far as there are any
    assert names(source_cap=8, source=settings["source"][::-1]) == eight
    tenth, half = (names(source_cap=8, source_fraction=share) for share in (0.1, 0.5))
    assert tenth < half < eight and len(half) == 3 + 4 + 4
    with pytest.raises(InputError, match="at least 1, got 0: data.source_cap"):
        names(source_cap=0)
    with pytest.raises(InputError, match=r"expected data.source_cap of at least 1, got 0"):
        check_config(config(source_cap=0))


def test_held_out_images_are_of_those_that_the_cap_leaves(folders: Path) -> None:
    loss = replace(SOURCE_ONLY, attention=1.0)
    settings = {"source": [f"folders:{folders}/A", f"folders:{folders}/B"], "hold_out": 0.25, "source_cap": 8}
    plain, mapped = (
        open_domains(config(which, **settings, saliency=[str(folders / "A_maps"), None]))
        for which in (SOURCE_ONLY, loss)
    )
    for domains in (plain, mapped):
        source, apart = domains.source, domains.validation
        assert source is not None and apart is not None and source.labels is not None and apart.labels is not None
        assert source.labels.sum(0).tolist() == [6] * 3 and apart.labels.sum(0).tolist() == [2] * 3
        assert not set(source.names) & set(apart.names) and not apart.has_saliency
    assert plain.source is not None and mapped.source is not None and plain.source.names == mapped.source.names
    # a photograph that the cap leaves out needs no map
    for name in {f"{c}/{i}" for c in CLASSES for i in range(10)} - {n[2:] for n in mapped.source.names if n[0] == "A"}:
        (folders / "A_maps" / f"{name}.png").unlink()
    assert open_domains(config(loss, **settings, saliency=[str(folders / "A_maps"), None])).source is not None
    with pytest.raises(InputError, match="two images of a class, one of them to hold out, got 3"):
        open_domains(config(**settings | {"source_cap": 1, "source": settings["source"][:1]}))


def test_a_run_with_a_cap_is_another_run(simple: Path) -> None:
    here = config(source=[f"caltech256:{simple}", f"imagenet:{simple}"], class_map="voc20", classes="dog,horse")
    other = replace(here, data=replace(here.data, source_cap=5))
    assert _identity(here) != _identity(other)
    stored = _stored(other, open_domains(other))
    assert stored["data"]["source_cap"] == 5 and stored["data"]["class_map"]["n02085620"] == "dog"
    again = config_from_dict(RunConfig, stored | {"versions": None})
    before, after = open_domains(other).source, open_domains(again).source
    assert before is not None and after is not None and before.names == after.names


def test_the_simple_images_of_a_complex_data_set(voc: Path, folders: Path) -> None:
    (voc / "classes.txt").write_text("cat\ncow\ndog\nperson\n")
    # of cats and cows alone a cat with a dog is single, of all that the data set has it is not
    settings = {"source": f"voc:{voc}", "classes": "cat,cow"}
    lax, strict = (open_domains(config(**settings, single_label=which)).source for which in (True, "own"))
    assert lax is not None and strict is not None and strict.labels is not None
    assert len(lax) == 24 and strict.labels.sum(0).tolist() == [8, 8]
    assert strict.names == [f"p{i:02d}" for i in range(40) if i % 5 in (0, 1)]
    assert "8 that show, or may show, another class of the data set" in strict.notes[-1]
    test, _ = open_test(
        config(target=f"voc:{voc}", classes="cat,cow", single_label="own", test_split="train"), ("cat", "cow")
    )
    assert test.names == strict.names
    one = open_domains(config(source=f"folders:{folders}/A", classes="cat,cow", single_label="own")).source
    assert one is not None and len(one) == 20 and not any("single" in note for note in one.notes)
    with pytest.raises(InputError, match="expected data.single_label as true, false or own, got mine"):
        check_config(config(single_label="mine"))


def test_single_label_own_from_the_command_line(voc: Path) -> None:
    words = ["--config", "attnbn", "--data.source", f"voc:{voc}", "--data.target", f"voc:{voc}"]
    for text, value in (("own", "own"), ("true", True), ("false", False)):
        read = parse([*words, "--data.single_label", text, "--data.source_cap", "3"]).config
        assert read is not None and read.data.single_label == value and read.data.source_cap == 3


def test_frozen_layers_that_nobody_has_trained_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--data.source scenes:source?count=20 --data.target scenes:target?count=20 --data.classes null --data.saliency null"
    assert main(["train", "--config", "animals-attnbn", *words.split(), "--output", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "expected model.weights beside model.freeze 9" in told and "IMAGENET1K_V1" in told and "got None" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        ("0,1", "--seeds: expected a whole number, got '0,1'; several are separated by spaces"),
        ("0.5", "--seeds: expected a whole number, got '0.5'"),
    ],
)
def test_seeds_that_are_no_whole_numbers(seeds: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "animals", "--bench", "B", "--output", "O", "--seeds", seeds]) == 2
    assert expected in capsys.readouterr().err
