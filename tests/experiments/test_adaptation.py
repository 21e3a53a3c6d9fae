"""``attnbn adapt`` from its command line to its page, on a few drawn pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from attnbn.cli.main import main
from attnbn.io.run_folder import RunFolder

SETTINGS = {
    "kind": "adapt",
    "data": {"hold_out": 0.3, "test_split": "test", "size": 32},
    "model": {"backbone": "small", "upsample": 4, "discriminator_width": 4},
    "loss": {"attention": 1, "background": 1, "adversarial": 0.01, "dann": 0.1, "coral": 1},
    "training": {"steps": 2, "lr": 0.02, "head_lr": 20, "batch_size": 4, "checkpoint_every": 0},
    "compare": {
        "title": "Three looks",
        "metric": "accuracy",
        "rows": ["source", "attnbn"],
        "domains": {name[0].upper(): f"scenes:{name}?count=40" for name in ("studio", "dusk", "print")},
        "trials": {
            "source": [{"training.lr": 1e-6}, {"training.lr": 0.02}],
            "attnbn": [{"loss.attention": 1}, {"loss.attention": 2}],
        },
        "published": {"source": {"S-D": 0.5, "S-P": 0.7}},
    },
}


def write(folder: Path, **changes: object) -> str:
    settings = json.loads(json.dumps(SETTINGS))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            settings[section][key] = value
        else:
            settings[section] = value
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)


def adapt(config: str, output: Path, *words: str) -> int:
    return main(["adapt", "--config", config, "--output", str(output), *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt")
    words = ["--directions", "S-D", "S-P", "--seeds", "0", "1"]
    assert adapt(write(folder), folder / "out", *words) == 0
    return folder


def results_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "out" / "results.json").read_text())


def test_every_row_direction_and_seed_has_its_line(finished: Path) -> None:
    results = results_of(finished)
    lines = {(r["row"], r["source"], r["target"], r["seed"]) for r in results["rows"]}
    assert lines == {(row, "S", t, seed) for row in ("source", "attnbn") for t in "DP" for seed in (0, 1)}
    assert len(results["rows"]) == 8
    for line in results["rows"]:
        assert line["metric"] == "accuracy" and 0 <= line["value"] <= 1 and line["images"] == 40
        assert line["setting"] == ("generalization" if line["row"] == "source" else "adaptation")
    summary = {(s["row"], s["source"], s["target"]): s for s in results["summary"]}
    own = [r["value"] for r in results["rows"] if (r["row"], r["target"]) == ("source", "D")]
    assert summary["source", "S", "D"]["mean"] == pytest.approx(sum(own) / 2)
    assert summary["source", "S", "D"]["seeds"] == 2
    assert summary["source", "mean", "mean"]["paper"] == pytest.approx(0.6)


def test_the_trial_is_the_one_that_the_held_out_source_prefers(finished: Path) -> None:
    results = results_of(finished)
    for row in ("source", "attnbn"):
        for target in "DP":
            own = [t for t in results["trials"] if (t["row"], t["target"]) == (row, target)]
            assert len(own) == 2 and {t["seed"] for t in own} == {0}
            chosen = [t for t in own if t["chosen"]]
            assert len(chosen) == 1
            assert chosen[0]["source_loss"] == min(t["source_loss"] for t in own)
            used = [r["trial"] for r in results["rows"] if (r["row"], r["target"]) == (row, target)]
            assert used == [chosen[0]["trial"]] * 2
            (top,) = [o["value"] for o in results["oracle"] if (o["row"], o["target"]) == (row, target)]
            assert top == max(t["value"] for t in own)


def test_generalization_is_trained_once_for_all_targets_and_knows_none(finished: Path) -> None:
    runs = finished / "out" / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["S", "S-D", "S-P"]
    assert sorted(path.name for path in (runs / "S").iterdir()) == [
        "source-0-0",
        "source-1-0",
        next(path.name for path in (runs / "S").iterdir() if path.name.endswith("-1")),
    ]
    data = RunFolder(runs / "S" / "source-0-0").config()["data"]
    assert data["target"] is None
    assert RunFolder(runs / "S-D" / "attnbn-0-0").config()["loss"]["target_cl"] == 0


def test_figures_are_those_of_the_kept_scores(finished: Path) -> None:
    for target in "DP":
        folder = finished / "out" / f"S-{target}" / "source-0-0"
        figures = json.loads((folder / "transfer.json").read_text())
        kept = load_file(folder / "transfer.safetensors")
        right = kept["scores"].argmax(1) == kept["labels"].argmax(1)
        assert figures["accuracy"] == pytest.approx(right.float().mean().item())
        right = kept["source_scores"].argmax(1) == kept["source_labels"].argmax(1)
        assert figures["validation"]["accuracy"] == pytest.approx(right.float().mean().item())
        assert len(figures["names"]) == len(kept["scores"]) == len(kept["features"]) == 40
        assert len(figures["source_names"]) == len(kept["source_scores"]) == 13
        stored = RunFolder(finished / "out" / "runs" / "S" / "source-0-0").results()
        assert stored["validation"]["loss"] == pytest.approx(figures["validation"]["loss"], rel=1e-5)


def test_held_out_images_are_not_trained_on(finished: Path) -> None:
    from attnbn.config import config_from_dict
    from attnbn.experiments.domains import open_domains
    from attnbn.inference.load import read_config

    folder = RunFolder(finished / "out" / "runs" / "S" / "source-0-0")
    config, _ = read_config(folder.config(), folder.path)
    assert isinstance(config, type(config_from_dict(type(config), {})))
    domains = open_domains(config)
    figures = json.loads((finished / "out" / "S-D" / "source-0-0" / "transfer.json").read_text())
    assert set(figures["source_names"]) == set(domains.validation.names)
    assert not set(domains.source.names) & set(domains.validation.names)


def test_the_page_shows_rows_trials_and_the_oracle_apart(finished: Path) -> None:
    page = (finished / "out" / "report.html").read_text()
    assert "Three looks" in page and "<script" not in page
    assert page.lower().count("oracle") >= 1


def test_a_second_call_trains_nothing_and_a_third_seed_only_itself(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "out" / "runs").rglob("*.safetensors")}
    words = ["--directions", "S-D", "S-P", "--seeds", "0", "1"]
    capsys.readouterr()
    assert adapt(str(finished / "small.yaml"), finished / "out", *words) == 0
    shown = capsys.readouterr().out
    assert "L_s-cl + L_ac + L_adv" in shown and "mean" in shown and "(60)" in shown
    assert {path: path.stat().st_mtime_ns for path in (finished / "out" / "runs").rglob("*.safetensors")} == before


def test_a_finished_comparison_follows_its_weights_not_its_old_figures(finished: Path, tmp_path: Path) -> None:
    config = write(tmp_path, compare__trials={}, compare__rows=["source"])
    assert adapt(config, tmp_path / "out", "--directions", "S-D") == 0
    first = results_of(tmp_path)["rows"][0]
    file = tmp_path / "out" / "S-D" / "source-0-0" / "transfer.json"
    stale = json.loads(file.read_text()) | {"accuracy": 0.123, "of": {"checkpoint": "another"}}
    file.write_text(json.dumps(stale))
    assert adapt(config, tmp_path / "out", "--directions", "S-D") == 0
    assert results_of(tmp_path)["rows"][0]["value"] == first["value"]
    assert results_of(tmp_path)["trials"] == results_of(tmp_path)["oracle"] == []


def test_sources_are_put_together_when_one_domain_is_left_out(tmp_path: Path) -> None:
    config = write(tmp_path, compare__trials={}, compare__rows=["source-neutral"])
    assert adapt(config, tmp_path / "out", "--leave-one-out", "--directions", "S+D-P") == 0
    results = results_of(tmp_path)
    assert [(r["source"], r["target"]) for r in results["rows"]] == [("S+D", "P")]
    run = RunFolder(tmp_path / "out" / "runs" / "S+D" / "source-neutral-0-0")
    assert run.config()["data"]["source"] == ["scenes:studio?count=40", "scenes:dusk?count=40"]
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {"attention", "background", "source_cl"} <= lines[-1]["terms"].keys()


def photographs(folder: Path, classes: dict[str, int]) -> Path:
    torch.manual_seed(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for place in range(count):
            colour = tuple(torch.randint(0, 255, (3,)).tolist())
            Image.new("RGB", (40, 40), colour).save(folder / name / f"{place}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--seeds"], "expected at least one seed, got none: --seeds"),
        (["--seed", "3"], "unexpected --seed: give --seeds"),
        (["--rows", "sauce"], "unknown row 'sauce'"),
        (["--directions", "S-X"], "got 'S-X': --directions"),
        (["--domains", "A=scenes:studio"], "at least two domains, got 1"),
        (["--loss.attention", "0", "--no-trials"], "loss.attention above 0 for the row attnbn"),
        (["--devices", "2"], "expected --devices 1"),
        (["--data.selection_split", "dev"], "nothing is chosen on the target"),
        (["--data.test_split", "tset"], "a split of the scenes"),
        (["--data.source", "scenes:studio", "--data.target", "scenes:dusk", "--directions", "S-D"], "got both"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adapt(write(tmp_path), tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_bad_data_is_refused_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = photographs(tmp_path / "a", {"cat": 6, "dog": 6})
    b = photographs(tmp_path / "b", {"cat": 6, "hound": 6})
    empty = photographs(tmp_path / "c", {"cat": 6, "dog": 0})
    config = write(tmp_path, data={"hold_out": 0.3, "target_hold_out": 0.5, "size": 32}, compare__trials={})
    cases = {
        (f"A=folders:{a}", f"B=folders:{b}"): ("classes of A and B differ", "only A has dog", "data.class_map"),
        (f"A=folders:{a}", f"C=folders:{empty}"): ("'dog'", str(empty)),
        (f"A=folders:{a}", "S=scenes:source?count=20"): ("differ",),
    }
    for domains, expected in cases.items():
        words = ["--domains", *domains, "--rows", "source"]
        assert adapt(config, tmp_path / "out", *words) == 2
        error = capsys.readouterr().err
        for text in expected:
            assert text in error, error
        assert not (tmp_path / "out" / "runs").exists()
    words = ["--domains", f"A=folders:{a}", f"B=folders:{b}", "--data.class_map", "{hound: dog}", "--rows", "source"]
    assert adapt(config, tmp_path / "out", *words) == 0


def test_accuracy_wants_images_of_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, compare__trials={}, compare__rows=["source"])
    words = ["--domains", "A=scenes:source?count=30", "B=scenes:target?count=150", "--directions", "A-B"]
    assert adapt(config, tmp_path / "out", *words) == 2
    assert "data.single_label" in capsys.readouterr().err
    assert adapt(config, tmp_path / "out", *words, "--data.single_label", "true") == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text('{"study": "table1"}')
    assert adapt(write(tmp_path), tmp_path / "out") == 2
    assert "holds the study table1" in capsys.readouterr().err


def test_a_recipe_of_another_command_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert adapt("animals-attnbn", tmp_path / "out") == 2
    assert "expected settings for attnbn adapt, got those for attnbn train" in capsys.readouterr().err
    assert main(["train", "--config", "five", "--output", str(tmp_path / "out")]) == 2
    assert "expected settings for attnbn train, got those for attnbn adapt" in capsys.readouterr().err


def test_a_folder_is_not_shared_by_comparisons_of_other_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, compare__trials={}, compare__rows=["source"])
    one = ["--domains", "A=scenes:studio?count=40", "B=scenes:dusk?count=40", "--directions", "A-B"]
    assert adapt(config, tmp_path / "out", *one) == 0
    cases = {
        (
            "A=scenes:print?count=40",
            "B=scenes:dusk?count=40",
        ): "whose domain A is scenes:studio?count=40, now scenes:print",
        ("X=scenes:studio?count=40", "Y=scenes:dusk?count=40"): "of the domains A, B, now X, Y",
    }
    for domains, expected in cases.items():
        assert adapt(config, tmp_path / "out", "--domains", *domains) == 2
        assert expected in capsys.readouterr().err
    assert adapt(config, tmp_path / "out", "--domains", one[1], one[2], "--directions", "A-B", "B-A") == 0
    assert results_of(tmp_path)["complete"] is True
    assert len(results_of(tmp_path)["rows"]) == 2


def test_a_data_set_under_two_names_and_rows_without_saliency_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = photographs(tmp_path / "a", {"cat": 6, "dog": 6})
    b = photographs(tmp_path / "b", {"cat": 6, "dog": 6})
    config = write(tmp_path, data={"hold_out": 0.3, "target_hold_out": 0.5, "size": 32}, compare__trials={})
    assert adapt(config, tmp_path / "out", "--domains", f"A=folders:{a}", f"B=folders:{a}/../a") == 2
    assert "A and B are both" in capsys.readouterr().err
    assert adapt(config, tmp_path / "out", "--domains", f"A=folders:{a}", f"B=folders:{b}") == 2
    error = capsys.readouterr().err
    assert "saliency maps of the domain A for the rows attnbn: give --saliency A=FOLDER" in error
    assert not (tmp_path / "out").exists()


def test_a_map_that_another_seed_would_need_is_missed_before_the_first_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = photographs(tmp_path / "a", {"cat": 6, "dog": 6})
    b = photographs(tmp_path / "b", {"cat": 6, "dog": 6})
    maps = tmp_path / "a_saliency"
    for name in (f"{kind}/{place}" for kind in ("cat", "dog") for place in range(6)):
        (maps / name).parent.mkdir(parents=True, exist_ok=True)
        grey = Image.new("L", (40, 40), 0)
        grey.paste(255, (10, 10, 30, 30))
        grey.save(maps / f"{name}.png")
    config = write(
        tmp_path,
        data={"hold_out": 0.5, "target_hold_out": 0.5, "size": 32},
        compare__trials={},
        compare__rows=["source-attention"],
    )
    words = ["--domains", f"A=folders:{a}", f"B=folders:{b}", "--directions", "A-B", "--seeds", *"012345"]
    for name in ("cat/0", "cat/3", "dog/5"):  # whichever is held out
        kept = (maps / f"{name}.png").read_bytes()
        (maps / f"{name}.png").unlink()
        assert adapt(config, tmp_path / "out", *words) == 2
        assert name in capsys.readouterr().err
        assert not (tmp_path / "out" / "runs").exists()
        (maps / f"{name}.png").write_bytes(kept)


def test_the_weights_that_the_held_out_source_liked_best_are_kept_and_loaded(tmp_path: Path) -> None:
    from attnbn.inference.load import load

    config = write(tmp_path, compare__trials={}, compare__rows=["source"])
    words = ["--directions", "S-D", "--training.steps", "4", "--training.validate_every", "1", "--training.lr", "1.0"]
    assert adapt(config, tmp_path / "out", *words) == 0
    run = tmp_path / "out" / "runs" / "S" / "source-0-0"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["validation"]["score"] for line in lines if "validation" in line}
    assert all(line["validation"]["score"] == -line["validation"]["loss"] for line in lines if "validation" in line)
    best = load(run, checkpoint="best")
    assert best.identity["step"] == max(scores, key=scores.__getitem__)
    assert best.threshold == 0.2 and best.threshold_split is None


def test_a_diverging_trial_is_out_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(
        tmp_path, compare__trials={"source": [{"training.lr": 1e30}, {"training.lr": 0.02}]}, compare__published={}
    )
    words = ["--rows", "source", "--directions", "S-D"]
    for processes in ("1", "2", "1"):  # the third time nothing is left to train but what diverges
        assert adapt(config, tmp_path / "out", *words, "--processes", processes) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "a trial of source is out: " in line]
        assert len(told) == 1 and "not finite" in told[0] and "source-0-0" in told[0]
        lost, chosen = results_of(tmp_path)["trials"]
        assert lost["diverged"] and lost["source_loss"] is None and lost["value"] is None and not lost["chosen"]
        assert "<td>diverged</td>" in (tmp_path / "out" / "report.html").read_text()
        assert chosen["chosen"] and not chosen["diverged"] and chosen["value"] is not None
        shutil.rmtree(tmp_path / "out" / "runs" / "S" / "source-1-0", ignore_errors=processes == "1")


def test_all_trials_diverging_is_an_error_that_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, compare__trials={"source": [{"training.lr": 1e30}, {"training.lr": 1e31}]})
    assert adapt(config, tmp_path / "out", "--rows", "source", "--directions", "S-D") == 1
    assert "a trial of source that stays finite, got 2 that diverged; give compare.trials" in capsys.readouterr().err


def test_what_the_test_images_lack_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("cat", "dog", "cow")
    photographs(tmp_path / "A", dict.fromkeys(names, 6))
    photographs(tmp_path / "B", {"cat": 6, "dog": 6, "cow": 1})
    for number in range(4):  # one of them is held out, whatever the seed
        (tmp_path / "B" / "cat" / f"bad{number}.png").write_bytes(b"no picture")
    config = write(tmp_path, compare__rows=["source"], compare__trials={}, compare__domains={}, compare__published={})
    words = ["--domains", f"A=folders:{tmp_path / 'A'}", f"B=folders:{tmp_path / 'B'}", "--directions", "A-B"]
    words += [
        "--data.test_split",
        "null",
        "--data.target_hold_out",
        "0.3",
        "--data.skip_broken",
        "true",
        "--seeds",
        "0",
        "1",
        "2",
    ]
    assert adapt(config, tmp_path / "out", *words) == 0
    said = capsys.readouterr().err
    notes = results_of(tmp_path)["notes"]
    assert any("no image of cow: the figures say nothing of it" in note for note in notes)
    assert any("images that cannot be read" in note and "/bad" in note for note in notes)
    assert all(note.startswith("A-B, seed ") and note in said for note in notes)
