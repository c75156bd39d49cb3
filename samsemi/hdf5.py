"""HDF5 files that may be anything: nothing outside of the file is read, and what is damaged in it is named. Needs no torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from samsemi.errors import CheckpointError
from samsemi.inputs import need_regular

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


def read_whole(dataset: h5py.Dataset) -> np.ndarray:
    """All of a dataset; ValueError where the file holds fewer bytes than its shape says, which would be filled up."""
    packed = MOST_PACKED if dataset.compression else 1
    if dataset.size * dataset.dtype.itemsize > packed * dataset.id.get_storage_size():
        raise ValueError(f"{dataset.name} has fewer bytes than its shape says")
    return dataset[:]
