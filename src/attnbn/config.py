"""Every setting of a run, as frozen dataclasses without torch.

A recipe is a YAML file with these fields; the command line overrides any of them (``--loss.attention 0``). What a
run used, fully resolved, stands in ``config.yaml`` of its folder.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_origin, get_type_hints

from attnbn.io.errors import InputError
from attnbn.io.typed import fits, in_words

LOSS_TERMS = ("source_cl", "attention", "target_cl", "adversarial", "dann", "coral")
"""The four terms of Eq. 7, in the paper's order, and the two of peers that stand in the adversarial one's place."""

ALIGNMENTS = ("adversarial", "dann", "coral")
"""Terms that bring the domains' features together; a run has one of them at most."""

PLACES = ("device", "devices", "nodes", "precision", "workers")
"""Settings that a resumed run may change: where it computes, not what."""


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they are cut.

    A data set is named ``KIND:PATH``: ``folders:`` (a folder per class), ``voc:`` (VOC's own layout, the folder
    that holds ``JPEGImages``), ``csv:`` (rows ``path,label[,label...]``), ``caltech101:``, ``caltech256:``, ``imagenet:``,
    ``masks:`` (photographs and masks of any data set), or ``scenes:source``, ``target``, ``studio``, ``dusk`` or ``print``
    (drawn by the program).

    Attributes:
        source: Single-label images with a foreground prior (the paper's D_s); a list of several is put together.
        saliency: Folder of saliency maps parallel to the source's images, for a list of sources one each; None where a source
            has none or brings its own (scenes).
        target: Complex multi-label images (the paper's D_m), image-level labels only.
        source_split: Split of the source to train on, for kinds that have splits.
        target_split: Split of the target to train on.
        selection_split: Split of the target with masks on which the threshold is chosen; None: the threshold is 0.2.
        hold_out: Share of the source's images kept apart, within each class and by the seed, on which the run is validated: what
            a choice may rest on where the target's labels may not be looked at. 0: none, all are trained on.
        test_split: Split of the target that ``adapt`` tests on; None: the images that ``target_hold_out`` keeps apart.
        target_hold_out: Share of the target's images that is never trained on, by the seed.
        single_label: Leave out images that do not show exactly one of the classes (in the target only when it is tested on, for
            in training its labels are not read). ``own``: exactly one of all classes that the data set has, also those that
            the run does not use (a dog beside a person is no simple picture of a dog, though persons are no class of the run).
        classes: The classes, in order; None: those of the data sets, which must then agree.
        class_map: Names in the data sets -> names of the classes, e.g. ``{motorcycle: motorbike}``; or the name of a table that
            comes with the program: ``five`` (Table 7) or ``voc20`` (VOC's twenty), which also names the classes where ``classes``
            does not.
        source_cap: At most so many of the source's images of each class, by the seed, of several sources alike; a smaller
            number takes a subset of a larger. None: all.
        source_fraction: Share of the source's images used, in (0, 1], of what ``source_cap`` leaves; smaller shares are subsets
            of larger (Table 2).
        size: Side of the square the network sees, in pixels.
        scale: Area of the random crop as a share of the image, lowest and highest, in (0, 1].
        flip: Mirror half of the training images.
        views: Fixed random crops of each image to train on, drawn once for all runs; 0: a new one each time.
        cache: Folder for what ``model.freeze``'s layers give for those views (needs ``views``), computed once and shared by all
            runs that agree on images, views and frozen weights, in half precision; None: computed anew each time, in full.
        skip_broken: Leave out unreadable photographs (counted and named) instead of stopping at the first.
    """

    source: str | list[str] | None = None
    saliency: str | list[str | None] | None = None
    target: str | None = None
    source_split: str = "train"
    target_split: str = "train"
    selection_split: str | None = None
    hold_out: float = 0.0
    test_split: str | None = None
    target_hold_out: float = 0.0
    single_label: bool | Literal["own"] = False
    classes: list[str] | str | None = None
    class_map: dict[str, str] | str | None = None
    source_cap: int | None = None
    source_fraction: float = 1.0
    size: int = 224
    scale: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    views: int = 0
    cache: str | None = None
    skip_broken: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The classification network and its discriminator.

    Attributes:
        backbone: ``vgg16``, ``vgg16_bn``, ``resnet18``, ``resnet50``, ``squeezenet1_1``, ``small`` or any torchvision classifier
            (the last then needs ``layer``).
        layer: Name of the layer whose output is F, for backbones that have no built-in split.
        weights: A torchvision weights name (``IMAGENET1K_V1``), a ``.safetensors`` or ``.pth`` file, or None (random).
        head: ``keep`` the pretrained hidden layers of the head and renew only the last; ``new`` renews all of it.
        freeze: How many of the trunk's first layers (as its children are numbered) keep their pretrained weights. Generic low
            layers gain little from training and cost the most of it; 0 trains all.
        dilate: The trunk's last halving is left out and what follows it dilated by 2 instead: maps of twice the side.
        upsample: Bilinear up-sampling of F before the discriminator (the paper's 5).
        discriminator_width: Channels of the discriminator's first layer; doubled by each further one.
    """

    backbone: str = "vgg16"
    layer: str | None = None
    weights: str | None = None
    head: Literal["keep", "new"] = "keep"
    freeze: int = 0
    dilate: bool = False
    upsample: int = 5
    discriminator_width: int = 64


@dataclass(frozen=True)
class LossConfig:
    """Weights of Eq. 7 (0: the term is not computed, nor its data read) and how its terms are defined.

    Attributes:
        source_cl: Weight of L_s-cl (Eq. 4 on the source).
        attention: λ1, weight of L_ac (Eq. 3).
        target_cl: Weight of L_t-cl (Eq. 4 on the target).
        adversarial: λ_adv, weight of L_adv (Eq. 6).
        dann: Weight of a domain classifier's reversed gradient on pooled features (DANN), in L_adv's place.
        coral: Weight of the distance between the domains' covariances of pooled features (Deep CORAL), in L_adv's place.
        normalize: Scale of M in Eq. 3: each map by its ``max``; the same with the maximum as a constant (``max_detached``);
            ``none``; or ``sigmoid`` in place of the ReLU.
        resolution: Eq. 3 is compared at this many times the attention's side, M up-sampled bilinearly.
        other_classes: Beyond the paper: weight, as a share of λ1, of pressing the other classes' maps on the source to zero,
            each divided by the largest value of all. 0: Eq. 3 speaks of the true class alone.
        background: Beyond the paper: weight, as a share of λ1, of pressing every class's evidence (the map before its ReLU, for
            and against) to zero outside the source's objects. 0: Eq. 3 alone.
        adversarial_warmup: Steps over which the weight of the term that aligns the domains rises linearly from 0.
        over_classes: Eq. 4's sum over classes taken as a ``mean`` (PyTorch's convention) or as the ``sum`` it is written.
    """

    source_cl: float = 1.0
    attention: float = 2.0
    target_cl: float = 1.0
    adversarial: float = 1e-3
    dann: float = 0.0
    coral: float = 0.0
    normalize: Literal["max", "max_detached", "none", "sigmoid"] = "max"
    resolution: int = 1
    other_classes: float = 0.0
    background: float = 0.0
    adversarial_warmup: int = 0
    over_classes: Literal["mean", "sum"] = "mean"


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own fresh optimisers, going through the whole learning-rate schedule.

    Attributes:
        share: Part of the run's steps, as a share of the sum over its phases.
        terms: Terms of Eq. 7 that this phase trains; None: all with a weight other than 0.
        lr: Its learning rate; None: the run's.
    """

    share: float = 1.0
    terms: list[str] | None = None
    lr: float | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """How the weights move.

    Attributes:
        epochs: Length in epochs of ``len(target) / batch_size`` steps (of the source's where there is no target).
        steps: Length in steps; overrides ``epochs``.
        lr: Learning rate of pretrained layers.
        head_lr: Factor on it for newly initialised layers.
        schedule: ``step`` (drops only), ``poly`` ((1 - t)^0.9) or ``cosine``, both towards 0.
        drop_at: Points, as shares of the phase, at which the rate is multiplied by ``drop`` (schedule ``step``).
        drop: That factor.
        warmup: Steps of linear warm-up.
        momentum: Of SGD.
        weight_decay: L2, on all weights of the classifier.
        discriminator_lr: Learning rate of the discriminator's Adam; it follows the same schedule.
        batch_size: Images per domain and step, over all processes.
        accumulate: Parts in which each process's share of the batch goes through the networks, one after the other, for less
            memory; the step is that of the whole batch (but for batch normalisation, which sees each part by itself).
        phases: Trained one after the other; empty: a single one with all terms.
        epoch_steps: Steps of an epoch; None: as ``epochs`` says.
        max_steps: Stop after this many steps in all, schedule unchanged; None: at its end.
        checkpoint_every: Steps between checkpoints; 0: only at the end and on Ctrl-C.
        checkpoint_share: One that is due is left out while those before it have taken more than this share of the time, as large
            networks on fast devices may; 1: none is.
        validate_every: Steps between validations on the selection split; 0: only at the end.
        log_every: Steps between lines of ``metrics.jsonl``.
    """

    epochs: float = 30
    steps: int | None = None
    lr: float = 1e-4
    head_lr: float = 10.0
    schedule: Literal["step", "poly", "cosine"] = "step"
    drop_at: list[float] = field(default_factory=lambda: [2 / 3])
    drop: float = 0.1
    warmup: int = 0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    discriminator_lr: float = 1e-4
    batch_size: int = 16
    accumulate: int = 1
    phases: list[Phase] = field(default_factory=list)
    epoch_steps: int | None = None
    max_steps: int | None = None
    checkpoint_every: int = 500
    checkpoint_share: float = 0.02
    validate_every: int = 0
    log_every: int = 10


@dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Attributes:
        seed: Of weights, order, augmentation and dropout.
        output: The run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        channels_last: Keep the network's tensors with the channels innermost, which is faster nearly everywhere.
        precision: Lightning Fabric's name: ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``64-true``.
        deterministic: On a GPU use only algorithms whose result does not vary from run to run, slower ones at times, and stop
            where there is none. The CPU's are so anyway.
        devices: Processes on this machine.
        nodes: Machines, each started with the same command by torchrun.
        workers: Loader processes per stream, on which the result does not depend; None: 4 beside a GPU, 0 on the CPU, where
            they would take the cores that compute.
        versions: Of the packages that made a run, written into its ``config.yaml``; without effect when given.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    output: str | None = None
    device: str = "auto"
    channels_last: bool = True
    precision: str = "32-true"
    deterministic: bool = False
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    versions: dict[str, str] | None = None


def config_from_dict(kind: type[Any], values: Mapping[str, Any], place: object = None, key: str = "") -> Any:
    """A configuration from the plain values of ``dataclasses.asdict``, nested ones included.

    Args:
        kind: The dataclass.
        values: From a file that anybody may have written.
        place: That file, for messages.
        key: Name of the setting that holds these, for messages.

    Raises:
        InputError: for a key that is not a setting, or a value of another type.
    """
    at = "" if place is None else f": {place}"
    if not isinstance(values, Mapping):
        raise InputError(f"expected {key or 'settings'} as names with values, got {type(values).__name__}{at}")
    hints = get_type_hints(kind)
    unknown = sorted(map(str, set(values) - set(hints)))
    if unknown:
        raise InputError(
            f"unknown setting {unknown[0]!r}, expected one of {', '.join(hints)}: written by another version?{at}"
        )
    built: dict[str, Any] = {}
    for name, value in values.items():
        hint, inner = hints[name], f"{key}.{name}".lstrip(".")
        if is_dataclass(hint) and isinstance(hint, type):
            value = config_from_dict(hint, value, place, inner)
        elif hint == list[Phase] and isinstance(value, list):
            value = [config_from_dict(Phase, phase, place, inner) for phase in value]
        elif not fits(value, hint):
            raise InputError(f"expected {inner} as {in_words(hint)}, got {reprlib.repr(value)}{_hint(value, hint)}{at}")
        elif get_origin(hint) is tuple:
            value = tuple(value)
        built[name] = value
    return kind(**built)


def _hint(value: object, hint: Any) -> str:
    """YAML reads 2e-2 as text, for it lacks a point.

    >>> _hint("2e-2", float), _hint("8", int), _hint("8.5", int)
    (' (write 0.02)', ' (write 8)', '')
    """
    for kind in (int, float) if isinstance(value, str) else ():
        with suppress(ValueError):
            if fits(number := kind(str(value)), hint):
                return f" (write {number!r})"
    return ""


def expect(good: bool, key: str, what: str, value: object) -> None:
    """Refuse a setting in one line.

    Raises:
        InputError: unless it is good: "expected KEY WHAT, got VALUE".
    """
    if not good:
        raise InputError(f"expected {key} {what}, got {value}")


def check_config(config: RunConfig) -> None:
    """Refuse values that no run can use, before anything is read.

    Raises:
        InputError: naming the setting, what was expected and what came.
    """
    data, training, loss = config.data, config.training, config.loss
    expect(0 < data.source_fraction <= 1, "data.source_fraction", "in (0, 1]", data.source_fraction)
    expect(data.source_cap is None or data.source_cap >= 1, "data.source_cap", "of at least 1", data.source_cap)
    expect(data.single_label in (True, False, "own"), "data.single_label", "as true, false or own", data.single_label)
    expect(data.size >= 8, "data.size", "of at least 8 pixels", data.size)
    expect(0 < data.scale[0] <= data.scale[1] <= 1, "data.scale", "as two shares 0 < low <= high <= 1", data.scale)
    expect(data.views >= 0, "data.views", "of at least 0", data.views)
    expect(
        data.cache is None or (data.views > 0 and config.model.freeze > 0),
        "data.cache",
        "together with data.views and model.freeze above 0 (it keeps what frozen layers give for fixed views)",
        f"views {data.views} and freeze {config.model.freeze}",
    )
    expect(loss.resolution >= 1, "loss.resolution", "of at least 1", loss.resolution)
    expect(loss.other_classes >= 0, "loss.other_classes", "of at least 0", loss.other_classes)
    expect(loss.background >= 0, "loss.background", "of at least 0", loss.background)
    expect(loss.adversarial_warmup >= 0, "loss.adversarial_warmup", "of at least 0", loss.adversarial_warmup)
    for name in LOSS_TERMS:
        weight = getattr(loss, name)
        expect(weight >= 0, f"loss.{name}", "of at least 0", weight)
    expect(any(getattr(loss, name) for name in LOSS_TERMS), "a loss", "with a weight above 0", "none")
    aligned = [f"loss.{name}" for name in ALIGNMENTS if getattr(loss, name)]
    expect(len(aligned) < 2, "one of loss.adversarial, loss.dann and loss.coral", "above 0", " and ".join(aligned))
    for name in ("hold_out", "target_hold_out"):
        expect(0 <= getattr(data, name) < 1, f"data.{name}", "in [0, 1)", getattr(data, name))
    check_training(training)
    for phase in training.phases:
        for term in phase.terms or []:
            expect(term in LOSS_TERMS, "training.phases.terms", f"out of {', '.join(LOSS_TERMS)}", term)
        trains = [name for name in LOSS_TERMS if getattr(loss, name) and (phase.terms is None or name in phase.terms)]
        expect(bool(trains), "every phase of training.phases", "to train a term whose weight is above 0", phase.terms)
    expect(config.model.freeze >= 0, "model.freeze", "of at least 0", config.model.freeze)
    expect(config.workers is None or config.workers >= 0, "--workers", "of at least 0", config.workers)


def check_frozen(layers: int, weights: str | None, backbone: str) -> None:
    """Refuse to train on frozen layers that nobody has trained; a recipe alone may leave the weights to be given.

    Of the small backbone, to try things with, there are none.

    Raises:
        InputError: naming both settings.
    """
    given = layers == 0 or weights is not None or backbone == "small"
    what = f"beside model.freeze {layers} (frozen as they were drawn, layers learn nothing; a FILE, or IMAGENET1K_V1)"
    expect(given, "model.weights", what, weights)


_NOT_NEGATIVE = (
    "warmup",
    "weight_decay",
    "head_lr",
    "discriminator_lr",
    "checkpoint_every",
    "validate_every",
    "log_every",
)


def check_training(training: TrainingConfig) -> None:
    """Refuse what no training can use, whatever it trains.

    Raises:
        InputError: naming the setting, what was expected and what came.
    """
    for name in ("batch_size", "accumulate", "epochs", "lr"):
        value = getattr(training, name)
        whole = name in ("batch_size", "accumulate")
        expect(value > 0, f"training.{name}", "of at least 1" if whole else "above 0", value)
    for name in ("max_steps", "steps", "epoch_steps"):
        value = getattr(training, name)
        expect(value is None or value > 0, f"training.{name}", "above 0", value)
    expect(0 <= training.momentum < 1, "training.momentum", "in [0, 1)", training.momentum)
    expect(0 <= training.drop <= 1, "training.drop", "in [0, 1]", training.drop)
    expect(0 < training.checkpoint_share <= 1, "training.checkpoint_share", "in (0, 1]", training.checkpoint_share)
    for name in _NOT_NEGATIVE:
        expect(getattr(training, name) >= 0, f"training.{name}", "of at least 0", getattr(training, name))
    for phase in training.phases:
        expect(phase.share > 0, "training.phases.share", "above 0", phase.share)
        expect(phase.lr is None or phase.lr > 0, "training.phases.lr", "above 0", phase.lr)
