"""manifest.csv: a row for each case of a data set."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from samsemi.errors import DataError
from samsemi.outputs import write_rows

SPLITS = ("labeled", "unlabeled", "val", "test")
LONGEST_ID = 200
"""Bytes of an id: with a suffix it is the name of a file."""

COLUMNS = ("id", "image", "mask", "truth", "split", "group")
"""What a manifest must have."""
HASHES = ("image_sha256", "mask_sha256", "truth_sha256")
"""SHA-256 of the files' bytes, as ``sha256sum`` gives it; a manifest may lack them."""
PLACE = ("volume", "slice", "spacing")
"""Of slices of volumes; a manifest lacks them where no case has one."""


@dataclass(frozen=True)
class Case:
    """One image. ``mask`` is for training and measuring; ``truth`` is the hidden mask of an unlabeled case."""

    id: str
    image: Path
    mask: Path | None
    truth: Path | None
    split: str
    group: str
    image_sha256: str | None = None
    mask_sha256: str | None = None
    truth_sha256: str | None = None
    volume: str | None = None
    """The volume of which it is a slice."""
    slice: int | None = None
    """Which slice of it, from 0."""
    spacing: tuple[float, ...] | None = None
    """Size of a voxel in mm, z y x, or of a pixel, y x."""

    def files(self) -> dict[Path, str | None]:
        """Its files, and the SHA-256 that each had when the data set was prepared; None where that is not known."""
        pairs = ((self.image, self.image_sha256), (self.mask, self.mask_sha256), (self.truth, self.truth_sha256))
        return {path: sha256 for path, sha256 in pairs if path is not None}


def read_manifest(folder: Path, rows: Sequence[dict[str, str]]) -> tuple[dict[str, Case], list[DataError]]:
    """The cases of a manifest by id, and every kind of row that cannot be; DataError for a manifest without rows or columns."""
    if not rows or set(COLUMNS) - set(rows[0]):
        raise DataError(f"{folder}/manifest.csv needs rows, and the columns {','.join(COLUMNS)}", "prepare the data set again")
    path = folder / "manifest.csv"
    cases: dict[str, Case] = {}
    wrong: dict[tuple[str, str], list[int]] = {}
    for line, row in enumerate(rows, start=2):
        try:
            case = read_case(folder, row)
            if case.id in cases:
                raise DataError(f"id '{case.id}' stands there twice", "remove one")
            cases[case.id] = case
        except DataError as error:
            wrong.setdefault((error.message, error.hint), []).append(line)
    return cases, [DataError(f"{path} {name_lines(lines)}: {what}", hint) for (what, hint), lines in wrong.items()]


def name_lines(lines: Sequence[int]) -> str:
    """'line 2', 'lines 2, 3, 4 and 37 more'."""
    first, more = ", ".join(map(str, lines[:3])), len(lines) - 3
    return f"line{'s' if len(lines) > 1 else ''} {first}" + (f" and {more} more" if more > 0 else "")


def read_case(folder: Path, row: Mapping[str, str]) -> Case:
    """One row of a manifest; DataError for an id, split or path that cannot be."""
    if None in map(row.get, COLUMNS):
        raise DataError("fewer columns than the first line has", "write every column, empty where there is nothing")
    if not is_safe_id(row["id"]):
        raise DataError(f"id {row['id']!r:.60} cannot be a file name", "use letters, digits, '_', '-', '.' and blanks")
    if row["split"] not in SPLITS:
        raise DataError(f"unknown split '{row['split']:.60}'", f"use {', '.join(SPLITS)}")
    if not row["image"]:
        raise DataError("no image", "prepare the data set again")
    if row["split"] == "unlabeled" and row["mask"]:
        raise DataError("an unlabeled case has a mask", "move it to the column truth, or change the split")
    if row["split"] != "unlabeled" and not row["mask"]:
        raise DataError(f"a {row['split']} case has no mask", "give one, or change the split to unlabeled")
    image = path_of(folder, row["image"])
    mask, truth = (path_of(folder, row[column]) if row[column] else None for column in ("mask", "truth"))
    hashes = [row.get(name) or None if path else None for name, path in zip(HASHES, (image, mask, truth), strict=True)]
    group, (image_sha256, mask_sha256, truth_sha256) = row["group"] or row["id"], hashes
    place = read_place(row)
    return Case(row["id"], image, mask, truth, row["split"], group, image_sha256, mask_sha256, truth_sha256, *place)


def read_place(row: Mapping[str, str]) -> tuple[str | None, int | None, tuple[float, ...] | None]:
    """volume, slice and spacing of a row; DataError for what cannot be."""
    volume, number, lengths = (row.get(name) or None for name in PLACE)
    if volume is not None and not is_safe_id(volume):
        raise DataError(f"volume {volume!r:.60} cannot be a file name", "use letters, digits, '_', '-', '.' and blanks")
    if (volume is None) != (number is None) or (number and not (number.isascii() and number.isdigit() and len(number) < 10)):
        raise DataError(f"volume {volume!r:.60}, slice {number!r:.60}", "name the volume and the number of the slice, from 0, or neither")
    try:
        spacing = tuple(float(length) for length in lengths.split()) if lengths else None
    except ValueError:
        spacing = ()
    if spacing is not None and (len(spacing) not in (2, 3) or not all(0 < length < float("inf") for length in spacing)):
        raise DataError(f"spacing {lengths!r:.60} is no size of a voxel", "give millimeters, z y x or y x, such as 2.5 0.7 0.7")
    return volume, int(number) if number else None, spacing


UNSAFE = re.compile(r'^$|^\.|[/\\:*?"<>|\x00-\x1f\ud800-\udfff]')
"""What the name of a file is not, or does not hold, somewhere."""


def is_safe_id(text: str) -> bool:
    """True for an id that is one plain file name everywhere."""
    return not UNSAFE.search(text) and len(text.encode()) <= LONGEST_ID


def path_of(folder: Path, text: str) -> Path:
    """A path of the manifest: absolute, or inside the data set folder; DataError for one that leads out of it."""
    if ".." in text and ".." in Path(text).parts:
        raise DataError(f"{text} leads out of the data set", "write paths relative to the data set folder, or absolute")
    return Path(os.path.join(folder, text))


def write_manifest(folder: Path, cases: Iterable[Case]) -> None:
    """Write manifest.csv; paths inside the folder become relative, and the columns of PLACE stand there where a case needs them."""
    cases = list(cases)
    placed = any(case.volume or case.spacing for case in cases)
    columns = COLUMNS + HASHES + (PLACE if placed else ())
    rows = ([as_cell(folder, value) for value in astuple(case)[: len(columns)]] for case in cases)
    write_rows(folder / "manifest.csv", [columns, *rows])


def as_cell(folder: Path, value: str | int | Path | tuple[float, ...] | None) -> str:
    """What stands in the manifest: of a path in the folder its place there, of several numbers each between blanks."""
    if isinstance(value, Path):
        return str(value.relative_to(folder)) if value.is_relative_to(folder) else str(value.resolve())
    if isinstance(value, tuple):
        return " ".join(f"{number:.6g}" for number in value)
    return "" if value is None else str(value)
