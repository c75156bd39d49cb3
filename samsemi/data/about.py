"""dataset.json: the name of a data set, its classes, the size of a pixel."""

from collections.abc import Callable
from typing import NamedTuple

from samsemi.errors import DataError

SCHEMA = "samsemi.dataset/1"
"""Of dataset.json and manifest.csv."""
COPIED = "copied"
"""In a dataset.json: the images in the folder are copies, which may be removed with it."""
MOST_CLASSES = 255
"""With the background: a mask has a byte for each pixel, and 255 is ignored."""


class About(NamedTuple):
    """What stands in a dataset.json."""

    name: str
    classes: tuple[str, ...]
    spacing_mm: float | None
    window: str | None = None


def read_about(about: dict[str, object], where: str) -> About:
    """A dataset.json by the reader of its schema; DataError for one of an unknown schema."""
    schema = about.get("schema")
    if schema is not None and not (isinstance(schema, str) and schema in ABOUT_READERS):
        raise DataError(
            f"{where} is of schema {schema!s:.60}, this samsemi reads {', '.join(ABOUT_READERS)}",
            "update samsemi, or prepare the data set again with this one",
        )
    return ABOUT_READERS[schema or SCHEMA](about, where)


def read_about_1(about: dict[str, object], where: str) -> About:
    """Of the first schema, or of a samsemi that named none; keys that are not known are left alone."""
    classes = about.get("classes")
    if not isinstance(classes, list) or len(set(map(str, classes))) < 2 or not all(isinstance(c, str) and c for c in classes):
        raise DataError(f"{where}: classes must be a list of two names or more, the first the background", "repair it, or prepare again")
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{where}: {len(classes)} classes, at most {MOST_CLASSES} can be", "leave some out, and prepare the data set again")
    if len(set(classes)) < len(classes):
        raise DataError(f"{where}: a class is named twice", "give each class a name of its own")
    spacing = about.get("spacing_mm")
    if spacing is not None and (isinstance(spacing, bool) or not isinstance(spacing, (int, float)) or not 0 < spacing < float("inf")):
        raise DataError(f"{where}: spacing_mm {spacing!r:.60} is no size of a pixel", "give millimeters, or null")
    window = about.get("window")
    if not isinstance(window, str | None):
        raise DataError(f"{where}: window {window!r:.60} is no text", "give what `samsemi prepare --window` takes, or leave it out")
    return About(str(about.get("name", "")), tuple(classes), spacing, window)


ABOUT_READERS: dict[str, Callable[[dict[str, object], str], About]] = {SCHEMA: read_about_1}
"""Schema of a dataset.json -> its reader."""
