"""A data set's own classes to those of a run: its labels, its mask ids, and which images remain."""

from __future__ import annotations

import torch
from torch import Tensor

from attnbn.data.classes import Selection
from attnbn.data.images import VOID
from attnbn.io.errors import InputError


def run_labels(own: Tensor, selection: Selection) -> Tensor:
    """Labels of the data set's classes to those of the run; a class made of several is present where one of them is.

    Args:
        own: ``len×M`` in {0, 1}, NaN = unknown.
        selection: Of the M classes.

    Returns:
        ``len×N``.
    """
    table = torch.zeros(len(own), len(selection.classes))
    for column, place in enumerate(selection.index):
        if place is not None:
            old, new = table[:, place], own[:, column]
            # 1 wins over unknown, unknown over 0; NaN + anything is NaN
            table[:, place] = torch.where((old == 1) | (new == 1), 1.0, old + new)
    return table


def run_ids(selection: Selection) -> Tensor:
    """uint8 ``256``: mask ids of the data set -> those of the run; unused classes are background, void stays void."""
    ids = torch.zeros(256, dtype=torch.uint8)
    ids[VOID] = VOID
    for own, place in enumerate(selection.index):
        if place is not None:
            ids[own + 1] = place + 1
    return ids


def with_class(names: list[str], table: Tensor, notes: list[str], title: str) -> tuple[list[str], Tensor]:
    """Leave out images with none of the classes (an unknown class may be there, so it stays in).

    Args:
        names: The images.
        table: Their labels, ``len×N``.
        notes: Takes a line on how many were left out.
        title: The data set, for messages.

    Raises:
        InputError: None is left.
    """
    keep = (table != 0).any(1)
    left_out = int((~keep).sum())
    if left_out == 0:
        return names, table
    if left_out == len(names):
        raise InputError(
            f"expected photographs with one of the classes, got none among {left_out:,}; correct data.classes: {title}"
        )
    notes.append(f"left out {left_out:,} of {len(names):,} images with none of the classes")
    return [name for name, kept in zip(names, keep.tolist(), strict=True) if kept], table[keep]
