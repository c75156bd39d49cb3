"""TIFF files of several pages as volumes, a page for each slice."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samsemi.data.pictures import UNSIGNED, is_white_zero, refuse_signed, sample_format, to_numbers, to_rgb
from samsemi.data.volumes.volume import Grid, Volume, named_damage, need_numbers, need_room
from samsemi.errors import DataError
from samsemi.inputs import need_regular, read_regular

SUFFIXES = (".tif", ".tiff")
CHANNELS = (3, 4)
"""So many pages may be the channels of one image."""
DESCRIPTION, X_RESOLUTION, Y_RESOLUTION = 270, 282, 283
TO_MM = {"mm": 1.0, "micron": 1e-3, "um": 1e-3, "\\u00B5m": 1e-3, "µm": 1e-3, "cm": 10.0, "nm": 1e-6}
"""ImageJ's units of length."""


@dataclass(frozen=True)
class PagesFile:
    """A TIFF file of several gray pages of one size."""

    path: Path
    of_mask: bool = False
    """Whether the values of a palette are its indices, not its colors."""
    is_volume: bool = True

    def grid(self) -> Grid:
        """How many pages there are; their spacing where ImageJ has written it."""
        with open_pages(self.path) as picture:
            return grid_of(picture, self.path)

    def read(self) -> Volume:
        with open_pages(self.path) as picture:
            grid, inverted = grid_of(picture, self.path), is_white_zero(picture) and picture.mode.startswith(("I", "F"))
            pages = []
            for index in range(grid.shape[0]):
                picture.seek(index)
                pages.append(page_values(picture, self.path, self.of_mask))
        if len({(page.shape, page.dtype) for page in pages}) > 1 or pages[0].ndim != 2:
            raise DataError(f"{self.path}: pages in color, or of several sizes or types", "write gray pages of one size")
        return Volume(need_numbers(np.stack(pages), self.path), grid, inverted=inverted)


def page_values(picture: Image.Image, path: Path, of_mask: bool) -> np.ndarray:
    """(H, W) values of the present page, (H, W, 3) of one in color; DataError for numbers that Pillow takes for others."""
    refuse_signed(picture, path)
    picture.info[UNSIGNED] = sample_format(picture) == (1, 32)
    if picture.mode != "P" or of_mask:
        return np.array(to_numbers(picture))
    colors = to_rgb(picture)
    return colors[..., 0] if (colors == colors[..., :1]).all() else colors


@contextmanager
def open_pages(path: Path) -> Iterator[Image.Image]:
    """A TIFF file, none of its pages decoded."""
    with warnings.catch_warnings(), named_damage(path, "TIFF"):
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(read_regular(path)), formats=["TIFF"]) as picture:
            yield picture


def count_pages(path: Path) -> int:
    """Pages of a TIFF file, from its directories alone; 0 of what cannot be read, which its reader will name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            need_regular(path)
            with Image.open(path, formats=["TIFF"]) as picture:
                return getattr(picture, "n_frames", 1)
        except Exception:  # whatever Pillow raises of a damaged one
            return 0


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of several pages that are no channels."""
    return path.name.lower().endswith(SUFFIXES) and count_pages(path) not in (0, 1, *CHANNELS)


def grid_of(picture: Image.Image, path: Path) -> Grid:
    pages = getattr(picture, "n_frames", 1)
    need_room((pages, picture.height, picture.width), 4, path)
    return Grid((pages, picture.height, picture.width), spacing=imagej_spacing(picture))


def imagej_spacing(picture: Image.Image) -> tuple[float, float, float] | None:
    """z y x in mm where ImageJ has written all three."""
    tags = getattr(picture, "tag_v2", {})
    told = dict(re.findall(r"^(\w+)=(.*)$", str(tags.get(DESCRIPTION, "")), flags=re.MULTILINE))
    unit = TO_MM.get(told.get("unit", "").strip())
    if "ImageJ" not in told or unit is None or not {X_RESOLUTION, Y_RESOLUTION} <= set(tags):
        return None
    try:
        lengths = (float(told["spacing"]), 1 / float(tags[Y_RESOLUTION]), 1 / float(tags[X_RESOLUTION]))
    except (KeyError, ValueError, ZeroDivisionError):
        return None
    z, y, x = (length * unit for length in lengths)
    return (z, y, x) if all(0 < length < 1e4 for length in (z, y, x)) else None
