"""Arrays in .npy, .npz and HDF5 files: images (H, W) or (H, W, 3), or volumes of slices (D, H, W)."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import h5py
import numpy as np

from samsemi.data.volumes.volume import MOST_PACKED, Grid, Volume, named_damage, need_numbers, need_room, show_shape
from samsemi.errors import CheckpointError, DataError, WrongValues
from samsemi.hdf5 import open_hdf5, read_whole
from samsemi.inputs import need_regular

NUMPY, HDF5 = (".npy", ".npz"), (".h5", ".hdf5")
IMAGES = ("image", "img", "images", "data", "volume", "ct", "mri")
"""What the array of an image is called in a file of several."""
LABELS = ("label", "labels", "mask", "masks", "gt", "seg", "segmentation")
COLORS = (3, 4)
"""Lengths of the last axis of an image with colors."""
HINT = f"name the array of the image '{IMAGES[0]}' and that of the mask '{LABELS[0]}', or write one array per file"


class Stored(NamedTuple):
    """An array in a file that is open at its values."""

    file: IO[bytes]
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


@dataclass(frozen=True)
class ArrayFile:
    """An array as an image or volume; of a mask, the array of ``LABELS``."""

    path: Path
    names: tuple[str, ...] = IMAGES

    @property
    def is_volume(self) -> bool:
        return self.grid().shape[0] > 1

    def grid(self) -> Grid:
        """How many slices there are, from the header of the array."""
        return Grid(slices_of(read_shape(self.path, self.names), self.path))

    def read(self) -> Volume:
        values = need_numbers(read_array(self.path, self.names), self.path)
        grid = Grid(slices_of(values.shape, self.path))
        if values.ndim == 3 and values.shape[-1] in COLORS:
            if values.dtype != np.uint8:
                raise WrongValues(f"{self.path}: colors of type {values.dtype}", "write colors as uint8")
            return Volume(values[None, ..., :3], grid)
        return Volume(values.reshape(grid.shape), grid)


def slices_of(shape: Sequence[int], path: Path) -> tuple[int, int, int]:
    """Slices, rows and columns of an array; DataError for one that is no image."""
    if len(shape) == 3 and shape[-1] in COLORS:
        return 1, shape[0], shape[1]
    if len(shape) in (2, 3):
        return (1, *shape)[-3:]  # type: ignore[return-value]
    raise DataError(f"{path}: an array of {show_shape(shape)}", "write images (H, W) or (H, W, 3), or volumes (slices, H, W)")


def choose_name(found: Sequence[str], names: Sequence[str], path: Path) -> str:
    """Which of the arrays of a file is meant: the first of ``names`` that is there, or the only one; DataError where none can be told."""
    wanted = [name for name in names if name in found] or ([*found] if len(found) == 1 else [])
    if not wanted:
        raise DataError(f"{path}: which array? it holds {', '.join(sorted(found)[:8]) or 'none'}", HINT)
    return wanted[0]


def read_shape(path: Path, names: Sequence[str]) -> tuple[int, ...]:
    """The shape of an array, from its header."""
    if path.name.lower().endswith(HDF5):
        with hdf5_array(path, names) as found:
            return tuple(found.shape)
    with numpy_array(path, names) as stored:
        return stored.shape


def read_array(path: Path, names: Sequence[str] = IMAGES) -> np.ndarray:
    """An array of a file; no pickle is read. DataError where it cannot be, or cannot be told which."""
    if path.name.lower().endswith(HDF5):
        with hdf5_array(path, names) as found:
            need_room(found.shape, found.dtype.itemsize, path)
            return read_whole(found)
    with numpy_array(path, names) as stored:
        needed = need_room(stored.shape, stored.dtype.itemsize, path)
        data = stored.file.read(needed)
        if len(data) < needed:
            raise EOFError(f"{len(data)} of {needed} bytes of values are there")
        return np.frombuffer(data, dtype=stored.dtype).reshape(stored.shape, order="F" if stored.fortran else "C")


@contextmanager
def hdf5_array(path: Path, names: Sequence[str]) -> Iterator[h5py.Dataset]:
    """The dataset of the image, or mask, in the root of an HDF5 file."""
    try:
        with open_hdf5(path, "copy or export it again") as file, named_damage(path, "HDF5"):
            found = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
            yield found[choose_name([*found], names, path)]
    except CheckpointError as error:
        raise DataError(error.message, error.hint) from None


@contextmanager
def numpy_array(path: Path, names: Sequence[str]) -> Iterator[Stored]:
    """An array of a .npy file, or of a member of a .npz file, before its values; DataError for one of Python objects."""
    with ExitStack() as stack:
        stack.enter_context(named_damage(path, "array"))
        size = need_regular(path).st_size
        file: IO[bytes] = stack.enter_context(open(path, "rb"))
        if path.suffix.lower() == ".npz":
            archive = stack.enter_context(zipfile.ZipFile(file))
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
            member = members[choose_name([*members], names, path)]
            file, size = stack.enter_context(archive.open(member)), min(member.compress_size * MOST_PACKED, member.file_size)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or dtype.names:
            raise WrongValues(f"{path}: an array of Python objects or records, which is not read", "save an array of numbers")
        need_room(shape, dtype.itemsize, path, size)
        yield Stored(file, tuple(shape), fortran, dtype)
