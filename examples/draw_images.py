"""Draw a small data set for the demo: tissue with one or two growths. Drawn, not photographed.

    python examples/draw_images.py OUT [--images 240] [--masks 240] [--seed 7]

Writes OUT/images/pNNN_M.png and OUT/masks/pNNN_M.png (0/255), these of the first --masks images; pNNN is the patient, three images
each. Takes seconds.
The pictures are made to be awkward in the ways real ones are: growths that differ little from what surrounds them,
folds and highlights that look like borders, uneven light, patients that differ in color. They share no code with the
scenes that train the packaged SAM (examples/tiny_sam).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

IMAGES_PER_PATIENT = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--masks", type=int)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    for folder in ("images", "masks"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    for number in range(arguments.images):
        patient, visit = divmod(number, IMAGES_PER_PATIENT)
        image, mask = draw_image(arguments.seed, patient, visit)
        name = f"p{patient:03d}_{visit}.png"
        Image.fromarray(image).save(arguments.out / "images" / name)
        if arguments.masks is None or number < arguments.masks:
            Image.fromarray(mask).save(arguments.out / "masks" / name)
    print(f"{arguments.images} drawn images of {-(-arguments.images // IMAGES_PER_PATIENT)} patients in {arguments.out}")


def draw_image(seed: int, patient: int, visit: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 image and (H, W) uint8 mask, 255 on the growths."""
    look = np.random.default_rng((seed, patient))
    rng = np.random.default_rng((seed, patient, visit))
    height, width = (128, 160) if look.random() < 0.5 else (144, 144)
    tissue = np.array([look.uniform(150, 200), look.uniform(70, 120), look.uniform(60, 110)])
    growth = tissue * look.uniform(0.72, 0.9) + look.normal(0, 10, 3)
    canvas = np.ones((height, width, 1)) * tissue
    canvas += 14 * smooth_noise(rng, (height, width), 9)[..., None] + 5 * smooth_noise(rng, (height, width), 2)[..., None]
    canvas *= 1 - 0.35 * draw_folds(rng, height, width)[..., None]
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(rng.choice([1, 1, 1, 2])):
        inside = draw_growth(rng, height, width)
        soft = gaussian_filter(inside.astype(float), rng.uniform(0.8, 2.0))[..., None]
        rim = gaussian_filter(inside.astype(float), 4)[..., None] * (1 - soft)
        surface = growth + 10 * smooth_noise(rng, (height, width), 4)[..., None]
        canvas = canvas * (1 - soft) + surface * soft - 45 * rim
        mask |= inside
    canvas = light(canvas, rng)
    canvas += rng.normal(0, 4, canvas.shape)
    return np.clip(canvas, 0, 255).astype(np.uint8), mask.astype(np.uint8) * 255


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """(H, W) noise of unit variance with features of about ``sigma`` pixels."""
    noise = gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    return noise / noise.std()


def draw_growth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a turned ellipse with a wavy border."""
    y0, x0 = rng.uniform(0.25, 0.75) * height, rng.uniform(0.25, 0.75) * width
    a, b = rng.uniform(0.09, 0.27, 2) * min(height, width)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width]
    u = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
    v = (y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)
    angle = np.arctan2(v / b, u / a)
    waves = sum(rng.uniform(0, 0.13) * np.sin(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5))
    return np.hypot(u / a, v / b) < 1 + waves


def draw_folds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) in [0, 1]: a few dark curved lines."""
    y, x = np.mgrid[:height, :width]
    folds = np.zeros((height, width))
    for _ in range(rng.integers(2, 5)):
        radius = rng.uniform(0.5, 1.5) * width
        angle = rng.uniform(0, 2 * np.pi)
        distance = np.hypot(x - width / 2 - radius * np.cos(angle), y - height / 2 - radius * np.sin(angle)) - radius - rng.uniform(-50, 50)
        folds = np.maximum(folds, np.exp(-((distance / rng.uniform(2, 5)) ** 2)))
    return folds


def light(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shade towards the corners and add a few bright spots."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width]
    far = np.hypot((x - rng.uniform(0.3, 0.7) * width) / width, (y - rng.uniform(0.3, 0.7) * height) / height)
    canvas = canvas * (1.1 - 0.7 * far[..., None] ** 2)
    for _ in range(rng.integers(0, 7)):
        spot = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) < rng.uniform(1, 4)
        canvas += 130 * gaussian_filter(spot.astype(float), 0.8)[..., None]
    return canvas


if __name__ == "__main__":
    main()
