"""JSON files of annotations, which may be large, damaged or made to do harm: read in one go, every value checked where it is used."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from samsemi.errors import DataError
from samsemi.inputs import read_regular

Row = Mapping[str, object]
"""An object in a file."""
DAMAGED = "export it anew"
MOST_JSON = 2**29
"""Bytes of a file: the largest of the COCO collection has 450 MB."""
FARTHEST = 1e6
"""Of a point from the corner of an image, in pixels."""


def holds_keys(path: Path, keys: Sequence[str]) -> bool:
    """Whether a file looks like a JSON object with all of these keys somewhere; it is not parsed."""
    try:
        data = read_regular(path, MOST_JSON)
    except OSError:
        return False
    return data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and all(f'"{key}"'.encode() in data for key in keys)


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file; DataError where there is none."""
    try:
        values = json.loads(read_regular(path, MOST_JSON).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})", "export it anew, in parts where it is too large") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: no JSON object", DAMAGED)
    return values


def rows_of(values: Row, key: str, where: str) -> list[Row]:
    """A list of objects in one; DataError, beginning with ``where``, where it is none."""
    rows = values.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where}: {key} is no list of objects", DAMAGED)
    return rows


def whole_number(values: Row, key: str, where: str, least: int = 0, most: int = 2**62) -> int:
    """A whole number in a range; DataError, beginning with ``where``, for any other value."""
    value = values.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DataError(f"{where}: {key} {value!r:.40} is no whole number from {least} to {most}", DAMAGED)
    return value


def points_of(values: object, where: str, least: int = 3) -> np.ndarray:
    """(P, 2) float x, y from a list of numbers or of pairs; DataError, beginning with ``where``, for others, for what is no number or far
    outside of any image, and for fewer than ``least`` points."""
    try:
        points = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{where}: an outline that is no list of points x, y", DAMAGED) from None
    if len(points) < least:
        raise DataError(f"{where}: an outline of {len(points)} points", "draw it anew, or remove it")
    if not (np.abs(points) <= FARTHEST).all():
        raise DataError(f"{where}: an outline with points that are no numbers, or lie far outside of any image", DAMAGED)
    return points
