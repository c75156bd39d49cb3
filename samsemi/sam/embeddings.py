"""The cache of SAM's image embeddings: an HDF5 file, keyed by the pixels of the image, for one SAM's weights.

Embeddings are kept in half precision, and those fresh from the encoder are rounded alike, so that mining with a cold
and with a warm cache gives the same store. A vit_b embedding takes 2 MB: 10,000 images take 21 GB.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from samsemi.data.images import hash_pixels
from samsemi.errors import CheckpointError
from samsemi.outputs import make_folder, named_errors
from samsemi.sam.protocol import Embedding, SamBackend

SCHEMA = "samsemi.embeddings/1"


class EmbeddingCache:
    """``encode`` like the backend, but each image only once."""

    def __init__(self, path: Path, sam: SamBackend, precision: str = "fp32"):
        self.sam = sam
        self.path = Path(path)
        make_folder(self.path.parent)
        try:
            self.file = h5py.File(self.path, "a")
        except OSError as error:
            raise CheckpointError(
                f"--embeddings {path} is not an HDF5 file, or is in use ({error})", "remove it, or give another file"
            ) from None
        about = {"schema": SCHEMA, "sam": sam.name, "identity": sam.identity, "precision": precision}
        if not self.file.attrs and not len(self.file):
            self.file.attrs.update(about)
        found = {name: self.file.attrs.get(name) for name in about}
        if found != about:
            self.file.close()
            raise CheckpointError(
                f"--embeddings {path} holds embeddings of another SAM ({found['sam']}, {found['precision']}) than {sam.name}, {precision}",
                "give another file, or remove it",
            )
        keys = self.file["keys"][:] if "keys" in self.file else []
        self.row = {key.decode(): i for i, key in enumerate(keys)}

    def encode(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Embeddings of (H, W, 3) uint8 images, in half precision; unknown ones are encoded as one batch and kept."""
        keys = [hash_pixels(image) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.row}
        if new:
            fresh = self.sam.encode(list(new.values()))
            if not fresh[0].features.numel():  # a baseline, which has nothing to remember
                return self.sam.encode(images)
            self.append(list(new), [e.features.half().cpu().numpy() for e in fresh])
        return [
            Embedding(torch.from_numpy(self.file["features"][self.row[key]]).float(), image.shape[:2])
            for key, image in zip(keys, images, strict=True)
        ]

    def append(self, keys: Sequence[str], features: Sequence[np.ndarray]) -> None:
        """Write features, then their keys, then flush: a key on disk always has its features."""
        if "keys" not in self.file:
            shape = features[0].shape
            self.file.create_dataset("features", (0, *shape), "f2", maxshape=(None, *shape), chunks=(1, *shape))
            self.file.create_dataset("keys", (0,), "S64", maxshape=(None,))
        count = len(self.row)
        with named_errors(self.path):
            for name, rows in (("features", features), ("keys", [key.encode() for key in keys])):
                table = self.file[name]  # open while it is flushed: one that is closed loses what there is no room for, unsaid
                table.resize(count + len(keys), axis=0)
                table[count:] = np.asarray(rows)
                self.file.flush()
            os.fsync(self.file.id.get_vfd_handle())
        self.row |= {key: count + i for i, key in enumerate(keys)}

    def close(self) -> None:
        self.file.close()
