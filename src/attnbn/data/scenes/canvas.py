"""Paper and pen: flat shapes drawn together with the exact map of what they belong to.

Everything is drawn three times too large and averaged down, so edges are smooth; a second sheet of the same size
records which toy each fine pixel shows, so coverage and masks are exact by construction, not by thresholding.
Coordinates are rounded to the fine grid before anything is filled: no result hangs on the last bit of a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SUPERSAMPLING = 3
UNITS = 96
"""Side of every picture in drawing units, whatever its size in pixels."""

NOTHING, VOID = 0, 255

Colour = tuple[int, int, int]
Point = tuple[float, float]
Pixels = NDArray[np.uint8]


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """The colour ``share`` of the way from ``a`` to ``b``."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def shade(colour: Colour, amount: float) -> Colour:
    """``colour`` lighter (``amount`` > 0, towards warm white) or darker (< 0, towards dark plum)."""
    return blend(colour, (255, 250, 238) if amount > 0 else (44, 30, 56), abs(amount))


class Canvas:
    """A square sheet of colours and a sheet of ids, in units of 1/96 of its side; x to the right, y downwards."""

    def __init__(self, size: int, ground: Colour) -> None:
        self.size = size
        self.scale = size * SUPERSAMPLING / UNITS
        fine = size * SUPERSAMPLING
        self.sheet = Image.new("RGB", (fine, fine), ground)
        self._ids = Image.new("L", (fine, fine), NOTHING)
        self._draw, self._mark = ImageDraw.Draw(self.sheet), ImageDraw.Draw(self._ids)

    def polygon(self, points: Sequence[Point], fill: Colour, ident: int = NOTHING) -> None:
        """Fill a polygon; ``ident`` says what is seen there from now on."""
        fine = [(self._fine(x), self._fine(y)) for x, y in points]
        self._draw.polygon(fine, fill=fill)
        self._mark.polygon(fine, fill=ident)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, ident: int = NOTHING) -> None:
        """Fill an upright ellipse with the centre (x, y)."""
        box = (self._fine(x - rx), self._fine(y - ry), self._fine(x + rx), self._fine(y + ry))
        self._draw.ellipse(box, fill=fill)
        self._mark.ellipse(box, fill=ident)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, ident: int = NOTHING) -> None:
        """Fill an upright rectangle."""
        box = (self._fine(x0), self._fine(y0), self._fine(x1), self._fine(y1))
        self._draw.rectangle(box, fill=fill)
        self._mark.rectangle(box, fill=ident)

    def bands(self, top: float, bottom: float, upper: Colour, lower: Colour, steps: int = 24) -> None:
        """Fill the full width between two heights with a gradient of ``steps`` bands."""
        for i in range(steps):
            y0, y1 = (top + (bottom - top) * (i + k) / steps for k in (0, 1))
            self.rectangle(0, y0, UNITS, y1, blend(upper, lower, i / max(steps - 1, 1)))

    def picture(self) -> Pixels:
        """The colours, averaged down: uint8 ``size×size×3``."""
        return np.asarray(self.sheet.reduce(SUPERSAMPLING))

    def coverage(self) -> Pixels:
        """Share of each pixel that shows any toy: uint8 ``size×size``, 255 = all of it."""
        return np.asarray(self._ids.point([0] + [255] * 255).reduce(SUPERSAMPLING))

    def mask(self) -> Pixels:
        """What each pixel shows: uint8 ``size×size``; a pixel shared by two ids is 255 (void), as VOC's borders are."""
        ids = np.asarray(self._ids)
        middle = ids[1::SUPERSAMPLING, 1::SUPERSAMPLING]
        offsets = [(i, k) for i in range(SUPERSAMPLING) for k in range(SUPERSAMPLING)]
        shared = np.logical_or.reduce([ids[i::SUPERSAMPLING, k::SUPERSAMPLING] != middle for i, k in offsets])
        return np.where(shared, np.uint8(VOID), middle)

    def _fine(self, value: float) -> int:
        return round(round(value * self.scale, 4))


class Pen:
    """Draws one toy in its own coordinates: x to the right, y *up* from where it stands, 1 = half its width.

    Args:
        canvas: Where to draw.
        x: Horizontal position of the toy's middle on the canvas.
        y: Height on the canvas of the line it stands on.
        scale: Canvas units of one toy unit.
        ident: Id of the toy in the mask; ``NOTHING`` for scenery.
        mirror: Draw it looking the other way.
        tilt: Rotation about the standing point, in degrees.
    """

    def __init__(
        self,
        canvas: Canvas,
        x: float,
        y: float,
        scale: float,
        ident: int = NOTHING,
        mirror: bool = False,
        tilt: float = 0,
    ) -> None:
        self._canvas, self._x, self._y, self._ident = canvas, x, y, ident
        self._scale = scale
        self._sign = -1 if mirror else 1
        self._cos, self._sin = cos(radians(tilt)), sin(radians(tilt))

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """Fill a polygon given in toy coordinates."""
        self._canvas.polygon([self._place(x, y) for x, y in points], fill, self._ident)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle given by two opposite corners."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def disc(self, x: float, y: float, rx: float, fill: Colour, ry: float | None = None) -> None:
        """Fill a circle, or an ellipse whose axes stay upright."""
        px, py = self._place(x, y)
        self._canvas.ellipse(px, py, rx * self._scale, (rx if ry is None else ry) * self._scale, fill, self._ident)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, fill: Colour) -> None:
        """Draw a straight stroke of the given width."""
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
        dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
        self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], fill)

    def _place(self, x: float, y: float) -> Point:
        x, y = self._sign * x * self._scale, -y * self._scale
        return self._x + x * self._cos - y * self._sin, self._y + x * self._sin + y * self._cos
