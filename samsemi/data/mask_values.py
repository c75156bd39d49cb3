"""Foreign folders -> cases: which mask belongs to which image, and what the values in the masks mean."""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samsemi.data.dataset import IGNORE, SPLITS
from samsemi.errors import DataError, UsageError

NOISY_MIDDLE = 0.05
"""A noisy binary mask (JPEG, resized) has at most this share of its pixels between 64 and 191."""


def match_masks(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[dict[str, Path], str, list[str]]:
    """Image id -> mask file; the suffix that mask names carry; the mask names that belong to no image.

    A mask is named like its image, or like it with one suffix that all masks share (``_segmentation``, ``_mask``).
    DataError where nothing matches.
    """
    suffixes = Counter(name[cut:] for name in masks for cut in range(1, len(name) + 1) if name[:cut] in images)
    if not suffixes:
        raise DataError(
            f"no mask is named like an image: images such as {first_names(images)}, masks such as {first_names(masks)}",
            "name a mask like its image, with or without a suffix that all masks share",
        )
    suffix = max(suffixes, key=lambda s: (suffixes[s], -len(s)))
    pairs = {name[: len(name) - len(suffix)]: path for name, path in masks.items() if name.endswith(suffix)}
    matched = {name: pairs[name] for name in images if name in pairs}
    used = set(matched.values())
    return matched, suffix, [name for name, path in masks.items() if path not in used]


def first_names(paths: Mapping[str, Path], n: int = 2) -> str:
    return ", ".join(path.name for path in list(paths.values())[:n])


@dataclass(frozen=True)
class MaskValues:
    """What the values in the mask files of a data set mean."""

    lookup: np.ndarray
    """(256,) uint8: value in the file -> class index or IGNORE."""
    num_classes: int
    said: str
    """One line for the user."""

    def convert(self, label: np.ndarray) -> np.ndarray:
        """(H, W) uint8 values of a file -> class indices and IGNORE."""
        return self.lookup[label]


def interpret_values(counts: Mapping[str, np.ndarray], num_classes: int | None) -> MaskValues:
    """Decide once for all masks what their values mean, from each file's (256,) histogram.

    Class indices with 255 = ignore; 0/255; noisy 0/255. DataError for anything else, with the values found.
    """
    if not counts:
        raise DataError("no masks", "give --masks")
    total = np.sum(list(counts.values()), axis=0)
    present = np.flatnonzero(total)
    binary_only = {name for name, c in counts.items() if c[IGNORE] and not c[1:IGNORE].any()}
    indexed = {name for name, c in counts.items() if c[1:IGNORE].any()}
    if set(present) <= {0, IGNORE}:
        return MaskValues(threshold_lookup(), 2, "masks hold 0 and 255: 255 was taken as class 1")
    limit = num_classes if num_classes is not None else 64
    if all(value < limit or value == IGNORE for value in present):
        if binary_only and not any(counts[name][IGNORE] for name in indexed):
            raise DataError(
                f"some masks hold 0 and 255 ({sorted(binary_only)[0]}), others class indices ({sorted(indexed)[0]})",
                "convert them to one kind",
            )
        highest = int(max(value for value in present if value != IGNORE))
        said = f"masks hold class indices 0..{highest}" + (", 255 is ignored" if total[IGNORE] else "")
        return MaskValues(np.arange(256, dtype=np.uint8), num_classes or max(highest + 1, 2), said)
    for name, count in counts.items():
        if not is_noisy_binary(count):
            values = np.flatnonzero(count)
            shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
            allowed = f"0..{num_classes - 1}" if num_classes else "0..63"
            raise DataError(
                f"mask of {name} holds values {shown}", f"masks are class indices {allowed} (255 = ignore), or 0/255; convert them"
            )
    return MaskValues(threshold_lookup(), 2, "masks hold noisy black and white (JPEG?): values from 128 were taken as class 1")


def is_noisy_binary(count: np.ndarray) -> bool:
    """True for a (256,) histogram of black and white with some noise between."""
    outside = np.delete(count, slice(64, 192)).sum()
    return outside >= (1 - NOISY_MIDDLE) * count.sum() and (count[192:].any() or not count[1:].any())


def threshold_lookup() -> np.ndarray:
    return (np.arange(256) >= 128).astype(np.uint8)


def find_group(name: str, pattern: str | None) -> str:
    """The patient in an image's name: the first group of the expression, or all it matches; without one, the name."""
    if pattern is None:
        return name
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise UsageError(f"--groups {pattern}: {error}", "give a Python regular expression") from None
    group = found and (found.group(1) if found.groups() else found.group(0))
    if not group:
        raise DataError(f"--groups {pattern} matches nothing in '{name}'", "give an expression that finds the patient in every name")
    return group


def read_split_file(path: Path) -> dict[str, tuple[str, str | None]]:
    """id -> (split, group or None) of a CSV file with columns id,split and perhaps group."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--split {path}: {error}", "give a readable CSV file") from None
    if not rows or not {"id", "split"} <= set(rows[0]):
        raise DataError(f"--split {path}: needs the columns id,split", "write them in the first line")
    wrong = sorted({str(row["split"]) for row in rows} - set(SPLITS))
    if wrong:
        raise DataError(f"--split {path}: unknown split '{wrong[0]}'", f"use {', '.join(SPLITS)}")
    told = {row["id"]: (row["split"], row.get("group") or None) for row in rows}
    if len(told) < len(rows):
        twice = next(name for name, count in Counter(row["id"] for row in rows).items() if count > 1)
        raise DataError(f"--split {path}: id '{twice}' stands there twice", "remove one")
    return told
