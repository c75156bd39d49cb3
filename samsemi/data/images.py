"""Reading and writing pictures: images, label maps, overlays. Knows Pillow, nothing of torch."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from skimage.segmentation import find_boundaries

from samsemi import console
from samsemi.errors import DataError
from samsemi.outputs import whole_file

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PALETTE = ((255, 90, 60), (60, 160, 255), (90, 220, 90), (250, 200, 50), (200, 100, 250), (80, 230, 230))
"""Colors of classes 1, 2, ... in overlays, from the start again after the last."""


def find_images(folder: Path) -> dict[str, Path]:
    """All images below a folder by id: the relative path without suffix, '/' written '__'; sorted by id.

    DataError for a missing or empty folder and for two images of one id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        name = "__".join(path.relative_to(folder).with_suffix("").parts)
        if name in found:
            raise DataError(f"{found[name]} and {path} have the same id '{name}'", "rename one of them")
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no images in it", f"put {', '.join(IMAGE_SUFFIXES)} files there")
    return dict(sorted(found.items()))


def read_image(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB, upright as its EXIF says; 16-bit greys are scaled from their own range."""
    picture = open_picture(path)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: pixels that are no numbers", "replace or remove the file")
        return scale_to_uint8(values)
    return np.array(picture.convert("RGB"))


def read_label(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8 of the values in it; palettes give their indices. DataError where colors differ."""
    picture = open_picture(path)
    if picture.mode in ("1", "L", "P"):
        return np.array(picture.convert("L") if picture.mode == "1" else picture)
    values = np.asarray(picture)
    if values.ndim == 3:
        colors = values[..., :-1] if picture.mode in ("RGBA", "LA") else values
        if (colors != colors[..., :1]).any():
            raise DataError(f"{path}: a color picture cannot be a mask", "write masks as grey PNG of class indices")
        values = colors[..., 0]
    if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise DataError(f"{path}: mask values from {values.min()} to {values.max()}", "write masks as 8-bit PNG of class indices")
    return values.astype(np.uint8)


def open_picture(path: Path) -> Image.Image:
    """A fully decoded picture; DataError for a file that is missing, truncated, too large or not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "restore it, or prepare the data set again") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}", "cut it into smaller images") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read", "replace or remove the file") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged image ({error})", "replace or remove the file") from None


def scale_to_uint8(values: np.ndarray) -> np.ndarray:
    """(H, W) greys of any range -> (H, W, 3) uint8 from their least to their greatest."""
    low, high = float(values.min()), float(values.max())
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def read_readable(paths: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Images by id, and the ids of those that cannot be read, each with a warning."""
    images, unreadable = {}, []
    for name, path in paths.items():
        try:
            images[name] = read_image(path)
        except DataError as error:
            console.warn(f"skipped: {error.message}")
            unreadable.append(name)
    return images, unreadable


def write_picture(path: Path, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, whole or not at all."""
    with whole_file(path, sync=False) as part:
        Image.fromarray(array).save(part, format="PNG")


def class_colors(label: np.ndarray) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(class, color) of the classes above background that a label map holds; 255 is not a class."""
    for class_id in np.unique(label):
        if 0 < class_id < 255:
            yield int(class_id), PALETTE[(class_id - 1) % len(PALETTE)]


def overlay(image: np.ndarray, label: np.ndarray, tint: float = 0.25) -> np.ndarray:
    """(H, W, 3) uint8 image with each class of an (H, W) label map tinted and outlined in its color."""
    picture = image.astype(np.float32)
    for class_id, color in class_colors(label):
        inside = label == class_id
        picture[inside] = (1 - tint) * picture[inside] + tint * np.asarray(color, dtype=np.float32)
        picture[find_boundaries(inside, mode="inner")] = color
    return picture.astype(np.uint8)


def hash_pixels(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def side_by_side(pictures: list[np.ndarray], gap: int = 4) -> np.ndarray:
    """(H, W, 3) pictures of one height in a row, a white gap between them."""
    white = np.full((pictures[0].shape[0], gap, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, white)]
    return np.concatenate(parts[:-1], axis=1)
