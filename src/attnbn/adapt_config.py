"""The settings of ``attnbn adapt``: those of a run, and how the rows of Tables 6 and 7 are compared. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args, get_type_hints

from attnbn.config import LOSS_TERMS, RunConfig, check_config, expect
from attnbn.io.errors import InputError

Setting = Literal["generalization", "adaptation"]
Metric = Literal["accuracy", "mean_ap"]


@dataclass(frozen=True)
class TransferRow:
    """A row of Tables 6 and 7, or a peer in their place.

    Attributes:
        name: Short, as ``--rows`` takes it.
        label: As tables show it.
        terms: Those of :data:`attnbn.config.LOSS_TERMS` that it trains. Never ``target_cl``: no target label is read.
        neutral: With ``loss.background``, beyond the paper; the other rows are without, whatever weight is given to it.
        peer: Not of the paper.
    """

    name: str
    label: str
    terms: tuple[str, ...]
    neutral: bool = False
    peer: bool = False

    @property
    def setting(self) -> Setting:
        """``adaptation`` where the target's unlabelled images are trained on, else ``generalization``."""
        return "generalization" if set(self.terms) <= {"source_cl", "attention"} else "adaptation"


ROWS = {
    row.name: row
    for row in (
        TransferRow("source", "L_s-cl", ("source_cl",)),
        TransferRow("source-attention", "L_s-cl + L_ac", ("source_cl", "attention")),
        TransferRow("adversarial", "L_s-cl + L_adv", ("source_cl", "adversarial")),
        TransferRow("attnbn", "L_s-cl + L_ac + L_adv", ("source_cl", "attention", "adversarial")),
        TransferRow("source-neutral", "L_s-cl + L_ac + L_bg", ("source_cl", "attention"), neutral=True),
        TransferRow(
            "attnbn-neutral", "L_s-cl + L_ac + L_bg + L_adv", ("source_cl", "attention", "adversarial"), neutral=True
        ),
        TransferRow("dann", "DANN", ("source_cl", "dann"), peer=True),
        TransferRow("coral", "CORAL", ("source_cl", "coral"), peer=True),
    )
}
"""By short name: the paper's four, two of them with a background that is neutral (``loss.background``), and the peers."""

PAPER_ROWS = ("source", "source-attention", "adversarial", "attnbn")


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how the settings of each row are chosen.

    Attributes:
        title: Of the report.
        lead: What is compared, for the report.
        metric: ``accuracy`` (the arg-max of the scores, images of a single class) or ``mean_ap``.
        rows: Short names of the rows compared unless ``--rows`` says otherwise.
        trials: For each row settings to try, by their names on the command line (``loss.attention``); the first seed is trained
            with each, and the one with the lowest L_cl on the source's held-out images serves for all seeds. A row without
            trials takes the settings as they stand.
        domains: The domains by name where the command line names none, for those that the program draws.
        published: The paper's figures by row, then by direction (``C-I``), as fractions.
        paper: What those are, for charts.
    """

    title: str = "Attention as a regulariser"
    lead: str = ""
    metric: Metric = "mean_ap"
    rows: list[str] = field(default_factory=lambda: list(PAPER_ROWS))
    trials: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    paper: str = "paper"


@dataclass(frozen=True)
class AdaptConfig(RunConfig):
    """Settings shared by all runs of a comparison.

    Attributes:
        kind: Tells these settings from those of ``attnbn train``.
        compare: Rows, metric and trials.
    """

    kind: Literal["adapt"] = "adapt"
    compare: Comparison = field(default_factory=Comparison)


def row_config(config: AdaptConfig, row: TransferRow, trial: Mapping[str, Any]) -> RunConfig:
    """A row's settings: terms that are not its own get the weight 0, then the trial's settings are put in.

    Raises:
        InputError: for a setting that does not exist, is no trial's to set, or a term of the row that is left without weight.
    """
    off: dict[str, Any] = {term: 0.0 for term in LOSS_TERMS if term not in row.terms}
    if not row.neutral:
        off["background"] = 0.0
    values = {key: getattr(config, key) for key in RunConfig.__dataclass_fields__}
    own: RunConfig = with_settings(RunConfig(**values), trial)
    own = replace(own, loss=replace(own.loss, **off))
    expect(not row.neutral or own.loss.background > 0, "loss.background", f"above 0 for the row {row.name}", 0)
    for term in row.terms:
        expect(getattr(own.loss, term) > 0, f"loss.{term}", f"above 0 for the row {row.name}", 0)
    if row.setting == "generalization":
        own = replace(own, data=replace(own.data, target=None))  # not even opened
    check_config(own)
    return own


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Settings replaced by their names on the command line.

    Raises:
        InputError: for a name that is no setting, or one that decides what is read or compared.
    """
    for name, value in settings.items():
        section, _, key = name.partition(".")
        part: Any = getattr(config, section, None)
        if section not in ("model", "loss", "training") or key not in getattr(part, "__dataclass_fields__", {}):
            raise InputError(
                f"expected the trials to set model., loss. or training. settings, got {name!r}: compare.trials"
            )
        hint = get_type_hints(type(part))[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if hint is float and number:
            value = float(value)
        elif hint in (int, float, bool, str) and type(value) is not hint:
            raise InputError(f"expected {name} of the kind {hint.__name__}, got {value!r}: compare.trials")
        changed: dict[str, Any] = {section: replace(part, **{key: value})}
        config = replace(config, **changed)
    return config


def check_comparison(config: AdaptConfig) -> None:
    """Refuse a comparison that cannot be made, before anything is read.

    Raises:
        InputError: naming the setting, what was expected and what came.
    """
    compare, data = config.compare, config.data
    metrics = get_args(get_type_hints(Comparison)["metric"])
    expect(compare.metric in metrics, "compare.metric", f"out of {', '.join(metrics)}", compare.metric)
    expect(bool(compare.rows), "compare.rows", "with at least one row", compare.rows)
    for name in (*compare.rows, *compare.trials):
        expect(name in ROWS, "the rows", f"out of {', '.join(ROWS)}", name)
    expect(data.selection_split is None, "data.selection_split", "left out: nothing is chosen on the target", "it")
    expect(not config.training.phases, "training.phases", "left out: each row is a single phase", "some")
    expect(data.hold_out > 0, "data.hold_out", "above 0: settings are chosen on the source's held-out images", 0)
    counts = {name: len(trials) for name, trials in compare.trials.items() if name in compare.rows}
    if len(set(counts.values())) > 1 or (counts and set(counts) != set(compare.rows)):
        shown = ", ".join(f"{name} {counts.get(name, 0)}" for name in compare.rows)
        raise InputError(f"expected as many trials for every row, for a fair comparison, got {shown}: compare.trials")
    for name in compare.rows:
        for trial in trials_of(compare, name):
            row_config(config, ROWS[name], trial)


def trials_of(compare: Comparison, row: str) -> Sequence[Mapping[str, Any]]:
    """A row's trials; the settings as they stand where it has none."""
    return compare.trials.get(row) or ({},)


def settings_of(config: AdaptConfig) -> dict[str, Any]:
    """All settings as plain values, for ``results.json``."""
    return {key: value for key, value in asdict(config).items() if key not in ("output", "versions", "seed")}
