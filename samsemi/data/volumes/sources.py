"""Volumes, and images of formats that Pillow does not know, as sources of a data set: slice by slice."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from samsemi.data.dataset import hash_bytes
from samsemi.data.images import read_bytes
from samsemi.data.layouts.found import FoundCase
from samsemi.data.sources import MaskFile, MaskSource
from samsemi.data.volumes.dicom import DicomFrames
from samsemi.data.volumes.dicom_seg import SegFile, fill_up
from samsemi.data.volumes.origins import Origin
from samsemi.data.volumes.volume import Grid, Volume, lay_on, need_same_grid
from samsemi.data.volumes.window import choose_window, show_slice
from samsemi.errors import DataError
from samsemi.options.window import Window

OWN_WINDOW = "shown by the window in their file"
UNPLACED = "of files that do not say how they lie, on images that do: taken in the order of the file, look at some"
PERCENTILES = "shown from the 0.1 to the 99.9 percentile of their volume"


class VolumeSource(Protocol):
    """Where the voxels of a volume come from."""

    @property
    def path(self) -> Path:
        """The file, or folder, that messages name."""

    @property
    def is_volume(self) -> bool:
        """False for a single image, whatever the format."""

    def grid(self) -> Grid:
        """How its slices lie, from headers alone."""

    def read(self) -> Volume:
        """All of it; DataError where it cannot be read."""

    def __hash__(self) -> int:
        """One that was read is found again by it."""


@dataclass(frozen=True)
class Unreadable:
    """What should have been a volume or an image, and why it is none: whoever needs it gets that error."""

    path: Path
    error: DataError
    is_volume: bool = False

    def grid(self) -> Grid:
        raise self.error

    def read(self) -> Volume:
        raise self.error


@lru_cache(maxsize=1)
def load_shown(source: VolumeSource, wanted: Window | None) -> tuple[Volume, Window]:
    """A volume and its window; the last one is kept, since its slices are read one by one."""
    volume = source.read()
    return volume, choose_window(volume, wanted)


@lru_cache(maxsize=1)
def load_mask(source: VolumeSource, image: VolumeSource) -> np.ndarray:
    """(D, H, W) values of a mask, voxel by voxel on its image; DataError where it does not lie there. The last one is kept."""
    grid = image.grid()
    mask = fill_up(lay_on(source.read(), grid), grid) if isinstance(source, SegFile) else lay_on(source.read(), grid)
    need_same_grid(mask.grid, grid, source.path, image.path)
    if mask.voxels.ndim != 3:
        raise DataError(f"{source.path}: a color image cannot be a mask", "write masks as class indices")
    return mask.voxels


@lru_cache(maxsize=1)
def is_unplaced(mask: VolumeSource, image: VolumeSource) -> bool:
    """Whether an image says how it lies in space, and its mask does not."""
    return image.grid().affine is not None and mask.grid().affine is None


@dataclass(frozen=True)
class SliceImage:
    """One slice of a volume."""

    source: VolumeSource
    index: int
    wanted: Window | None = None
    stays: bool = False

    @property
    def path(self) -> Path:
        return self.source.path

    def read(self) -> np.ndarray:
        volume, window = load_shown(self.source, self.wanted)
        return show_slice(volume, self.index, window)

    def remarks(self) -> list[str]:
        volume, (low, high) = load_shown(self.source, self.wanted)
        if volume.voxels.dtype == np.uint8 and not self.wanted:
            return []
        return [f"shown from {low:g} to {high:g}" if self.wanted else OWN_WINDOW if volume.window else PERCENTILES]

    def origin(self) -> Origin:
        """Where the volume comes from, and how it is shown."""
        volume, window = load_shown(self.source, self.wanted)
        return Origin(str(self.path.resolve()), volume.grid, window)


@dataclass(frozen=True)
class SliceMask:
    """One slice of a mask that lies on a volume."""

    source: VolumeSource
    image: VolumeSource
    index: int

    @property
    def path(self) -> Path:
        return self.source.path

    def read(self) -> np.ndarray:
        return load_mask(self.source, self.image)[self.index]

    def remarks(self) -> list[str]:
        return [UNPLACED] if is_unplaced(self.source, self.image) else []


def slice_cases(name: str, image: VolumeSource, mask: VolumeSource | Path | None, wanted: Window | None = None) -> list[FoundCase]:
    """A case for each slice of a volume, its id NAME__000; of a single image one, its id NAME. A picture can be the mask of a single image.

    The group is the patient where the files name one, else the volume.
    """
    load_shown.cache_clear()  # files may have changed since they were read last in this process
    load_mask.cache_clear()
    is_unplaced.cache_clear()
    grid, group = image.grid(), getattr(image, "patient", "") or name
    if isinstance(mask, Path) and image.is_volume:
        raise DataError(f"{mask}: a picture, its image {image.path} has {grid.shape[0]} slices", "give one mask for the whole volume")

    def mask_of(index: int) -> MaskSource | None:
        return MaskFile(mask) if isinstance(mask, Path) else SliceMask(mask, image, index) if mask else None

    if not image.is_volume:
        return [FoundCase(name, SliceImage(image, 0, wanted), mask_of(0), group, spacing=grid.spacing and grid.spacing[-2:])]
    return [
        FoundCase(slice_id(name, index), SliceImage(image, index, wanted), mask_of(index), group, None, name, index, grid.spacing)
        for index in range(grid.shape[0])
    ]


def hash_source(source: VolumeSource) -> str:
    """SHA-256 of the files of a volume; DataError where one cannot be read."""
    files = source.files if isinstance(source, DicomFrames) else (source.path,)
    return hash_bytes("".join(hash_bytes(read_bytes(path)) for path in files).encode())


def slice_id(volume: str, index: int) -> str:
    return f"{volume}__{index:03d}"
