"""A volume: voxels as slices one after another, and how they lie in space. Knows no format."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from math import prod
from pathlib import Path
from types import ModuleType

import numpy as np

from samsemi.errors import DataError, TruncatedFile, UsageError, WrongValues
from samsemi.remedies import install

Affine = tuple[tuple[float, float, float, float], ...]
"""4 rows of 4, see ``Grid.affine``."""
MOST_BYTES = 2**31
"""Of the voxels of a volume as they stand in its file."""
MOST_PACKED = 1100
"""Bytes that a byte of gzip can hold, at most."""
SAME_PLACE = 0.1
"""Two grids are one where no corner of them is farther apart than this share of the smallest side of a voxel."""
DAMAGE = (
    *(OSError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError),
    *(SyntaxError, struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile),
)
"""What libraries raise where bytes are not what their place promises."""


@dataclass(frozen=True)
class Grid:
    """How the voxels of a volume lie."""

    shape: tuple[int, int, int]
    """Slices, rows, columns."""
    affine: Affine | None = None
    """4 x 4: index (z, y, x, 1) -> mm towards the right, the front and the head of the patient (NIfTI's RAS+); None where not known."""
    spacing: tuple[float, ...] | None = None
    """Size of a voxel in mm: z y x, or y x alone; None where not known."""
    stored: tuple[tuple[int, int], ...] = ((2, 1), (1, 1), (0, 1))
    """How the axes of the NIfTI file that it comes from, or would be written to, lie in (z, y, x): for each the axis, and -1 where it
    runs backwards."""

    @property
    def plane(self) -> str:
        """How the slices cut the patient; '' where that is not known."""
        if self.affine is None:
            return ""
        return ("sagittal", "coronal", "axial")[int(np.abs(np.array(self.affine)[:3, 0]).argmax())]


@dataclass(frozen=True)
class Volume:
    """Voxels in memory."""

    voxels: np.ndarray
    """(D, H, W) numbers, or (D, H, W, 3) uint8 RGB."""
    grid: Grid
    window: tuple[float, float] | None = None
    """What is shown black and white, as its file says."""
    inverted: bool = False
    """Whether the least value is shown white."""


def as_affine(matrix: np.ndarray) -> Affine:
    return tuple(tuple(float(value) for value in row) for row in matrix)  # type: ignore[misc]


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Size in mm of a voxel along each axis of an index."""
    z, y, x = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return z, y, x


def to_slices(stored: np.ndarray, grid: Grid) -> np.ndarray:
    """The array of a file -> (slices, rows, columns)."""
    flips = tuple(slice(None, None, sign) for _, sign in grid.stored)
    axes = [axis for axis, _ in grid.stored]
    return stored[flips].transpose(np.argsort(axes))


def from_slices(voxels: np.ndarray, grid: Grid) -> np.ndarray:
    """(slices, rows, columns) -> the array of a file, back from ``to_slices``."""
    turned = voxels.transpose([axis for axis, _ in grid.stored])
    return turned[tuple(slice(None, None, sign) for _, sign in grid.stored)]


def stored_affine(grid: Grid) -> np.ndarray:
    """4 x 4 of the array of a file: its own index -> mm (RAS+); without a known place, the spacing alone."""
    z, y, x = (*(1.0,) * (3 - len(grid.spacing or ())), *(grid.spacing or ()))
    affine = np.array(grid.affine) if grid.affine else np.diag([z, y, x, 1.0])[[2, 1, 0, 3]]
    index = np.zeros((4, 4))
    index[3, 3] = 1
    for column, (axis, sign) in enumerate(grid.stored):
        index[axis, column] = sign
        index[axis, 3] = 0 if sign > 0 else grid.shape[axis] - 1
    return affine @ index


def distance_between(one: Grid, other: Grid) -> float:
    """Greatest distance in mm between the same corner voxel of two grids of one shape that lie in space."""
    corners = np.array([(*corner, 1.0) for corner in product(*((0, length - 1) for length in one.shape))])
    moved = corners @ (np.array(one.affine) - np.array(other.affine)).T
    return float(np.linalg.norm(moved[:, :3], axis=1).max())


def lay_on(mask: Volume, image: Grid) -> Volume:
    """A mask with its axes in the order and direction of those of its image, as far as both say how they lie; else a mask lies in its file
    as the image does in its own."""
    if mask.grid.affine is None or image.affine is None:
        stored = from_slices(mask.voxels, mask.grid)
        lengths = dict(zip((axis for axis, _ in image.stored), stored.shape, strict=True))
        grid = replace(mask.grid, shape=(lengths[0], lengths[1], lengths[2]), affine=None, stored=image.stored)
        return replace(mask, voxels=to_slices(stored, grid), grid=grid)
    between = np.linalg.solve(np.array(image.affine), np.array(mask.grid.affine))[:3, :3]
    axes = np.abs(between).argmax(axis=1)
    if len(set(axes.tolist())) < 3:
        return mask
    signs = [int(np.sign(between[row, axis])) for row, axis in enumerate(axes)]
    voxels = mask.voxels.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for row, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[axis, row] = sign
        turn[axis, 3] = 0 if sign > 0 else voxels.shape[row] - 1
    affine = np.array(mask.grid.affine) @ turn
    return replace(mask, voxels=voxels, grid=Grid(voxels.shape[:3], as_affine(affine), spacing_of(affine), image.stored))


def need_same_grid(mask: Grid, image: Grid, mask_path: Path, image_path: Path) -> None:
    """DataError where a mask does not lie voxel by voxel on its image."""
    if mask.shape != image.shape:
        raise DataError(
            f"{mask_path}: a mask of {show_shape(mask.shape)} (slices, rows, columns), its image {image_path.name} has "
            f"{show_shape(image.shape)}",
            "export the mask on the grid of its image, or resample it there with nearest neighbors",
        )
    if mask.affine is None or image.affine is None:
        return
    apart, least = distance_between(mask, image), min(spacing_of(np.array(image.affine)))
    if apart > SAME_PLACE * least:
        raise DataError(
            f"{mask_path}: the mask lies up to {apart:.2g} mm beside its image {image_path.name}, whose voxels are {least:.2g} mm",
            "is it the mask of this image? export it on the grid of its image, or resample it there with nearest neighbors",
        )


def show_shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def need_room(shape: Sequence[int], itemsize: int, path: Path, size: int | None = None) -> int:
    """Bytes of an array, before any is read; DataError for an absurd size, TruncatedFile where a file of ``size`` bytes cannot hold it."""
    if not all(0 < length < 2**31 for length in shape) or prod(shape) * itemsize > MOST_BYTES:
        raise DataError(
            f"{path}: its header says {show_shape(shape)} values of {itemsize} bytes; {MOST_BYTES >> 30} GiB can be read",
            "export it again if that is wrong; else cut it into smaller volumes",
        )
    needed = prod(shape) * itemsize
    if size is not None and needed > size:
        raise TruncatedFile(
            f"{path}: damaged, its header says {needed} bytes of values, it holds {size} at most", "copy or export it again"
        )
    return needed


def need_numbers(voxels: np.ndarray, path: Path) -> np.ndarray:
    """The voxels; DataError where some are no numbers, or are complex."""
    if voxels.dtype.kind not in "biuf":
        raise WrongValues(f"{path}: values of type {voxels.dtype}, which are no gray", "export whole numbers or floats")
    bad = 0 if voxels.dtype.kind != "f" else voxels.size - int(np.isfinite(voxels).sum())
    if bad:
        raise WrongValues(
            f"{path}: {bad} of {voxels.size} voxels are no numbers (NaN or infinite)", "set them to the value of the background, such as 0"
        )
    return voxels


@contextmanager
def named_damage(path: Path, what: str) -> Iterator[None]:
    """TruncatedFile, beginning with the file, for anything that a library raises in reading it."""
    try:
        yield
    except MemoryError:
        raise DataError(f"{path}: too large for the memory of this machine", "cut it into smaller volumes") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "restore it, or prepare the data set again") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", "change its permissions") from None
    except DAMAGE as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise TruncatedFile(f"{path}: damaged {what} ({reason:.200})", "copy or export it again") from None


def need_library(name: str, path: Path) -> ModuleType:
    """A library of the extra ``medical``; UsageError with the command that installs it where it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise UsageError(
            f"{path}: reading or writing it needs {name.split('.')[0]}, which is not installed", f"run: {install('medical')}"
        ) from None
