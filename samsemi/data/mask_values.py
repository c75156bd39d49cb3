"""What the values in foreign mask files mean: class indices, black and white, noisy black and white."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samsemi.data.dataset import IGNORE
from samsemi.errors import DataError

NOISY_MIDDLE = 0.05
"""A noisy binary mask (JPEG, resized) has at most this share of its pixels between 64 and 191."""


@dataclass(frozen=True)
class MaskValues:
    """What the values in the mask files of a data set mean."""

    lookup: np.ndarray
    """(256,) uint8: value in the file -> class index or IGNORE."""
    num_classes: int
    note: str
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
        note = f"masks hold class indices 0..{highest}" + (", 255 is ignored" if total[IGNORE] else "")
        return MaskValues(np.arange(256, dtype=np.uint8), num_classes or max(highest + 1, 2), note)
    for name, count in counts.items():
        if not is_noisy_binary(count):
            allowed = f"0..{num_classes - 1}" if num_classes else "0..63"
            raise DataError(
                f"mask of {name} holds values {show_values(count)}",
                f"masks are class indices {allowed} (255 = ignore), or 0/255; convert them",
            )
    return MaskValues(threshold_lookup(), 2, "masks hold noisy black and white (JPEG?): values from 128 were taken as class 1")


def interpret_predictions(counts: Mapping[str, np.ndarray], num_classes: int) -> MaskValues:
    """What the values of predicted masks mean, where 255 never means ignored: class indices or, of one class, black and white.

    DataError for anything else, with the values found.
    """
    strange = [name for name, count in counts.items() if count[num_classes:].any()]
    black_and_white = all(is_noisy_binary(count) for count in counts.values())
    if strange and not (num_classes == 2 and black_and_white and not any(count[1] and count[IGNORE] for count in counts.values())):
        kind = f"class indices 0..{num_classes - 1}" + (", or 0/255 in every file" if num_classes == 2 else "")
        raise DataError(
            f"prediction of {strange[0]} holds values {show_values(counts[strange[0]])}", f"predictions are {kind}; convert them"
        )
    return interpret_values(counts, num_classes)


def show_values(count: np.ndarray) -> str:
    """The values of a (256,) histogram, a dozen at most."""
    values = np.flatnonzero(count)
    return ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")


def is_noisy_binary(count: np.ndarray) -> bool:
    """True for a (256,) histogram of black and white with some noise between."""
    outside = np.delete(count, slice(64, 192)).sum()
    return bool(outside >= (1 - NOISY_MIDDLE) * count.sum() and (count[192:].any() or not count[1:].any()))


def threshold_lookup() -> np.ndarray:
    return (np.arange(256) >= 128).astype(np.uint8)
