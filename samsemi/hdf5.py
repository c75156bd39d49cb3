"""HDF5 files: those that are read may be anything, nothing outside of them is read, and what is damaged is named; those that are
written are whole or absent. Needs no torch."""

import errno
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from samsemi.errors import CheckpointError
from samsemi.inputs import need_regular
from samsemi.outputs import whole_file

MOST_OBJECTS = 64
"""Groups and datasets in a file; no file of samsemi comes near."""
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
"""Of chunks; others need plugins."""
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
"""Of datasets that lie in the file itself."""
MOST_PACKED = 1100
"""Bytes that a byte of gzip can hold, at most."""
DAMAGE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
"""What h5py raises where bytes are not what their place promises."""
CHECKED, EARLIEST = "v110", "earliest"
"""Versions of the format: HDF5's own tables have checksums, but a file that was open to be written when it was killed cannot be opened
again; the other way round."""
CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""What the system says where a file system cannot reserve room."""


@contextmanager
def named_damage(what: object, hint: str) -> Iterator[None]:
    """CheckpointError, beginning with ``what``, for anything that reading raises."""
    try:
        yield
    except DAMAGE as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{what} is damaged ({reason})", hint) from None


def open_hdf5(path: Path, hint: str) -> h5py.File:
    """An HDF5 file to read; CheckpointError where there is none, or where any of it lies in, or leads to, other files."""
    try:
        need_regular(path)
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file", hint) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not an HDF5 file, or is damaged ({error})", hint) from None
    try:
        with named_damage(path, hint):
            refuse_outside(file, path, hint)
    except CheckpointError:
        file.close()
        raise
    return file


def refuse_outside(file: h5py.File, path: Path, hint: str) -> None:
    """CheckpointError for links other than hard ones, virtual datasets, external storage, filters that need plugins, and for more
    objects than any file of samsemi has."""
    groups: list[h5py.Group] = [file]
    count = 0
    while groups:
        group = groups.pop()
        count += len(group)
        if count > MOST_OBJECTS:
            raise CheckpointError(f"{path} is no file of samsemi: it holds more than {MOST_OBJECTS} objects", hint)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise CheckpointError(f"{path}: {name} is a link, which may lead to other files", hint)
            found = group[name]
            if isinstance(found, h5py.Group):
                groups.append(found)
            elif isinstance(found, h5py.Dataset) and lies_outside(found):
                raise CheckpointError(f"{path}: {name} lies in other files, or needs a plugin", hint)


def lies_outside(dataset: h5py.Dataset) -> bool:
    """Whether what a dataset holds stands in other files, or cannot be read without code from elsewhere."""
    made = dataset.id.get_create_plist()
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    return made.get_layout() not in LAYOUTS or made.get_external_count() > 0 or not filters <= set(FILTERS)


def need_dataset(file: h5py.File, name: str, kind: np.dtype, shape: Sequence[int | None], hint: str) -> h5py.Dataset:
    """A dataset of a type and shape, None for any length; CheckpointError where it is not there, or another."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise CheckpointError(f"{file.filename} is damaged: it lacks {name}", hint)
    fits = len(found.shape) == len(shape) and all(want in (None, have) for have, want in zip(found.shape, shape, strict=True))
    if not fits or not same_type(found.dtype, kind):
        wanted = " x ".join("n" if length is None else str(length) for length in shape)
        raise CheckpointError(f"{file.filename} is damaged: {name} is {found.dtype} {found.shape}, not {kind} {wanted}"[:400], hint)
    return found


def same_type(found: np.dtype, wanted: np.dtype) -> bool:
    """Whether two types are the same, whatever their names of columns are to HDF5; text is text."""
    if wanted.names:
        return set(found.names or ()) == set(wanted.names) and all(same_type(found[name], wanted[name]) for name in wanted.names)
    return bool(h5py.check_string_dtype(found)) if h5py.check_string_dtype(wanted) else found == wanted


def read_through(file: h5py.File) -> None:
    """Read all rows, a chunk in memory at a time or a table, so that HDF5 compares all checksums; what it raises, or ValueError."""

    def read(_: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks and item.chunks[0] == 1:
            for row in range(len(item)):
                item[row]
        elif isinstance(item, h5py.Dataset):
            read_whole(item)

    file.visititems(read)


def read_whole(dataset: h5py.Dataset) -> np.ndarray:
    """All of a dataset; ValueError where the file holds fewer bytes than its shape says, which would be filled up."""
    packed = MOST_PACKED if dataset.compression else 1
    if dataset.size * dataset.dtype.itemsize > packed * dataset.id.get_storage_size():
        raise ValueError(f"{dataset.name} has fewer bytes than its shape says")
    return dataset[:]


@contextmanager
def new_hdf5(path: Path, version: str = CHECKED) -> Iterator[h5py.File]:
    """An HDF5 file made in memory, which appears under its name only when it is whole and on disk.

    HDF5 itself never writes where there may be no room: it cannot close a file of which it could write half.
    """
    content = io.BytesIO()
    with h5py.File(content, "w", libver=version) as file:
        yield file
    with whole_file(path) as part:
        part.write_bytes(content.getbuffer())


@contextmanager
def large_hdf5(path: Path, room: int) -> Iterator[h5py.File]:
    """Likewise for a file of up to ``room`` bytes, more than memory may hold: the room is reserved before HDF5 writes."""
    with whole_file(path) as part:
        with new_hdf5(part):
            pass
        with open(part, "r+b") as file:
            reserve(file.fileno(), os.path.getsize(part), room)
        with h5py.File(part, "r+", libver=CHECKED) as file:  # and cuts off what is left over when it is closed
            yield file


def reserve(descriptor: int, end: int, size: int) -> None:
    """OSError where a file that ends at a byte cannot grow by so many; where the system, or the file system, cannot reserve, nothing is."""
    try:
        os.posix_fallocate(descriptor, end, size)
    except OSError as error:
        os.ftruncate(descriptor, end)
        if error.errno not in CANNOT_RESERVE:
            raise
    except AttributeError:  # macOS has no such call
        return
