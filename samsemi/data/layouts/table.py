"""The layouts that ``prepare`` knows, and which of them two folders have. A new one is a file in this folder and a row here."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from samsemi.data.layouts.found import Found
from samsemi.data.layouts.pairs import find_pairs, fits_pairs


class Layout(NamedTuple):
    """Two functions of the folder of images, and that of masks where one was given."""

    fits: Callable[[Path, Path | None], bool]
    """Whether they lie so; opens no image."""
    find: Callable[[Path, Path | None], Found]


LAYOUTS = {"pairs": Layout(fits_pairs, find_pairs)}
"""Name -> layout. The first that fits is taken: pairs, which fit everything, come last."""


def detect_layout(images: Path, masks: Path | None) -> str:
    """The name of the layout in which the folders lie."""
    return next(name for name, layout in LAYOUTS.items() if layout.fits(images, masks))
