"""NIfTI files: volumes read as slices that look as DICOM's do, and label maps written back on the grid of their source."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samsemi.data.volumes.volume import (
    MOST_BYTES,
    MOST_PACKED,
    Grid,
    Volume,
    as_affine,
    from_slices,
    named_damage,
    need_library,
    need_numbers,
    need_room,
    show_shape,
    spacing_of,
    stored_affine,
    to_slices,
)
from samsemi.errors import DataError, WrongValues
from samsemi.inputs import need_regular
from samsemi.outputs import whole_file

SUFFIXES = (".nii", ".nii.gz")
PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
"""Where the slices, rows and columns of each plane run to, as letters of nibabel: Superior, Posterior, Left, Inferior."""
THICK = 1.1
"""Slices lie along the axis whose voxels are longer by this factor than along both others."""
HEADER = 352
MOST_EXTENSIONS = 2**24
"""Bytes between the header and the voxels."""
MARK = "samsemi"
"""Begins the description of what is written here."""


@contextmanager
def quiet_nibabel(path: Path) -> Iterator[Any]:
    """nibabel without its remarks on stderr, and with its errors named."""
    nibabel = need_library("nibabel", path)
    logger = nibabel.imageglobals.logger
    level = logger.level
    logger.setLevel(100)
    try:
        with np.errstate(all="ignore"), named_damage(path, "NIfTI"):
            yield nibabel
    except (nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path}: not a NIfTI file that can be read ({error})", "export it again") from None
    finally:
        logger.setLevel(level)


def read_header(path: Path) -> tuple[Any, int]:
    """The header of a NIfTI file, and the bytes in front of its voxels; DataError for one whose voxels cannot be there."""
    with quiet_nibabel(path) as nibabel:
        size = need_regular(path).st_size
        with open_nifti(path) as file:
            start = file.read(HEADER)
        if len(start) < HEADER - 4:
            raise EOFError("shorter than a header")
        kind = nibabel.Nifti2Header if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Header
        if kind is nibabel.Nifti2Header:
            with open_nifti(path) as file:
                start = file.read(kind.template_dtype.itemsize)
        header = kind(start[: kind.template_dtype.itemsize])
        offset = int(header.get_data_offset())
        shape, itemsize = header.get_data_shape(), int(header.get_data_dtype().itemsize)
    if not 0 < offset <= HEADER + MOST_EXTENSIONS:
        raise DataError(f"{path}: its header says that the voxels begin at byte {offset}", "export it again as one file .nii or .nii.gz")
    packed = MOST_PACKED if is_packed(path) else 1
    need_room(shape or (0,), itemsize, path, size * packed)
    return header, offset


def is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


@contextmanager
def open_nifti(path: Path) -> Iterator[Any]:
    """The unpacked bytes of a file."""
    with open(path, "rb") as file:
        if not is_packed(path):
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def spatial_shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Lengths along the three axes of the file; DataError where there are more than three."""
    shape = [int(length) for length in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 3:
        raise DataError(
            f"{path}: {show_shape(shape)} voxels, which is more than one volume",
            "write each time point or channel as a file of its own, such as with `fslsplit`, or nibabel's `four_to_three`",
        )
    if len(shape) < 2:
        raise DataError(f"{path}: {show_shape(shape)} voxels are no image", "give 2-D or 3-D images")
    return (*shape, 1)[:3]  # type: ignore[return-value]


def choose_plane(affine: np.ndarray, shape: tuple[int, int, int], nibabel: Any) -> str:
    """In which plane of PLANES the slices lie: across a single layer, else across the axis of the thickest voxels, else axial."""
    axes = nibabel.aff2axcodes(affine)
    across = {"S": "axial", "I": "axial", "A": "coronal", "P": "coronal", "L": "sagittal", "R": "sagittal"}
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return across[axes[single[0]]]
    first, second, _ = np.argsort(-np.array(spacing_of(affine)))
    lengths = spacing_of(affine)
    return across[axes[first]] if lengths[first] > THICK * lengths[second] else "axial"


def grid_of(header: Any, path: Path) -> Grid:
    """How the slices of a file lie, along its last axis where it does not say how it lies; DataError where its affine is no grid."""
    shape = spatial_shape(header, path)
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        return Grid((shape[2], shape[1], shape[0]), spacing=unplaced_spacing(header))
    with quiet_nibabel(path) as nibabel:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9 or max(spacing_of(affine)) > 1e4:
            raise DataError(f"{path}: its affine is no grid of voxels", "export it again, or repair its sform and qform")
        wanted = nibabel.orientations.axcodes2ornt(tuple(PLANES[choose_plane(affine, shape, nibabel)]))
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted)
        turned = affine @ nibabel.orientations.inv_ornt_aff(turn, shape)
    stored = tuple((int(axis), int(sign)) for axis, sign in turn)
    lengths = [0, 0, 0]
    for length, (axis, _) in zip(shape, stored, strict=True):
        lengths[axis] = length
    return Grid((lengths[0], lengths[1], lengths[2]), as_affine(turned), spacing_of(turned), stored)


def unplaced_spacing(header: Any) -> tuple[float, ...] | None:
    """z y x in mm of a file that does not say how it lies; None where its lengths cannot be."""
    x, y, z = (*(float(length) for length in header["pixdim"][1:4]),)
    return (z, y, x) if all(0 < length < 1e4 for length in (x, y, z)) else None


@dataclass(frozen=True)
class NiftiFile:
    """A NIfTI file of one volume, or of a single slice."""

    path: Path
    is_volume: bool = True

    def grid(self) -> Grid:
        """How its slices lie, from its header alone."""
        return grid_of(read_header(self.path)[0], self.path)

    def read(self) -> Volume:
        return read_nifti(self.path)


def read_nifti(path: Path) -> Volume:
    """A NIfTI file of two or three dimensions, scaled as its header says; DataError for any other."""
    header, offset = read_header(path)
    grid = grid_of(header, path)
    dtype, shape = header.get_data_dtype(), spatial_shape(header, path)
    if dtype.names or dtype.kind not in "biuf":
        raise WrongValues(f"{path}: voxels of type {header.get_value_label('datatype')}, which are no gray", "export gray values")
    with named_damage(path, "NIfTI"), open_nifti(path) as file:
        needed = int(np.prod(shape)) * dtype.itemsize
        file.read(offset)
        data = read_exactly(file, needed)
        file.read(1)  # at the end of a packed file its checksum is compared
        stored = np.frombuffer(data, dtype=dtype).reshape(shape, order="F")
    with quiet_nibabel(path):
        slope, inter = header.get_slope_inter()
    if (slope, inter) not in ((None, None), (1.0, 0.0)):
        stored = stored.astype(np.float32) * np.float32(slope) + np.float32(inter or 0)
    return Volume(to_slices(need_numbers(stored, path), grid), grid)


def read_exactly(file: Any, count: int) -> bytes:
    """So many bytes; EOFError where there are fewer."""
    data = file.read(min(count, MOST_BYTES))
    if len(data) < count:
        raise EOFError(f"{len(data)} of {count} bytes of voxels are there")
    return data


def write_nifti(path: Path, label: np.ndarray, grid: Grid, source: str = "") -> None:
    """Write (D, H, W) uint8 class indices on the grid of their source, whole or not at all; its description names the SHA-256 of that."""
    nibabel = need_library("nibabel", path)
    image = nibabel.Nifti1Image(np.ascontiguousarray(from_slices(label, grid)), None)
    affine = stored_affine(grid)
    image.header.set_xyzt_units("mm" if grid.spacing else "unknown")
    image.set_sform(affine, code=1 if grid.affine else 0)
    image.set_qform(affine, code=1 if grid.affine else 0, strip_shears=True)
    image.header["descrip"] = f"{MARK} {source}".encode()[:79]
    with whole_file(path, sync=False) as part:
        nibabel.save(image, part)


def source_of_nifti(path: Path) -> str | None:
    """What a NIfTI file was written from here; None where it is of others, or does not say."""
    with suppress(DataError):
        words = bytes(read_header(path)[0]["descrip"]).decode("latin-1").rstrip("\0").split(" ")
        return words[1] if words[:1] == [MARK] and len(words) > 1 else None
    return None
