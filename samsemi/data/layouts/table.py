"""The layouts that ``prepare`` knows, and which of them the folders have. A new one is a file in this folder and a row here."""

from collections.abc import Callable
from typing import NamedTuple

from samsemi.data.layouts.found import Found
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.pairs import find_pairs, lacks_pairs
from samsemi.data.layouts.volumes import find_cases, lacks_volumes
from samsemi.errors import DataError, UsageError


class Layout(NamedTuple):
    """How foreign data sets lie in folders."""

    looks: str
    """What they hold, for the user."""
    lacks: Callable[[Given], str]
    """What keeps the folders from being one, empty where they are; opens no image."""
    find: Callable[[Given], Found]


LAYOUTS = {
    "volumes": Layout("volumes or DICOM files, and masks named like them in --masks DIR", lacks_volumes, find_cases),
    "pairs": Layout("images, and masks named like them in --masks DIR", lacks_pairs, find_pairs),
}
"""Name -> layout. The first that lacks nothing is taken: pairs, which fit everything, come last."""


def choose_layout(given: Given, name: str = "auto") -> str:
    """The name of the layout in which the folders lie; an error that names what each lacks where there is none, or not the one named."""
    if name != "auto":
        if lack := LAYOUTS[name].lacks(given):
            raise DataError(f"{given.folder} is not of the layout {name}: {lack}", f"{name} is {LAYOUTS[name].looks}")
        return name
    fitting = [name for name, layout in LAYOUTS.items() if not layout.lacks(given)]
    if not fitting:
        raise UsageError("prepare needs masks for some of the images", "give --masks DIR")
    return fitting[0]
