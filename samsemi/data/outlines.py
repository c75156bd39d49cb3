"""Objects given by outlines or run lengths, drawn into label maps. What comes from files is checked before any memory is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from samsemi.errors import WrongValues

MOST_CROSSINGS = 2**21
"""Of the edges of one outline with rows of pixels: no drawing comes near."""


class Patch(NamedTuple):
    """A part of an image."""

    top: int
    left: int
    mask: np.ndarray
    """(h, w) bool."""


class Drawn(Protocol):
    """An object that can be drawn."""

    @property
    def class_id(self) -> int:
        """Class index, or IGNORE."""

    @property
    def area(self) -> float:
        """In pixels, about."""

    def draw(self, height: int, width: int) -> Patch:
        """Its pixels in an image of this size; WrongValues where it cannot be of one."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """An object that consists of everything within any of its outlines."""

    class_id: int
    rings: tuple[np.ndarray, ...]
    """Each (P, 2) float: x, y in pixels, finite; (0, 0) is the upper left corner of the image."""

    @property
    def area(self) -> float:
        return sum(map(ring_area, self.rings))

    def draw(self, height: int, width: int) -> Patch:
        patches = [fill_ring(ring, height, width) for ring in self.rings]
        if len(patches) == 1:
            return patches[0]
        whole = np.zeros((height, width), dtype=bool)
        for top, left, mask in patches:
            whole[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
        return Patch(0, 0, whole)


@dataclass(frozen=True, eq=False)
class Runs:
    """An object by the lengths of its runs down the columns, the first of background."""

    class_id: int
    height: int
    width: int
    counts: np.ndarray
    """(R,) int64, none negative."""

    @property
    def area(self) -> float:
        return float(self.counts[1::2].sum())

    def draw(self, height: int, width: int) -> Patch:
        if (height, width) != (self.height, self.width):
            raise WrongValues(
                f"run lengths of {self.width} x {self.height} pixels for an image of {width} x {height}",
                "write them for the image's own size",
            )
        if self.counts.sum() != height * width:
            raise WrongValues(
                f"run lengths of {self.counts.sum()} pixels for an image of {width} x {height}", "the file is damaged: export it anew"
            )
        flat = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return Patch(0, 0, flat.reshape(width, height).T)


@dataclass(frozen=True, eq=False)
class Stamp:
    """An object by its pixels."""

    class_id: int
    top: int
    left: int
    mask: np.ndarray
    """(h, w) bool."""

    @property
    def area(self) -> float:
        return float(self.mask.sum())

    def draw(self, height: int, width: int) -> Patch:
        top, left = min(max(self.top, 0), height), min(max(self.left, 0), width)
        return Patch(top, left, self.mask[top - self.top : height - self.top, left - self.left : width - self.left])


def ring_area(ring: np.ndarray) -> float:
    """What a (P, 2) outline encloses, by the shoelace formula."""
    x, y = ring.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def lead_out(drawn: Drawn, height: int, width: int) -> float:
    """How many pixels the outlines of an object lead out of an image, at most; 0 for what has none."""
    if not isinstance(drawn, Polygons):
        return 0.0
    return max((float(max((-ring).max(), (ring - (width, height)).max(), 0)) for ring in drawn.rings), default=0.0)


def fill_ring(ring: np.ndarray, height: int, width: int) -> Patch:
    """The pixels whose centers lie within a closed (P, 2) outline, by the even-odd rule; what leads out of the image is cut off.

    Each edge is followed from row to row: the time grows with the lengths of the edges and the area, not with their product.
    """
    low, high = ring.min(axis=0), ring.max(axis=0)
    left, top = np.clip(np.floor(low), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(high), 0, (width, height)).astype(int)
    ends = np.stack([ring, np.roll(ring, -1, axis=0)])
    upper, lower = np.where(ends[0, :, 1:] <= ends[1, :, 1:], ends, ends[::-1])
    first = np.clip(np.ceil(upper[:, 1] - 0.5), top, bottom).astype(np.int64)
    rows = np.clip(np.ceil(lower[:, 1] - 0.5), top, bottom).astype(np.int64) - first
    if rows.sum() > MOST_CROSSINGS:
        raise WrongValues(f"an outline of {len(ring)} points that crosses {rows.sum()} rows of pixels", "no object has it: export it anew")
    edge = np.repeat(np.arange(len(ring)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    (x0, y0), (x1, y1) = upper[edge].T, lower[edge].T
    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
    turns = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    np.bitwise_xor.at(turns, (row - top, column - left), np.uint8(1))
    return Patch(int(top), int(left), np.bitwise_xor.accumulate(turns, axis=1)[:, :-1].astype(bool))


class Drawing(NamedTuple):
    """Objects in an image."""

    label: np.ndarray
    """(H, W) uint8 class indices."""
    covered: int
    """Pixels that objects of different classes cover."""
    vanished: int
    """Objects that cover no pixel."""


def draw_objects(objects: Sequence[Drawn], height: int, width: int) -> Drawing:
    """The larger objects are drawn first, so that a smaller one lies on top and is not hidden."""
    label = np.zeros((height, width), dtype=np.uint8)
    covered = vanished = 0
    for drawn in sorted(objects, key=lambda drawn: -drawn.area):
        top, left, mask = drawn.draw(height, width)
        below = label[top : top + mask.shape[0], left : left + mask.shape[1]]
        covered += int((mask & (below != 0) & (below != drawn.class_id)).sum())
        below[mask] = drawn.class_id
        vanished += not mask.any()
    return Drawing(label, covered, vanished)
