"""Every setting of a segmentation run (cues to a network that segments), as frozen dataclasses without torch.

What both kinds of runs share stands in :mod:`attnbn.config`; a recipe of this kind says ``kind: segment``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from attnbn.config import TrainingConfig, check_training, expect
from attnbn.io.errors import InputError

Unary = Literal["log", "linear"]


@dataclass(frozen=True)
class CrfConfig:
    """A fully connected CRF with Potts labels and two Gaussian kernels (Krähenbühl and Koltun).

    Attributes:
        iterations: Mean-field updates.
        bilateral_weight: Of the kernel over place and colour.
        bilateral_xy: Its standard deviation in place, in pixels of the image that it runs on.
        bilateral_rgb: Its standard deviation in colour, in units of 0..255.
        gaussian_weight: Of the kernel over place alone.
        gaussian_xy: Its standard deviation, in pixels.
        unary: The energy of a probability p: ``log`` (-log p), or ``linear`` (-p).
        shrink: Both standard deviations in place are divided by this: how much smaller the image was made.
    """

    iterations: int = 10
    bilateral_weight: float = 10.0
    bilateral_xy: float = 80.0
    bilateral_rgb: float = 13.0
    gaussian_weight: float = 3.0
    gaussian_xy: float = 3.0
    unary: Unary = "log"
    shrink: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """The settings as :func:`attnbn.segmentation.crf.dense_crf` takes them."""
        return {
            "iterations": self.iterations,
            "bilateral_weight": self.bilateral_weight,
            "bilateral_xy": self.bilateral_xy / self.shrink,
            "bilateral_rgb": self.bilateral_rgb,
            "gaussian_weight": self.gaussian_weight,
            "gaussian_xy": self.gaussian_xy / self.shrink,
            "unary": self.unary,
        }


@dataclass(frozen=True)
class SegmentData:
    """Photographs to segment, and how they are cut.

    Attributes:
        target: ``KIND:PATH`` of the photographs that the cues (or masks) belong to.
        target_split: Its split to train on.
        selection_split: A split with masks, scored during training (``training.validate_every``) and at its end; nothing is
            chosen on it.
        class_map: Names in the data set -> names of the cues' classes, or the name of a table, as in :mod:`attnbn.config`.
        size: Side of the square that the network sees; the whole photograph is squashed into it.
        scale: Area of a random crop as a share of the photograph, lowest and highest; ``[1, 1]`` is the whole of it. Cues
            need the whole, masks of a first stage may be cropped.
        flip: Mirror half of the training images.
        skip_broken: Leave out unreadable photographs (counted and named) instead of stopping at the first.
    """

    target: str | None = None
    target_split: str = "train"
    selection_split: str | None = None
    class_map: dict[str, str] | str | None = None
    size: int = 321
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    skip_broken: bool = False


@dataclass(frozen=True)
class SegmenterConfig:
    """The segmentation network.

    Attributes:
        network: ``vgg16-largefov`` (DSRG's), ``deeplabv3-resnet50``, ``squeezenet1_1`` or ``small``.
        weights: A torchvision weights name, a ``.safetensors`` or ``.pth`` file, a trained run's folder (its trunk), or None.
        freeze: How many of the trunk's first layers keep their weights; 0 trains all.
        dropout: In the last layers.
    """

    network: str = "vgg16-largefov"
    weights: str | None = None
    freeze: int = 0
    dropout: float = 0.5


@dataclass(frozen=True)
class DsrgConfig:
    """Deep seeded region growing: its two losses and how regions grow.

    Attributes:
        seeding: Weight of the balanced seeding loss.
        boundary: Weight of the constrain-to-boundary loss; 0: it is not computed.
        grow: Let the cues grow into regions at each step; without, the cues alone are learned (as SEC).
        foreground: Probability above which a class's pixel may join a region.
        background: The same for the background.
        refined_gradient: The boundary loss's gradient reaches the network through the refined probabilities too, as in the
            original; without, they are a constant.
        crf: Refines the probabilities at the network's own resolution, once a step.
    """

    seeding: float = 1.0
    boundary: float = 1.0
    grow: bool = True
    foreground: float = 0.85
    background: float = 0.99
    refined_gradient: bool = True
    crf: CrfConfig = field(default_factory=lambda: CrfConfig(unary="linear", shrink=12.0))


@dataclass(frozen=True)
class InferenceConfig:
    """How a trained network segments a photograph; commands override it.

    Attributes:
        scales: Factors on ``data.size``; the logits of all are resized to one size and added.
        flip: Look at the mirror image too.
        crf: At the photograph's own resolution.
    """

    scales: list[float] = field(default_factory=lambda: [0.75, 1.0, 1.25])
    flip: bool = False
    crf: CrfConfig = field(default_factory=CrfConfig)


@dataclass(frozen=True)
class SegmentConfig:
    """A whole segmentation run.

    Attributes:
        kind: Tells this ``config.yaml`` from a classifier's.
        cues: Folder of ``attnbn cues``: train by seeded region growing. Either this or ``masks``.
        masks: Folder of masks (PNG, as ``attnbn segment predict`` writes them): train on them by cross entropy, the second
            stage.
        seed: Of weights, order, augmentation and dropout.
        output: The run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        channels_last: Keep the network's tensors with the channels innermost, which is faster nearly everywhere.
        precision: Lightning Fabric's name: ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``64-true``.
        deterministic: On a GPU use only algorithms whose result does not vary from run to run.
        devices: Processes on this machine.
        nodes: Machines, each started with the same command by torchrun.
        workers: Loader processes, on which the result does not depend; None: 4 beside a GPU, 0 on the CPU.
        versions: Of the packages that made a run, written into its ``config.yaml``; without effect when given.
        classes: The classes, a list or ``cat,dog``, written into ``config.yaml``; None: those of the cues or of the data set.
    """

    kind: Literal["segment"] = "segment"
    cues: str | None = None
    masks: str | None = None
    data: SegmentData = field(default_factory=SegmentData)
    model: SegmenterConfig = field(default_factory=SegmenterConfig)
    dsrg: DsrgConfig = field(default_factory=DsrgConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
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
    classes: list[str] | str | None = None


def check_segment_config(config: SegmentConfig) -> None:
    """Refuse values that no run can use, before anything is read.

    Raises:
        InputError: naming the setting, what was expected and what came.
    """
    data, dsrg = config.data, config.dsrg
    if (config.cues is None) == (config.masks is None):
        came = "neither" if config.cues is None else "both"
        raise InputError(f"expected --cues FOLDER (from attnbn cues) or --masks FOLDER (a second stage), got {came}")
    if data.target is None:
        raise InputError("expected data.target, the photographs of the cues: give --data.target KIND:PATH")
    expect(data.size >= 32, "data.size", "of at least 32 pixels", data.size)
    expect(0 < data.scale[0] <= data.scale[1] <= 1, "data.scale", "as two shares 0 < low <= high <= 1", data.scale)
    if config.cues is not None and tuple(data.scale) != (1.0, 1.0):
        raise InputError(f"expected data.scale [1, 1] with cues, which lie on the whole photograph, got {data.scale}")
    expect(config.model.freeze >= 0, "model.freeze", "of at least 0", config.model.freeze)
    expect(0 <= config.model.dropout < 1, "model.dropout", "in [0, 1)", config.model.dropout)
    expect(min(dsrg.seeding, dsrg.boundary) >= 0, "dsrg.seeding and dsrg.boundary", "of at least 0",
           f"{dsrg.seeding} and {dsrg.boundary}")  # fmt: skip
    expect(dsrg.seeding + dsrg.boundary > 0, "dsrg.seeding or dsrg.boundary", "above 0", "none")
    for name in ("foreground", "background"):
        expect(0 < getattr(dsrg, name) <= 1, f"dsrg.{name}", "in (0, 1]", getattr(dsrg, name))
    check_inference(config.inference)
    check_crf(dsrg.crf, "dsrg.crf")
    check_training(config.training)
    expect(not config.training.phases, "training.phases", "empty: a segmentation has one phase", "some")
    expect(config.workers is None or config.workers >= 0, "--workers", "of at least 0", config.workers)


def check_inference(inference: InferenceConfig) -> None:
    """Refuse scales and CRF settings that nothing can be segmented with.

    Raises:
        InputError: naming the setting.
    """
    scales = inference.scales
    if not scales or len(set(scales)) < len(scales) or not all(0 < scale <= 8 for scale in scales):
        raise InputError(
            f"expected inference.scales as one or more different factors above 0 and at most 8, got {scales}"
        )
    check_crf(inference.crf, "inference.crf")


def check_crf(crf: CrfConfig, place: str) -> None:
    """Refuse settings that no CRF can have.

    Raises:
        InputError: naming the setting.
    """
    for name in ("bilateral_weight", "gaussian_weight", "iterations"):
        if getattr(crf, name) < 0:
            raise InputError(f"expected {place}.{name} of at least 0, got {getattr(crf, name)}")
    for name in ("bilateral_xy", "bilateral_rgb", "gaussian_xy", "shrink"):
        if not getattr(crf, name) > 0:
            raise InputError(f"expected {place}.{name} above 0, got {getattr(crf, name)}")
    if crf.unary not in ("log", "linear"):
        raise InputError(f"expected {place}.unary to be log or linear, got {crf.unary}")
