"""Reading images and label maps. Knows nothing of torch."""

import errno
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from samsemi.data.pictures import picture_image, picture_label, remark_mask
from samsemi.errors import ChangedFile, DataError, WrongValues
from samsemi.inputs import read_regular

log = logging.getLogger("samsemi")


def read_bytes(path: Path) -> bytes:
    """What stands in a regular file; DataError for one that is missing or cannot be read."""
    try:
        return read_regular(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "restore it, or prepare the data set again") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):  # not the file's fault
            raise
        raise DataError(f"{path}: cannot be read ({error})", "replace or remove the file, or change its permissions") from None


def read_image(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB, upright by its EXIF orientation; greys of more than 8 bits are scaled from their own range,
    the ``TRIMMED`` share of either end left out."""
    return decode_image(read_bytes(path), path)


def read_label(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8 of the values in it; palettes give their indices, or their colors where they are white, black; one color
    with a shape in its alpha channel gives that channel. DataError where colors differ."""
    return decode_label(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> np.ndarray:
    """``read_image`` of a file whose bytes are there already."""
    return picture_image(data, path)


def decode_label(data: bytes, path: Path) -> np.ndarray:
    """``read_label`` of a file whose bytes are there already."""
    return to_label(decode_values(data, path), path)


def decode_values(data: bytes, path: Path) -> np.ndarray:
    """The (H, W) values of a mask file, whatever their type and range."""
    return picture_label(data, path)


def to_label(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) values of a mask as uint8; WrongValues, naming the file, where they are none of 0..255."""
    if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise WrongValues(
            f"{path}: mask values from {values.min()} to {values.max()}",
            "write class indices as 8-bit PNG; `samsemi prepare --mask-values nonzero` makes one class of all above 0",
        )
    return values.astype(np.uint8)


def remark_label(data: bytes, path: Path) -> list[str]:
    """What is done to a mask, which must be sound, before its values are used."""
    return remark_mask(data, path)


def log_remarks(kind: str, remarks: Mapping[str, int]) -> None:
    """One line for each remark, with the number of files that it is about."""
    for remark, count in remarks.items():
        log.info("%d %s %s", count, kind, remark)


SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Of pictures that are found in folders. Pillow looks at the bytes: files with other suffixes, that a manifest names, are read, too."""


def known_suffix(path: Path) -> str | None:
    """The suffix in SUFFIXES that a file name ends in, whatever its case."""
    return next((suffix for suffix in SUFFIXES if Path(path).name.lower().endswith(suffix)), None)


Source = TypeVar("Source")
Images = dict[str, np.ndarray]


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


def is_blank(image: np.ndarray) -> bool:
    """Whether all pixels of (H, W, 3) have one color."""
    return bool((image == image[0, 0]).all())


def hash_pixels(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
