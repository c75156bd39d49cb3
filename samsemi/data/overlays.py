"""Pictures for people: classes outlined on an image, prompts drawn on it, captions above it, several in a row.

Lines have two tones, light with dark edges, so that it can be seen on tissue of any color. Small images are enlarged.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from samsemi.data.dataset import IGNORE

Color = tuple[int, int, int]
PALETTE: tuple[Color, ...] = ((80, 240, 255), (255, 230, 60), (255, 140, 245), (140, 255, 110), (255, 170, 70), (190, 175, 255))
"""Colors of classes 1, 2, ..., from the start again after the last."""
DARK: Color = (0, 0, 0)
PAPER, INK = (255, 255, 255), (20, 20, 20)
LEAST_HEIGHT = 256
"""Pixels; an image that is less high is enlarged by a whole number."""
TINT = 0.1
"""Share of the color of a class within its outline."""
GAP = 6


@dataclass(frozen=True)
class Panel:
    """A picture of a row, what it shows, and what its colors mean."""

    picture: np.ndarray
    """(H, W, 3) uint8."""
    caption: str
    keys: Sequence[tuple[str, Color]] = ()


def zoom_of(height: int) -> int:
    """The factor by which an image of this height is enlarged."""
    return math.ceil(LEAST_HEIGHT / height)


def line_width(picture: np.ndarray) -> int:
    """Of the light line on a picture; its dark edges are half as wide."""
    return max(2, round(min(picture.shape[:2]) / 200))


def enlarge(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) image as it is drawn on: smoothly enlarged where it is small."""
    zoom = zoom_of(image.shape[0])
    size = (image.shape[1] * zoom, image.shape[0] * zoom)
    return image.copy() if zoom == 1 else np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def color_of(class_id: int) -> Color:
    return PALETTE[(class_id - 1) % len(PALETTE)]


def classes_in(label: np.ndarray) -> Iterator[int]:
    """The classes above background that a label map holds."""
    return (int(class_id) for class_id in np.unique(label) if 0 < class_id < IGNORE)


def class_keys(label: np.ndarray, classes: Sequence[str]) -> list[tuple[str, Color]]:
    """Name and color of each class in a label map."""
    return [(classes[class_id], color_of(class_id)) for class_id in classes_in(label)]


def outline(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(H, W, 3) image, enlarged, with each class of its (H, W) label map tinted and outlined in its color."""
    picture, zoom = enlarge(image), zoom_of(image.shape[0])
    label = label.repeat(zoom, axis=0).repeat(zoom, axis=1)
    for class_id in classes_in(label):
        draw_outline(picture, label == class_id, color_of(class_id))
    return picture


def draw_outline(picture: np.ndarray, inside: np.ndarray, color: Color) -> None:
    """Draw a line just within a (H, W) bool mask and a dark edge on each side of it, in place."""
    width = line_width(picture)
    edge = math.ceil(width / 2)
    rows, columns = np.nonzero(inside)
    y, x = max(0, rows.min() - edge), max(0, columns.min() - edge)
    box = np.s_[y : rows.max() + edge + 1, x : columns.max() + edge + 1]
    inside, part = inside[box], picture[box]
    depth = ndimage.distance_transform_edt(inside) if not inside.all() else np.full(inside.shape, np.inf)
    away = ndimage.distance_transform_edt(~inside)
    part[inside] = ((1 - TINT) * part[inside] + TINT * np.asarray(color)).astype(np.uint8)
    part[(away > 0) & (away <= edge) | (depth > width) & (depth <= width + edge)] = DARK
    part[inside & (depth <= width)] = color


def draw_box(pen: ImageDraw.ImageDraw, box: Sequence[float], color: Color, width: int, text: str = "") -> None:
    """A box (x0, y0, x1, y1) in pixels of the picture, and a word in its corner."""
    edge = math.ceil(width / 2)
    x0, y0, x1, y1 = box
    pen.rectangle((x0 - edge, y0 - edge, x1 + edge, y1 + edge), outline=DARK, width=width + 2 * edge)
    pen.rectangle((x0, y0, x1, y1), outline=color, width=width)
    if text:
        font = font_for(pen.im.size[1])
        x = min(x0 + width + 2 * edge + 2, pen.im.size[0] - font.getlength(text) - 2)
        pen.text((x, y0 + width + 2 * edge), text, fill=color, font=font, stroke_width=edge + 1, stroke_fill=DARK)


def draw_point(pen: ImageDraw.ImageDraw, at: tuple[float, float], is_positive: bool, color: Color, width: int) -> None:
    """A plus for a positive point, a cross for a negative one, at (x, y) in pixels of the picture."""
    x, y = at
    arm, edge = 3 * width, math.ceil(width / 2)
    for fill, more in ((DARK, edge), (color, 0)):
        reach = arm + more if is_positive else 0.75 * arm + more
        ends = (
            ((-reach, 0, reach, 0), (0, -reach, 0, reach))
            if is_positive
            else ((-reach, -reach, reach, reach), (-reach, reach, reach, -reach))
        )
        for x0, y0, x1, y1 in ends:
            pen.line((x + x0, y + y0, x + x1, y + y1), fill=fill, width=width + 2 * more)


def font_for(height: int) -> ImageFont.FreeTypeFont:
    """Of the words on and above a picture of this height."""
    font = ImageFont.load_default(max(13, height // 28))
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow gives no other where it is given a size
    return font


def draw_row(title: str, panels: Sequence[Panel]) -> np.ndarray:
    """Panels of one height side by side, each with its caption above it, and a title above them all: (H, W, 3) uint8."""
    font = font_for(panels[0].picture.shape[0])
    captions = [write_caption(panel.caption, panel.keys, panel.picture.shape[1], font) for panel in panels]
    height = max(caption.shape[0] for caption in captions)
    columns = [np.concatenate([pad(caption, height), panel.picture]) for caption, panel in zip(captions, panels, strict=True)]
    white = np.full((columns[0].shape[0], GAP, 3), PAPER, dtype=np.uint8)
    row = np.concatenate([part for column in columns for part in (column, white)][:-1], axis=1)
    return np.concatenate([write_caption(title, (), row.shape[1], font), row])


def pad(caption: np.ndarray, height: int) -> np.ndarray:
    """The same with white below it."""
    return np.concatenate([caption, np.full((height - caption.shape[0], caption.shape[1], 3), PAPER, dtype=np.uint8)])


def write_caption(text: str, keys: Iterable[tuple[str, Color]], width: int, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """(h, width, 3) white strip with a text and a key of colors on it, in as many lines as they need."""
    size = round(font.size)
    words = [word for line in textwrap.wrap(text, max(4, int(width / (0.7 * size)))) for word in line.split()]
    parts: list[tuple[str, Color | None]] = [*((word, None) for word in words), *keys]
    places: list[tuple[float, int]] = []
    x: float = GAP
    y, line = 2, round(1.4 * size)
    for word, color in parts:
        needed = font.getlength(word) + (1.2 * size if color else 0)
        if x > GAP and x + needed > width:
            x, y = GAP, y + line
        places.append((x, y))
        x += needed + (0.6 if color else 0.3) * size
    strip = Image.new("RGB", (width, y + line), PAPER)
    pen = ImageDraw.Draw(strip)
    for (word, color), (x, y) in zip(parts, places, strict=True):
        if color:
            pen.rectangle((x, y + 0.2 * size, x + 0.8 * size, y + size), fill=color, outline=DARK)
        pen.text((x + (1.1 * size if color else 0), y), word, fill=INK, font=font)
    return np.asarray(strip)
