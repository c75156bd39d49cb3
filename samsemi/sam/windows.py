"""Windows of an image: where they lie around an object, and what SAM sees in them.

A window is x0 y0 x1 y1 in pixels, floats, x1 and y1 outside.
"""

import numpy as np
from PIL import Image

Window = tuple[float, float, float, float]


def zoom_window(box: np.ndarray, factor: float, size: tuple[int, int], square: bool = False) -> Window:
    """``factor`` times a box x0 y0 x1 y1 (pixels, all inside), around its middle, cut to the image (H, W); ``square`` before the cut."""
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    x, y = box[0] + width / 2, box[1] + height / 2
    if square:
        width = height = max(width, height)
    w, h = factor * width / 2, factor * height / 2
    return max(0.0, x - w), max(0.0, y - h), min(float(size[1]), x + w), min(float(size[0]), y + h)


def crop_size(window: Window, side: int) -> tuple[int, int]:
    """Width and height of a window whose longest side becomes ``side`` px."""
    width, height = window[2] - window[0], window[3] - window[1]
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def crop_image(image: np.ndarray, window: Window, side: int) -> np.ndarray:
    """What is seen of an image (H, W, 3) uint8 in a window, its longest side ``side`` px."""
    return np.array(Image.fromarray(image).resize(crop_size(window, side), Image.Resampling.BILINEAR, window, reducing_gap=2.0))


def crop_mask(mask: np.ndarray, window: Window, side: int) -> np.ndarray:
    """The same of a mask (H, W) bool."""
    return np.array(Image.fromarray(np.uint8(255) * mask).resize(crop_size(window, side), Image.Resampling.BILINEAR, window)) > 127
