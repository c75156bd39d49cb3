"""Windows of an image: where they lie around an object, and what SAM sees in them. Needs no torch.

A window is x0 y0 x1 y1 in pixels, floats, x1 and y1 outside.
"""

from dataclasses import replace

import numpy as np
from PIL import Image

from samsemi.sam.prompts import Prompts

Window = tuple[float, float, float, float]
SCALE = 1.5
"""Windows on the grid are so many times smaller than the image: 1, SCALE, SCALE squared and so on."""
STEPS = 8
"""Places of a window on the grid are so many to its length."""
ROOM = STEPS / (STEPS - 1)
"""A window on the grid is at least so many times the box, so that it holds the box in the place nearest to it."""


def zoom_window(box: np.ndarray, factor: float, size: tuple[int, int], square: bool = False) -> Window:
    """``factor`` times a box x0 y0 x1 y1 (pixels, all inside), around its middle, cut to the image (H, W); ``square`` before the cut."""
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    x, y = box[0] + width / 2, box[1] + height / 2
    if square:
        width = height = max(width, height)
    w, h = factor * width / 2, factor * height / 2
    return max(0.0, x - w), max(0.0, y - h), min(float(size[1]), x + w), min(float(size[0]), y + h)


def snap_window(box: np.ndarray, factor: float, size: tuple[int, int], square: bool = False) -> Window:
    """``zoom_window`` on a grid of whole pixels, so that boxes that differ a little have the same one; moved, not cut, into the image (H, W)."""
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    if square:
        width = height = max(width, height)
    x0, x1 = snap_length((box[0] + box[2] + 1) / 2, width, factor, size[1])
    y0, y1 = snap_length((box[1] + box[3] + 1) / 2, height, factor, size[0])
    return x0, y0, x1, y1


def snap_length(middle: float, length: float, factor: float, extent: int) -> tuple[float, float]:
    """Start and end of the length on the grid of an axis of ``extent`` pixels that is next to ``factor`` times a length around its middle."""
    smaller = round(np.log(extent / (factor * length)) / np.log(SCALE))
    most = np.floor(np.log(extent / (ROOM * length)) / np.log(SCALE))
    side = extent / SCALE ** max(0, min(smaller, most))
    start = np.clip(round((middle - side / 2) * STEPS / side) * side / STEPS, 0, extent - side)
    return float(np.floor(start)), float(min(extent, np.ceil(start + side)))


def round_window(window: Window) -> Window:
    """The nearest window of whole pixels."""
    x0, y0, x1, y1 = (float(round(place)) for place in window)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


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


def crop_pixels(image: np.ndarray, window: Window) -> np.ndarray:
    """The pixels (H, W, ...) of an array in a window of whole pixels."""
    x0, y0, x1, y1 = (int(place) for place in window)
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def crop_prompts(prompts: Prompts, window: Window) -> Prompts:
    """Prompts in pixels of an image -> in pixels of a window of it; mask logits must cover the window already.

    Boxes are cut at its edges. In place of a point outside it stands the object's last one inside, so that all keep their number of points.
    """
    corner = np.array(window[:2], dtype=np.float32)
    last = np.array([window[2] - window[0] - 1, window[3] - window[1] - 1], dtype=np.float32)
    boxes, coords, labels = prompts.boxes, prompts.point_coords, prompts.point_labels
    if boxes is not None:
        boxes = np.clip(boxes.reshape(-1, 2, 2) - corner, 0, last).reshape(-1, 4)
    if coords is not None and labels is not None:
        coords = coords - corner
        inside = ((coords >= 0) & (coords <= last)).all(axis=2)
        latest = np.where(inside, np.arange(inside.shape[1]), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)[:, None])
        rows = np.arange(len(coords))[:, None]
        coords, labels = coords[rows, latest], labels[rows, latest]
    return replace(prompts, boxes=boxes, point_coords=coords, point_labels=labels)


def paste_maps(maps: np.ndarray, window: Window, size: tuple[int, int], outside: float = 0) -> np.ndarray:
    """Maps (N, h, w) of a window of whole pixels -> (N, H, W) of the image, ``outside`` around it."""
    x0, y0, x1, y1 = (int(place) for place in window)
    whole = np.full((len(maps), *size), outside, dtype=maps.dtype)
    whole[:, y0:y1, x0:x1] = maps
    return whole
