"""Three looks of four of the toys, one toy a picture: ``studio``, ``dusk`` and ``print``, to carry a classifier across.

What makes that hard is the backdrop. In each domain a class comes with a backdrop of its own (water, road, clouds and
so on) at the rate ``bias``, and in each domain with another one. A classifier that leans on the backdrop is right at
home and misled elsewhere; one that looks at the toy is not. That is the failure which the paper says an integral
attention mends. It is built in here on purpose: the pictures illustrate the claim and are no evidence for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbn.data.scenes import grounds
from attnbn.data.scenes.canvas import UNITS, Canvas, Colour, Pen, Pixels, shade
from attnbn.data.scenes.compose import Scene, evening
from attnbn.data.scenes.dice import Dice
from attnbn.data.scenes.toys import PAINTS, TOYS

TRIO_NAMES = ("balloon", "boat", "sheep", "tent")
"""The classes, in order; class i has the id i + 1 in a mask. Four, because a small network learns them in 500 steps from random
weights."""

BACKDROPS = tuple(TOYS[name].context for name in TRIO_NAMES)
"""What a toy may stand before: the contexts of all four."""

INKS: tuple[Colour, ...] = ((196, 52, 60), (34, 92, 142), (38, 110, 84), (120, 56, 128), (188, 96, 20), (44, 48, 66))
STOCKS: tuple[Colour, ...] = ((250, 244, 228), (240, 244, 236), (252, 238, 222))
"""Printing inks, and the papers that take them."""

SCALE = (26.0, 40.0)
"""Half the width of a toy in units of the canvas, at least and at most."""

LEVELS = 4
"""Tones of each ink on a print, the bare paper included."""


@dataclass(frozen=True)
class Look:
    """One of the three domains.

    Attributes:
        shift: Class i comes with the backdrop ``i + shift``, counted around.
        wall: Fills the picture above the line where the ground begins.
        finish: ``(colours, share of toy, dice) -> colours``: light, or printing.
        clutter: How many crates, bushes and boulders stand about, at least and at most.
    """

    shift: int
    wall: Callable[[Canvas, Dice, float], None]
    finish: Callable[[Pixels, Pixels, Dice], Pixels]
    clutter: tuple[int, int] = (0, 0)


def trio_present(dice: Dice) -> tuple[int]:
    """The class of a picture: the first thing its dice decide, so labels need no drawing."""
    return (dice.whole(0, len(TRIO_NAMES) - 1),)


def trio_backdrop(dice: Dice, index: int, shift: int, bias: float) -> int:
    """The backdrop of a picture of class ``index``: its own at the rate ``bias``, else any of the others alike."""
    own = (index + shift) % len(BACKDROPS)
    return own if dice.chance(bias) else (own + dice.whole(1, len(BACKDROPS) - 1)) % len(BACKDROPS)


def trio_scene(dice: Dice, size: int, name: str, bias: float) -> Scene:
    """A picture of the domain ``name``: a toy of random paints anywhere on the ground of its backdrop."""
    look = LOOKS[name]
    (index,) = trio_present(dice)
    backdrop = BACKDROPS[trio_backdrop(dice, index, look.shift, bias)]
    toy = TOYS[TRIO_NAMES[index]]
    canvas = Canvas(size, (255, 255, 255))
    edge = dice.between(42, 58)
    look.wall(canvas, dice, edge)
    _backdrop(canvas, dice, backdrop, edge)
    line = dice.between(edge + 6, 92)
    scale = min(dice.between(*SCALE), (line - 4) / toy.height)
    x = dice.between(scale + 3, UNITS - scale - 3)
    for _ in range(dice.whole(*look.clutter)):
        # farther away than the toy, so that it stands in front
        pen = Pen(canvas, dice.between(0, UNITS), dice.between(edge + 3, line), dice.between(5, 9), 0, dice.chance(0.5))
        dice.pick(grounds.CLUTTER)(pen, dice)
    canvas.ellipse(x, line, scale, scale * 0.1, (112, 102, 112))
    paint, trim = dice.order(PAINTS)[:2]
    toy.draw(Pen(canvas, x, line, scale, index + 1, dice.chance(0.5), dice.between(-6, 6)), paint, shade(trim, 0.2))
    coverage = canvas.coverage()
    return Scene(look.finish(canvas.picture(), coverage, dice), (index,), coverage, canvas.mask())


def _backdrop(canvas: Canvas, dice: Dice, kind: str, edge: float) -> None:
    """The ground, and what the backdrop puts above it."""
    grounds.GROUNDS.get(kind, grounds.field)(canvas, dice, edge, UNITS)
    if kind == "clouds":
        grounds.clouds(canvas, dice, edge)
    if kind == "pines":
        grounds.pines(canvas, dice, edge + 2)


def _paper(canvas: Canvas, dice: Dice, edge: float) -> None:
    """A wall of coloured paper."""
    paper = dice.pick(grounds.PAPERS)
    canvas.bands(0, edge, shade(paper, -0.06), shade(paper, -0.14), 12)


def _sheet(canvas: Canvas, dice: Dice, edge: float) -> None:
    """A sky that prints as a tone above, on which clouds are bare paper, and as bare paper below."""
    canvas.bands(0, edge, (130, 130, 130), (206, 206, 206), 12)


def _as_it_is(picture: Pixels, coverage: Pixels, dice: Dice) -> Pixels:
    return picture


def _dusk(picture: Pixels, coverage: Pixels, dice: Dice) -> Pixels:
    return evening(picture, dice, 0.6)


def _printed(picture: Pixels, coverage: Pixels, dice: Dice) -> Pixels:
    """Flat tones of two inks: the toy in a strong one, all else in a paler one; in whole numbers."""
    front, behind = dice.order(INKS)[:2]
    stock = np.array(dice.pick(STOCKS), dtype=np.int32)
    grey = picture.astype(np.int32) @ np.array((77, 150, 29), dtype=np.int32) >> 8
    share = coverage.astype(np.int32)[..., None]
    toy = _tones((grey * 9 >> 3) - 48, front, stock)
    rest = _tones((grey * 3 >> 2) + 64, behind, stock)
    return ((toy * share + rest * (255 - share)) // 255).astype(np.uint8)


def _tones(grey: NDArray[np.int32], ink: Colour, stock: NDArray[np.int32]) -> NDArray[np.int32]:
    """Grey 0..255 as so many flat tones from the ink (dark) to the bare paper (light): ``H×W×3``."""
    level = (grey.clip(0, 255) * LEVELS >> 8)[..., None]
    colour = np.array(ink, dtype=np.int32)
    tones: NDArray[np.int32] = colour + (stock - colour) * level // (LEVELS - 1)
    return tones


LOOKS: dict[str, Look] = {
    "studio": Look(1, _paper, _as_it_is),
    "dusk": Look(0, grounds.sky, _dusk, (1, 2)),
    "print": Look(2, _sheet, _printed),
}
"""The three domains; their shifts differ, so no class has the same backdrop in two of them."""
