"""Where the pixels of a foreign data set come from: a file as it lies, or something in files that has to be written as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from samsemi.data.colors import ColorMap
from samsemi.data.images import decode_values, read_bytes, read_image, remark_label
from samsemi.data.outlines import Drawing, Drawn, Stamp, draw_objects, lead_out
from samsemi.data.pictures import TURNS, picture_size, remark_image, turn_upright
from samsemi.errors import DataError, WrongValues

OVERLAP = "where objects of several classes overlap: the smaller object lies on top"
VANISHED = "where an object covers the center of no pixel: it is not in the mask"
CUT = "of outlines that lead out of the image: cut off at its edge"
CUT_BY = 2
"""Pixels that nobody need hear of."""
JOINED = "joined from several files"
NOISY_MIDDLE = 0.05
"""A noisy binary mask (JPEG, resized) has at most this share of its pixels between 64 and 191."""


class ImageSource(Protocol):
    """An image of a foreign data set."""

    @property
    def path(self) -> Path:
        """The file that it lies in, as messages name it."""

    @property
    def stays(self) -> bool:
        """Whether that file can be the image of a data set as it lies; the pixels of others are written as 8-bit PNG."""

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; DataError where it cannot be read."""

    def remarks(self) -> list[str]:
        """What reading does to it that its owner may not expect, as in '12 images REMARK'; opens no more than headers."""


class MaskSource(Protocol):
    """A mask of a foreign data set."""

    @property
    def path(self) -> Path:
        """The file, or the first of the files, that it lies in, as messages name it."""

    def read(self) -> np.ndarray:
        """(H, W) numbers of any type, of which ``mask_values.py`` finds out what they mean; DataError where it cannot be read."""

    def remarks(self) -> list[str]:
        """What reading does to it that its owner may not expect, as in '12 masks REMARK'; it was read before."""


@dataclass(frozen=True)
class ImageFile:
    """An image file that Pillow knows."""

    path: Path
    stays: bool = True

    def read(self) -> np.ndarray:
        return read_image(self.path)

    def remarks(self) -> list[str]:
        return remark_image(self.path)


@dataclass(frozen=True)
class MaskFile:
    """A mask that is a file of values."""

    path: Path

    def read(self) -> np.ndarray:
        return decode_values(read_bytes(self.path), self.path)

    def remarks(self) -> list[str]:
        return remark_label(read_bytes(self.path), self.path)


@dataclass(frozen=True)
class ChannelFiles:
    """A color image whose red, green and blue are files of their own; the last may be missing."""

    files: tuple[Path, ...]
    stays: bool = False

    @property
    def path(self) -> Path:
        return self.files[0]

    def read(self) -> np.ndarray:
        channels = [read_image(path)[..., 0] for path in self.files]
        refuse_sizes(channels, self.files)
        blank = np.zeros_like(channels[0])
        return np.stack([*channels, *[blank] * (3 - len(channels))], axis=2)

    def remarks(self) -> list[str]:
        return [f"put together from {len(self.files)} files, a channel each"]


@dataclass(frozen=True)
class JoinedFiles:
    """A mask of one class whose objects are files of their own."""

    files: tuple[Path, ...]

    @property
    def path(self) -> Path:
        return self.files[0]

    def read(self) -> np.ndarray:
        parts = [MaskFile(path).read() for path in self.files]
        refuse_sizes(parts, self.files)
        return np.maximum.reduce(parts)

    def remarks(self) -> list[str]:
        return [JOINED]


@dataclass(frozen=True)
class ClassFiles:
    """A mask whose classes are files of their own, black and white."""

    files: tuple[tuple[int, Path], ...]
    """Class index and file, of the classes that the image shows."""

    @property
    def path(self) -> Path:
        return self.files[0][1]

    def read(self) -> np.ndarray:
        return self.draw().label

    def remarks(self) -> list[str]:
        return [OVERLAP] if self.draw().covered else []

    def draw(self) -> Drawing:
        layers = [Stamp(class_id, 0, 0, to_binary(MaskFile(path).read(), path)) for class_id, path in self.files]
        refuse_sizes([layer.mask for layer in layers], [path for _, path in self.files])
        return draw_objects(layers, *layers[0].mask.shape)


@dataclass(frozen=True)
class ColorFile:
    """A mask whose classes are colors."""

    path: Path
    colors: ColorMap

    def read(self) -> np.ndarray:
        return self.colors.convert(read_image(self.path), self.path)

    def remarks(self) -> list[str]:
        return [f"read by the colors in {self.colors.path}"]


@dataclass(frozen=True, eq=False)
class DrawnMask:
    """A mask that is drawn from the objects in a file."""

    path: Path
    objects: tuple[Drawn, ...]
    height: int
    width: int
    """Of the frame in which the objects were drawn."""
    orientation: int = 1
    """By EXIF, of an image whose objects were drawn before it was turned upright."""

    def read(self) -> np.ndarray:
        return turn_upright(draw_mask(self).label, self.orientation)

    def remarks(self) -> list[str]:
        cut = [CUT] if any(lead_out(drawn, self.height, self.width) > CUT_BY for drawn in self.objects) else []
        drawing = draw_mask(self)
        return cut + ([OVERLAP] if drawing.covered else []) + ([VANISHED] if drawing.vanished else [])


@lru_cache(maxsize=1)
def draw_mask(mask: DrawnMask) -> Drawing:
    """``draw_objects`` of a mask, which is read and remarked upon one after the other; DataError that names its file."""
    try:
        return draw_objects(mask.objects, mask.height, mask.width)
    except WrongValues as error:
        raise WrongValues(f"{mask.path}: {error.message}", error.hint) from None


def is_turned_alone(image: ImageSource, mask: MaskSource) -> bool:
    """Whether EXIF turns a picture and not its mask, and their sizes would be the same if the mask was drawn on the picture as stored."""
    if not isinstance(image, ImageFile) or isinstance(mask, DrawnMask) and mask.orientation != 1:
        return False
    try:
        height, width, orientation = picture_size(image.path)
        if orientation not in TURNS or (orientation >= 5 and height != width):
            return False
        return isinstance(mask, DrawnMask) or picture_size(mask.path)[2] not in TURNS
    except DataError:
        return False


def refuse_sizes(parts: Sequence[np.ndarray], files: Sequence[Path]) -> None:
    """DataError where what belongs together differs in size."""
    for part, path in zip(parts, files, strict=True):
        if part.shape[:2] != parts[0].shape[:2]:
            (height, width), (rows, columns) = parts[0].shape[:2], part.shape[:2]
            raise DataError(
                f"{path}: {columns} x {rows} pixels, {files[0].name} has {width} x {height}", "they belong to one image: give both one size"
            )


def to_binary(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) bool of a mask of one class: of 0 and 1, or black and white with the noise of JPEG; WrongValues for any other."""
    if values.min() >= 0 and values.max() <= 1:
        return values > 0
    middle = ((values >= 64) & (values < 192)).mean()
    if values.min() < 0 or values.max() < 192 or middle > NOISY_MIDDLE:
        found = np.unique(values)
        shown = ", ".join(f"{value:g}" for value in found[:12]) + (", ..." if len(found) > 12 else "")
        raise WrongValues(f"{path}: values {shown} in the mask of one class", "write it as 0/255 or 0/1")
    return values >= 128
