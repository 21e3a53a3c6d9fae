"""Settings of a comparison, its directions, and which runs they need: all without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnbn.adapt_config import ROWS, AdaptConfig, Comparison, check_comparison, row_config, trials_of, with_settings
from attnbn.cli.adapt import parse
from attnbn.config import DataConfig, LossConfig, RunConfig
from attnbn.experiments.adaptation.checks import check_classes
from attnbn.experiments.adaptation.directions import (
    Direction,
    Domain,
    all_directions,
    beside,
    choose_directions,
    common_classes,
    parse_domains,
)
from attnbn.experiments.adaptation.plan import Planner
from attnbn.experiments.adaptation.results import MEAN, best_on_source, diverged, oracle, summarize
from attnbn.io.errors import DivergedError, InputError

BASE = AdaptConfig(
    data=DataConfig(target="folders:T", hold_out=0.3, saliency="S"),
    loss=LossConfig(attention=2, adversarial=0.5, dann=0.25, coral=3, background=7),
    compare=Comparison(rows=["source", "attnbn"]),
)


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("source", {"source_cl": 1}),
        ("source-attention", {"source_cl": 1, "attention": 2}),
        ("adversarial", {"source_cl": 1, "adversarial": 0.5}),
        ("attnbn", {"source_cl": 1, "attention": 2, "adversarial": 0.5}),
        ("dann", {"source_cl": 1, "dann": 0.25}),
        ("coral", {"source_cl": 1, "coral": 3}),
        ("source-neutral", {"source_cl": 1, "attention": 2, "background": 7}),
        ("attnbn-neutral", {"source_cl": 1, "attention": 2, "adversarial": 0.5, "background": 7}),
    ],
)
def test_a_row_has_its_terms_and_no_other(row: str, weights: dict[str, float]) -> None:
    loss = row_config(BASE, ROWS[row], {}).loss
    terms = ("source_cl", "attention", "target_cl", "adversarial", "dann", "coral", "background")
    assert {t: getattr(loss, t) for t in terms if getattr(loss, t)} == weights


def test_no_row_ever_trains_on_target_labels_and_generalization_has_no_target_at_all() -> None:
    for row in ROWS.values():
        config = row_config(BASE, row, {})
        assert config.loss.target_cl == 0
        assert (config.data.target is None) == (row.setting == "generalization")
        assert (row.setting == "adaptation") == any(term in row.terms for term in ("adversarial", "dann", "coral"))


def test_a_trial_sets_what_it_names_and_cannot_bring_in_a_term_of_another_row() -> None:
    config = row_config(BASE, ROWS["source"], {"training.lr": 1, "loss.attention": 9.0})
    assert config.training.lr == 1.0 and isinstance(config.training.lr, float)
    assert config.loss.attention == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"data.target": "x"}, "expected the trials to set model., loss. or training. settings, got 'data.target'"),
        ({"loss.attentoin": 1}, "got 'loss.attentoin'"),
        ({"seed": 1}, "got 'seed'"),
        ({"training.lr": "high"}, "expected training.lr of the kind float, got 'high'"),
    ],
)
def test_odd_trials_are_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        with_settings(RunConfig(), settings)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": DataConfig(hold_out=0)}, "data.hold_out above 0"),
        ({"data": DataConfig(hold_out=0.3, selection_split="dev")}, "nothing is chosen on the target"),
        ({"compare": Comparison(rows=[])}, "at least one row"),
        ({"compare": Comparison(rows=["sauce"])}, "the rows out of source"),
        (
            {"compare": Comparison(rows=["source", "attnbn"], trials={"source": [{}], "attnbn": [{}, {}]})},
            "as many trials for every row, for a fair comparison, got source 1, attnbn 2",
        ),
        ({"compare": Comparison(rows=["source", "attnbn"], trials={"attnbn": [{}]})}, "got source 0, attnbn 1"),
        ({"loss": LossConfig(attention=0)}, "loss.attention above 0 for the row attnbn"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(change: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        check_comparison(replace(BASE, **change))
    assert expected in str(caught.value)


def test_a_row_without_trials_takes_the_settings_as_they_stand() -> None:
    assert list(trials_of(BASE.compare, "source")) == [{}]


def test_domains_and_their_saliency_by_name(tmp_path: Path) -> None:
    (tmp_path / "c_saliency").mkdir()
    (tmp_path / "c").mkdir()
    words = [f"C=folders:{tmp_path}/c", f"M=folders:{tmp_path}/m", "S=scenes:source?seed=3"]
    domains = parse_domains(words, ["M=maps"])
    assert [d.name for d in domains] == ["C", "M", "S"]
    assert [d.saliency for d in domains] == [f"{tmp_path}/c_saliency", "maps", None]
    assert domains[2].spec == "scenes:source?seed=3"
    assert beside(f"folders:{tmp_path}/c/") == f"{tmp_path}/c_saliency"


@pytest.mark.parametrize(
    ("words", "saliency", "expected"),
    [
        (["C"], [], "expected NAME=KIND:PATH, got 'C': --domains"),
        (["C=folders:a", "C=folders:b"], [], "'C' twice"),
        (["C=folders:a"], [], "at least two domains, got 1"),
        (["C-1=folders:a", "M=folders:b"], [], "letters and digits, got 'C-1'"),
        (["C=folders:a", "M=folders:b"], ["X=maps"], "the name of a domain (C, M), got 'X': --saliency"),
    ],
)
def test_odd_domains_are_refused(words: list[str], saliency: list[str], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_domains(words, saliency)
    assert expected in str(caught.value)


DOMAINS = [Domain("A", "folders:a", "ma"), Domain("B", "folders:b", "mb"), Domain("C", "folders:c")]


def test_directions_are_all_pairs_or_all_but_one() -> None:
    assert [d.name for d in all_directions(DOMAINS)] == ["A-B", "A-C", "B-A", "B-C", "C-A", "C-B"]
    left_out = all_directions(DOMAINS, leave_one_out=True)
    assert [d.name for d in left_out] == ["B+C-A", "A+C-B", "A+B-C"]
    assert [d.name for d in choose_directions(all_directions(DOMAINS), ["C-A", "A-B"])] == ["C-A", "A-B"]
    with pytest.raises(InputError, match="out of A-B, .*, got 'A-D': --directions"):
        choose_directions(all_directions(DOMAINS), ["A-D"])


def test_the_data_of_a_direction() -> None:
    one = Direction((DOMAINS[0],), DOMAINS[1])
    config = one.config(row_config(BASE, ROWS["attnbn"], {}), 5)
    assert (config.seed, config.data.source, config.data.saliency, config.data.target) == (
        5,
        "folders:a",
        "ma",
        "folders:b",
    )
    plain = one.config(row_config(BASE, ROWS["source"], {}), 5)
    assert (plain.data.saliency, plain.data.target) == (None, None)
    several = Direction((DOMAINS[0], DOMAINS[2]), DOMAINS[1]).config(row_config(BASE, ROWS["attnbn"], {}), 0)
    assert several.data.source == ["folders:a", "folders:c"]
    assert several.data.saliency == ["ma", None]


def test_directions_from_one_source_share_the_runs_that_know_no_target(tmp_path: Path) -> None:
    planner = Planner(BASE, ("cat", "dog"), tmp_path)
    to_b, to_c = (Direction((DOMAINS[0],), target) for target in DOMAINS[1:])
    (b,), (c,) = (planner.cases("source", d, [0]) for d in (to_b, to_c))
    assert b.run is c.run and b.folder != c.folder
    assert (b.tested.data.target, c.tested.data.target) == ("folders:b", "folders:c")
    (b,), (c,) = (planner.cases("attnbn", d, [0]) for d in (to_b, to_c))
    assert b.run.folder != c.run.folder
    assert b.run.config.data.classes == ["cat", "dog"]
    assert len(planner.cases("attnbn", to_b, [0, 1, 2])) == 3


def test_classes_that_differ_are_named_with_their_domains(tmp_path: Path) -> None:
    from PIL import Image

    for domain, classes in (("a", ("cat", "dog")), ("b", ("cat", "hound"))):
        for name in classes:
            (tmp_path / domain / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / domain / name / "1.png")
    domains = [Domain("A", f"folders:{tmp_path}/a"), Domain("B", f"folders:{tmp_path}/b")]
    with pytest.raises(InputError) as caught:
        common_classes(domains, DataConfig())
    text = str(caught.value)
    assert "classes of A and B differ" in text and "A has dog" in text and "B has hound" in text
    assert "data.class_map" in text
    assert common_classes(domains, DataConfig(class_map={"hound": "dog"})) == ("cat", "dog")
    assert common_classes(domains, DataConfig(classes="cat")) == ("cat",)


def figures(loss: float, value: float = 0.5) -> dict[str, object]:
    return {"accuracy": value, "validation": {"loss": loss, "accuracy": 0.9}}


def test_the_trial_is_chosen_by_the_loss_on_the_source_alone() -> None:
    cases = [SimpleNamespace(name=name) for name in "abc"]
    measured = [figures(0.5, value=0.9), figures(0.2, value=0.1), figures(0.2, value=0.8)]
    assert best_on_source(cases, measured) is cases[1]  # the first of equals, however bad on the target


def test_the_oracle_is_the_best_on_the_target() -> None:
    lines = [{"row": "source", "source": "A", "target": "B", "value": value} for value in (0.3, 0.7, None)] + [
        {"row": "attnbn", "source": "A", "target": "B", "value": 0.6}
    ]
    found = {line["row"]: line["value"] for line in oracle(lines)}
    assert found == {"source": 0.7, "attnbn": 0.6}


def test_the_summary_has_sample_deviations_and_means_over_whole_seeds() -> None:
    def line(row: str, source: str, target: str, seed: int, value: float) -> dict[str, object]:
        return {"row": row, "source": source, "target": target, "seed": seed, "value": value}

    entries = [
        line("source", "A", "B", 0, 0.5),
        line("source", "A", "B", 1, 0.7),
        line("source", "B", "A", 0, 0.9),
    ]
    compare = Comparison(published={"source": {"A-B": 0.6, "B-A": 0.8}})
    by = {(s["source"], s["target"]): s for s in summarize(entries, compare)}
    assert by["A", "B"]["mean"] == pytest.approx(0.6)
    assert by["A", "B"]["deviation"] == pytest.approx(0.02**0.5)
    assert by["A", "B"]["paper"] == 0.6
    assert by["B", "A"]["deviation"] is None
    assert by[MEAN, MEAN]["mean"] == pytest.approx(0.7)  # of seed 0 alone: seed 1 lacks a direction
    assert by[MEAN, MEAN]["seeds"] == 1
    assert by[MEAN, MEAN]["paper"] == pytest.approx(0.7)


def test_the_papers_mean_is_that_of_the_directions_compared() -> None:
    def line(source: str, target: str) -> dict[str, object]:
        return {"row": "source", "source": source, "target": target, "seed": 0, "value": 0.5}

    compare = Comparison(published={"source": {"A-B": 0.6, "B-A": 0.8, "A-C": 0.1}})
    by = {(s["source"], s["target"]): s["paper"] for s in summarize([line("A", "B"), line("B", "A")], compare)}
    assert by == {("A", "B"): 0.6, ("B", "A"): 0.8, (MEAN, MEAN): pytest.approx(0.7)}
    # of a mean of which the paper lacks a part it says nothing
    more = summarize([line("A", "B"), line("C", "B")], compare)
    assert {(s["source"], s["target"]): s["paper"] for s in more}[MEAN, MEAN] is None


def test_several_sources_without_names_are_the_source_as_one_is() -> None:
    words = ["--config", "table6", "--data.saliency", "M", "--data.target", "voc:T", "--output", "O"]
    for sources in ("folders:A", "[folders:A, folders:B]"):
        (direction,) = parse([*words, "--data.source", sources]).directions
        assert direction.name == "source-target" and len(direction.sources) == (2 if sources[0] == "[" else 1)


def test_a_trial_that_diverged_is_never_the_best_and_all_of_them_are_an_error(tmp_path: Path) -> None:
    run = SimpleNamespace(folder=tmp_path / "runs" / "source-0-0")
    cases = [SimpleNamespace(row="source", run=run) for _ in range(3)]
    fine = {"validation": {"loss": 0.9}, "accuracy": 0.5}
    assert best_on_source(cases, [diverged("accuracy"), fine, {"validation": {"loss": float("nan")}}]) is cases[1]
    with pytest.raises(
        DivergedError, match=r"a trial of source that stays finite, got 2 that diverged; give compare.trials"
    ):
        best_on_source(cases[:2], [diverged("accuracy")] * 2)


def test_accuracy_needs_two_classes() -> None:
    domains = [Domain("A", "folders:amazon"), Domain("W", "folders:webcam")]
    check_classes(("images",), "mean_ap", domains)
    with pytest.raises(
        InputError, match=r"at least two classes to tell apart, got images; name the folder .*folders:amazon"
    ):
        check_classes(("images",), "accuracy", domains)


@pytest.mark.parametrize(
    ("words", "cache"), [([], "O/cache"), (["--data.cache", "null"], None), (["--data.cache", "C"], "C")]
)
def test_kept_features_lie_beside_the_runs_unless_it_is_said_where(words: list[str], cache: str | None) -> None:
    domains = ["--domains", "A=folders:A", "B=folders:B", "--model.weights", "W", "--output", "O"]
    assert parse(["--config", "five", *domains, *words]).config.data.cache == cache
