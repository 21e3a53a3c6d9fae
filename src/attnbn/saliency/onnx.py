"""Salient-object detectors as ONNX files: a photograph becomes a map of how much each pixel stands out.

Made for the U²-Net family (Qin et al., Pattern Recognition 2020); :class:`DetectorSettings` fits other models, and
:mod:`~attnbn.saliency.presets` knows those of the field's own files.

The map is the network's own answer. Other tools stretch each photograph's map from its least to its largest value; that
turns the noise of a photograph in which nothing stands out into something salient, and a threshold such as the background
cues' 0.06 then means another thing in every photograph. Nothing is stretched here.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from attnbn.io.errors import InputError, RunError
from attnbn.saliency.session import DEFAULT_SIDE, Device, input_of, open_session, output_of

_OVERSHOOT = 1e-3
"""How far rounding may carry a probability out of [0, 1]; a score that was never squashed goes far beyond."""


@dataclass(frozen=True)
class DetectorSettings:
    """What an ONNX file does not say about itself; the defaults are those of U²-Net and its kin.

    Attributes:
        mean: Of the three channels, subtracted after the division. Default: ImageNet's.
        std: Their deviation, divided by next. Default: ImageNet's.
        white: What pixels are divided by first: ``max``, the resized photograph's own largest value (as U²-Net was
            trained), or ``255``.
        output: Which of the model's outputs is the map; the first is U²-Net's fused one.
        activation: ``none`` for a model that gives probabilities, ``sigmoid`` for one that gives scores.
        size: Side of the square that the network sees, for a model that takes any; None: the model's own, else ``side``.
        side: What the model was trained at.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    white: Literal["max", "255"] = "max"
    output: int = 0
    activation: Literal["none", "sigmoid"] = "none"
    size: int | None = None
    side: int = DEFAULT_SIDE

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or not all(np.isfinite(self.mean)):
            raise InputError(f"expected three means and three deviations, got {self.mean} and {self.std}")
        if not all(np.isfinite(value) and value > 0 for value in self.std):
            raise InputError(f"expected deviations above 0, got {self.std}")
        for side in (self.size, self.side):
            if side is not None and side < 1:
                raise InputError(f"expected an input of at least 1 pixel, got {side}")


U2NET = DetectorSettings()
"""Those of U²-Net, U²-Net-p and their descendants."""


class OnnxDetector:
    """A salient-object model from an ONNX file, with ``of`` like :class:`~attnbn.saliency.files.SaliencyFolder`.

    It may be pickled and carried over a fork: each process opens its own session. Threads may share it.

    Args:
        path: The file: one input ``1×3×H×W`` (or with free sizes), a map ``1×1×h×w`` among its outputs.
        settings: What the file does not say.
        threads: That compute; None: as many as torch uses.
        device: ``auto`` (the GPU if the installed onnxruntime can use one), ``cpu`` or ``cuda``.

    Attributes:
        size: Height and width of what the network sees.
        batch: Photographs at a time; None: any number.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or no such model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        settings: DetectorSettings = U2NET,
        threads: int | None = None,
        device: Device = "auto",
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"expected at least 1 thread, got {threads}")
        self.path = Path(path).expanduser()
        self.settings = settings
        self._options: dict[str, Any] = {"threads": threads, "device": device}
        self._opened: Any = None
        session = self._session()
        self._input = input_of(session, self.path, settings.size, settings.side)
        self._output = output_of(session, self.path, settings.output)
        self.size, self.batch = self._input.size, self._input.batch

    def _session(self) -> Any:
        """This process's session, opened where it is first needed."""
        if self._opened is None:
            self._opened = open_session(self.path, **self._options)
            _OPEN.add(self)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def leave_session(self) -> None:
        """In a forked process: keep what the fork brought along, unused, and open another when one is needed.

        Its threads stayed behind in the parent. Closing it would wait for them for ever.
        """
        _INHERITED.append(self._opened)
        self._opened = None

    def identity(self) -> dict[str, Any]:
        """What tells this detector from others, for manifests: the file's name and checksum, and all settings."""
        with open(self.path, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        settings = asdict(self.settings)
        del settings["side"]  # without effect beyond the size that came of it
        return {"model": self.path.name, "sha256": checksum} | settings | {"size": list(self.size)}

    def prepare(self, image: Tensor) -> NDArray[np.float32]:
        """A photograph as the network takes it.

        Args:
            image: uint8 ``3×H×W``, RGB.

        Returns:
            float32 ``3×h×w`` with ``(h, w)`` = :attr:`size`.
        """
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return network_input(Image.fromarray(pixels), self.size, self.settings)

    def maps(self, inputs: Sequence[NDArray[np.float32]], names: Sequence[str]) -> Tensor:
        """Run the network.

        Args:
            inputs: From :meth:`prepare`.
            names: Of their photographs, for messages.

        Returns:
            float32 ``B×1×h×w`` in [0, 1], at the resolution of the network's output.

        Raises:
            InputError: What came is no map, or no probabilities.
            RunError: The model failed, or gave numbers that are not finite.
        """
        step = self.batch or max(len(inputs), 1)
        slices = [slice(at, at + step) for at in range(0, len(inputs), step)]
        return torch.cat([self._checked(self._run(np.stack(inputs[some])), names[some]) for some in slices])

    def of(self, image: Tensor, name: str) -> Tensor:
        """The map of a photograph; one that is the same everywhere is an answer too: nothing stands out.

        Args:
            image: uint8 ``3×H×W``, RGB.
            name: For messages.

        Returns:
            float32 ``1×H×W`` in [0, 1].

        Raises:
            InputError: As :meth:`maps`.
            RunError: As :meth:`maps`.
        """
        return resized(self.maps([self.prepare(image)], [name])[0], (image.shape[-2], image.shape[-1]))

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        session = self._session()
        feed = {self._input.name: batch.astype(self._input.number, copy=False)}
        try:
            output: NDArray[np.floating[Any]] = session.run([self._output], feed)[0]
        except Exception as error:
            reason = " ".join(str(error).split())
            raise RunError(f"the saliency model could not be run ({reason}): {self.path}") from error
        return output

    def _checked(self, raw: NDArray[np.floating[Any]], names: Sequence[str]) -> Tensor:
        """A batch's output as float32 ``B×1×h×w`` in [0, 1]."""
        maps = raw[:, None] if raw.ndim == 3 else raw
        if maps.ndim != 4 or maps.shape[:2] != (len(names), 1) or 0 in maps.shape:
            raise InputError(
                f"expected a map {len(names)}×1×h×w from the model, got {'×'.join(map(str, raw.shape))}; "
                f"choose another --output-index: {self.path}"
            )
        scores = np.array(maps, dtype=np.float32)
        for name, score in zip(names, scores, strict=True):
            if not np.isfinite(score).all():
                raise RunError(
                    f"expected finite saliency, got NaN or infinity for {name!r}; check the model: {self.path}"
                )
            low, high = float(score.min()), float(score.max())
            if self.settings.activation == "none" and (low < -_OVERSHOOT or high > 1 + _OVERSHOOT):
                raise InputError(
                    f"expected saliency in [0, 1], got {low:.3g} to {high:.3g} for {name!r}; if the model gives scores, "
                    f"choose --activation sigmoid: {self.path}"
                )
        found = torch.from_numpy(scores)
        return found.sigmoid() if self.settings.activation == "sigmoid" else found.clamp(0, 1)


_OPEN: weakref.WeakSet[OnnxDetector] = weakref.WeakSet()
_INHERITED: list[Any] = []


def _leave_sessions() -> None:
    for detector in _OPEN:
        detector.leave_session()
    _OPEN.clear()


os.register_at_fork(after_in_child=_leave_sessions)


def network_input(
    picture: Image.Image, size: tuple[int, int], settings: DetectorSettings = U2NET
) -> NDArray[np.float32]:
    """An RGB picture as a network of the U²-Net family takes it.

    Args:
        picture: Of any size.
        size: ``(h, w)``; the whole picture is squashed into it, by Lanczos.
        settings: See :class:`DetectorSettings`.

    Returns:
        float32 ``3×h×w``.
    """
    small = np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS)).astype(np.float32)
    # a black picture stays black
    small /= max(float(small.max()), 1.0) if settings.white == "max" else 255.0
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    return np.ascontiguousarray(((small - mean) / std).transpose(2, 0, 1))


def resized(saliency: Tensor, size: tuple[int, int]) -> Tensor:
    """A map ``1×h×w`` in [0, 1] at another size ``(H, W)``, bilinearly with antialiasing, as folders' maps are read."""
    if saliency.shape[-2:] == size:
        return saliency
    return F.interpolate(saliency[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)
