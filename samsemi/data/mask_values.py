"""What the values in foreign mask files mean: class indices, black and white, noisy black and white."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from samsemi.data.dataset import IGNORE
from samsemi.data.images import log_remarks, to_label
from samsemi.data.pictures import ONE_COLOR
from samsemi.data.sources import NOISY_MIDDLE, MaskSource
from samsemi.errors import DataError

LOSSY = (".jpg", ".jpeg")
"""Suffixes of files that do not keep the values that were written."""
STRAY = 0.01
"""Pixels of other values are strays in masks of 0/255, or 255 is ignored, where they are fewer than this share of those of 255."""
SAME_AREA = 3.0
"""Numbered objects are alike: the median areas of values that may be numbers differ at most by this factor."""
IN_ONE_PIECE = 0.9
"""Share of the values in a mask that are one connected component each, from which they may be numbers."""
LOOKED_AT = 30
"""Masks of which the components are counted."""
MANY = 8
"""Class indices above this are taken for instance numbers unless the classes are named."""

Meaning = Literal["auto", "indices", "binary", "nonzero"]
"""What the user says that mask values mean."""


@dataclass(frozen=True)
class MaskValues:
    """What the values in the mask files of a data set mean."""

    lookup: np.ndarray
    """(256,) uint8: value in the file -> class index or IGNORE."""
    num_classes: int
    note: str
    """One line for the user."""
    narrow: Callable[[np.ndarray, Path], np.ndarray] = to_label
    """(H, W) values of any type, and the file to name -> (H, W) uint8."""

    def inverted(self) -> "MaskValues":
        """Background and the one class exchanged."""
        lookup = np.where(self.lookup == IGNORE, IGNORE, self.lookup == 0).astype(np.uint8)
        return replace(self, lookup=lookup, note=f"{self.note}; inverted: background and class 1 exchanged in all masks")

    def ignoring(self, value: int) -> "MaskValues":
        """A value means ignored."""
        lookup = self.lookup.copy()
        lookup[value] = IGNORE
        return replace(self, lookup=lookup, note=f"{self.note}; {value} is ignored")

    def convert(self, label: np.ndarray) -> np.ndarray:
        """(H, W) uint8 values of a file -> class indices and IGNORE."""
        return self.lookup[label]

    def read(self, source: MaskSource) -> np.ndarray:
        """A mask as (H, W) uint8 class indices and IGNORE."""
        return self.convert(self.narrow(source.read(), source.path))


def count_values(
    masks: Mapping[str, MaskSource], advance: Callable[[], None] = lambda: None, kind: Meaning = "auto"
) -> dict[str, np.ndarray]:
    """The (256,) histogram of each mask; what was guessed in reading them is logged once, with a count."""
    narrow = ONE_CLASS[kind].narrow if kind in ONE_CLASS else to_label
    counts, remarks = {}, Counter[str]()
    for name, source in masks.items():
        counts[name] = np.bincount(narrow(source.read(), source.path).ravel(), minlength=256)
        remarks.update(source.remarks())
        advance()
    refuse_colors([remark for remark in remarks if remark.startswith(ONE_COLOR)])
    log_remarks("masks", remarks)
    return counts


def refuse_colors(remarks: Sequence[str]) -> None:
    """DataError where masks of one color each are not of the same color: colors may be classes."""
    if len(remarks) > 1:
        found = "; ".join(sorted(remark.removeprefix(ONE_COLOR).strip() for remark in remarks))
        raise DataError(
            f"masks are color pictures of different colors: {found}", "give --color-map FILE with a line name,r,g,b for each color"
        )


def interpret_values(counts: Mapping[str, np.ndarray], num_classes: int | None, kind: Meaning = "auto", lossy: bool = False) -> MaskValues:
    """Decide once for all masks what their values mean, from each file's (256,) histogram.

    By itself ("auto"): class indices with 255 = ignore; 0/255; noisy 0/255, also where the noise could be class indices and files are
    ``lossy``. DataError for anything else, with the values found, and where the values could mean two things.
    """
    if not counts:
        raise DataError("no masks", "give --masks")
    if kind in ONE_CLASS:
        return ONE_CLASS[kind]
    total = np.sum(list(counts.values()), axis=0)
    present = np.flatnonzero(total)
    if kind == "auto" and set(present) <= {0, IGNORE}:
        return MaskValues(threshold_lookup(), 2, "masks hold 0 and 255: 255 was taken as class 1")
    limit = num_classes if num_classes is not None else 64
    noisy = lossy and kind == "auto" and num_classes in (None, 2) and total[IGNORE] and all(map(is_noisy_binary, counts.values()))
    if not noisy and all(value < limit or value == IGNORE for value in present):
        if kind == "auto":
            refuse_two_meanings(counts, total, numbered=num_classes is None)
        highest = int(max((value for value in present if value != IGNORE), default=0))
        note = f"masks hold class indices 0..{highest}" + (", 255 is ignored" if total[IGNORE] else "")
        return MaskValues(np.arange(256, dtype=np.uint8), num_classes or max(highest + 1, 2), note)
    for name, count in counts.items():
        if kind == "indices" or not is_noisy_binary(count):
            allowed = f"0..{num_classes - 1}" if num_classes else "0..63"
            raise DataError(
                f"mask of {name} holds values {show_values(count)}",
                f"masks are class indices {allowed} (255 = ignore), or 0/255; convert them, or name every class with --classes; "
                "--mask-values nonzero makes one class of all above 0, binary of all from 128",
            )
    between = int(total[1:IGNORE].sum())
    note = f"masks hold noisy black and white (JPEG?): values from 128 were taken as class 1; {between} pixels are neither 0 nor 255"
    return MaskValues(threshold_lookup(), 2, note)


def refuse_two_meanings(counts: Mapping[str, np.ndarray], total: np.ndarray, numbered: bool) -> None:
    """DataError where values that may be class indices may as well be something else: stray pixels in masks of 0/255, masks of both
    kinds or, where no classes were named (``numbered``), instance numbers."""
    binary_only = {name for name, c in counts.items() if c[IGNORE] and not c[1:IGNORE].any()}
    indexed = {name for name, c in counts.items() if c[1:IGNORE].any()}
    strays = int(total[1:IGNORE].sum())
    if 0 < strays < STRAY * total[IGNORE]:
        name = min(indexed)
        raise DataError(
            f"masks hold 0 and 255, but {strays} pixels in {len(indexed)} of them others: mask of {name} {show_values(counts[name])}",
            "give --mask-values binary where 255 is the class, or indices where 255 means ignored",
        )
    if binary_only and not any(counts[name][IGNORE] for name in indexed):
        raise DataError(
            f"some masks hold 0 and 255 ({min(binary_only)}), others class indices ({min(indexed)})",
            "convert them to one kind, or give --mask-values nonzero where all above 0 is one class",
        )
    if numbered and looks_numbered(counts):
        raise DataError(
            f"masks hold 1 to {np.flatnonzero(total[:IGNORE]).max()}, not the same in all: numbers of instances, or classes?",
            "give --mask-values nonzero to make one class of all above 0, or name every class with --classes",
        )


def looks_numbered(counts: Mapping[str, np.ndarray]) -> bool:
    """Whether masks may number their objects: many values, or in each file 1, 2, ... without a gap up to one that differs."""
    found = [np.flatnonzero(count[1:IGNORE]) + 1 for count in counts.values() if count[1:IGNORE].any()]
    highest = max((int(values[-1]) for values in found), default=0)
    gapless = all(values[-1] == len(values) for values in found)
    return highest > MANY or (highest >= 4 and gapless and len({len(values) for values in found}) >= 3)


def seem_numbered(counts: Mapping[str, np.ndarray], masks: Mapping[str, MaskSource]) -> bool:
    """Whether masks of few values may number their objects: in each file 1, 2, ... without a gap, not up to the same in all, values
    of about the same area, each one piece. Reads a few of them."""
    found = {name: np.flatnonzero(count[1:IGNORE]) + 1 for name, count in counts.items() if count[1:IGNORE].any()}
    several = [name for name, values in found.items() if len(values) > 1]
    gapless = all(values[-1] == len(values) for values in found.values())
    if len(several) < 2 or not gapless or len({len(values) for values in found.values()}) < 2:
        return False
    pixels = np.stack([counts[name][1:IGNORE] for name in several]).astype(float)
    areas = [np.median(column[column > 0]) for column in pixels.T if column.any()]
    if max(areas) > SAME_AREA * min(areas):
        return False
    pieces = [count_pieces(masks[name].read(), int(value)) for name in several[:LOOKED_AT] for value in found[name]]
    return float(np.mean(np.equal(pieces, 1))) >= IN_ONE_PIECE


def count_pieces(label: np.ndarray, value: int) -> int:
    """Connected components of one value."""
    return int(ndimage.label(label == value)[1])


def covers_most(counts: Mapping[str, np.ndarray], values: MaskValues) -> int:
    """In how many masks class 1 covers more than half of the pixels."""
    return sum(bool(2 * count[values.lookup == 1].sum() > count.sum()) for count in counts.values())


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


def to_nonzero(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) uint8, 1 where a mask is above 0, whatever the range of its values."""
    return (values > 0).astype(np.uint8)


ONE_CLASS: dict[Meaning, MaskValues] = {
    "binary": MaskValues(threshold_lookup(), 2, "values from 128 were taken as class 1, as --mask-values binary says"),
    "nonzero": MaskValues(
        (np.arange(256) > 0).astype(np.uint8), 2, "values above 0 were taken as class 1, as --mask-values nonzero says", to_nonzero
    ),
}
"""Kinds that take any value."""
