"""Photographs to masks by a segmentation network: logits over scales and mirror images, then a dense CRF at full size.

As DSRG's test (its ``test-ms.py``): the whole photograph is squashed into a square of each size, the logits of all are
resized to the photograph and added, their softmax is refined by the CRF, the most probable class is the mask. Nothing
of the network or of the global random state is changed, so a validation amid training leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as v2

from attnbn.data.dataset import ImageDataset
from attnbn.data.sample import Sample
from attnbn.data.transforms import normalize
from attnbn.inference.modes import evaluating, parameter
from attnbn.inference.passes import Passes, check_passes
from attnbn.inference.reading import Item, Reader, batches, readable, whole_batches
from attnbn.io.errors import InputError, RunError
from attnbn.segment_config import CrfConfig
from attnbn.segmentation.crf import dense_crf

__all__ = ["Segmentation", "refined", "segment_photographs"]

LARGEST = 1024
"""Longest side in pixels at which a photograph is segmented; of a larger one the result is enlarged. The CRF's kernels
are meant for photographs of about 500 pixels, and 21 classes of a 12-megapixel one would take gigabytes."""


@dataclass(frozen=True)
class Segmentation:
    """What the network says about one photograph; all tensors are on the CPU.

    Attributes:
        name: The photograph's name in its data set.
        size: Its height and width H, W in pixels.
        image: The photograph, uint8 ``3×h×w``: h, w are H, W, or proportionally smaller where H or W is above ``LARGEST``.
        before: Its mask without the CRF, uint8 ``H×W``: 0 = background, i + 1 = class i.
        mask: Its mask; ``before`` where no CRF was asked for.
        probabilities: Before the CRF, float32 ``(N+1)×h×w`` summing to one; None where they were not asked for.
        truth: True mask ``H×W`` where the data set has one.
        labels: float32 ``N`` in {0, 1}, NaN = unknown, where the data set has them.
    """

    name: str
    size: tuple[int, int]
    image: Tensor
    before: Tensor
    mask: Tensor
    probabilities: Tensor | None
    truth: Tensor | None
    labels: Tensor | None


def segment_photographs(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    size: int,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    crf: CrfConfig | None = None,
    indices: Sequence[int] | None = None,
    only: Collection[int] | None = None,
    given_labels: bool = False,
    probabilities: bool = False,
    batch_size: int = 8,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_broken: bool = False,
    broken: list[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Segmentation]:
    """Segment the photographs of a data set, in order, one after the other in constant memory.

    Args:
        net: Images ``B×3×S×S`` to logits ``B×(N+1)×h×w``; used in ``eval`` mode, then put back.
        dataset: The photographs; its N classes are the network's.
        size: Side of the square that the network sees at scale 1.
        scales: Factors on ``size``, one pass for each; the logits of all are added.
        flip: Look at the mirror image too, at each scale.
        crf: Refines the probabilities at the photograph's own size; None: no CRF.
        indices: Which photographs; None: all.
        only: Those of ``indices`` that are wanted; as in :func:`~attnbn.inference.predict.predict`.
        given_labels: Classes that the data set's labels say are absent get no pixel, before and after the CRF; the
            background, and classes whose label is unknown, stay possible.
        probabilities: Keep the probabilities.
        batch_size: Photographs a forward pass.
        workers: Processes that read; the result does not depend on it.
        device: Where the network is; None: where its weights are.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        broken: Collects one line for each photograph left out.
        progress: Called with the number of photographs done and to do.

    Yields:
        A :class:`Segmentation` for each photograph.

    Raises:
        InputError: A photograph cannot be read, has no labels under ``given_labels``, or the network cannot be looked at so.
        RunError: The network gives numbers that are not finite, or a reading process died.
    """
    if given_labels and dataset.labels is None:
        raise InputError(f"expected labels, to keep to the classes they name, got none: {dataset.title}")
    device = torch.device(device) if device is not None else parameter(net).device
    passes = Passes(scales, flip)
    with evaluating(net):
        check_passes(net, passes, size)
    indices = range(len(dataset)) if indices is None else indices
    together = indices if only is None else whole_batches(indices, only, batch_size)
    asked = None if only is None else {dataset.names[index] for index in only}
    reader = _Reader(dataset, passes.sides(size), together, only)
    done = 0
    for items in readable(batches(reader, batch_size, workers, pin=device.type == "cuda"), skip_broken, broken):
        logits = _logits(net, items, flip, device)
        for number, item in enumerate(items):
            if asked is not None and item.name not in asked:
                continue
            yield _segment(item, [one[number] for one in logits], crf, given_labels, probabilities)
            done += 1
            if progress is not None:
                progress(done + len(broken or ()), len(indices if only is None else only))


class _Reader(Reader):
    """The last of an item's images is the photograph itself, made smaller where it is very large."""

    def __init__(
        self, dataset: ImageDataset, sides: Sequence[int], indices: Sequence[int], only: Collection[int] | None
    ) -> None:
        super().__init__(dataset, sides, indices, only)
        self.transforms.append(_shrunk)


def _shrunk(sample: Sample) -> Sample:
    height, width = sample.image.shape[-2:]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return sample
    small = [max(1, round(side * factor)) for side in (height, width)]
    return replace(sample, image=tv_tensors.Image(v2.resize(sample.image, small, antialias=True)))


def _logits(net: nn.Module, items: Sequence[Item], flip: bool, device: torch.device) -> list[Tensor]:
    """Logits ``B×(N+1)×h×w`` of each pass, mirrored ones mirrored back."""
    dtype = parameter(net).dtype
    made = []
    for same in zip(*(item.images[:-1] for item in items), strict=True):
        view = normalize(torch.stack(same).to(device, non_blocking=True)).to(dtype)
        with evaluating(net), torch.no_grad():
            made.append(net(view).float())
            if flip:
                made.append(net(view.flip(-1)).float().flip(-1))
    return made


@torch.no_grad()
def _segment(
    item: Item, logits: Sequence[Tensor], crf: CrfConfig | None, given_labels: bool, keep: bool
) -> Segmentation:
    """One photograph, of its logits ``(N+1)×h×w`` in each pass."""
    image = item.images[-1]
    size = (image.shape[-2], image.shape[-1])
    total = torch.zeros((), device=logits[0].device)
    for one in logits:
        total = total + F.interpolate(one[None], size=size, mode="bilinear", align_corners=False)[0]
    if not total.isfinite().all():
        raise RunError(f"expected finite logits, got NaN or infinity, check the weights: {item.name}")
    if given_labels:
        total[1:][_absent(item).to(total.device)] = -torch.inf
    probabilities = total.softmax(0)
    before = _largest(probabilities, item.size)
    mask = before
    if crf is not None:
        mask = _largest(refined(image.to(probabilities.device), probabilities, crf), item.size)
    # cloned: what came from a worker holds a file handle as long as it lives
    truth, labels = (None if t is None else t.clone() for t in (item.mask, item.labels))
    kept = probabilities.cpu() if keep else None
    return Segmentation(item.name, item.size, image.clone(), before, mask, kept, truth, labels)


def _absent(item: Item) -> Tensor:
    if item.labels is None:
        raise InputError(f"expected labels, to keep to the classes they name, got none: {item.name}")
    return item.labels == 0


def refined(image: Tensor, probabilities: Tensor, crf: CrfConfig) -> Tensor:
    """Probabilities of one photograph, refined by the dense CRF.

    Args:
        image: uint8 ``3×H×W``, RGB.
        probabilities: float ``C×H×W`` summing to one.
        crf: Its settings.

    Returns:
        float ``C×H×W``, the marginals.

    Raises:
        InputError: Settings that no CRF can have on a photograph of this size.
    """
    try:
        return dense_crf(image[None], probabilities[None], **crf.arguments())[0]
    except ValueError as error:
        raise InputError(f"{error}: the settings inference.crf") from error


def _largest(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """The most probable class of each pixel, uint8 ``H×W`` on the CPU.

    Probabilities of another size are enlarged class by class: all of a large photograph's at once would take gigabytes.
    """
    if tuple(probabilities.shape[-2:]) == size:
        return probabilities.argmax(0).to(torch.uint8).cpu()
    best = torch.full(size, -1.0, device=probabilities.device)
    mask = torch.zeros(size, dtype=torch.uint8, device=probabilities.device)
    for index, one in enumerate(probabilities):
        grown = F.interpolate(one[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        mask[grown > best] = index
        best = torch.maximum(best, grown)
    return mask.cpu()
