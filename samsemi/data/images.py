"""Reading and writing pictures: images and label maps. Knows Pillow, nothing of torch."""

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from samsemi.errors import ChangedFile, DataError
from samsemi.outputs import whole_file

log = logging.getLogger("samsemi")


def find_images(folder: Path) -> dict[str, Path]:
    """All images below a folder by id: the relative path without suffix, '/' written '__'; sorted by id.

    DataError for a missing or empty folder and for two images of one id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", "check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = known_suffix(path)
        if suffix is None or path.name.startswith("."):
            continue
        name = "__".join(path.relative_to(folder).parts)[: -len(suffix)]
        if name in found:
            raise DataError(f"{found[name]} and {path} have the same id '{name}'", "rename one of them")
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no images in it", f"put {', '.join(READERS)} files there")
    return dict(sorted(found.items()))


def read_bytes(path: Path) -> bytes:
    """What stands in a file; DataError for one that is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "restore it, or prepare the data set again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", "replace or remove the file, or change its permissions") from None


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB, upright by its EXIF orientation; greys of more than 8 bits are scaled from their own range."""
    return decode_image(read_bytes(path), path)


def read_label(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8 of the values in it; palettes give their indices. DataError where colors differ."""
    return decode_label(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """``read_image`` of a file whose bytes are there already."""
    return reader_of(path).image(data, path)


def decode_label(data: bytes, path: Path) -> np.ndarray:
    """``read_label`` of a file whose bytes are there already."""
    return reader_of(path).label(data, path)


def picture_image(data: bytes, path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file that Pillow knows."""
    picture = open_picture(data, path)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: pixels that are no numbers", "replace or remove the file")
        return scale_to_uint8(values)
    return np.array(picture.convert("RGB"))


def picture_label(data: bytes, path: Path) -> np.ndarray:
    """(H, W) uint8 values of a mask that Pillow knows."""
    picture = open_picture(data, path)
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


def open_picture(data: bytes, path: Path) -> Image.Image:
    """A fully decoded picture; DataError for a file that is truncated, too large or not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {error}", "cut it into smaller images") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read", "replace or remove the file") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged image ({error})", "replace or remove the file") from None


class Reader(NamedTuple):
    """How files of one format are read: both functions take the bytes of a file, and its path to name it in a DataError."""

    image: Callable[[bytes, Path], np.ndarray]
    """-> (H, W, 3) uint8 RGB, upright."""
    label: Callable[[bytes, Path], np.ndarray]
    """-> (H, W) uint8 values."""


PICTURE = Reader(picture_image, picture_label)
"""Pillow, which looks at the bytes: also of files with another suffix that a manifest names."""
READERS = dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"), PICTURE)
"""Suffix -> how such files are read. Files with these suffixes are found in folders."""


def known_suffix(path: Path) -> str | None:
    """The longest suffix in READERS that a file name ends in, whatever its case."""
    fitting = [suffix for suffix in READERS if Path(path).name.lower().endswith(suffix)]
    return max(fitting, key=len, default=None)


def reader_of(path: Path) -> Reader:
    """By its suffix; Pillow for one that is not known."""
    suffix = known_suffix(path)
    return READERS[suffix] if suffix else PICTURE


def scale_to_uint8(values: np.ndarray) -> np.ndarray:
    """(H, W) greys of any range -> (H, W, 3) uint8 from their least to their greatest."""
    low, high = float(values.min()), float(values.max())
    grey = np.rint((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


Source = TypeVar("Source")
Images = dict[str, np.ndarray]


def read_images(paths: Mapping[str, Path]) -> tuple[Images, list[str]]:
    """``read_readable`` of image files."""
    return read_readable(paths, read_image)


def read_readable(sources: Mapping[str, Source], read: Callable[[Source], np.ndarray]) -> tuple[Images, list[str]]:
    """Images by id, and the ids of those that cannot be read, each with a warning. ChangedFile is raised, not counted."""
    images, unreadable = {}, []
    for name, source in sources.items():
        try:
            images[name] = read(source)
        except ChangedFile:
            raise
        except DataError as error:
            log.warning("skipped: %s", error.message)
            unreadable.append(name)
    return images, unreadable


def write_picture(path: Path, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG, whole or not at all."""
    with whole_file(path, sync=False) as part:
        Image.fromarray(array).save(part, format="PNG")


def hash_pixels(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
