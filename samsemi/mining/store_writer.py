"""Writing a pseudo-label store part by part; its format stands in samsemi.mining.store. Needs no torch.

While mining, every batch becomes a part of its own, ``STORE.h5.parts/000012.h5``, written under a temporary name,
synced and renamed: what was killed loses at most the batch in flight. Parts are the same whatever was interrupted, and
``finish`` copies them, compressed as they are, into one file. A store that is to be replaced stays until that file is whole.

A writer has a store alone while the lock of the store is held (samsemi.outputs). Parts need no lock in common: several writers, each
with the lock of its own share of the batches, may write into one folder of parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samsemi.errors import CheckpointError, RefusedError
from samsemi.folders import AWAY, schema_of
from samsemi.hdf5 import named_damage, new_hdf5, read_through
from samsemi.mining.store import (
    EARLIER,
    HASHES,
    IMAGE_MAPS,
    IMAGE_ROW,
    OBJECT_ROW,
    SCHEMA,
    STORED,
    Mined,
    Provenance,
    open_hdf5,
    read_provenance,
)
from samsemi.mining.store_tables import Shape, create, merge, write_maps
from samsemi.outputs import PART, is_temporary, new_name, refuse_changes, refuse_taken, remove, try_file
from samsemi.sam.prompts import Prompts

PARTS = f"{'[0-9]' * 6}.h5"
"""Names of parts, as a pattern."""


@dataclass(frozen=True)
class Pending:
    """An image that is not written yet, and what was mined in it; without that, one that could not be read."""

    id: str
    size: tuple[int, int]
    """(H, W); (0, 0) of an image that could not be read."""
    mined: Mined | None = None
    prompts: Prompts | None = None
    sha256: str = ""
    """Of its file."""

    def __len__(self) -> int:
        return 0 if self.mined is None else len(self.mined)


class Columns(NamedTuple):
    """Images, their N objects and P points of each as the store has them."""

    images: np.ndarray
    """Of IMAGE_ROW."""
    objects: np.ndarray
    """(N,) of OBJECT_ROW."""
    coords: np.ndarray
    """(N, P, 2) float32."""
    labels: np.ndarray
    """(N, P) int8."""


class StoreWriter:
    """Writes a store part by part: ``add`` images, ``commit`` a part, ``finish`` all."""

    def __init__(
        self,
        path: Path,
        provenance: Provenance,
        mask_size: int,
        num_points: int,
        num_classes: int,
        overwrite: bool = False,
        resume: bool = False,
        inputs: Sequence[Path] = (),
        map_size: int | None = None,
    ):
        self.path = Path(path)
        self.parts = parts_of(self.path)
        self.provenance = provenance
        self.shape = Shape(mask_size, num_points, num_classes, map_size or mask_size)
        self.pending: list[Pending] = []
        self.own: set[Path] = set()
        """The parts that this command has written."""
        self.claim(overwrite, resume, inputs)

    def claim(self, overwrite: bool, resume: bool, inputs: Sequence[Path]) -> None:
        """Refuse what exists, remove it, or take it up; what is no store, or is one of the ``inputs``, is never removed."""
        refuse_store(self.path, overwrite, resume, inputs)
        begun = find_parts(self.path)
        if overwrite:
            self.remove_parts()
        elif begun or self.path.exists():
            before = read_provenance(begun[0] if begun else self.path)
            refuse_changes(before.flat(), self.provenance.flat(), str(self.path))
        self.finished = self.path.exists() and not overwrite and not begun

    def is_finished(self) -> bool:
        """True where the whole store stands, and none is being made in its place."""
        return self.finished

    def remove_parts(self) -> None:
        """Remove the parts with their folder, all at once: those that are there are all that were written."""
        if find_parts(self.path):
            aside = new_name(self.parts.parent, PART)
            self.parts.rename(aside)
            remove(aside)

    def has_part(self, number: int) -> bool:
        return self.part_path(number).exists()

    def part_path(self, number: int) -> Path:
        return self.parts / f"{number:06d}.h5"

    def add(self, image_id: str, image_shape: Sequence[int], mined: Mined, prompts: Prompts | None = None, sha256: str = "") -> None:
        """An image of (H, W, ...) and what was mined in it; prompts only where there are objects; ``sha256`` is that of its file."""
        height, width = image_shape[:2]
        self.pending.append(Pending(image_id, (height, width), mined, prompts, sha256))

    def add_unreadable(self, image_id: str) -> None:
        """An image that could not be read."""
        self.pending.append(Pending(image_id, (0, 0)))

    def commit(self, number: int) -> None:
        """Write what was added as part ``number``, whole or not at all."""
        images, objects, coords, labels = self.columns()
        with new_hdf5(self.part_path(number)) as file:
            create(file, self.provenance, len(images), len(objects), self.shape)
            file["images"][:], file["objects"][:] = images, objects
            file["points/coords"][:], file["points/labels"][:] = coords, labels
            file[HASHES][:] = np.array([image.sha256 for image in self.pending], "S64")
            tables = {name: file[name] for name in ("probs", *IMAGE_MAPS)}  # each is looked up once
            for i, (image, first) in enumerate(zip(self.pending, images["first_object"], strict=True)):
                write_maps(tables, image.mined, i, int(first))
        self.own.add(self.part_path(number))
        self.pending = []

    def columns(self) -> Columns:
        """The pending images as rows of the store's tables."""
        first = np.cumsum([0, *(len(image) for image in self.pending)]).tolist()
        rows = [
            (image.id, *image.size, start, len(image), image.mined is not None) for image, start in zip(self.pending, first, strict=False)
        ]
        objects = np.empty(first[-1], OBJECT_ROW)
        coords, labels = np.zeros((len(objects), self.shape.num_points, 2), "f4"), np.zeros((len(objects), self.shape.num_points), "i1")
        for i, image in enumerate(self.pending):
            if image.mined is None or not len(image):
                continue
            own = slice(first[i], first[i + 1])
            objects["image"][own] = i
            for name, column in STORED.items():
                objects[column][own] = getattr(image.mined, name)
            if self.shape.num_points:
                assert image.prompts is not None and image.prompts.point_coords is not None
                coords[own], labels[own] = image.prompts.point_coords, image.prompts.point_labels
        return Columns(np.array(rows, IMAGE_ROW), objects, coords, labels)

    def finish(
        self, ids: Sequence[str], policy: Mapping[str, object] | None = None, calibration: Mapping[str, object] | None = None
    ) -> None:
        """Merge the parts, in their order, into the store, and remove them; with what is accepted, where that is known only now.

        CheckpointError unless they are all there, and hold the images of ``ids`` in their order.
        """
        provenance = self.provenance
        if policy is not None:
            provenance = replace(provenance, policy=policy, calibration=calibration or {})
        parts = find_parts(self.path)
        merge(parts, self.check(parts, ids), self.path, provenance, self.shape)
        self.finished = True
        self.remove_parts()

    def check(self, parts: Sequence[Path], ids: Sequence[str]) -> list[tuple[int, int]]:
        """The numbers of images and of objects of each part, all of it read that another command has written: compressed rows are joined
        unread.

        CheckpointError naming the first that is missing, damaged, or holds other images than are to be in the store.
        """
        counts, first = [], 0
        for number, part in enumerate(parts):
            if part != self.part_path(number):
                raise missing_part(self.part_path(number))
            with named_damage(part, "remove it: --resume mines it again"), open_hdf5(part) as file:
                found = [image_id.decode() for image_id in file["images"]["id"]]
                if part not in self.own:
                    read_through(file)
                counts.append((len(found), len(file["objects"])))
            due = list(ids[first : first + len(found)])
            if found != due:
                other = next(one for one in zip_longest(found, due) if one[0] != one[1])
                raise CheckpointError(f"{part} has image {other[0]} where {other[1]} is due", "start anew with --overwrite")
            first += len(found)
        if first < len(ids):
            raise missing_part(self.part_path(len(parts)))
        return counts


def parts_of(store: Path) -> Path:
    """The folder of the parts of a store that is being written."""
    return store.with_name(store.name + ".parts")


def refuse_store(store: Path, overwrite: bool, resume: bool, inputs: Sequence[Path] = ()) -> None:
    """RefusedError where a store may not be written, by what stands there; what it was mined with and from is not compared."""
    refuse_taken(store, "a store", is_store, overwrite or resume, inputs)
    begun = find_parts(store)
    if begun and not overwrite:
        if not resume:
            raise RefusedError(f"{store} was begun and not finished", "go on with --resume, or start anew with --overwrite")
        refuse_earlier(begun[0], store)
    try_file(store)


def find_parts(store: Path) -> list[Path]:
    """The parts of a store so far; RefusedError where something stands among them that is none."""
    parts = parts_of(store)
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise RefusedError(f"{parts} is no folder of parts", AWAY)
    found = sorted(path for path in parts.iterdir() if not is_temporary(path)) if parts.exists() else []
    for part in found:
        if not (part.match(PARTS) and part.is_file() and not part.is_symlink() and is_store(part)):
            raise RefusedError(f"{part} is no part of a store, and is not removed", AWAY)
    return found


def missing_part(part: Path) -> CheckpointError:
    return CheckpointError(f"{part} is missing: it was removed after it was written", "--resume mines it again")


def is_store(path: Path) -> bool:
    """True for a file that names a schema of stores, of whatever version."""
    return schema_of(path).startswith(SCHEMA.rpartition("/")[0])


def refuse_earlier(part: Path, path: Path) -> None:
    """RefusedError for a part of an unfinished store of schema 1, to which parts of today cannot be joined."""
    if schema_of(part) == EARLIER:
        raise RefusedError(f"{path} was begun by an earlier samsemi (schema {EARLIER}) and not finished", "start anew with --overwrite")
