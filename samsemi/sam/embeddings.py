"""The cache of SAM's embeddings of images, or of windows of them: an HDF5 file, keyed by the pixels, for one SAM's weights.

Embeddings are kept in half precision, and those fresh from the encoder are rounded alike, so that mining with a cold
and with a warm cache gives the same store. Each row has HDF5's own checksum (fletcher32): a damaged one is named, never used; caches of
before have none and are read all the same. There is a dataset for each tensor of an embedding, in the order of the dataset ``keys``.
A vit_b embedding takes 2 MB: 10,000 images take 21 GB. Of several processes each has a file of its own.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import torch

from samsemi import processes
from samsemi.data.images import hash_pixels
from samsemi.errors import CheckpointError
from samsemi.hdf5 import EARLIEST, named_damage, new_hdf5, open_hdf5, reserve
from samsemi.inputs import need_regular
from samsemi.outputs import locked_output, named_errors
from samsemi.sam.checks import encode_images
from samsemi.sam.protocol import Embedding, SamBackend

SCHEMA = "samsemi.embeddings/1"
KEYS = "keys"
"""Dataset of what the pixels of each image hash to; all others are tensors."""
OVERHEAD = 2**16
"""Bytes that HDF5 needs at most for the keys and the index of a batch."""
AGAIN = "remove it, or give another file"
ANOTHER = "give another file, which need not be there yet"


class EmbeddingCache:
    """``encode`` like the backend, but each image only once."""

    def __init__(self, path: Path, sam: SamBackend, precision: str = "fp32", break_lock: bool = False):
        self.sam = sam
        self.path = processes.own_path(Path(path))
        self.about = {"schema": SCHEMA, "sam": sam.name, "identity": sam.identity, "precision": precision}
        self.hits = 0
        """How many images were there already."""
        self.row: dict[str, int] = {}
        with ExitStack() as stack:
            stack.enter_context(locked_output(self.path, break_lock))
            refuse_other_files(self.path)
            if not self.path.exists():
                create(self.path, self.about)
            self.file = self.open(stack)
            self.held = stack.pop_all()

    def open(self, stack: ExitStack) -> h5py.File:
        """The file, to be closed by the stack, and what it has; CheckpointError where it is another SAM's, or damaged."""
        try:
            file = stack.enter_context(h5py.File(self.path, "r+"))
        except OSError as error:
            raise CheckpointError(f"--embeddings {self.path} is not an HDF5 file, or is in use ({error})", ANOTHER) from None
        found = {name: file.attrs.get(name) for name in self.about}
        if found != self.about:
            raise CheckpointError(
                f"--embeddings {self.path} holds embeddings of another SAM, or of other weights: {found['sam']}, {found['precision']}; "
                f"this is {self.about['sam']}, {self.about['precision']}",
                AGAIN,
            )
        self.row = read_keys(file, self.path, self.sam)
        return file

    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Embeddings of (H, W, 3) uint8 images, in half precision; unknown ones are encoded as one batch and kept."""
        keys = [hash_pixels(image) for image in images]
        self.hits += sum(key in self.row for key in keys)
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.row}
        if new:
            fresh = encode_images(self.sam, list(new.values()))
            if not fresh[0].tensors:  # a baseline, which has nothing to cache
                return encode_images(self.sam, images)
            rows = {name: np.stack([e.tensors[name].half().cpu().numpy() for e in fresh]) for name in fresh[0].tensors}
            if not all(np.isfinite(values).all() for values in rows.values()):
                raise CheckpointError(f"{self.sam.name}: its embeddings are too large for half precision", "leave --embeddings out")
            self.append(list(new), rows)
        return [self.read(key, image.shape[:2]) for key, image in zip(keys, images, strict=True)]

    def read(self, key: str, image_size: tuple[int, int]) -> Embedding:
        row = self.row[key]
        with named_damage(f"--embeddings {self.path}: row {row}", AGAIN):
            tensors = {name: torch.from_numpy(self.file[name][row]).float() for name in self.file if name != KEYS}
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("NaN or infinity")
        return Embedding(tensors, image_size)

    def append(self, keys: Sequence[str], tensors: Mapping[str, np.ndarray]) -> None:
        """Write tensors (N, ...), then their N keys, flushing each: a key on disk always has its tensors. Where there is no room, all is as
        before: HDF5 cannot be trusted with a file that it could write half of."""
        count = len(self.row)
        with named_errors(self.path):
            room = sum(rows.nbytes for rows in tensors.values()) + OVERHEAD
            reserve(self.file.id.get_vfd_handle(), self.file.id.get_filesize(), room)  # cut off when the file is opened again
            for name, rows in (*tensors.items(), (KEYS, np.array([key.encode() for key in keys], dtype="S64"))):
                if name not in self.file:
                    shape = rows.shape[1:]
                    chunks, checked = (1, *shape) if shape else None, name != KEYS
                    self.file.create_dataset(name, (0, *shape), rows.dtype, maxshape=(None, *shape), chunks=chunks, fletcher32=checked)
                table = self.file[name]  # open while it is flushed: one that is closed loses what there is no room for, without an error
                table.resize(count + len(keys), axis=0)
                table[count:] = rows
                self.file.flush()
            os.fsync(self.file.id.get_vfd_handle())
        self.row |= {key: count + i for i, key in enumerate(keys)}

    def close(self) -> None:
        """Close the file, and let others have it."""
        self.held.close()


def create(path: Path, about: Mapping[str, str]) -> None:
    """An empty cache, whole or not at all."""
    with new_hdf5(path, EARLIEST) as file:
        file.attrs.update(about)


def refuse_other_files(path: Path) -> None:
    """CheckpointError for anything but a cache of embeddings, without opening it to write."""
    try:
        need_regular(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--embeddings {path} cannot be read ({error})", ANOTHER) from None
    if h5py.is_hdf5(path):
        with open_hdf5(path, ANOTHER) as file:
            if file.attrs.get("schema") != SCHEMA:
                raise CheckpointError(f"--embeddings {path} is no cache of embeddings", ANOTHER)


def read_keys(file: h5py.File, path: Path, sam: SamBackend) -> dict[str, int]:
    """The row of each image; CheckpointError where one lacks a tensor, or tensors are not those of this SAM."""
    what, shapes = f"--embeddings {path}", getattr(sam, "embedding_shapes", {})
    with named_damage(what, AGAIN):
        rows = {key.decode(): i for i, key in enumerate(file[KEYS][:])} if KEYS in file else {}
        tensors = {name: file[name] for name in file if name != KEYS}
        if rows and not (tensors and all(len(table) >= len(rows) for table in tensors.values())):
            raise CheckpointError(f"{what} is damaged: it lacks tensors of its {len(rows)} images", AGAIN)
        for name, table in tensors.items():
            shape = shapes.get(name, table.shape[1:])
            if table.dtype != np.float16 or table.shape[1:] != shape:
                raise CheckpointError(f"{what} is damaged: {name} is {table.dtype} {table.shape[1:]}, not float16 {shape}", AGAIN)
    return rows
