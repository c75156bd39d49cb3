"""Images that look alike: copies saved, resized, cropped or lit anew, neighboring frames of a video, neighboring slices.

An image is compared by the directions in which its brightness changes, seen from afar. Of each difference of neighboring pixels the
square root is taken, so that strong edges that all images of a device share (the frame of an endoscope, the outline of a chest) do not
decide. Turned and mirrored copies are not found.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

THUMBNAIL = 64
"""Side of what is kept of an image, whatever its shape."""
GRID = 32
"""Side of what is compared."""
CROPS = (0, 1, 2)
"""Pixels of a thumbnail that are cut off on each side: an image is compared with the other and with its crops."""
ALIKE = 0.84
"""Cosine from which two images are near-duplicates. Measured on five sets: docs/own_data.md."""
ROWS, COLUMNS = 2048, 512
"""Images that are compared at once: bounds the memory."""


class Alike(NamedTuple):
    """Two images that look alike, as indices, and their cosine."""

    image: int
    other: int
    similarity: float


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (64, 64) uint8 grey."""
    return np.asarray(Image.fromarray(image).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def find_near_duplicates(
    thumbnails: Sequence[np.ndarray], ranks: Sequence[int], advance: Callable[[], None] = lambda: None
) -> Iterator[Alike]:
    """For each image the one of a lower rank that is most like it, where that is a near-duplicate.

    Every image of rank 1 or more is compared with all of lower ranks, in ``count_blocks`` blocks.
    """
    rank = np.asarray(ranks)
    for rows, columns in pair_blocks(rank):
        best, other = np.full(len(rows), -1.0), np.zeros(len(rows), dtype=int)
        seen = [describe_edges(thumbnails, rows, crop) for crop in CROPS]
        for block in columns:
            alike = compare(seen, [describe_edges(thumbnails, block, crop) for crop in CROPS])
            alike[rank[block] >= rank[rows][:, None]] = -1
            nearest = alike.argmax(1)
            closer = alike[np.arange(len(rows)), nearest] > best
            best[closer], other[closer] = alike.max(1)[closer], block[nearest[closer]]
            advance()
        yield from (Alike(int(i), int(j), float(value)) for i, j, value in zip(rows, other, best, strict=True) if value >= ALIKE)


def pair_blocks(rank: np.ndarray) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Blocks of the indices that are compared with others, each with the blocks of these others."""
    compared, others = np.flatnonzero(rank > 0), np.flatnonzero(rank < rank.max(initial=0))
    for start in range(0, len(compared), ROWS):
        yield compared[start : start + ROWS], [others[n : n + COLUMNS] for n in range(0, len(others), COLUMNS)]


def count_blocks(ranks: Sequence[int]) -> int:
    """How often ``find_near_duplicates`` advances."""
    return sum(len(columns) for _, columns in pair_blocks(np.asarray(ranks)))


def compare(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> np.ndarray:
    """The greatest cosine of any two images, one of them uncropped: (N, F) and (M, F) of each crop -> (N, M).

    Rounded, so that of copies that are equally like an image the first one counts, however the products are summed up.
    """
    alike = rows[0] @ columns[0].T
    for n in range(1, len(CROPS)):
        np.maximum(alike, rows[0] @ columns[n].T, out=alike)
        np.maximum(alike, rows[n] @ columns[0].T, out=alike)
    return alike.round(5)


def describe_edges(thumbnails: Sequence[np.ndarray], indices: np.ndarray, crop: int) -> np.ndarray:
    """(N, 1922) float32 of length 1, or 0 for an image of one color: signed roots of the differences right and down."""
    box = (crop, crop, THUMBNAIL - crop, THUMBNAIL - crop)
    small = [Image.fromarray(thumbnails[i]).resize((GRID, GRID), Image.Resampling.BOX, box=box) for i in indices]
    grey = np.stack([np.asarray(image, dtype=np.float32) for image in small])
    steps = np.stack([grey[:, :-1, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, :-1]], axis=1)
    edges = (np.sign(steps) * np.sqrt(np.abs(steps))).reshape(len(steps), -1)
    return edges / np.maximum(np.linalg.norm(edges, axis=1, keepdims=True), 1e-6)
