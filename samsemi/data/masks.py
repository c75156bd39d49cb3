"""How label maps are written: PNG whose values are class indices, with a palette by which a person can tell the classes."""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from samsemi.data.dataset import IGNORE
from samsemi.data.overlays import PALETTE, Color
from samsemi.data.pictures import write_picture

BACKGROUND: Color = (0, 0, 0)
IGNORED: Color = (128, 128, 128)
"""Of pixels whose class is not known."""
LEVELS = (0, 48, 96, 144, 192, 224, 255)
"""Of red, green and blue in the colors after PALETTE."""


@cache
def mask_palette() -> tuple[Color, ...]:
    """256 colors: black, those in which overlays show classes 1, 2, ..., others as far from all before as can be, gray for IGNORE."""
    colors = [BACKGROUND, *PALETTE]
    candidates = np.array(list(product(LEVELS, repeat=3)))
    distance = np.min([np.abs(candidates - color).sum(axis=1) for color in (*colors, IGNORED)], axis=0)
    while len(colors) < IGNORE:
        farthest = candidates[distance.argmax()]
        distance = np.minimum(distance, np.abs(candidates - farthest).sum(axis=1))
        colors.append((int(farthest[0]), int(farthest[1]), int(farthest[2])))
    return (*colors, IGNORED)


def write_mask(path: Path, label: np.ndarray, source: str | None = None) -> None:
    """Write (H, W) uint8 class indices and IGNORE as PNG with ``mask_palette``, whole or not at all, with the SHA-256 of its ``source``."""
    picture = Image.fromarray(label)
    picture.putpalette([part for color in mask_palette() for part in color])
    write_picture(path, picture, source)
