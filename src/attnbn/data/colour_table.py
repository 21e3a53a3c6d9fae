"""Masks painted in colours of their own: a table of colours and class names, and masks read by it.

The table is ``label_colors.txt`` as CamVid's: a line ``red green blue name`` each. A name may have several colours. ``void``
(or ``unlabelled``) is what counts nowhere, ``background`` what is of no class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import tv_tensors

from attnbn.data.images import VOID, lossy
from attnbn.data.voc_labels import read_lines
from attnbn.io.errors import InputError
from attnbn.io.pictures import open_picture, to_rgb

STRAY = 0.01
"""Share of a mask's pixels that may have colours outside the table, and then count as void: smoothed edges and slips of the
brush. More of them mean another table."""
_VOID = frozenset(("void", "unlabelled", "unlabeled", "ignore"))


@dataclass(frozen=True)
class ColourTable:
    """Colours and what they stand for.

    Attributes:
        classes: Class names; class i has the id i + 1.
        colours: Red, green, blue of each line.
        ids: What each line stands for: 0 = background, 255 = void, else a class's id.
        place: The file, for messages.
    """

    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    ids: tuple[int, ...]
    place: str

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        codes = _codes(np.array(self.colours, dtype=np.uint8).reshape(-1, 3))
        order = np.argsort(codes)
        return codes[order], np.array(self.ids, dtype=np.uint8)[order]

    def read(self, path: Path, size: tuple[int, int] | None = None) -> tv_tensors.Mask:
        """Read a mask painted in these colours.

        Args:
            path: The file, in any colour mode.
            size: ``(H, W)`` of the upright photograph; None: not checked.

        Returns:
            uint8 ``H×W`` of ids.

        Raises:
            InputError: Another size, a lossy format, or too many pixels in colours outside the table.
        """
        picture = open_picture(path, "mask")
        if (kind := lossy(picture)) is not None:
            raise InputError(f"expected a lossless mask, got {kind}, which blurs colours; make it anew: {path}")
        codes = _codes(to_rgb(picture, path))
        if size is not None and codes.shape != size:
            got = f"{codes.shape[0]}×{codes.shape[1]}"
            raise InputError(f"expected a mask of {size[0]}×{size[1]} like its image, got {got}; make it anew: {path}")
        known, ids = self._sorted
        place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        stray = known[place] != codes
        if stray.mean() > STRAY:
            values, counts = np.unique(codes[stray], return_counts=True)
            worst = int(values[counts.argmax()])
            raise InputError(
                f"expected a mask in the colours of {self.place}, got {100 * stray.mean():.0f} % of its pixels in others, most "
                f"of all {(worst >> 16, worst >> 8 & 255, worst & 255)}; add them to label_colors.txt: {path}"
            )
        return tv_tensors.Mask(torch.from_numpy(np.where(stray, np.uint8(VOID), ids[place])))


def read_table(file: Path) -> ColourTable:
    """Read a table of colours.

    Raises:
        InputError: A line that is not ``red green blue name``, a colour given twice, or no class.
    """
    return parse_table(read_lines(file), str(file))


def msrc_table() -> ColourTable:
    """MSRC v2's 21 classes, whose table comes with the program.

    >>> len(msrc_table().classes), msrc_table().classes[:3]
    (21, ('building', 'grass', 'tree'))
    """
    text = (files("attnbn.data") / "colours" / "msrc.txt").read_text(encoding="utf-8")
    return parse_table(text.splitlines(), "MSRC v2")


def parse_table(lines: Sequence[str], place: str) -> ColourTable:
    """Lines ``red green blue name`` to a table; blank lines and those after ``#`` are passed over.

    Args:
        lines: The lines.
        place: The file, for messages.

    Raises:
        InputError: As :func:`read_table`.
    """
    colours: list[tuple[int, int, int]] = []
    ids: list[int] = []
    classes: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.replace(",", " ").split(maxsplit=3)
        values = [int(word) for word in words[:3] if word.isascii() and word.isdigit() and int(word) < 256]
        if len(words) < 4 or len(values) < 3:
            raise InputError(
                f"expected red, green, blue (0 to 255) and a name, got {line.strip()!r}: {place}, line {number}"
            )
        colour, name = (values[0], values[1], values[2]), words[3].strip()
        if colour in colours:
            raise InputError(f"expected each colour once, got {colour} again: {place}, line {number}")
        colours.append(colour)
        if name.lower() in _VOID:
            ids.append(VOID)
        elif name.lower() == "background":
            ids.append(0)
        else:
            if name not in classes:
                classes.append(name)
            ids.append(classes.index(name) + 1)
    if not 0 < len(classes) < VOID:
        raise InputError(f"expected 1 to {VOID - 1} class names, got {len(classes)}: {place}")
    return ColourTable(tuple(classes), tuple(colours), tuple(ids), place)


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """RGB triples ``...×3`` as single integers."""
    wide = colours.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
