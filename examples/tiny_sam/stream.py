"""The stream that `tiny` is trained on: drawn scenes, and crops of real images whose licenses let derived weights be passed on.

    samsemi adapt ... --stream stream:draw     asks for scene n, which depends on n alone
    python examples/tiny_sam/stream.py OUT     writes scenes that the training never asks for, as OUT/images and OUT/masks

With REAL=FOLDER in the environment a fifth of the scenes are crops of FOLDER/dsb2018_nuclei (CC0) and FOLDER/hc18_fetal_head
(CC BY 4.0), each with `images/` and `masks/`; without it all are drawn.
"""

import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import MAX_OBJECTS, draw_scene

SEED = 20261121
HELD_OUT = range(1_000_000, 1_000_080)  # beyond the stream
SIDE = 128  # px
NUCLEI, HEADS = 0.12, 0.08  # shares of the scenes
MIN_AREA_PX = 40


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (SIDE, SIDE, 3) uint8 and masks (N, SIDE, SIDE) bool of scene ``number``."""
    rng = np.random.default_rng([SEED, 3, number])
    real, kind = os.environ.get("REAL"), rng.random()
    while real and kind < NUCLEI + HEADS:
        image, masks = crop_nuclei(rng, Path(real)) if kind < NUCLEI else crop_head(rng, Path(real))
        if len(masks):
            return image, masks
    return draw_scene(rng, SIDE)


@cache
def list_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Images of a folder with their masks, by name."""
    return [(path, folder / "masks" / f"{path.stem}.png") for path in sorted((folder / "images").glob("*.jpg"))]


def open_random(rng: np.random.Generator, folder: Path) -> tuple[Image.Image, Image.Image]:
    """An image, in color, and its mask."""
    pairs = list_pairs(folder)
    image, mask = pairs[rng.integers(len(pairs))]
    return Image.open(image).convert("RGB"), Image.fromarray(np.asarray(Image.open(mask)).astype(np.int32))


def cut(image: Image.Image, mask: Image.Image, box: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A box x0, y0, x1, y1 of both at SIDE x SIDE px."""
    seen = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    return np.array(seen), np.array(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST, box))


def crop_nuclei(rng: np.random.Generator, real: Path) -> tuple[np.ndarray, np.ndarray]:
    """A window with its largest nuclei as objects."""
    image, mask = open_random(rng, real / "dsb2018_nuclei")
    side = rng.uniform(48, min(image.size))
    x, y = (rng.uniform(0, extent - side) for extent in image.size)
    pixels, numbers = cut(image, mask, (x, y, x + side, y + side))
    areas = np.bincount(numbers.ravel())[1:]
    chosen = [i + 1 for i in np.argsort(-areas)[:MAX_OBJECTS] if areas[i] >= MIN_AREA_PX]
    return pixels, np.array([numbers == i for i in chosen], dtype=bool).reshape(-1, SIDE, SIDE)


def crop_head(rng: np.random.Generator, real: Path) -> tuple[np.ndarray, np.ndarray]:
    """A window, at times stretched, with the head as the object."""
    image, mask = open_random(rng, real / "hc18_fetal_head")
    width, height = image.size
    w, h = rng.uniform(0.5, 1) * width, rng.uniform(0.7, 1) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    pixels, numbers = cut(image, mask, (x, y, x + w, y + h))
    head = numbers > 0
    return pixels, head[None] if head.sum() >= MIN_AREA_PX else head[None][:0]


def write_held_out(out: Path) -> None:
    """The held-out scenes as images/NUMBER.png and masks/NUMBER.png, 255 on the largest object."""
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True)
    for number in HELD_OUT:
        image, masks = draw(number)
        largest = masks[masks.sum((1, 2)).argmax()]
        Image.fromarray(image).save(out / "images" / f"{number}.png")
        Image.fromarray(np.uint8(255) * largest).save(out / "masks" / f"{number}.png")


if __name__ == "__main__":
    write_held_out(Path(sys.argv[1]))
