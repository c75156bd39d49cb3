"""Dice against the number of labels, as a picture: a panel per set, drawn with Pillow alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np
from inference import LEAST_SEEDS
from PIL import Image, ImageDraw, ImageFont
from scipy import stats

from samsemi.statistics import LEVEL

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 430, 64, 24, 84, 56  # px, of a panel and its margins
FINE = 2  # drawn so many times larger, for smooth lines
COLORS = {
    "supervised": (70, 70, 70),
    "labeled-only": (140, 110, 60),
    "self-training": (40, 130, 180),
    "mined": (200, 60, 40),
}
ALL_AFTER = 1.3
"""How far right of the last number of labels 'all' stands, in steps of a factor of three."""


@dataclass(frozen=True)
class Point:
    """An arm at a number of labels; 0 is all."""

    labels: int
    dice: Sequence[float]
    """Of each seed."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.dice))

    @property
    def band(self) -> tuple[float, float]:
        """The 95 % t-interval of the mean over the seeds; from the worst to the best of fewer than LEAST_SEEDS."""
        if len(self.dice) < LEAST_SEEDS or not np.ptp(self.dice):
            return min(self.dice), max(self.dice)
        reach = float(stats.t.ppf(1 - LEVEL / 2, len(self.dice) - 1) * stats.sem(self.dice))
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class Panel:
    """What is drawn of a set."""

    title: str
    alone: str
    """The label-only arm that is drawn as a curve."""
    curve: Sequence[Point]
    arms: dict[str, Point] = field(default_factory=dict)
    saved: float = 0.0
    """Labels that `mined` saves on the curve: a line leads there."""


def draw_curves(panels: Sequence[Panel]) -> Image.Image:
    """The panels side by side."""
    picture = Image.new("RGB", (WIDTH * FINE * len(panels), HEIGHT * FINE), "white")
    for i, panel in enumerate(panels):
        picture.paste(draw_panel(panel), (i * WIDTH * FINE, 0))
    return picture.resize((WIDTH * len(panels), HEIGHT), Image.Resampling.LANCZOS)


class Axes:
    """Where labels and Dice lie on a panel, in its fine pixels."""

    def __init__(self, points: Sequence[Point]):
        self.numbers = sorted({point.labels for point in points if point.labels})
        steps = [log(n, 3) for n in self.numbers]
        self.first, self.last = steps[0], steps[-1] + (ALL_AFTER if any(not point.labels for point in points) else 0)
        edges = [edge for point in points for edge in point.band]
        self.low, self.high = np.floor(20 * min(edges) - 0.2) / 20, np.ceil(20 * max(edges) + 0.2) / 20

    def x(self, labels: float) -> float:
        step = log(labels, 3) if labels else self.last
        share = (step - self.first + 0.25) / (self.last - self.first + 0.5)
        return FINE * (LEFT + share * (WIDTH - LEFT - RIGHT))

    def y(self, dice: float) -> float:
        return FINE * (HEIGHT - BOTTOM - (dice - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM))

    def ticks(self) -> Iterator[float]:
        yield from np.arange(round(20 * self.low), round(20 * self.high) + 1) / 20


def draw_panel(panel: Panel) -> Image.Image:
    image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), "white")
    pen, axes = ImageDraw.Draw(image), Axes([*panel.curve, *panel.arms.values()])
    draw_frame(pen, axes, panel)
    draw_curve(pen, axes, panel)
    for i, (name, point) in enumerate(panel.arms.items()):
        x, y = axes.x(point.labels) + FINE * 12 * (i + 1), axes.y(point.mean)
        if name == "mined" and panel.saved:
            draw_dashes(pen, x, axes.x(point.labels + panel.saved), y, COLORS[name])
        draw_point(pen, x, axes, point, COLORS[name])
    return image


def draw_frame(pen: ImageDraw.ImageDraw, axes: Axes, panel: Panel) -> None:
    """Title, names of the arms in their colors, grid and numbers."""
    write(pen, (LEFT, 10), panel.title, 17)
    x = LEFT
    for name in (panel.alone, *panel.arms):
        write(pen, (x, 40), name, 14, COLORS[name])
        x += int(pen.textlength(name, font(14)) / FINE) + 18
    for dice in axes.ticks():
        pen.line([(FINE * LEFT, axes.y(dice)), (FINE * (WIDTH - RIGHT), axes.y(dice))], (225, 225, 225), FINE)
        write(pen, (LEFT - 40, axes.y(dice) / FINE - 8), f"{dice:.2f}", 13)
    for labels in (*axes.numbers, *(0 for point in panel.curve if not point.labels)):
        write(pen, (axes.x(labels) / FINE - 8, HEIGHT - BOTTOM + 8), str(labels or "all"), 13)
    write(pen, (LEFT, HEIGHT - 26), "labels (logarithmic); bands: 95 % over seeds, all seeds where fewer than five", 12, (110, 110, 110))


def draw_curve(pen: ImageDraw.ImageDraw, axes: Axes, panel: Panel) -> None:
    """Band, line and points of the label-only arm."""
    color, points = COLORS[panel.alone], panel.curve
    light = tuple(255 - (255 - value) // 5 for value in color)
    edges = [[(axes.x(point.labels), axes.y(point.band[side])) for point in points] for side in (0, 1)]
    if len(points) > 1:
        pen.polygon([*edges[0], *reversed(edges[1])], light)
        pen.line([(axes.x(point.labels), axes.y(point.mean)) for point in points], color, 2 * FINE)
    for point in points:
        draw_point(pen, axes.x(point.labels), axes, point, color)


def draw_point(pen: ImageDraw.ImageDraw, x: float, axes: Axes, point: Point, color: tuple[int, ...]) -> None:
    """The mean, its band as a bar, and each seed as a small dot."""
    low, high = (axes.y(edge) for edge in point.band)
    pen.line([(x, low), (x, high)], color, 2 * FINE)
    for dice in point.dice:
        pen.ellipse(around(x + 5 * FINE, axes.y(dice), 1.5 * FINE), color)
    pen.ellipse(around(x, axes.y(point.mean), 4 * FINE), color)


def draw_dashes(pen: ImageDraw.ImageDraw, start: float, stop: float, y: float, color: tuple[int, ...]) -> None:
    for x in np.arange(start, stop, 8 * FINE):
        pen.line([(x, y), (min(x + 4 * FINE, stop), y)], color, FINE)


def around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, color: tuple[int, ...] = (20, 20, 20)) -> None:
    pen.text((FINE * place[0], FINE * place[1]), text, color, font(size))


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FINE * size)
