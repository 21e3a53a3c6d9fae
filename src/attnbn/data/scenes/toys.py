"""The six toys: large painted bodies in colours that all of them share, and one small tell-tale part each.

The body's paint says nothing about the class, and crates, bushes and boulders (see :mod:`grounds`) wear the same
paints; what tells a class at a glance is small: a pennant, a headlamp, a face, a basket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnbn.data.scenes.canvas import Colour, Pen, shade

PAINTS: tuple[Colour, ...] = (
    (222, 84, 66),
    (238, 168, 62),
    (92, 148, 122),
    (74, 122, 172),
    (214, 128, 140),
    (150, 108, 160),
    (226, 206, 164),
    (120, 150, 84),
)
INK: Colour = (52, 42, 62)
CREAM: Colour = (250, 240, 218)
LAMP: Colour = (255, 226, 120)
WOOD: Colour = (150, 98, 62)


def balloon(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A hot-air balloon; tell-tale: the basket and its ropes."""
    for x in (-0.18, 0.18):
        pen.line(x, 0.3, x * 2.6, 0.8, 0.05, INK)
    pen.polygon([(-0.82, 1.1), (0.82, 1.1), (0.25, 0.5), (-0.25, 0.5)], paint)
    pen.disc(0, 1.42, 0.92, paint)
    pen.disc(0, 1.42, 0.5, trim, 0.92)
    pen.polygon([(-0.45, 1.1), (0.45, 1.1), (0.14, 0.5), (-0.14, 0.5)], trim)
    pen.disc(0, 1.42, 0.2, paint, 0.92)
    pen.polygon([(-0.18, 1.1), (0.18, 1.1), (0.06, 0.5), (-0.06, 0.5)], paint)
    pen.disc(-0.5, 1.82, 0.16, shade(paint, 0.45), 0.22)
    pen.box(-0.24, 0, 0.24, 0.3, WOOD)
    pen.box(-0.27, 0.26, 0.27, 0.36, shade(WOOD, 0.35))


def boat(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A sailing boat; tell-tale: the pennant and the mark on the sail."""
    pen.box(-0.04, 0.4, 0.04, 1.95, WOOD)
    pen.polygon([(0.08, 0.55), (0.08, 1.85), (0.92, 0.55)], trim)
    pen.polygon([(-0.1, 0.55), (-0.1, 1.6), (-0.75, 0.55)], shade(trim, 0.35))
    pen.polygon([(-1, 0.48), (1, 0.48), (0.72, 0), (-0.68, 0)], paint)
    pen.polygon([(-0.84, 0.2), (0.86, 0.2), (0.72, 0), (-0.68, 0)], shade(paint, -0.3))
    pen.box(-1, 0.42, 1, 0.5, shade(paint, 0.4))
    pen.polygon([(0.0, 1.95), (0.0, 2.15), (-0.42, 2.05)], (214, 60, 70))
    pen.disc(0.34, 0.88, 0.15, INK)
    pen.disc(0.34, 0.88, 0.08, CREAM)


def car(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A little car; tell-tale: the headlamp and the bumper."""
    pen.polygon([(-0.56, 0.6), (-0.44, 0.9), (-0.22, 1.1), (0.08, 1.17), (0.38, 1.1), (0.6, 0.9), (0.72, 0.6)], paint)
    pen.polygon([(-1, 0.2), (1, 0.2), (0.97, 0.56), (0.7, 0.68), (-0.8, 0.66), (-0.98, 0.52)], paint)
    pen.polygon([(-0.36, 0.68), (-0.2, 0.98), (0.06, 1.06), (0.06, 0.68)], shade(trim, 0.55))
    pen.polygon([(0.16, 0.68), (0.16, 1.06), (0.38, 0.98), (0.54, 0.68)], shade(trim, 0.55))
    pen.box(-0.98, 0.34, 0.98, 0.42, trim)
    for x in (-0.58, 0.58):
        pen.disc(x, 0.2, 0.25, INK)
        pen.disc(x, 0.2, 0.11, CREAM)
    pen.disc(-0.86, 0.54, 0.13, CREAM)
    pen.disc(-0.86, 0.54, 0.09, LAMP)
    pen.box(-1.06, 0.16, -0.82, 0.27, CREAM)


def sheep(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A sheep in dyed wool; tell-tale: the dark face."""
    wool = shade(paint, 0.25)
    for x in (-0.4, -0.2, 0.38, 0.58):
        pen.box(x - 0.07, 0, x + 0.07, 0.5, INK)
    for x, y, r in ((-0.4, 0.62, 0.4), (0.0, 0.56, 0.42), (0.42, 0.62, 0.42), (-0.22, 0.95, 0.38), (0.26, 0.98, 0.4)):
        pen.disc(x, y, r, wool)
    for x, y in ((-0.1, 0.7), (0.3, 0.62), (0.14, 1.06), (0.56, 0.86)):
        pen.disc(x, y, 0.13, shade(paint, 0.5))
    pen.box(-0.62, 0.3, 0.76, 0.38, trim)
    pen.disc(-0.76, 0.86, 0.25, INK, 0.3)
    pen.disc(-0.52, 1.02, 0.16, INK, 0.09)
    pen.disc(-0.82, 0.92, 0.07, CREAM)
    pen.disc(-0.66, 1.14, 0.17, wool, 0.12)


def tent(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A striped tent; tell-tale: the lit doorway."""
    pen.polygon([(-1, 0), (0.98, 0), (0, 1.4)], paint)
    pen.polygon([(-0.66, 0), (-0.34, 0), (0, 1.4)], trim)
    pen.polygon([(0.34, 0), (0.66, 0), (0, 1.4)], trim)
    pen.polygon([(0.66, 0), (1, 0), (0, 1.4)], shade(paint, -0.2))
    pen.polygon([(-0.26, 0), (0.26, 0), (0, 0.74)], INK)
    pen.polygon([(-0.06, 0), (0.22, 0), (0, 0.62)], LAMP)
    pen.line(-0.12, 1.56, 0.02, 1.3, 0.06, WOOD)
    pen.line(0.12, 1.56, -0.02, 1.3, 0.06, WOOD)


def train(pen: Pen, paint: Colour, trim: Colour) -> None:
    """A steam engine; tell-tale: the funnel and the lamp beneath it."""
    pen.box(-0.92, 0.32, 0.4, 0.92, paint)
    pen.disc(-0.92, 0.62, 0.1, shade(paint, -0.3), 0.3)
    pen.box(0.24, 0.28, 1.0, 1.32, paint)
    pen.box(0.4, 0.8, 0.84, 1.14, shade(trim, 0.55))
    pen.polygon([(0.14, 1.3), (1.08, 1.3), (1.0, 1.46), (0.22, 1.46)], trim)
    for x in (-0.42, -0.1):
        pen.box(x - 0.05, 0.32, x + 0.05, 0.92, trim)
    pen.box(-0.98, 0.2, 1.0, 0.36, shade(paint, -0.35))
    pen.disc(-0.2, 0.94, 0.14, shade(paint, 0.35), 0.12)
    for x, r in ((-0.68, 0.19), (-0.2, 0.19), (0.58, 0.29)):
        pen.disc(x, r, r, INK)
        pen.disc(x, r, r * 0.45, CREAM)
    pen.polygon([(-0.78, 0.9), (-0.56, 0.9), (-0.5, 1.3), (-0.84, 1.3)], INK)
    pen.box(-0.88, 1.26, -0.46, 1.36, (214, 60, 70))
    pen.disc(-0.98, 0.78, 0.12, LAMP)


@dataclass(frozen=True)
class Toy:
    """How a class is drawn and where it belongs.

    Attributes:
        draw: Draws it with a pen, a paint and a second paint for its trimmings.
        context: The scenery it usually comes with (a key of :data:`grounds.GROUNDS` or ``clouds`` / ``pines``).
        height: Its height in toy units, for fitting it into a picture.
    """

    draw: Callable[[Pen, Colour, Colour], None]
    context: str
    height: float


TOYS: dict[str, Toy] = {
    "balloon": Toy(balloon, "clouds", 2.34),
    "boat": Toy(boat, "water", 2.15),
    "car": Toy(car, "road", 1.2),
    "sheep": Toy(sheep, "meadow", 1.4),
    "tent": Toy(tent, "pines", 1.56),
    "train": Toy(train, "rails", 1.46),
}
