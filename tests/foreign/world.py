"""Eight small images with two kinds of objects, of which every foreign data set is drawn; and what a sample of one is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
NUMBERS = range(1, 9)
POLYP, TOOL = 1, 2


def rectangles(number: int) -> dict[int, tuple[int, int, int, int]]:
    """Class -> x0, y0, x1, y1 of its object in an image, the last row and column not in it."""
    return {POLYP: (2 + number, 3, 14 + number, 12), TOOL: (4, 14 + number % 4, 9 + number, 21)}


def draw_image(number: int) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(number).integers(1, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def draw_label(number: int) -> np.ndarray:
    """(H, W) uint8: 1 polyp, 2 tool."""
    label = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for class_id, (x0, y0, x1, y1) in rectangles(number).items():
        label[y0:y1, x0:x1] = class_id
    return label


def draw_polyp(number: int) -> np.ndarray:
    """(H, W) uint8: 1 where the polyp is."""
    return (draw_label(number) == POLYP).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    """A picture in a folder that is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def save_images(folder: Path, name: str, numbers: range = NUMBERS) -> None:
    """Images as PNG or whatever the suffix says; in ``name`` # stands for three digits."""
    for number in numbers:
        save(folder / name.replace("#", f"{number:03d}"), draw_image(number))


def save_masks(folder: Path, name: str, numbers: range = NUMBERS, draw: Callable[[int], np.ndarray] = draw_polyp, white: int = 255) -> None:
    """``save_images`` of masks whose values are multiplied by ``white``."""
    for number in numbers:
        save(folder / name.replace("#", f"{number:03d}"), draw(number) * np.uint8(white))


@dataclass(frozen=True)
class Sample:
    """A foreign data set, what ``prepare`` is given, and what becomes of it."""

    what: str
    looks: str
    """Some of its files."""
    draw: Callable[[Path], None]
    """Into a folder that is there and empty."""
    given: str
    """The arguments of ``prepare``, in that folder."""
    label: Callable[[int], np.ndarray] | None = draw_polyp
    """Number of an image -> its mask in the data set; None where it is refused."""
    image: Callable[[int], np.ndarray] | None = draw_image
    """Number -> its image in the data set; None where pixels are not compared."""
    cases: int = len(NUMBERS)


def number_of(name: str) -> int:
    """The image that an id is of: its last number."""
    return int(re.findall(r"\d+", name)[-1])
