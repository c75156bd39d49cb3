"""Masks that are color pictures: which color is which class."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.errors import DataError, UsageError
from samsemi.inputs import read_text

BLACK = 0
SHOWN = 8
"""Colors that a message lists."""
MOST_COLORS = 256
"""In a picture that may be a mask of colors: a photograph, or what JPEG makes of one, has more."""
WRITE_LINES = "write a line name,r,g,b for each color; 'background' is class 0, 'ignore' is ignored"


@dataclass(frozen=True)
class ColorMap:
    """Colors, as r * 65536 + g * 256 + b, and the classes that they stand for."""

    path: Path
    classes: tuple[str, ...]
    """Names of classes 1, 2, ..."""
    index: Mapping[int, int]
    """Color -> class index, 0 for the background, 255 for what is ignored."""

    def convert(self, image: np.ndarray, path: Path) -> np.ndarray:
        """(H, W, 3) uint8 -> (H, W) uint8 class indices; DataError, naming the file, for colors that are not in the map."""
        colors, place = np.unique(pack_colors(image), return_inverse=True)
        unknown = [int(color) for color in colors if int(color) not in self.index]
        if unknown:
            wrong = np.isin(pack_colors(image), unknown)
            raise DataError(
                f"{path}: colors that {self.path} does not list: {describe_colors(image[wrong][None])}",
                "list them there; if there are many, the mask was saved as JPEG or resized: save it anew as PNG, without smoothing",
            )
        return np.array([self.index[int(color)] for color in colors], dtype=np.uint8)[place].reshape(image.shape[:2])


def pack_colors(image: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, one number for each color."""
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def unpack_color(color: int) -> tuple[int, int, int]:
    return color >> 16, color >> 8 & 255, color & 255


def one_color(image: np.ndarray) -> tuple[int, int, int] | None:
    """The color that a picture shows on black, where there is just one."""
    colors = set(np.unique(pack_colors(image)).tolist()) - {BLACK}
    return unpack_color(colors.pop()) if len(colors) == 1 else None


def describe_colors(image: np.ndarray) -> str:
    """The colors of an (H, W, 3) uint8 image with their share of the pixels, as in '0,0,0 (0.9), 255,0,0 (0.1)'; the most frequent."""
    colors, counts = np.unique(pack_colors(image), return_counts=True)
    if len(colors) > MOST_COLORS:
        return f"{len(colors)} colors"
    order = np.argsort(-counts, kind="stable")
    shown = [f"{','.join(map(str, unpack_color(int(colors[k]))))} ({counts[k] / counts.sum():.2g})" for k in order[:SHOWN]]
    return ", ".join(shown) + (f" and {len(colors) - SHOWN} more" if len(colors) > SHOWN else "")


def read_color_map(path: Path) -> ColorMap:
    """A CSV file of lines name,r,g,b, with or without these words as its first. Black is the background where no line says otherwise; lines
    of one name are one class. UsageError for a file that cannot be."""
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path, "utf-8-sig"), newline="")) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"--color-map {path}: {error}", "give a readable CSV file of lines name,r,g,b") from None
    if rows and [cell.strip().lower() for cell in rows[0]] == ["name", "r", "g", "b"]:
        rows = rows[1:]
    colors: dict[int, str] = {}
    for row in rows:
        color = parse_color(row)
        if color is None:
            raise UsageError(f"--color-map {path}: '{','.join(row)[:60]}' is no name and three numbers from 0 to 255", WRITE_LINES)
        if color in colors:
            raise UsageError(f"--color-map {path}: the color {','.join(row[1:])} stands there twice", "remove one")
        colors[color] = row[0].strip()
    known = {"background": 0, "ignore": 255}
    classes = tuple(dict.fromkeys(name for name in colors.values() if name.lower() not in known))
    if not classes:
        raise UsageError(f"--color-map {path}: no class", WRITE_LINES)
    number = {name: k for k, name in enumerate(classes, start=1)}
    index = {color: known.get(name.lower(), number.get(name, 0)) for color, name in colors.items()}
    return ColorMap(path, classes, index if 0 in index.values() else {BLACK: 0, **index})


def parse_color(row: list[str]) -> int | None:
    """The color of a line name,r,g,b, None where it is no such line."""
    numbers = [cell.strip() for cell in row[1:]]
    if len(row) != 4 or not row[0].strip() or not all(re.fullmatch("[0-9]{1,3}", cell) and int(cell) < 256 for cell in numbers):
        return None
    red, green, blue = map(int, numbers)
    return red << 16 | green << 8 | blue
