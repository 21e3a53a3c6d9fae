"""The classification files for VOC's evaluation server: layout, scores, order, and what is refused."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnbn.cli.main import main
from attnbn.data.classes import VOC_CLASSES
from attnbn.data.open import open_dataset
from attnbn.experiments import submit_scores as module
from attnbn.experiments.submit_scores import submit_scores
from attnbn.inference.load import load
from attnbn.inference.predict import predict
from attnbn.io.errors import InputError, RunError
from segment_runs import classifier_run, segmentation_run

NAMES = ("2008_000006", "2008_000011", "2010_000123", "2011_000999")
ORDER = (NAMES[2], NAMES[0], NAMES[3], NAMES[1])
"""Of the list, which is not the alphabet's."""
INSIDE = "results/VOC2012/Main"
TURNED = (*VOC_CLASSES[6:], *VOC_CLASSES[:5], "coach")
"""All of VOC's classes from the seventh on, the bus under another name at the end."""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC's test set as it is delivered: photographs and lists, no labels; ``Segmentation`` lists fewer of them."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 256, (30 + seed, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((44 + 9 * seed, 50)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(ORDER))
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text(f"{NAMES[0]} 1\n")
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text(NAMES[0])
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier_run(tmp_path_factory.mktemp("runs") / "run", TURNED, class_map={"bus": "coach"})


def unpacked(path: Path) -> dict[str, list[tuple[str, float]]]:
    """File -> photographs and scores, of every text file in the archive, in its order."""
    found = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            assert entry.mtime == 0
            if entry.isfile():
                text = archive.extractfile(entry).read().decode("ascii")
                assert text.endswith("\n")
                found[entry.name] = [(name, float(score)) for name, score in map(str.split, text.splitlines())]
    return found


def test_a_file_for_each_class_and_a_line_for_each_photograph(voc: Path, run: Path, tmp_path: Path) -> None:
    done = submit_scores(run, f"voc:{voc}", tmp_path / "r.tar", device="cpu")
    assert (done.images, done.resumed, done.folder, done.notes) == (4, 0, INSIDE, [])
    found = unpacked(done.path)
    assert list(found) == sorted(f"{INSIDE}/comp2_cls_test_{name}.txt" for name in VOC_CLASSES)
    trained = load(run)
    dataset = open_dataset(f"voc:{voc}", split="all", labels=False)
    scores = {one.name: one.scores.numpy() for one in predict(trained.network, dataset, size=48)}
    for name in VOC_CLASSES:
        column = TURNED.index("coach" if name == "bus" else name)
        lines = found[f"{INSIDE}/comp2_cls_test_{name}.txt"]
        assert [photograph for photograph, _ in lines] == list(ORDER)
        for photograph, score in lines:
            assert score == pytest.approx(scores[photograph][column], rel=1e-5, abs=1e-6)
            assert f"{np.float32(score):.9g}" == f"{score:.9g}"  # a float32, all of it
    assert len({score for lines in found.values() for _, score in lines}) > 20
    assert not list(tmp_path.glob("*.work"))


def test_looks_and_competitions(voc: Path, run: Path, tmp_path: Path) -> None:
    plain, again, other = (tmp_path / f"{name}.tgz" for name in ("plain", "again", "other"))
    submit_scores(run, f"voc:{voc}", plain, device="cpu", competition="comp1")
    submit_scores(run, f"voc:{voc}", again, device="cpu", competition="comp1", batch_size=3)
    submit_scores(run, f"voc:{voc}", other, device="cpu", competition="comp1", scales=[0.75, 1.0], flip=True)
    assert plain.read_bytes()[:2] == b"\x1f\x8b"
    name = f"{INSIDE}/comp1_cls_test_cat.txt"
    first, second, third = (dict(unpacked(path)[name]) for path in (plain, again, other))
    assert first == pytest.approx(second, rel=1e-5)
    assert max(abs(first[photograph] - third[photograph]) for photograph in first) > 1e-4


def test_scores_goes_on_where_it_stopped(voc: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, written = module._write, []

    def dying(path: Path, scores: torch.Tensor) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        plain(path, scores)

    monkeypatch.setattr(module, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        submit_scores(run, f"voc:{voc}", tmp_path / "r.tar", device="cpu", batch_size=2)
    monkeypatch.undo()
    assert not (tmp_path / "r.tar").exists()
    assert submit_scores(run, f"voc:{voc}", tmp_path / "r.tar", device="cpu", batch_size=2).resumed == 2
    submit_scores(run, f"voc:{voc}", tmp_path / "whole.tar", device="cpu", batch_size=2)
    assert (tmp_path / "r.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def test_the_files_are_held_against_the_list(tmp_path: Path) -> None:
    file = tmp_path / "comp2_cls_test_cat.txt"
    file.write_text("a 1.5\nb -2e-05\n")
    module._check(file, ["a", "b"])
    for text, names, message in (
        ("a 1\n", ["a", "b"], "a line for each of the split's 2 photographs"),
        ("b 1\na 2\n", ["a", "b"], "a line for each of the split's 2 photographs"),
        ("a 1\na 1\nb 1\n", ["a", "b"], "a line for each of the split's 2 photographs"),
        ("a nan\n", ["a"], "expected a finite score, got 'a nan'"),
    ):
        file.write_text(text)
        with pytest.raises(RunError, match=f"{message}.*{file.name}"):
            module._check(file, names)


def test_runs_that_are_refused(voc: Path, run: Path, tmp_path: Path) -> None:
    seg = segmentation_run(tmp_path / "seg", ("cat", "dog"))
    few = classifier_run(tmp_path / "few", ("cat", "dog"))
    strange = classifier_run(tmp_path / "strange", (*VOC_CLASSES, "lion"))
    for one, message in (
        (seg, r"expected a classifier's run, .* got a segmentation's; leave out --task classification.*seg$"),
        (few, r"on all of VOC's 20 classes, .* got one on 2, without aeroplane, bicycle, .*few$"),
        (strange, r"expected a run on VOC's own classes, .* got the class 'lion'.*strange$"),
    ):
        with pytest.raises(InputError, match=message):
            submit_scores(one, f"voc:{voc}", tmp_path / "r.tar", device="cpu")
    with pytest.raises(
        InputError, match=r"the list of the split 'val', found none; splits there: test: .*Main.val\.txt"
    ):
        submit_scores(run, f"voc:{voc}", tmp_path / "r.tar", split="val", device="cpu")
    with pytest.raises(InputError, match="ending in .tar"):
        submit_scores(run, f"voc:{voc}", tmp_path / "r.zip", device="cpu")
    (voc / "JPEGImages" / f"{NAMES[1]}.jpg").unlink()
    with pytest.raises(InputError, match="the server wants them all"):
        submit_scores(run, f"voc:{voc}", tmp_path / "r.tar", device="cpu")
    assert not list(tmp_path.glob("r.*"))


def test_the_command_line(voc: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["submit", run, "--task", "classification", "--target", f"voc:{voc}", "--output", tmp_path / "r.tgz"]
    words = [str(word) for word in [*words, "--device", "cpu"]]
    for more, message in (
        (["--competition", "comp6"], "expected --competition comp1 or comp2 for classification, got comp6"),
        (["--no-crf"], "--no-crf is for masks"),
        (["--threshold", "0.3"], "--threshold is for masks"),
        (["--task", "detection"], "invalid choice: 'detection'"),
        (
            ["--task", "segmentation", "--competition", "comp2"],
            "expected --competition comp5 or comp6 for segmentation",
        ),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err
    (run / "results.json").rename(run / "kept.json")
    assert main(words) == 0
    (run / "kept.json").rename(run / "results.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the run is not finished, its network is that after step 5")
    assert lines[1] == f"4 photographs' scores packed as {INSIDE}/comp2_cls_test_CLASS.txt: {tmp_path / 'r.tgz'}"
