"""Masks drawn from objects: the frame that their coordinates mean, the names of their classes, the split that a name says."""

import re
from collections.abc import Sequence
from pathlib import Path

from samsemi.data.layouts.given import SPLIT_NAMES
from samsemi.data.outlines import Drawn, lead_out
from samsemi.data.pictures import picture_size
from samsemi.data.sources import DrawnMask
from samsemi.errors import DataError

OUTSIDE = 0.25
"""How far outlines may lead out of an image, as a share of its longer side; farther out they were drawn on another one."""
MOST_PIXELS = 2**28
"""Of an image whose size is not known but from a file of annotations."""


def upright_size(image: Path) -> tuple[int, int]:
    """Height and width of an image as it is shown."""
    height, width, orientation = picture_size(image)
    return (width, height) if orientation >= 5 else (height, width)


def draw_on(image: Path, file: Path, objects: Sequence[Drawn], said: tuple[int, int] | None = None) -> DrawnMask:
    """The mask of an image from objects in its pixels; ``said`` is its height and width by the file of the objects. DataError where it has
    another size: stored or, by EXIF, upright."""
    try:
        height, width, orientation = picture_size(image)
        upright = upright_size(image)
    except DataError:
        if said is None or said[0] * said[1] > MOST_PIXELS:
            raise
        return DrawnMask(file, tuple(objects), *said)  # whoever reads the image says what is wrong with it
    farthest = max((lead_out(drawn, *(said or upright)) for drawn in objects), default=0)
    if farthest > OUTSIDE * max(height, width):
        raise DataError(
            f"{file}: an outline leads {farthest:.0f} pixels out of {image.name}, which has {upright[1]} x {upright[0]}",
            "export the annotations for the images as they are, or give the images that were annotated",
        )
    if said in (None, upright):
        return DrawnMask(file, tuple(objects), *upright)
    if said == (height, width):
        return DrawnMask(file, tuple(objects), height, width, orientation)
    raise DataError(
        f"{file}: {image.name} is drawn in {said[1]} x {said[0]} pixels, the image has {upright[1]} x {upright[0]}",
        "export the annotations for the images as they are, or give the images that were annotated",
    )


def split_of(*names: str) -> str | None:
    """The split that the first of some names says that says one: val of instances_val2017; None of what is dealt."""
    words = [word for name in names for word in re.findall(r"[a-z]+", name.casefold())]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)
