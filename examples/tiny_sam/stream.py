"""The stream that `tiny` is trained on: crops of real images, and drawn scenes.

    samsemi adapt ... --stream stream:draw     asks for scene n, which depends on n alone
    python examples/tiny_sam/stream.py FILE    a contact sheet of the first scenes, as PNG

With PACKED=FOLDER in the environment (made by `pack.py`) REAL of the scenes are crops of its images; without it all are drawn.
A scene comes as it will be seen: `adapt` augments nothing that it gets from a stream.
"""

import io
import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pack import Entry, Packed
from PIL import Image, ImageFilter
from scenes import MAX_OBJECTS, draw_scene
from scipy import ndimage

from samsemi.sam.simulation import box_of, simulate_box
from samsemi.sam.windows import Window, crop_image, crop_mask, zoom_window

SEED = 20261125
SIDE = 256  # px, longest side of a scene
REAL = 0.75  # share of the scenes
ZOOMED = 0.5  # share of the real scenes
DRAWN_ZOOMED = 0.25  # share of the drawn scenes
ZOOM = 1.2, 3.0  # times the box
FILLS = 0.02, 0.9  # share of the window that an object takes where it is not zoomed
WHOLE = 0.3  # share of the windows, where not zoomed, that are the image
LEAST_SIDE = 32  # px, of a window
MIN_AREA = 0.0025  # of the scene
SEEN, LARGE = 0.5, 0.05  # an object is prompted if so much of it is in the window, or if it takes so much of the window
THIN = 0.012  # of a scene's longest side, half the width below which it is a sliver
WEIGHTS = {
    "mixed_science": 0.17,
    "medical": 0.14,
    "nature": 0.11,
    "industry": 0.09,
    "dsb2018_nuclei": 0.08,
    "hc18_fetal_head": 0.07,
    "household": 0.07,
    "coco_mini": 0.06,
    "oxford_pet": 0.05,
    "satellite": 0.05,
    "polygons": 0.04,
    "microscopy": 0.03,
    "feral_cat": 0.02,
    "axon_sem": 0.02,
}
"""How often a set is taken; others as the least of them. In a set a source is taken by the root of its number of images."""


class Scene(NamedTuple):
    """What `adapt --stream` takes."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    masks: np.ndarray
    """(N, H, W) bool."""
    exhaustive: bool
    """Whether a place without a mask is ground."""


def draw(number: int) -> Scene:
    """Scene ``number``, its longest side SIDE px."""
    rng = np.random.default_rng([SEED, number])
    packed = os.environ.get("PACKED")
    real = packed is not None and rng.random() < REAL
    while True:
        scene = real_scene(rng, Path(packed)) if real else drawn_scene(rng)
        if len(scene.masks):
            return turn(rng, scene._replace(image=recolor(rng, scene.image)) if real else scene)


@cache
def open_packed(folder: Path) -> tuple[Packed, list[Entry], np.ndarray]:
    """The packed images, those to train on, and how often each is taken."""
    packed = Packed(folder)
    entries = [entry for entry in packed.entries if not entry.held_out]
    sizes: dict[tuple[str, str], int] = {}
    for entry in entries:
        sizes[entry.set, entry.source] = sizes.get((entry.set, entry.source), 0) + 1
    roots: dict[str, float] = {}
    for (name, _), count in sizes.items():
        roots[name] = roots.get(name, 0) + count**0.5
    weights = np.array([WEIGHTS.get(e.set, min(WEIGHTS.values())) / roots[e.set] / sizes[e.set, e.source] ** 0.5 for e in entries])
    return packed, entries, weights.cumsum() / weights.sum()


def real_scene(rng: np.random.Generator, folder: Path) -> Scene:
    """A window of a random image around a random object."""
    packed, entries, shares = open_packed(folder)
    entry = entries[min(np.searchsorted(shares, rng.random()), len(entries) - 1)]
    image, numbers = packed.read(entry)
    areas = np.bincount(numbers.ravel())
    areas[0] = 0
    chosen = int(rng.choice(len(areas), p=areas**0.5 / (areas**0.5).sum()))
    mask = numbers == chosen
    window = zoom_in(rng, mask) if rng.random() < ZOOMED else wide_window(rng, mask)
    x0, y0, x1, y1 = int(window[0]), int(window[1]), int(np.ceil(window[2])), int(np.ceil(window[3]))
    inside = np.bincount(numbers[y0:y1, x0:x1].ravel(), minlength=len(areas))[1:]
    largest = [chosen, *(i + 1 for i in np.argsort(-inside)[:MAX_OBJECTS] if inside[i] and i + 1 != chosen)][:MAX_OBJECTS]
    return see(image, [numbers == i for i in largest], window, entry.exhaustive)


def drawn_scene(rng: np.random.Generator) -> Scene:
    """A drawn scene, at times zoomed."""
    if rng.random() >= DRAWN_ZOOMED:
        return Scene(*draw_scene(rng, SIDE), True)
    image, masks = draw_scene(rng, SIDE)
    return see(image, list(masks), zoom_in(rng, masks[rng.integers(len(masks))]), True)


def zoom_in(rng: np.random.Generator, mask: np.ndarray) -> Window:
    """The window that zoom shows of a mask (H, W) bool, by a box as it comes."""
    box = simulate_box(rng, box_of(mask), mask.shape)
    least = LEAST_SIDE / max(box[2] - box[0] + 1, box[3] - box[1] + 1)
    return zoom_window(box, max(least, np.exp(rng.uniform(*np.log(ZOOM)))), mask.shape, rng.random() < 0.5)


def wide_window(rng: np.random.Generator, mask: np.ndarray) -> Window:
    """A window in which a mask (H, W) bool takes a random share, anywhere in it; or the whole image."""
    height, width = mask.shape
    if rng.random() < WHOLE:
        return 0.0, 0.0, float(width), float(height)
    area = mask.sum() / np.exp(rng.uniform(*np.log(FILLS)))
    aspect = np.exp(rng.uniform(-0.5, 0.5))
    w, h = (float(np.clip((area * ratio) ** 0.5, LEAST_SIDE, extent)) for ratio, extent in ((aspect, width), (1 / aspect, height)))
    rows, columns = np.nonzero(mask)
    i = rng.integers(len(rows))
    x = np.clip(columns[i] - rng.uniform(0.1, 0.9) * w, 0, width - w)
    y = np.clip(rows[i] - rng.uniform(0.1, 0.9) * h, 0, height - h)
    return float(x), float(y), float(x) + w, float(y) + h


def see(image: np.ndarray, masks: list[np.ndarray], window: Window, exhaustive: bool) -> Scene:
    """A window of an image with those of the masks (H, W) bool that are neither tiny nor cut to slivers in it.

    Where one of the others is left out, the scene is no longer exhaustive.
    """
    seen = crop_image(image, window, SIDE)
    kept, whole = [], True
    for mask in masks:
        cut = crop_mask(mask, window, SIDE)
        if is_object(cut, mask, window):
            kept.append(cut)
        elif cut.any():
            whole = False
    return Scene(seen, np.array(kept, dtype=bool).reshape(-1, *seen.shape[:2]), exhaustive and whole and len(kept) < MAX_OBJECTS)


def is_object(cut: np.ndarray, mask: np.ndarray, window: Window) -> bool:
    """Whether what is seen of a mask in a window can be prompted for."""
    area = cut.sum()
    if area < MIN_AREA * SIDE * SIDE:
        return False
    scale = cut.size / ((window[2] - window[0]) * (window[3] - window[1]))
    if area < SEEN * mask.sum() * scale and area < LARGE * cut.size:
        return False
    return ndimage.distance_transform_edt(np.pad(cut, 1)).max() > THIN * SIDE


def turn(rng: np.random.Generator, scene: Scene) -> Scene:
    """Mirrored and turned by right angles."""
    image, masks, turns = scene.image, scene.masks, int(rng.integers(4)) if rng.random() < 0.5 else 0
    image, masks = np.rot90(image, turns), np.rot90(masks, turns, (1, 2))
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    return Scene(np.ascontiguousarray(image), np.ascontiguousarray(masks), scene.exhaustive)


def recolor(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Other colors, light and contrast, grey, blur, noise and JPEG, each at times, of an image (H, W, 3) uint8."""
    x = image.astype(np.float32) / 255
    if rng.random() < 0.2:
        x = np.repeat(x @ rng.dirichlet([2, 2, 2]).astype(np.float32)[:, None], 3, axis=2)
    if rng.random() < 0.15:
        x = x[:, :, rng.permutation(3)]
    if rng.random() < 0.05:
        x = 1 - x
    if rng.random() < 0.6:
        x = np.clip(x, 0, 1) ** np.exp(rng.normal(0, 0.2))
        x = (x - x.mean()) * np.exp(rng.normal(0, 0.2)) + x.mean() + rng.normal(0, 0.06)
    if rng.random() < 0.3:
        x = x * np.exp(rng.normal(0, 0.12, 3)) + rng.normal(0, 0.03, 3)
    if rng.random() < 0.2:
        x = x + rng.normal(0, rng.uniform(0.01, 0.06), x.shape if rng.random() < 0.5 else (*x.shape[:2], 1))
    picture = Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 3.2)))
    if rng.random() < 0.25:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=int(rng.integers(25, 90)))
        picture = Image.open(file)
    return np.array(picture)


def contact_sheet(numbers: range, columns: int = 10) -> np.ndarray:
    """Scenes side by side, each beside itself with the outlines of its masks."""
    tiles = []
    for number in numbers:
        image, masks, exhaustive = draw(number)
        outlined = image.copy()
        for mask in masks:
            outlined[mask & ~ndimage.binary_erosion(mask)] = (0, 255, 0) if exhaustive else (255, 60, 0)
        tile = np.zeros((SIDE + 2, 2 * SIDE + 4, 3), np.uint8)
        tile[: image.shape[0], : image.shape[1]] = image
        tile[: image.shape[0], SIDE : SIDE + image.shape[1]] = outlined
        tiles.append(tile)
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


if __name__ == "__main__":
    Image.fromarray(contact_sheet(range(100))).save(sys.argv[1])
