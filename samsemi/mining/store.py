"""The pseudo-label store: plain HDF5 that any h5py reads, schema ``samsemi.pseudo-labels/2``. Needs no torch.

/images         table: id, height, width, first_object, num_objects, readable
/objects        table: image, class_id, box, prompt_box, window, the scores (samsemi.mining.scores), area
/points         coords (object, P, 2) x y and labels (object, P); P = 0 where SAM was prompted without points
/probs          uint8 (object, S, S) SAM's mask probability times 255, over the object's window; one gzip chunk per object
/network_probs  uint8 (image, K, T, T) the network's probabilities times 255; one gzip chunk per image
/components     uint16 (image, T, T) i + 1 where the network sees the image's i-th object; likewise
/image_sha256   64 bytes (image): SHA-256 of the file of each image as it was mined; stores of before have none
attributes of the root: schema, config, made_from, policy, calibration (JSON)

What is written now has HDF5's own checksums (fletcher32) in every chunk, which reading compares.

Stores of schema 1 are read: they have no windows and no boxes of prompts, and of the network only /prior (object, S, S), the map of
each object with the others of its class taken out.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

import h5py
import numpy as np

from samsemi import hdf5, remedies
from samsemi.data.manifest import is_safe_id
from samsemi.errors import CheckpointError
from samsemi.hdf5 import named_damage, need_dataset, read_whole
from samsemi.mining.scores import COLUMNS, SCORES
from samsemi.mining.store_checks import check_calibration, check_maps, check_tables
from samsemi.sam.prompts import grow_boxes
from samsemi.schemas import from_json, need_schema, parse_object

SCHEMA, EARLIER = "samsemi.pseudo-labels/2", "samsemi.pseudo-labels/1"
IMAGE_ROW = np.dtype(
    [("id", h5py.string_dtype()), ("height", "i4"), ("width", "i4"), ("first_object", "i8"), ("num_objects", "i4"), ("readable", "?")]
)
OBJECT_ROW = np.dtype(
    [
        ("image", "i8"),
        ("class_id", "u1"),
        ("box", "f4", (4,)),
        ("prompt_box", "f4", (4,)),
        ("window", "f4", (4,)),
        *((name, "f4") for name in COLUMNS),
        ("area", "i8"),
    ]
)
NEW_COLUMNS = ("prompt_box", "window", "ensemble")
"""Columns of objects that schema 1 has not."""
STORED = {"boxes": "box", "prompt_boxes": "prompt_box", "windows": "window", **{name: name for name in ("class_id", *COLUMNS, "area")}}
"""Fields of Mined, and the columns of objects that they are."""
IMAGE_MAPS = ("network_probs", "components")
"""A map for each image; those of an image that cannot be read are 0."""
HASHES = "image_sha256"
"""Of the file of each image as it was mined; stores of before have none."""
MOST_SIDE, MOST_POINTS, MOST_CLASSES = 4096, 4096, 255
"""Of a map, of the points of an object, and of classes."""
ABOUT = ("config", "made_from", "policy", "calibration")
"""Attributes of the root: the fields of Provenance."""
Scored = make_dataclass("Scored", [(score.name, np.ndarray) for score in SCORES], frozen=True)
"""A field for each of SCORES: (N,) float32."""
Scored.__doc__ = "\n".join(f"{score.name}: {score.meaning}" for score in SCORES)


@dataclass(frozen=True)
class Mined(Scored):  # type: ignore[valid-type, misc]
    """SAM's N masks of one image, with their SCORES, and the network's map of it."""

    image_size: tuple[int, int]
    """(H, W) of the image."""
    class_id: np.ndarray
    """(N,) uint8."""
    boxes: np.ndarray
    """(N, 4) float32 x0 y0 x1 y1 of the objects that prompted, in image pixels, all inside."""
    prompt_boxes: np.ndarray
    """(N, 4) float32 likewise: the boxes with their margin, about which SAM was prompted."""
    windows: np.ndarray
    """(N, 4) float32 x0 y0 x1 y1 in image pixels, x1 y1 outside: the part of the image that SAM saw of each object."""
    area: np.ndarray
    """(N,) int64 pixels of SAM's mask, at image size."""
    probs: np.ndarray
    """(N, S, S) uint8: SAM's probability times 255, the object's window resized to a square."""
    network_probs: np.ndarray
    """(K, T, T) uint8: the network's probabilities times 255, the image resized to a square; 0 where they are not known."""
    components: np.ndarray
    """(T, T) uint16, likewise resized: i + 1 where the network sees object i, 0 elsewhere."""

    def __len__(self) -> int:
        return len(self.class_id)


@dataclass(frozen=True)
class Provenance:
    """What a store was made with and from; plain JSON values."""

    config: Mapping[str, object]
    made_from: Mapping[str, object]
    policy: Mapping[str, object]
    """What is accepted by default; a reader may choose another (see samsemi.mining.policy)."""
    calibration: Mapping[str, object] = field(default_factory=dict)
    """What that was fitted to, and the curve of coverage against true Dice; empty without a calibration."""

    def flat(self) -> dict[str, object]:
        """Options and inputs by name, as JSON gives them back."""
        return json.loads(json.dumps({**self.config, **self.made_from}))


class Store:
    """A finished store, to read. Its tables are in memory, masks are read when they are needed.

    The file is opened by each process on first use, since HDF5 handles survive neither pickling nor forking.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.provenance = read_provenance(self.path)
        self.identity = identify_content(self.path)
        with open_hdf5(self.path) as file, named_damage(self.path, remedies.STORE):
            self.earlier = file.attrs["schema"] == EARLIER
            need_tables(file, self.path, NEW_COLUMNS if self.earlier else ())
            self.images, self.objects = read_whole(file["images"]), read_whole(file["objects"])
            self.mask_size, self.num_classes = need_maps(file, self.objects, self.earlier)
            check_tables(self.images, self.objects, len(file["probs"]), self.num_classes, self.path)
            self.ids = [image_id.decode() for image_id in self.images["id"]]
            self.sha256 = [value.decode() for value in read_whole(file[HASHES])] if HASHES in file else [""] * len(self.ids)
            if self.earlier:
                self.objects = convert_objects(self.objects, self.images, self.provenance.config)
        unsafe = next((image_id for image_id in self.ids if not is_safe_id(image_id)), None)
        if unsafe is not None:
            raise CheckpointError(f"{self.path} is a damaged store: '{unsafe:.100}' is no id", remedies.STORE)
        if len(set(self.ids)) < len(self.ids) or len(self.sha256) != len(self.ids):
            raise CheckpointError(f"{self.path} is a damaged store: its images are not told apart", remedies.STORE)
        self.row = {image_id: i for i, image_id in enumerate(self.ids)}
        self.handle: tuple[int, h5py.File] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "handle": None}

    def file(self) -> h5py.File:
        if self.handle is None or self.handle[0] != os.getpid():
            if identify_content(self.path) != self.identity:
                raise CheckpointError(f"{self.path} was replaced while it was read", "run it again")
            self.handle = (os.getpid(), open_hdf5(self.path))
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
        loaded = self.read_maps(image_id) if maps else empty_maps(len(objects), self.num_classes, 0)
        return Mined(image_size=self.image_size(image_id), **{name: objects[column] for name, column in STORED.items()}, **loaded)

    def read_scores(self) -> Mined:
        """All objects of all images, in the order of the store, without maps and the size of an image."""
        columns = {name: self.objects[column] for name, column in STORED.items()}
        return Mined(image_size=(0, 0), **columns, **empty_maps(len(self.objects), self.num_classes, 0))

    def read_maps(self, image_id: str) -> dict[str, np.ndarray]:
        """The fields of Mined that are maps."""
        rows, image, file = self.rows(image_id), self.row[image_id], self.file()
        where = f"{self.path}, image {image_id}"
        with named_damage(where, remedies.STORE):
            if self.earlier:
                maps = rebuild_maps(file["prior"][rows], self.objects["class_id"][rows], self.num_classes)
            else:
                maps = {name: file[name][image] for name in IMAGE_MAPS}
            maps["probs"] = file["probs"][rows]
        check_maps(maps, rows.stop - rows.start, where)
        return maps

    def read_points(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, P, 2) x y and (N, P) labels of the points that SAM was prompted with."""
        rows = self.rows(image_id)
        with named_damage(f"{self.path}, image {image_id}", remedies.STORE):
            return self.file()["points/coords"][rows], self.file()["points/labels"][rows]


def identify_content(path: Path) -> tuple[int, ...]:
    """What tells a file from another in its place, and from itself changed."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def empty_maps(count: int, num_classes: int, size: int) -> dict[str, np.ndarray]:
    """The fields of Mined that are maps, of ``count`` objects, all 0."""
    return {
        "probs": np.zeros((count, size, size), np.uint8),
        "network_probs": np.zeros((num_classes, size, size), np.uint8),
        "components": np.zeros((size, size), np.uint16),
    }


def convert_objects(objects: np.ndarray, images: np.ndarray, config: Mapping[str, object]) -> np.ndarray:
    """The table of objects of schema 1 with NEW_COLUMNS: SAM saw the whole image, boxes had the margin of ``config``, and there was one
    model."""
    converted = np.zeros(len(objects), OBJECT_ROW)
    converted["ensemble"] = 1
    for name in objects.dtype.names or ():
        converted[name] = objects[name]
    height, width = (images[name][objects["image"]] for name in ("height", "width"))
    converted["window"][:, 2], converted["window"][:, 3] = width, height
    margin = config.get("box_margin", 0)
    converted["prompt_box"] = grow_boxes(objects["box"], margin if isinstance(margin, int) else 0, (height, width))
    return converted


def rebuild_maps(prior: np.ndarray, class_id: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """IMAGE_MAPS from the N maps (N, S, S) of schema 1; of an image without objects it kept nothing."""
    maps = empty_maps(0, num_classes, prior.shape[-1])
    if not len(prior):
        return maps
    probs = np.zeros(maps["network_probs"].shape, np.float32)
    for k, own in zip(class_id, prior, strict=True):
        probs[k] = np.maximum(probs[k], own / np.float32(255))
    probs /= np.maximum(probs.sum(axis=0), 1)
    probs[0] = 1 - probs.sum(axis=0)
    components = np.where(prior.max(axis=0) > 127, prior.argmax(axis=0) + 1, 0)
    return {"network_probs": np.rint(probs * 255).astype(np.uint8), "components": components.astype(np.uint16)}


def need_tables(file: h5py.File, path: Path, lacking: Sequence[str]) -> None:
    """CheckpointError unless the tables have the columns of this schema but those ``lacking``, neither fewer nor more, and their types."""
    for name, row in (("images", IMAGE_ROW), ("objects", OBJECT_ROW)):
        known = {column: row[column] for column in row.names or () if column not in lacking}
        columns = ", ".join(sorted(set(file[name].dtype.names or ()) ^ set(known)))
        if columns:
            raise CheckpointError(f"{path}: the table {name} is of another version of samsemi: {columns:.200}", remedies.STORE)
        need_dataset(file, name, np.dtype(list(known.items())), (None,), remedies.STORE)


def need_maps(file: h5py.File, objects: np.ndarray, earlier: bool) -> tuple[int, int]:
    """Side of the maps and number of classes; CheckpointError where maps or points are not as many, as large or of the type that they
    have to be."""
    count, images, side = len(objects), len(file["images"]), file["probs"].shape[-1]
    classes = 1 + max(1, int(objects["class_id"].max(initial=1))) if earlier else file["network_probs"].shape[1]
    points = file["points/labels"].shape[-1]
    across = side if earlier else file["components"].shape[-1]
    if not 0 < side <= across <= MOST_SIDE or not 1 < classes <= MOST_CLASSES or points > MOST_POINTS:
        raise ValueError(f"maps of {side} and {across} px of {classes} classes, {points} points")
    byte = np.dtype("u1")
    need_dataset(file, "probs", byte, (count, side, side), remedies.STORE)
    need_dataset(file, "points/coords", np.dtype("f4"), (count, points, 2), remedies.STORE)
    need_dataset(file, "points/labels", np.dtype("i1"), (count, points), remedies.STORE)
    if earlier:
        need_dataset(file, "prior", byte, (count, side, side), remedies.STORE)
    else:
        need_dataset(file, "network_probs", byte, (images, classes, across, across), remedies.STORE)
        need_dataset(file, "components", np.dtype("u2"), (images, across, across), remedies.STORE)
    return side, classes


def open_hdf5(path: Path) -> h5py.File:
    """The file of a store to read; CheckpointError where there is none."""
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder, a store is a file", "give the file that `samsemi mine` wrote as --out")
    if not Path(path).exists():
        raise CheckpointError(f"{path}: no such store", "make it with `samsemi mine`; finish an interrupted one with --resume")
    return hdf5.open_hdf5(path, remedies.STORE)


def read_provenance(path: Path) -> Provenance:
    """What a store was made with and from; CheckpointError for a file that is not one, or of another schema."""
    with open_hdf5(path) as file, named_damage(path, remedies.STORE):
        schema = file.attrs.get("schema")
        known = EARLIER if isinstance(schema, str) and schema == EARLIER else SCHEMA
        need_schema(schema, known, str(path), "a pseudo-label store", "give a store made by `samsemi mine`")
        about = {name: parse_object(file.attrs[name], f"{path}, {name}", remedies.STORE) for name in ABOUT}
    provenance = from_json(Provenance, about, str(path), remedies.STORE)
    check_calibration(provenance.calibration, f"{path}, calibration")
    return provenance
