"""Where the pixels of a foreign data set come from: a file as it lies, or something in files that has to be written as one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from samsemi.data.images import decode_values, read_bytes, read_image, remark_label
from samsemi.data.pictures import remark_image


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
