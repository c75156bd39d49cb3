"""Prompts simulated from true masks, like those of users and of small networks: tight, jittered and wrong boxes, points, rough masks.

Needs no torch. Coordinates are x before y, in pixels of the grid that the masks are on.
"""

import numpy as np
from scipy import ndimage

BOX_ERRORS = {0.0: 0.5, 0.1: 0.35, 0.2: 0.1, 0.4: 0.05}
"""How far a side is moved at most, as a share of the box, and how often."""
POINTS = 3
"""Points of an object: one inside it, one outside it, and one that is either."""


def box_of(mask: np.ndarray) -> np.ndarray:
    """(4,) float32 x0 y0 x1 y1 of the outermost pixels of a mask (H, W) bool, which must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float32)


def move_box(rng: np.random.Generator, box: np.ndarray, share: float, size: tuple[int, int], slack: float = 0.0) -> np.ndarray:
    """(4,) float32: each side moved by up to ``share`` of the box and ``slack`` pixels, within an image of (H, W)."""
    extent = np.array([box[2] - box[0] + 1, box[3] - box[1] + 1] * 2)
    corners = np.sort((box + rng.uniform(-1, 1, 4) * (share * extent + slack)).reshape(2, 2), axis=0).ravel()
    return np.clip(corners, 0, np.array([size[1] - 1, size[0] - 1] * 2)).astype(np.float32)


def simulate_box(rng: np.random.Generator, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(4,) float32: a box that is tight, jittered or wrong."""
    share = rng.choice(list(BOX_ERRORS), p=list(BOX_ERRORS.values()))
    return move_box(rng, box, share, size, slack=0.6)


def simulate_points(rng: np.random.Generator, mask: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, 2) int64 x y and (POINTS,) int64 labels: 1 on the mask (H, W) bool, 0 outside it but within ``near``.

    The first is on the object, the second outside it, the others either; where there is no place, the first is repeated.
    """
    first = random_place(rng, mask)
    coords, labels = [first], [1]
    for positive in [False, *(rng.random(POINTS - 2) < 0.5)]:
        region = mask if positive else near & ~mask
        found = region.any()
        coords.append(random_place(rng, region) if found else first)
        labels.append(int(positive or not found))
    return np.array(coords), np.array(labels)


def random_place(rng: np.random.Generator, region: np.ndarray) -> tuple[int, int]:
    """x, y in a region (H, W) bool that is not empty: at times the deepest place, at times any, or any of the deeper half."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    places = np.argwhere(region & (depth >= depth.max() * rng.choice([1.0, 0.5, 0.0], p=[0.4, 0.3, 0.3])))
    row, column = places[rng.integers(len(places))]
    return int(column), int(row)


def simulate_logits(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """(H, W) float32 logits of a mask (H, W) in [0, 1] as from a weak network: shifted, blurred, with holes and additions."""
    reach, cell = max(mask.shape) // 20, max(1, max(mask.shape) // 64)
    moved = np.roll(mask, rng.integers(-reach, reach + 1, 2), (0, 1)).astype(np.float32)
    blurred = ndimage.uniform_filter(moved, cell * int(rng.choice([3, 5, 9])))
    noise = ndimage.zoom(rng.standard_normal((8, 8)).astype(np.float32), (mask.shape[0] / 8, mask.shape[1] / 8), order=1)
    return ((blurred + rng.uniform(0, 0.4) * noise - 0.5) * rng.uniform(4, 24)).astype(np.float32)
