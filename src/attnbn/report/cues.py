"""What cues are worth, in figures and on a page: coverage of all photographs, precision and recall where masks are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbn.evaluation.confusion import confusion_matrix, iou, mean_iou
from attnbn.evaluation.cues import CueCounts, cue_counts
from attnbn.io.atomic import without_nan
from attnbn.report.figures import Cell, Row, mask_cell, overlay
from attnbn.report.gallery import choose
from attnbn.report.html import Page, percent
from attnbn.segmentation.cues import UNKNOWN, seeds_to_mask

NAMED, PHOTOGRAPHS = 20, 12
"""Photographs without a seed that the page names, and those of its gallery."""

CAVEAT = (
    "These figures alone do not predict how well a network trained on the cues will segment: cues with a lower mIoU may "
    "teach more. Look at precision and recall apart, and judge by the network."
)


class CueTally:
    """The cues of a data set, counted one photograph after the other.

    Args:
        classes: Names of the N classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        size = len(self.classes) + 1
        self.coverage: dict[str, float] = {}
        self._images, self._seeded = torch.zeros(2, size, dtype=torch.int64)
        self._shares = torch.zeros(size, dtype=torch.float64)
        self._without: list[dict[str, Any]] = []
        self._bare: list[str] = []
        self._counts = CueCounts.zero(size)
        self._matrix = torch.zeros(size, size, dtype=torch.int64)

    def add(self, name: str, cues: Tensor, labels: Sequence[int], mask: Tensor | None) -> None:
        """Count a photograph.

        Args:
            name: Its name.
            cues: bool ``(N + 1)×h×w``.
            labels: Indices in 0..N-1 of its labelled classes.
            mask: Its true mask ``H×W``: 0 = background, i + 1 = class i, 255 = void; None where it has none.

        Raises:
            InputError: The mask has a value outside the classes.
        """
        channels = torch.tensor([0, *(index + 1 for index in labels)])
        shares = cues[channels].double().mean((1, 2))
        counts = None if mask is None else cue_counts(cues, mask, name=name)  # raises before anything is counted
        self._images[channels] += 1
        self._seeded[channels] += shares > 0
        self._shares[channels] += shares
        self.coverage[name] = float(cues.any(0).double().mean())
        bare = [self.classes[index] for index, share in zip(labels, shares[1:].tolist(), strict=True) if share == 0]
        if bare:
            self._without.append({"name": name, "classes": bare})
        if shares[0] == 0:
            self._bare.append(name)
        if counts is not None and mask is not None:
            self._counts += counts
            ids = at_size(seeds_to_mask(cues), (mask.shape[0], mask.shape[1]))
            known = torch.where(ids == UNKNOWN, UNKNOWN, mask)
            self._matrix += confusion_matrix(ids, known, len(self.classes) + 1)

    def figures(self) -> dict[str, Any]:
        """The figures, as they stand in JSON: fractions, and None where a figure does not exist.

        Returns:
            ``images``; ``masks``, how many of them have a true mask; ``coverage``, the share of all grid cells that carry a
            cue; ``miou`` of the cues as a mask, over the pixels where exactly one class is seeded; ``classes``: by name,
            the background first, ``images`` with the label, ``seeded`` ones among them, ``coverage`` (mean share of such a
            photograph's cells that carry the class's cue), ``precision``, ``recall`` and ``iou``; ``without_seed``: name and
            classes of photographs of which a labelled class has no seed; ``without_background``: names.
        """
        columns = {
            "coverage": self._shares / self._images,
            "precision": self._counts.precision(),
            "recall": self._counts.recall(),
            "iou": iou(self._matrix),
        }
        rows: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(("background", *self.classes)):
            rows[name] = {"images": int(self._images[index]), "seeded": int(self._seeded[index])}
            rows[name] |= {key: float(values[index]) for key, values in columns.items()}
        shares = list(self.coverage.values())
        figures: dict[str, Any] = without_nan(
            {
                "images": len(shares),
                "masks": self._counts.images,
                "coverage": math.fsum(shares) / len(shares) if shares else math.nan,
                "miou": float(mean_iou(self._matrix)),
                "classes": rows,
                "without_seed": self._without,
                "without_background": self._bare,
            }
        )
        return figures

    def chosen(self, count: int = PHOTOGRAPHS) -> list[str]:
        """Photographs at even steps from the most covered to the least."""
        return [choice.name for choice in choose(self.coverage, count)]


def at_size(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask ``h×w`` at another size by nearest neighbour, each pixel from the cell that its centre lies in."""
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(mask.dtype)


class Shown(NamedTuple):
    """A photograph of the gallery.

    Attributes:
        name: Its name.
        image: uint8 ``3×H×W``, RGB.
        cues: bool ``(N + 1)×h×w``.
        labels: Indices in 0..N-1 of its labelled classes.
        saliency: float ``1×H×W`` in [0, 1] where the background comes from it.
        mask: True mask ``H×W`` where it is known.
    """

    name: str
    image: Tensor
    cues: Tensor
    labels: Sequence[int]
    saliency: Tensor | None
    mask: Tensor | None


def write_page(path: Path, report: Mapping[str, Any], photographs: Sequence[Shown], classes: Sequence[str]) -> None:
    """Write the report's page, which appears whole or not at all.

    Args:
        path: The file.
        report: :meth:`CueTally.figures`, with ``target``, ``split``, ``settings`` and ``notes``.
        photographs: Of the gallery.
        classes: Names of the N classes.

    Raises:
        RunError: It cannot be written.
    """
    images, masks = report["images"], report["masks"]
    page = Page(
        "Localisation cues",
        f"{images:,} photographs of {report['target']}, split {report['split']}. Foreground comes from the attention of each "
        f"photograph's labelled classes, background from {_background(report['settings']['saliency'])}. "
        "No cue depends on a mask.",
    )
    facts = {"photographs": f"{images:,}", "cells with a cue": f"{percent(report['coverage'])} %"}
    facts["without a seed of a labelled class"] = f"{len(report['without_seed']):,}"
    if masks:
        facts["mIoU where a cue is known"] = f"{percent(report['miou'])} %"
    page.facts(facts)
    _classes(page, report)
    _without(page, report)
    _gallery(page, photographs, classes)
    page.heading("How they were made")
    page.table(["setting", "value"], [[key, _value(value)] for key, value in report["settings"].items()])
    for note in report["notes"]:
        page.paragraph(note)
    page.write(path)


def _classes(page: Page, report: Mapping[str, Any]) -> None:
    masks = report["masks"]
    page.heading("Classes")
    header = ["class", "photographs", "with a seed", "coverage"] + ["precision", "recall", "IoU"] * bool(masks)
    figures = ("coverage", "precision", "recall", "iou") if masks else ("coverage",)
    rows = [
        [name, f"{row['images']:,}", f"{row['seeded']:,}", *(percent(row[key]) for key in figures)]
        for name, row in report["classes"].items()
    ]
    page.table(
        header, rows, "Per cent. Coverage: mean share of the cells of a photograph with the class that carry its cue."
    )
    if masks:
        page.paragraph(
            f"Precision (share of a class's cues that are right), recall (share of its true pixels that carry its cue) and IoU "
            f"(over the pixels with exactly one cue) are counted on the {masks:,} photographs with masks. {CAVEAT}"
        )
    else:
        page.paragraph("No photograph of the split has a mask, so precision and recall are not known.")


def _without(page: Page, report: Mapping[str, Any]) -> None:
    without, bare = report["without_seed"], report["without_background"]
    if not without and not bare:
        return
    page.heading("Photographs without a seed")
    if without:
        rows = [[one["name"], ", ".join(one["classes"])] for one in without[:NAMED]]
        page.table(["photograph", "class without a seed"], rows, _of(len(without), "report.json names all"))
    if bare:
        more = f" and {len(bare) - NAMED:,} more (report.json)" if len(bare) > NAMED else ""
        page.paragraph(f"{len(bare):,} without a seed of the background: {', '.join(bare[:NAMED])}{more}.")


def _of(count: int, rest: str) -> str:
    return f"The first {NAMED} of {count:,}; {rest}." if count > NAMED else f"All {count:,}."


def _gallery(page: Page, photographs: Sequence[Shown], classes: Sequence[str]) -> None:
    if not photographs:
        return
    saliency = any(one.saliency is not None for one in photographs)
    masks = any(one.mask is not None for one in photographs)
    headings = ["Photograph"] + ["Saliency"] * saliency + ["Cues"] + ["Ground truth"] * masks
    page.heading("Photographs")
    page.paragraph(
        "Classes in colour, the background dark, unknown cells pale. Chosen by rule: at even steps from the photograph with the "
        "largest share of cells that carry a cue to the one with the smallest."
    )
    rows = [_row(one, classes, saliency, masks) for one in photographs]
    page.gallery(headings, rows, side=320, classes=classes)


def _row(one: Shown, classes: Sequence[str], saliency: bool, masks: bool) -> Row:
    size = (one.image.shape[-2], one.image.shape[-1])
    picture = np.ascontiguousarray(np.asarray(one.image).transpose(1, 2, 0))
    cells = [Cell(picture, ", ".join(classes[index] for index in one.labels))]
    if saliency:
        cells.append(Cell(picture, "none") if one.saliency is None else Cell(overlay(one.image, one.saliency[0])))
    covered = float(one.cues.any(0).double().mean())
    cues = at_size(seeds_to_mask(one.cues), size)
    cells.append(mask_cell(one.image, cues, f"{percent(covered)} % of cells"))
    if masks:
        cells.append(Cell(picture, "no mask") if one.mask is None else mask_cell(one.image, one.mask))
    return Row(one.name, cells)


def _background(saliency: Mapping[str, Any] | None) -> str:
    """Where the background comes from, in words."""
    if saliency is None:
        return "low attention, as no saliency was given"
    return f"saliency ({saliency.get('folder') or saliency.get('model')})"


def _value(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return str(value.get("folder") or value.get("model"))
    if isinstance(value, list):
        return " ".join(map(str, value))
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
