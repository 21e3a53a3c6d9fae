"""From seeds to pictures: a toy in the studio (source) and toys out in the evening (target).

The target is where plain class attention goes wrong, and ``difficulty`` says how strongly, from 0 to 1: how reliably
a class comes with its scenery, how much clutter wears the toys' paints and hides their feet, and how far the evening
light is from the studio's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbn.data.scenes import grounds
from attnbn.data.scenes.canvas import UNITS, Canvas, Pen, Pixels, shade
from attnbn.data.scenes.dice import Dice
from attnbn.data.scenes.toys import PAINTS, TOYS

NAMES = tuple(TOYS)
"""The classes, in order; class i has the id i + 1 in a mask."""

Light = tuple[tuple[int, int, int], tuple[int, int, int]]
LIGHTS: tuple[Light, ...] = (
    ((204, 174, 206), (16, 6, 30)),
    ((232, 184, 152), (16, 6, 10)),
    ((158, 178, 216), (8, 16, 36)),
    ((196, 184, 192), (34, 28, 36)),
)
"""Evening lights: gain (256 = 1) and lift of red, green and blue."""


@dataclass(frozen=True)
class Scene:
    """One drawn picture.

    Attributes:
        image: uint8 ``size×size×3``.
        present: Indices of the classes in it.
        coverage: Share of each pixel covered by toys, uint8 ``size×size``, 255 = all.
        mask: uint8 ``size×size``: 0 background, i + 1 class i, 255 a pixel shared by two.
    """

    image: Pixels
    present: tuple[int, ...]
    coverage: Pixels
    mask: Pixels


def source_present(dice: Dice) -> tuple[int]:
    """The class of a source picture: the first thing its dice decide, so labels need no drawing."""
    return (dice.whole(0, len(NAMES) - 1),)


def target_present(dice: Dice) -> tuple[int, ...]:
    """One to three classes of a target picture, ascending: the first thing its dice decide."""
    count = 1 + dice.chance(0.65) + dice.chance(0.25)
    return tuple(sorted(dice.order(range(len(NAMES)))[:count]))


def source_scene(dice: Dice, size: int) -> Scene:
    """A single toy in the studio, in even light."""
    (index,) = source_present(dice)
    toy = TOYS[NAMES[index]]
    canvas = Canvas(size, (255, 255, 255))
    line = grounds.studio(canvas, dice)
    scale = min(dice.between(17, 36), (line - 4) / toy.height)
    x = dice.between(scale + 3, UNITS - scale - 3)
    canvas.ellipse(x + 2, line, scale * 1.02, scale * 0.1, (158, 148, 156))
    _draw(canvas, dice, index, x, line, scale, dice.between(-6, 6))
    return Scene(canvas.picture(), (index,), canvas.coverage(), canvas.mask())


def target_scene(dice: Dice, size: int, difficulty: float) -> Scene:
    """One to three kinds of toys in a landscape at dusk."""
    present = target_present(dice)
    scenery = _scenery(dice, present, difficulty)
    canvas = Canvas(size, (255, 255, 255))
    horizon = dice.between(28, 40)
    strips = _landscape(canvas, dice, scenery, horizon)
    standing: list[tuple[float, int | None]] = []
    for index in present:
        name = NAMES[index]
        if name == "balloon":
            scale = dice.between(12, 17)
            y = dice.between(32, horizon + 8)
            _draw(canvas, dice, index, dice.between(14, 82), y, scale, dice.between(-8, 8))
            continue
        top, bottom = _place(dice, strips, TOYS[name].context, scenery)
        for _ in range(2 if name == "sheep" and dice.chance(0.5) else 1):
            standing.append((dice.between(top * 0.45 + bottom * 0.55, bottom - 1), index))
    for _ in range(round(dice.between(1, 2 + 3 * difficulty))):
        standing.append((dice.between(horizon + 4, UNITS + 2), None))
    _stand(canvas, dice, standing, horizon)
    for _ in range(round(dice.between(0, 0.5 + 1.6 * difficulty))):
        pen = Pen(canvas, dice.between(0, UNITS), dice.between(80, 100), dice.between(9, 15))
        (grounds.fence if dice.chance(0.6) else grounds.bush)(pen, dice)
    return Scene(evening(canvas.picture(), dice, difficulty), present, canvas.coverage(), canvas.mask())


def _scenery(dice: Dice, present: tuple[int, ...], difficulty: float) -> set[str]:
    """Which contexts appear: with its class 35 % (difficulty 0) to 95 % (1) of the time, without it 35 % to 6 %."""
    chances = (0.35 - 0.29 * difficulty, 0.35 + 0.6 * difficulty)
    return {toy.context for i, toy in enumerate(TOYS.values()) if dice.chance(chances[i in present])}


def _landscape(canvas: Canvas, dice: Dice, scenery: set[str], horizon: float) -> list[tuple[str, float, float]]:
    """Sky, hills and strips of ground; returns each strip's kind, top and bottom, from far to near."""
    grounds.sky(canvas, dice, horizon)
    if "clouds" in scenery:
        grounds.clouds(canvas, dice, horizon)
    kinds = [kind for kind in grounds.GROUNDS if kind in scenery]
    while len(kinds) < 2 or (len(kinds) < 4 and dice.chance(0.4)):
        kinds.append("field")
    kinds = dice.order(kinds)
    weights = [(1 + 0.35 * i) * dice.between(0.85, 1.15) for i in range(len(kinds))]
    strips, top = [], horizon
    for kind, weight in zip(kinds, weights, strict=True):
        bottom = top + (UNITS - horizon) * weight / sum(weights)
        grounds.GROUNDS[kind](canvas, dice, top, bottom)
        strips.append((kind, top, bottom))
        top = bottom
    if "pines" in scenery:
        grounds.pines(canvas, dice, dice.pick([horizon + 3, strips[1][1] + 1]))
    return strips


def _place(dice: Dice, strips: list[tuple[str, float, float]], context: str, scenery: set[str]) -> tuple[float, float]:
    """Top and bottom of the strip a toy stands on: its own kind if there, else bare field, else any."""
    for wanted in (context, "field"):
        fitting = [strip for strip in strips if strip[0] == wanted]
        if fitting:
            return dice.pick(fitting)[1:]
    return dice.pick(strips)[1:]


def _stand(canvas: Canvas, dice: Dice, standing: list[tuple[float, int | None]], horizon: float) -> None:
    """Draw what stands on the ground from far to near, each in a lane of its own as far as there is room."""
    lanes = dice.order(range(len(standing)))
    width = UNITS / max(len(standing), 1)
    for (y, index), lane in sorted(zip(standing, lanes, strict=True), key=lambda item: item[0][0]):
        near = (y - horizon) / (UNITS - horizon)
        x = (lane + dice.between(0.25, 0.75)) * width
        if index is None:
            scale = (3.5 + 4.5 * near) * dice.between(0.8, 1.25)
            dice.pick(grounds.CLUTTER)(Pen(canvas, x, y, scale, mirror=dice.chance(0.5)), dice)
            continue
        scale = (13 + 10 * near) * dice.between(0.85, 1.2)
        x = min(max(x, scale * 0.7), UNITS - scale * 0.7)
        canvas.ellipse(x, y, scale, scale * 0.12, (86, 70, 90))
        _draw(canvas, dice, index, x, y, scale, dice.between(-4, 4))


def _draw(canvas: Canvas, dice: Dice, index: int, x: float, y: float, scale: float, tilt: float) -> None:
    """One toy in random paints, looking left or right."""
    paint, trim = dice.order(PAINTS)[:2]
    pen = Pen(canvas, x, y, scale, index + 1, dice.chance(0.5), tilt)
    TOYS[NAMES[index]].draw(pen, paint, shade(trim, 0.2))


def evening(picture: Pixels, dice: Dice, strength: float) -> Pixels:
    """Evening light, a darker rim and grain, in whole numbers; ``strength`` 0 leaves the studio's light."""
    gain, lift = dice.pick(LIGHTS)
    amount = round(170 * strength)
    size = picture.shape[0]
    image = picture.astype(np.int32)
    lit = (image * np.array(gain, dtype=np.int32) >> 8) + np.array(lift, dtype=np.int32)
    ramp = np.abs(np.arange(size, dtype=np.int32) * 2 - size + 1) * 256 // size
    rim: NDArray[np.int32] = 256 - ((ramp[:, None] ** 2 + ramp[None, :] ** 2) // 1900)
    lit = lit * rim[..., None] >> 8
    image = image + ((lit - image) * amount >> 8)
    grain = dice.grain((size, size))
    image = image + ((grain * amount * 18) >> 15)[..., None]
    return image.clip(0, 255).astype(np.uint8)
