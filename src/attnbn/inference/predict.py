"""A network and a data set to scores and attention maps, one photograph after the other in constant memory.

Everything that looks at photographs (attend, evaluate, cues) goes through :func:`predict`. It leaves no trace: neither
the network's modes nor the global random state change, so a validation amid training does not alter the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from attnbn.data.dataset import ImageDataset
from attnbn.data.transforms import eval_transform, normalize
from attnbn.evaluation.direct import predicted_classes
from attnbn.io.errors import InputError, RunError

Attend = Literal["predicted", "labels"]


@dataclass(frozen=True)
class Prediction:
    """What the network says about one photograph; all tensors are on the CPU.

    Attributes:
        name: The photograph's name in its data set.
        size: Its height and width in pixels.
        scores: Logits, float32 ``N``.
        classes: Indices of the classes attended to, int64 ``K``, rising: the predicted or the labelled ones.
        maps: Their attention, float32 ``K×h×w`` in [0, 1], each divided by its own maximum; an all-zero map stays zero.
        mask: True mask ``H×W`` where the data set has one.
        labels: float32 ``N`` in {0, 1}, NaN = unknown, where the data set has them.
    """

    name: str
    size: tuple[int, int]
    scores: Tensor
    classes: Tensor
    maps: Tensor
    mask: Tensor | None
    labels: Tensor | None


def predict(
    net: nn.Module,
    dataset: ImageDataset,
    *,
    size: int,
    indices: Sequence[int] | None = None,
    attend: Attend = "predicted",
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device | None = None,
    skip_broken: bool = False,
    broken: list[str] | None = None,
) -> Iterator[Prediction]:
    """Predict the photographs of a data set, in order.

    Args:
        net: ``net(images, attend)`` gives features, scores and attention; used in ``eval`` mode, then put back.
        dataset: The photographs.
        size: Side of the square that the whole photograph is resized to.
        indices: Which photographs; None: all.
        attend: Take the maps of the ``predicted`` classes (sigmoid > 0.5, else the best one) or of those that the data
            set's ``labels`` say are there.
        batch_size: Photographs a forward pass.
        workers: Processes that read; the result does not depend on it.
        device: Where the network is; None: where its weights are.
        skip_broken: Leave out photographs that cannot be read instead of stopping at the first.
        broken: Collects one line for each photograph left out.

    Yields:
        A :class:`Prediction` for each photograph.

    Raises:
        InputError: A photograph cannot be read, or ``attend="labels"`` and it has none.
        RunError: The network gives numbers that are not finite, or a reading process died.
    """
    device = torch.device(device) if device is not None else _parameter(net).device
    reader = _Reader(dataset, size, range(len(dataset)) if indices is None else indices)
    for items in _batches(reader, batch_size, workers, pin=device.type == "cuda"):
        read: list[_Item] = []
        for item in items:
            if isinstance(item, _Item):
                read.append(item)
            elif skip_broken:
                if broken is not None:
                    broken.append(item)
            else:
                raise InputError(item)
        if read:
            yield from _forward(net, read, attend, device)


def full_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps at a photograph's own resolution.

    Bilinear with pixel centres aligned (``align_corners=False``), the way the photograph came to the network's size.

    Args:
        maps: ``K×h×w`` in [0, 1].
        size: Height and width H, W.

    Returns:
        float32 ``K×H×W`` in [0, 1].
    """
    if not len(maps):
        return maps.new_zeros(0, *size, dtype=torch.float32)
    grown = nn.functional.interpolate(maps[None].float(), size=size, mode="bilinear", align_corners=False)
    return grown[0].clamp(0, 1)  # the four weights of a pixel may add up to one and a rounding


def max_normalized(maps: Tensor) -> Tensor:
    """Each map divided by its own maximum; an all-zero map stays zero.

    Args:
        maps: ``K×h×w``, not negative.

    Returns:
        float32 ``K×h×w`` in [0, 1].
    """
    maps = maps.float()
    peak = maps.amax((-2, -1), keepdim=True)
    return torch.where(peak > 0, maps / peak, torch.zeros_like(maps))


class _Item(NamedTuple):
    """A photograph as read: ``image`` uint8 ``3×S×S``, the rest as in :class:`Prediction`."""

    name: str
    image: Tensor
    size: tuple[int, int]
    mask: Tensor | None
    labels: Tensor | None


class _Reader(Dataset["_Item | str"]):
    """Reads and resizes; a photograph that cannot be read becomes its message.

    An exception would cross from a worker wrapped in that worker's traceback, and end the worker's stream.
    """

    def __init__(self, dataset: ImageDataset, size: int, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.transform = eval_transform(size)
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> _Item | str:
        try:
            sample = self.dataset[self.indices[position]]
        except InputError as error:
            return str(error)
        height, width = sample.image.shape[-2:]
        resized = self.transform(sample)
        plain = [None if t is None else t.as_subclass(Tensor) for t in (resized.image, sample.mask, sample.labels)]
        assert plain[0] is not None
        return _Item(sample.name, plain[0], (height, width), plain[1], plain[2])


def _batches(reader: _Reader, batch_size: int, workers: int, pin: bool) -> Iterator[list[_Item | str]]:
    # An own generator: the loader would otherwise draw a seed from the global one.
    generator = torch.Generator().manual_seed(0)
    workers = min(workers, -(-len(reader) // batch_size))
    loader = DataLoader(
        reader, batch_size, num_workers=workers, collate_fn=list, generator=generator, pin_memory=pin, shuffle=False
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or isinstance(error, RunError):
            raise
        raise RunError("a process that reads photographs died (too little memory?): use fewer --workers") from error


def _forward(net: nn.Module, items: list[_Item], attend: Attend, device: torch.device) -> list[Prediction]:
    images = normalize(torch.stack([item.image for item in items]).to(device, non_blocking=True))
    with _evaluating(net), torch.no_grad():
        if attend == "labels":
            output = net(images.to(_parameter(net).dtype), _labelled(items).to(device))
        else:
            output = net(images.to(_parameter(net).dtype), _predicted)
    scores, maps = output.scores.float().cpu(), output.attention.float().cpu()
    wanted = _labelled(items) if attend == "labels" else _predicted(scores)
    split = maps.split(wanted.sum(1).tolist())
    predictions = []
    for i, item in enumerate(items):
        if not (scores[i].isfinite().all() and split[i].isfinite().all()):
            raise RunError(f"expected finite scores and attention, got NaN or infinity, check the weights: {item.name}")
        # Cloned: what came from a worker holds a file handle as long as it lives, a slice its whole batch.
        mask, labels = (None if t is None else t.clone() for t in (item.mask, item.labels))
        classes = wanted[i].nonzero().squeeze(1)
        predictions.append(
            Prediction(item.name, item.size, scores[i].clone(), classes, max_normalized(split[i]), mask, labels)
        )
    return predictions


def _predicted(scores: Tensor) -> Tensor:
    # NaN is reported after the pass, where the photograph's name is known.
    return predicted_classes(scores.nan_to_num(nan=0.0))


def _labelled(items: list[_Item]) -> Tensor:
    rows = []
    for item in items:
        if item.labels is None:
            raise InputError(f"expected labels, to attend to the labelled classes, got none: {item.name}")
        rows.append(item.labels == 1)
    return torch.stack(rows)


def _parameter(net: nn.Module) -> Tensor:
    """A weight, for the network's device and number type; a network without weights counts as float32 on the CPU."""
    return next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """``net.eval()`` for the length of the block; each part gets its own mode back, frozen parts theirs."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
