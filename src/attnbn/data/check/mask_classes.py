"""Masks that do not show what their photographs are labelled with: of a whole split, and single ones.

A class that one mask lacks is no finding, since a labelled object may well be too small for its mask, or void in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbn.data.check.findings import Finding, Part, Problem
from attnbn.data.check.photographs import Look
from attnbn.data.images import VOID

_IDS = f"0 background, i the i-th class, {VOID} void"
_ONLY = {
    frozenset((0,)): "only background (0)",
    frozenset((VOID,)): f"only void ({VOID})",
    frozenset((0, VOID)): f"only background and void (0 and {VOID})",
}
"""What is told of a mask with no class at all."""
_GUESS = {
    frozenset((0,)): "all their pixels are 0: empty masks?",
    frozenset((VOID,)): f"all their pixels are {VOID}: empty masks?",
    # white is read as void, and 1 as the first class
    frozenset((0, VOID)): f"all their pixels are 0 or {VOID}: binary masks?",
    frozenset((0, 1)): "all their pixels are 0 or 1: binary masks?",
}
"""What the ids of all masks of a split say of how they were made."""
_LISTED = 10
"""Classes that a message names."""


@dataclass(frozen=True)
class _Mask:
    """The mask of a photograph that is labelled with some class.

    Attributes:
        file: The mask.
        ids: In it, as :attr:`~attnbn.data.check.photographs.Look.mask_ids`.
        labelled: Places of the classes that the photograph is labelled with.
        shown: Places of the classes that the mask shows; None stands for all that are not used.
        denied: Whether it shows a class that the labels deny, which is a finding already.
    """

    file: Path
    ids: frozenset[int]
    labelled: frozenset[int]
    shown: frozenset[int | None]
    denied: bool


def mask_findings(parts: Sequence[Part], looks: Sequence[Look]) -> list[Finding]:
    """What the masks fail to show.

    Args:
        parts: The splits.
        looks: Their photographs.

    Returns:
        An error for each split of whose classes some are in no mask, although photographs with masks are labelled with them;
        then a warning for each other photograph whose mask shows none of its classes, once for all splits that list it.
    """
    ids = {parts[look.part].masks[look.index]: look.mask_ids for look in looks if parts[look.part].masks}
    splits = [(part, _masks(part, ids)) for part in parts]
    errors, told = [], set()
    for part, masks in splits:
        lost = _lost(masks)
        concerned = [mask for mask in masks if mask.labelled & lost]
        if concerned:
            errors.append(part.finding(_of_split(part, lost, concerned, masks)))
        told |= {mask.file for mask in concerned if mask.labelled <= lost}
    warnings = []
    for part, masks in splits:
        for mask in masks:
            # where a class that is not used is shown, the photograph may well be of that: its label is not read
            if not (mask.shown & {*mask.labelled, None} or mask.denied or mask.file in told):
                told.add(mask.file)
                warnings.append(part.finding(_of_mask(part, mask)))
    return errors + warnings


def _masks(part: Part, ids: dict[Path | None, frozenset[int] | None]) -> list[_Mask]:
    found = []
    for file, labels in zip(part.masks, part.labels.tolist(), strict=False):
        values = None if file is None else ids.get(file)
        labelled = frozenset(place for place, label in enumerate(labels) if label == 1)
        if file is not None and values is not None and labelled:
            shown = frozenset(part.selection.index[i - 1] for i in values if i not in (0, VOID))
            denied = any(place is not None and labels[place] == 0 for place in shown)
            found.append(_Mask(file, values, labelled, shown, denied))
    return found


def _lost(masks: Sequence[_Mask]) -> frozenset[int]:
    """Places of the classes that photographs are labelled with and no mask shows."""
    labelled: frozenset[int] = frozenset().union(*(mask.labelled for mask in masks))
    return labelled.difference(*(mask.shown for mask in masks))


def _of_split(part: Part, lost: frozenset[int], concerned: Sequence[_Mask], masks: Sequence[_Mask]) -> Problem:
    """One error for all classes that no mask of a split shows."""
    counts = Counter(place for mask in concerned for place in mask.labelled & lost)
    names = [f"{part.selection.classes[place]} ({counts[place]:,})" for place in sorted(lost)]
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    guess = _GUESS.get(frozenset().union(*(mask.ids for mask in masks)))
    return Problem(
        "mask-class",
        str(concerned[0].file),
        "pixels of every labelled class in the masks of the split",
        f"none of {', '.join(names[:_LISTED])}{more} in {len(concerned):,} mask{'s' * (len(concerned) > 1)}"
        f"{f' ({guess})' if guess else ''}",
        f"save the masks as class ids ({_IDS})" if guess else "correct the masks or the labels",
        files=len(concerned),
    )


def _of_mask(part: Part, mask: _Mask) -> Problem:
    own = part.selection.classes
    others = ", ".join(own[place] for place in sorted(place for place in mask.shown if place is not None))
    return Problem(
        "mask-object",
        str(mask.file),
        f"a pixel of a class that the photograph is labelled with ({', '.join(own[i] for i in sorted(mask.labelled))})",
        f"only {others}" if others else _ONLY[mask.ids],
        "correct the mask or the labels",
        "warning",
    )
