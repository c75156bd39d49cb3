"""The pseudo-label store: plain HDF5 that any h5py reads, schema ``samsemi.pseudo-labels/1``. Knows nothing of torch.

    /images   table: id, height, width, first_object, num_objects, readable
    /objects  table: image, class_id, box, the scores (samsemi.mining.scores), area
    /points   coords (object, P, 2) x y and labels (object, P); P = 0 where SAM was prompted without points
    /probs    uint8 (object, S, S) SAM's mask probability times 255, one gzip chunk per object; /prior likewise
    attributes of the root: schema, config, made_from, policy, calibration (JSON)

While mining, every batch becomes a part of its own, ``STORE.h5.parts/000012.h5``, written under a temporary name,
synced and renamed: what was killed loses at most the batch in flight. Parts are the same whatever was interrupted, and
``finish`` copies them, compressed as they are, into one file.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from samsemi.errors import CheckpointError, RefusedError
from samsemi.mining.scores import COLUMNS, SCORES
from samsemi.outputs import refuse_changes, refuse_file, try_file, whole_file
from samsemi.sam.prompts import Prompts
from samsemi.schemas import from_json, need_schema

SCHEMA = "samsemi.pseudo-labels/1"
IMAGE_ROW = np.dtype(
    [("id", h5py.string_dtype()), ("height", "i4"), ("width", "i4"), ("first_object", "i8"), ("num_objects", "i4"), ("readable", "?")]
)
OBJECT_ROW = np.dtype(
    [
        ("image", "i8"),
        ("class_id", "u1"),
        ("box", "f4", (4,)),
        *((name, "f4") for name in COLUMNS),
        ("area", "i8"),
    ]
)
STORED = ("class_id", *COLUMNS, "area")
"""Columns that are fields of Mined under the same name."""
MAPS = ("probs", "prior")
AGAIN = "mine it again with --overwrite"
ABOUT = ("config", "made_from", "policy", "calibration")
"""Attributes of the root: the fields of Provenance."""


Scored = make_dataclass("Scored", [(score.name, np.ndarray) for score in SCORES], frozen=True)
"""A field for each of SCORES: (N,) float32."""
Scored.__doc__ = "\n".join(f"{score.name}: {score.meaning}" for score in SCORES)


@dataclass(frozen=True)
class Mined(Scored):  # type: ignore[valid-type, misc]
    """SAM's N masks of one image, with their SCORES."""

    image_size: tuple[int, int]
    """(H, W) of the image."""
    class_id: np.ndarray
    """(N,) uint8."""
    boxes: np.ndarray
    """(N, 4) float32 x0 y0 x1 y1 of the objects that prompted, in image pixels."""
    area: np.ndarray
    """(N,) int64 pixels of SAM's mask, at image size."""
    probs: np.ndarray
    """(N, S, S) uint8: SAM's probability times 255, the image resized to a square."""
    prior: np.ndarray
    """(N, S, S) uint8: likewise the U-Net++'s map of the object that prompted."""

    def __len__(self) -> int:
        return len(self.class_id)


@dataclass(frozen=True)
class Provenance:
    """What a store was made with and from; plain JSON values."""

    config: Mapping[str, object]
    made_from: Mapping[str, object]
    policy: Mapping[str, object]
    """What is accepted, unless a reader says otherwise (see samsemi.mining.policy)."""
    calibration: Mapping[str, object] = field(default_factory=dict)
    """What that was fitted to, and the curve of coverage against true Dice; empty without a calibration."""

    def flat(self) -> dict[str, object]:
        """Options and inputs by name, as JSON gives them back."""
        return json.loads(json.dumps({**self.config, **self.made_from}))


class StoreWriter:
    """Writes a store part by part: ``add`` images, ``commit`` a part, ``finish`` all."""

    def __init__(self, path: Path, provenance: Provenance, mask_size: int, num_points: int, overwrite: bool = False, resume: bool = False):
        self.path = Path(path)
        self.parts = self.path.with_name(self.path.name + ".parts")
        self.provenance = provenance
        self.mask_size, self.num_points = mask_size, num_points
        self.pending: list[tuple[str, tuple[int, int], Mined | None, Prompts | None, bool]] = []
        self.claim(overwrite, resume)

    def claim(self, overwrite: bool, resume: bool) -> None:
        """Refuse what exists, remove it, or take it up."""
        refuse_file(self.path.parent)
        if self.path.is_dir():
            raise RefusedError(f"{self.path} is a folder", "give a file name as --out")
        if self.path.exists() and not h5py.is_hdf5(self.path):
            raise RefusedError(f"{self.path} is not a store", "give another --out, or remove it yourself")
        if overwrite:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self.parts, ignore_errors=True)
        elif resume:
            for where in (self.path, *sorted(self.parts.glob("[0-9]*.h5"))[:1]):
                if where.exists():
                    refuse_changes(read_provenance(where).flat(), self.provenance.flat(), str(self.path))
        elif self.path.exists():
            raise RefusedError(f"{self.path} exists", "give another --out, or --overwrite")
        elif self.parts.exists():
            raise RefusedError(f"{self.path} was begun and not finished", "go on with --resume, or start anew with --overwrite")
        try_file(self.path)

    def is_finished(self) -> bool:
        """True where the whole store stands; what its parts left is removed."""
        if self.path.exists():
            shutil.rmtree(self.parts, ignore_errors=True)
        return self.path.exists()

    def has_part(self, number: int) -> bool:
        return self.part_path(number).exists()

    def part_path(self, number: int) -> Path:
        return self.parts / f"{number:06d}.h5"

    def add(self, image_id: str, image_shape: Sequence[int], mined: Mined | None = None, prompts: Prompts | None = None) -> None:
        """An image of (H, W, ...) and its mined objects; without them, one in which nothing was found."""
        self.pending.append((image_id, tuple(image_shape[:2]), mined, prompts, True))

    def add_unreadable(self, image_id: str) -> None:
        """An image that could not be read."""
        self.pending.append((image_id, (0, 0), None, None, False))

    def commit(self, number: int) -> None:
        """Write what was added as part ``number``, whole or not at all."""
        images, objects, points, maps = self.columns()
        with new_hdf5(self.part_path(number)) as file:
            create(file, self.provenance, len(images), len(objects), self.mask_size, self.num_points)
            file["images"][:] = images
            file["objects"][:] = objects
            file["points/coords"][:], file["points/labels"][:] = points
            for name in MAPS:
                for i, row in enumerate(maps[name]):
                    file[name][i] = row
        self.pending = []

    def columns(self) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
        """The pending images as rows of the store's tables."""
        images = np.empty(len(self.pending), dtype=IMAGE_ROW)
        objects, coords, labels = [np.empty(0, OBJECT_ROW)], [], []
        maps: dict[str, list[np.ndarray]] = {name: [] for name in MAPS}
        first = 0
        for i, (image_id, (height, width), mined, prompts, readable) in enumerate(self.pending):
            count = len(mined) if mined is not None else 0
            images[i] = (image_id, height, width, first, count, readable)
            first += count
            if not count:
                continue
            rows = np.empty(count, dtype=OBJECT_ROW)
            rows["image"], rows["box"] = i, mined.boxes
            for name in STORED:
                rows[name] = getattr(mined, name)
            objects.append(rows)
            for name in MAPS:
                maps[name].extend(getattr(mined, name))
            if self.num_points:
                coords.append(prompts.point_coords)
                labels.append(prompts.point_labels)
        objects = np.concatenate(objects)
        shape = (len(objects), self.num_points)
        points = (np.concatenate(coords) if coords else np.zeros((*shape, 2)), np.concatenate(labels) if labels else np.zeros(shape))
        return images, objects, points, maps

    def finish(self, policy: Mapping[str, object] | None = None, calibration: Mapping[str, object] | None = None) -> None:
        """Merge the parts, in their order, into the store, and remove them; with what is accepted, where that is known only now."""
        provenance = self.provenance
        if policy is not None:
            provenance = replace(provenance, policy=policy, calibration=calibration or {})
        merge(sorted(self.parts.glob(f"{'[0-9]' * 6}.h5")), self.path, provenance, self.mask_size, self.num_points)
        shutil.rmtree(self.parts, ignore_errors=True)


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name only when it is whole and on disk."""
    with whole_file(path) as part, h5py.File(part, "w") as file:
        yield file


def create(file: h5py.File, provenance: Provenance, images: int, objects: int, mask_size: int, num_points: int) -> None:
    """The empty tables of a store of so many images and objects."""
    file.attrs["schema"] = SCHEMA
    for name in ABOUT:
        file.attrs[name] = json.dumps(getattr(provenance, name), sort_keys=True)
    file.create_dataset("images", (images,), IMAGE_ROW)
    file.create_dataset("objects", (objects,), OBJECT_ROW)
    file.create_dataset("points/coords", (objects, num_points, 2), "f4")
    file.create_dataset("points/labels", (objects, num_points), "i1")
    for name in MAPS:
        file.create_dataset(
            name,
            (objects, mask_size, mask_size),
            "u1",
            compression="gzip",
            compression_opts=1,
            chunks=(1, mask_size, mask_size),
            maxshape=(None, mask_size, mask_size),
        )


def merge(parts: Sequence[Path], path: Path, provenance: Provenance, mask_size: int, num_points: int) -> None:
    """Join parts into one store; compressed chunks are copied as they are."""
    counts = []
    for part in parts:
        with open_hdf5(part) as file:
            counts.append((len(file["images"]), len(file["objects"])))
    images, objects = np.sum(counts, axis=0) if counts else (0, 0)
    with new_hdf5(path) as target:
        create(target, provenance, int(images), int(objects), mask_size, num_points)
        image = first = 0
        for part, (some_images, some_objects) in zip(parts, counts, strict=True):
            with open_hdf5(part) as source:
                copy_part(source, target, image, first)
            image, first = image + some_images, first + some_objects


def copy_part(source: h5py.File, target: h5py.File, image: int, first: int) -> None:
    """Copy a part behind the ``image`` images and ``first`` objects that the target has already."""
    images, objects = source["images"][:], source["objects"][:]
    images["first_object"] += first
    objects["image"] += image
    target["images"][image : image + len(images)] = images
    rows = slice(first, first + len(objects))
    target["objects"][rows] = objects
    for name in ("points/coords", "points/labels"):
        target[name][rows] = source[name][:]
    for name in MAPS:
        for i in range(len(objects)):
            mask, chunk = source[name].id.read_direct_chunk((i, 0, 0))
            target[name].id.write_direct_chunk((first + i, 0, 0), chunk, mask)


class Store:
    """A finished store, to read. Its tables are in memory, masks are read when they are needed.

    The file is opened by each process on first use, since HDF5 handles survive neither pickling nor forking.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.provenance = read_provenance(self.path)
        try:
            with open_hdf5(self.path) as file:
                need_tables(file, self.path)
                self.images = file["images"][:]
                self.objects = file["objects"][:]
                self.mask_size = file["probs"].shape[-1]
        except (KeyError, AttributeError, IndexError, OSError) as error:
            raise CheckpointError(f"{path} is a damaged store ({error})", AGAIN) from None
        self.ids = [image_id.decode() for image_id in self.images["id"]]
        self.row = {image_id: i for i, image_id in enumerate(self.ids)}
        self.handle: tuple[int, h5py.File] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "handle": None}

    def file(self) -> h5py.File:
        if self.handle is None or self.handle[0] != os.getpid():
            self.handle = (os.getpid(), h5py.File(self.path, "r"))
        return self.handle[1]

    def image_size(self, image_id: str) -> tuple[int, int]:
        row = self.images[self.row[image_id]]
        return int(row["height"]), int(row["width"])

    def rows(self, image_id: str) -> slice:
        row = self.images[self.row[image_id]]
        return slice(int(row["first_object"]), int(row["first_object"] + row["num_objects"]))

    def read(self, image_id: str, maps: bool = True) -> Mined:
        """The mined objects of an image; without ``maps`` only their scores, which are in memory."""
        rows = self.rows(image_id)
        objects = self.objects[rows]
        empty = np.zeros((len(objects), 0, 0), dtype=np.uint8)
        loaded = {name: self.file()[name][rows] if maps else empty for name in MAPS}
        return Mined(image_size=self.image_size(image_id), boxes=objects["box"], **{name: objects[name] for name in STORED}, **loaded)

    def read_points(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, P, 2) x y and (N, P) labels of the points that SAM was prompted with."""
        rows = self.rows(image_id)
        return self.file()["points/coords"][rows], self.file()["points/labels"][rows]


def need_tables(file: h5py.File, path: Path) -> None:
    """CheckpointError unless the tables have the columns of this schema, neither fewer nor more."""
    for name, row in (("images", IMAGE_ROW), ("objects", OBJECT_ROW)):
        columns = ", ".join(sorted(set(file[name].dtype.names or ()) ^ set(row.names or ())))
        if columns:
            raise CheckpointError(f"{path}: the table {name} is of another version of samsemi: {columns}", AGAIN)


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file to read; CheckpointError where there is none."""
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such store", "make it with `samsemi mine`; finish an interrupted one with --resume") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not an HDF5 file, or is damaged ({error})", AGAIN) from None


def read_provenance(path: Path) -> Provenance:
    """What a store says of itself; CheckpointError for a file that is not one, or of another schema."""
    with open_hdf5(path) as file:
        need_schema(file.attrs.get("schema"), SCHEMA, str(path), "a pseudo-label store", "give a store made by `samsemi mine`")
        try:
            about = {name: json.loads(file.attrs[name]) for name in ABOUT}
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is a damaged store ({error!r})", AGAIN) from None
    return from_json(Provenance, about, str(path), AGAIN)
