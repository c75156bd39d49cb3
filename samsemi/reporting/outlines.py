"""Masks as lines that stay sharp when they are enlarged, and images as text in a page."""

import base64
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from samsemi.data.overlays import classes_in

SIDE = 640
"""Longest side in pixels of what is pictured: an image that is larger is made smaller."""
BYTES = 90_000
"""Most of an image: 60 pictured cases then stay below 15 MB, with their lines and weights."""
QUALITIES = (92, 85, 75, 60, 40)
"""Of JPEG, the first that fits into BYTES."""
STRAIGHT = (0.4, 0.8, 1.6, 3.2)
"""Pixels by which a line may be off where it is made of fewer points: the first by which a mask fits into LONGEST."""
LONGEST = 10_000
"""Characters of the path of a mask."""
SHADE_SIDE = 200
"""Longest side in pixels of the weights of a pseudo-label."""
LEVELS = 15
"""Of transparency: more cannot be told apart, and take more room."""


def display_size(image_size: tuple[int, ...], side: int = SIDE) -> tuple[int, int]:
    """(h, w) at which an image of (H, W) pixels is pictured, at most ``side``."""
    scale = min(1.0, side / max(image_size))
    return max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale))


def resize_label(label: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) class indices on another grid (h, w)."""
    return np.asarray(Image.fromarray(label).resize(shape[::-1], Image.Resampling.NEAREST))


def trace_mask(mask: np.ndarray) -> str:
    """The border of (h, w) bool as the path of an SVG, in pixels from the upper left corner; '' for an empty mask."""
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    paths = ("".join(write_path(approximate_polygon(contour, off)) for contour in contours) for off in STRAIGHT)
    path = ""
    for path in paths:
        if len(path) <= LONGEST:
            break
    return path


def write_path(contour: np.ndarray) -> str:
    """A closed line through (n, 2) points y x of a mask with a margin of 1, the last of which is the first; '' for less than an area."""
    points = contour[:-1, ::-1] - 0.5
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z" if len(points) > 2 else ""


def trace_label(label: np.ndarray) -> Iterator[tuple[int, str]]:
    """Class and path of each class above background in a label map (h, w)."""
    return ((class_id, trace_mask(label == class_id)) for class_id in classes_in(label))


def image_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 at display size as a data URI: lossless where that fits into BYTES, else JPEG."""
    picture = Image.fromarray(image)
    if picture.size != (size := display_size(image.shape[:2])[::-1]):
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data = encode(picture, format="PNG", optimize=True)
    if len(data) <= BYTES:
        return as_uri(data, "image/png")
    jpegs = (encode(picture, format="JPEG", quality=quality, subsampling=0) for quality in QUALITIES)
    return as_uri(next((data for data in jpegs if len(data) <= BYTES), encode(picture, format="JPEG", quality=QUALITIES[-1])), "image/jpeg")


def shade_uri(label: np.ndarray, weight: np.ndarray, colors: np.ndarray) -> str:
    """A pseudo-label to lay over its image: each class in its color (K, 3), stronger where it weighs more; a gray veil over background,
    thicker where it weighs less. ``label`` (h, w) class indices, ``weight`` (h, w) in [0, 1]."""
    height, width = display_size(label.shape, SHADE_SIDE)
    label = resize_label(label, (height, width))
    weight = np.asarray(Image.fromarray(weight.astype(np.float32)).resize((width, height), Image.Resampling.NEAREST))
    alpha = np.where(label > 0, 0.2 + 0.6 * weight, 0.8 * (1 - weight))
    alpha[(label > 0) & (weight == 0)] = 0.8
    shade = np.dstack([colors[np.where(weight > 0, label, 0)], np.rint(LEVELS * alpha) * (255 // LEVELS)]).astype(np.uint8)
    return as_uri(encode(Image.fromarray(shade, "RGBA").quantize(256), format="PNG", optimize=True), "image/png")


def encode(picture: Image.Image, **settings: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **settings)  # type: ignore[arg-type]
    return buffer.getvalue()


def as_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
