"""What the toys stand in: the studio's paper, and an evening landscape of strips, skies and clutter."""

from __future__ import annotations

from collections.abc import Callable

from attnbn.data.scenes.canvas import UNITS, Canvas, Colour, Pen, blend, shade
from attnbn.data.scenes.dice import Dice
from attnbn.data.scenes.toys import PAINTS, WOOD

PAPERS: tuple[Colour, ...] = ((246, 238, 222), (228, 236, 238), (240, 226, 222), (230, 238, 222), (236, 230, 242))


def water(canvas: Canvas, dice: Dice, top: float, bottom: float) -> None:
    """Bright ripples on deep blue."""
    canvas.bands(top, bottom, (120, 172, 190), (58, 112, 150), 8)
    for _ in range(round((bottom - top) * 0.9)):
        x, y, w = dice.between(-4, UNITS), dice.between(top + 1, bottom), dice.between(3, 9)
        canvas.polygon([(x, y), (x + w / 2, y - 0.9), (x + w, y), (x + w / 2, y + 0.3)], (196, 224, 222))


def meadow(canvas: Canvas, dice: Dice, top: float, bottom: float) -> None:
    """Grass in tufts, with small flowers."""
    canvas.bands(top, bottom, (150, 184, 96), (96, 144, 74), 8)
    for _ in range(round((bottom - top) * 1.1)):
        x, y, h = dice.between(0, UNITS), dice.between(top + 2, bottom), dice.between(1.5, 3)
        canvas.polygon([(x - 1, y), (x - 0.8, y - h), (x, y - 0.5), (x + 0.9, y - h), (x + 1, y)], (70, 116, 62))
    for _ in range(round((bottom - top) * 0.5)):
        canvas.ellipse(
            dice.between(0, UNITS),
            dice.between(top + 1, bottom),
            0.9,
            0.7,
            dice.pick(((250, 232, 150), (250, 244, 236))),
        )


def road(canvas: Canvas, dice: Dice, top: float, bottom: float) -> None:
    """Asphalt with kerbs and a dashed line."""
    canvas.bands(top, bottom, (128, 122, 130), (98, 94, 106), 6)
    canvas.rectangle(0, top, UNITS, top + 1.2, (206, 198, 186))
    canvas.rectangle(0, bottom - 1.4, UNITS, bottom, (206, 198, 186))
    middle, start = (top + bottom) / 2, dice.between(-10, 0)
    for i in range(8):
        x = start + i * 14
        canvas.rectangle(x, middle - 0.7, x + 8, middle + 0.7, (246, 226, 160))


def rails(canvas: Canvas, dice: Dice, top: float, bottom: float) -> None:
    """Ballast, sleepers and two bright rails."""
    canvas.bands(top, bottom, (172, 152, 132), (140, 118, 104), 6)
    upper, lower, start = top + (bottom - top) * 0.3, top + (bottom - top) * 0.72, dice.between(-6, 0)
    for i in range(17):
        x = start + i * 6.4
        canvas.polygon([(x, upper - 2), (x + 2.6, upper - 2), (x + 2.2, lower + 2), (x - 0.8, lower + 2)], (96, 66, 56))
    for y in (upper, lower):
        canvas.rectangle(0, y - 0.8, UNITS, y + 0.5, (214, 214, 220))
        canvas.rectangle(0, y + 0.5, UNITS, y + 1.0, (74, 64, 74))


def field(canvas: Canvas, dice: Dice, top: float, bottom: float) -> None:
    """Bare ploughed earth: the ground that says nothing."""
    canvas.bands(top, bottom, (204, 164, 112), (170, 126, 88), 8)
    for i in range(round((bottom - top) / 4.5)):
        y = top + 3 + i * 4.5 + dice.between(-0.8, 0.8)
        canvas.polygon([(0, y), (UNITS, y + dice.between(-2, 2)), (UNITS, y + 1), (0, y + 0.8)], (180, 138, 96))


GROUNDS: dict[str, Callable[[Canvas, Dice, float, float], None]] = {
    "water": water, "meadow": meadow, "road": road, "rails": rails, "field": field
}  # fmt: skip

SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((112, 150, 196), (246, 214, 178)),
    ((140, 122, 176), (250, 190, 150)),
    ((96, 140, 170), (230, 226, 196)),
)


def sky(canvas: Canvas, dice: Dice, horizon: float) -> None:
    """A low sun over two ranges of hills."""
    above, below = dice.pick(SKIES)
    canvas.bands(0, horizon, above, below, 24)
    x, y = dice.between(8, 88), horizon - dice.between(4, 18)
    canvas.ellipse(x, y, 6.5, 6.5, blend(below, (255, 236, 180), 0.5))
    canvas.ellipse(x, y, 4.6, 4.6, (255, 240, 196))
    for colour, lift in ((blend(above, below, 0.55), 9.0), (blend(above, (92, 112, 120), 0.6), 5.0)):
        steps = [(i * 16.0, horizon - dice.between(0.2, 1) * lift) for i in range(7)]
        canvas.polygon([(0, horizon + 1), *steps, (UNITS, horizon + 1)], colour)


def clouds(canvas: Canvas, dice: Dice, horizon: float) -> None:
    """Fair-weather clouds: the scenery of balloons."""
    for _ in range(dice.whole(3, 5)):
        x, y, s = dice.between(2, 94), dice.between(3, max(horizon - 12, 8)), dice.between(3, 5)
        for dx, dy, r in ((-1.5, 0.2, 0.8), (-0.5, -0.4, 1.1), (0.7, -0.1, 0.95), (1.6, 0.3, 0.6)):
            canvas.ellipse(x + dx * s, y + dy * s, r * s, r * s * 0.72, (252, 244, 234))
        canvas.rectangle(x - 2.1 * s, y + 0.35 * s, x + 2.0 * s, y + 0.85 * s, (238, 222, 218))


def pines(canvas: Canvas, dice: Dice, line: float, count: int = 8) -> None:
    """A stand of pines along a line: the scenery of tents."""
    for x in sorted(dice.between(0, UNITS) for _ in range(count)):
        pine(Pen(canvas, x, line + dice.between(-1, 2), dice.between(5, 8)), dice)


def pine(pen: Pen, dice: Dice) -> None:
    """One pine of three tiers."""
    green = dice.pick(((54, 100, 84), (64, 112, 86), (46, 88, 80)))
    pen.box(-0.1, 0, 0.1, 0.4, WOOD)
    for i, half in enumerate((0.75, 0.6, 0.42)):
        pen.polygon([(-half, 0.3 + i * 0.6), (half, 0.3 + i * 0.6), (0, 1.3 + i * 0.55)], shade(green, 0.1 * i))


def studio(canvas: Canvas, dice: Dice) -> float:
    """A paper wall and a table, mostly with a painted backdrop and printed mats; returns where a toy stands.

    Which scenery is printed there has nothing to do with the toy: the saliency maps then say, as those of real
    photographs do, that scenery is not the object.
    """
    paper, edge = dice.pick(PAPERS), dice.between(54, 70)
    canvas.bands(0, edge, shade(paper, 0.5), paper, 12)
    canvas.bands(edge, UNITS, shade(paper, -0.07), shade(paper, -0.14), 8)
    backdrop = dice.pick(("clouds", "pines", "paper", "paper"))
    if backdrop == "clouds":
        canvas.bands(0, edge, *dice.pick(SKIES))
        clouds(canvas, dice, edge)
    if dice.chance(0.75):
        mats = dice.order(tuple(GROUNDS))[: dice.whole(1, 2)]
        middle = edge + (UNITS - edge) * (dice.between(0.4, 0.6) if len(mats) == 2 else 1)
        for mat, top, bottom in zip(mats, (edge, middle), (middle, UNITS), strict=False):
            GROUNDS[mat](canvas, dice, top, bottom)
    if backdrop == "pines":
        pines(canvas, dice, edge + 1)
    return dice.between(edge + 3, min(edge + 20, 90))


def crate(pen: Pen, dice: Dice) -> None:
    """A painted crate."""
    paint = dice.pick(PAINTS)
    pen.box(-0.8, 0, 0.8, 1.1, paint)
    pen.box(-0.8, 0.45, 0.8, 0.58, shade(paint, -0.3))
    pen.line(-0.75, 0.05, 0.75, 1.05, 0.12, shade(paint, 0.3))


def bush(pen: Pen, dice: Dice) -> None:
    """A round bush in bloom."""
    paint = dice.pick(PAINTS)
    for x, y, r in ((-0.5, 0.4, 0.45), (0.5, 0.4, 0.45), (0, 0.7, 0.55)):
        pen.disc(x, y, r, paint)
    for x, y in ((-0.4, 0.5), (0.1, 0.9), (0.45, 0.45), (0.05, 0.4)):
        pen.disc(x, y, 0.1, shade(paint, 0.4))


def boulder(pen: Pen, dice: Dice) -> None:
    """A boulder, painted as children paint stones."""
    paint = dice.pick(PAINTS)
    pen.polygon([(-0.95, 0), (-0.8, 0.5), (-0.2, 0.9), (0.5, 0.75), (0.95, 0)], paint)
    pen.polygon([(-0.6, 0.5), (-0.2, 0.9), (0.5, 0.75), (0.1, 0.55)], shade(paint, 0.3))


def fence(pen: Pen, dice: Dice) -> None:
    """A few pales of a garden fence; stands in front of things."""
    wood = shade(WOOD, dice.between(0.1, 0.6))
    for i in range(5):
        x = -1 + i * 0.5
        pen.polygon([(x - 0.1, 0), (x + 0.1, 0), (x + 0.1, 0.7), (x, 0.85), (x - 0.1, 0.7)], wood)
    pen.box(-1.15, 0.42, 1.15, 0.54, shade(wood, -0.2))


CLUTTER: tuple[Callable[[Pen, Dice], None], ...] = (crate, bush, boulder)
