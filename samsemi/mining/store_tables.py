"""The tables of a store as HDF5 has them: made empty, filled with maps, and joined from those of parts. Their format stands in
samsemi.mining.store. Needs no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from samsemi.hdf5 import large_hdf5
from samsemi.mining.store import ABOUT, HASHES, IMAGE_MAPS, IMAGE_ROW, OBJECT_ROW, SCHEMA, Mined, Provenance, open_hdf5

ROWS_PER_CHUNK = 1024
"""Of a table."""
SPARE = 2**19
"""Bytes that a store may need more than its parts: the last chunks of its tables are not full."""


class Shape(NamedTuple):
    """What the shapes of a store's datasets depend on."""

    mask_size: int
    num_points: int
    num_classes: int
    map_size: int
    """Side of the network's map."""


def write_maps(tables: Mapping[str, h5py.Dataset], mined: Mined | None, image: int, first: int) -> None:
    """The maps of the ``image``-th image, whose objects begin at ``first``; nothing of one that could not be read."""
    if mined is None:
        return
    for name in IMAGE_MAPS:
        tables[name][image] = getattr(mined, name)
    if len(mined):
        tables["probs"][first : first + len(mined)] = mined.probs


def create(file: h5py.File, provenance: Provenance, images: int, objects: int, shape: Shape) -> None:
    """The empty tables of a store of so many images and objects."""
    file.attrs["schema"] = SCHEMA
    for name in ABOUT:  # of fixed length: other texts HDF5 keeps apart, without a checksum
        file.attrs[name] = np.bytes_(json.dumps(getattr(provenance, name), sort_keys=True))
    create_table(file, "images", (images,), IMAGE_ROW)
    create_table(file, HASHES, (images,), "S64")
    create_table(file, "objects", (objects,), OBJECT_ROW)
    create_table(file, "points/coords", (objects, shape.num_points, 2), "f4")
    create_table(file, "points/labels", (objects, shape.num_points), "i1")
    square = (shape.map_size, shape.map_size)
    create_maps(file, "probs", objects, (shape.mask_size, shape.mask_size), "u1")
    create_maps(file, "network_probs", images, (shape.num_classes, *square), "u1")
    create_maps(file, "components", images, square, "u2")


def create_table(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype | str) -> None:
    """A table in chunks with checksums; of one that is empty there is nothing to check."""
    chunks = (min(shape[0], ROWS_PER_CHUNK), *shape[1:]) if 0 not in shape else None
    file.create_dataset(name, shape, kind, chunks=chunks, fletcher32=chunks is not None)


def create_maps(file: h5py.File, name: str, count: int, shape: tuple[int, ...], kind: str) -> None:
    """``count`` maps, each a gzip chunk of its own with a checksum."""
    packed = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
    file.create_dataset(name, (count, *shape), kind, chunks=(1, *shape), maxshape=(None, *shape), **packed)


def merge(parts: Sequence[Path], counts: Sequence[tuple[int, int]], path: Path, provenance: Provenance, shape: Shape) -> None:
    """Join parts of so many images and objects into one store; compressed chunks are copied as they are."""
    images, objects = np.sum(counts, axis=0) if counts else (0, 0)
    with large_hdf5(path, sum(part.stat().st_size for part in parts) + SPARE) as target:
        create(target, provenance, int(images), int(objects), shape)
        image = first = 0
        for part, (some_images, some_objects) in zip(parts, counts, strict=True):
            with open_hdf5(part) as source:
                copy_part(source, target, image, first)
            image, first = image + some_images, first + some_objects


def copy_part(source: h5py.File, target: h5py.File, image: int, first: int) -> None:
    """Append a part to a target that has ``image`` images and ``first`` objects already."""
    images, objects = source["images"][:], source["objects"][:]
    images["first_object"] += first
    objects["image"] += image
    target["images"][image : image + len(images)] = images
    rows = slice(first, first + len(objects))
    target["objects"][rows] = objects
    for name in ("points/coords", "points/labels"):
        target[name][rows] = source[name][:]
    if HASHES in source:
        target[HASHES][image : image + len(images)] = source[HASHES][:]
    copy_chunks(source["probs"], target["probs"], range(len(objects)), first)
    for name in IMAGE_MAPS:
        copy_chunks(source[name], target[name], np.flatnonzero(images["readable"]).tolist(), image)


def copy_chunks(source: h5py.Dataset, target: h5py.Dataset, rows: Iterable[int], first: int) -> None:
    """Copy rows, compressed as they are, to the rows from ``first`` on; packed anew where a part of before has no checksums."""
    for i in rows:
        if source.fletcher32 != target.fletcher32:
            target[first + i] = source[i]
            continue
        mask, chunk = source.id.read_direct_chunk((i, *[0] * (source.ndim - 1)))
        target.id.write_direct_chunk((first + i, *[0] * (source.ndim - 1)), chunk, mask)
