"""The pseudo-label store: plain HDF5 that any h5py reads, schema ``samsemi.pseudo-labels/2``. Needs no torch.

/images         table: id, height, width, first_object, num_objects, readable
/objects        table: image, class_id, box, prompt_box, window, the scores (samsemi.mining.scores), area
/points         coords (object, P, 2) x y and labels (object, P); P = 0 where SAM was prompted without points
/probs          uint8 (object, S, S) SAM's mask probability times 255, over the object's window; one gzip chunk per object
/network_probs  uint8 (image, K, T, T) the network's probabilities times 255; one gzip chunk per image
/components     uint16 (image, T, T) i + 1 where the network sees the image's i-th object; likewise
attributes of the root: schema, config, made_from, policy, calibration (JSON)

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

from samsemi.errors import CheckpointError
from samsemi.mining.scores import COLUMNS, SCORES
from samsemi.sam.prompts import grow_boxes
from samsemi.schemas import from_json, need_schema

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
AGAIN = "mine it again with --overwrite"
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
        try:
            with open_hdf5(self.path) as file:
                self.earlier = file.attrs["schema"] == EARLIER
                need_tables(file, self.path, NEW_COLUMNS if self.earlier else ())
                self.images = file["images"][:]
                self.objects = file["objects"][:]
                self.mask_size = file["probs"].shape[-1]
                self.num_classes = 1 + max([1, *self.objects["class_id"].tolist()]) if self.earlier else file["network_probs"].shape[1]
            if self.earlier:
                self.objects = convert_objects(self.objects, self.images, self.provenance.config)
        except (KeyError, AttributeError, IndexError, OSError) as error:
            raise CheckpointError(f"{path} is a damaged store ({error})", AGAIN) from None
        self.ids = [image_id.decode() for image_id in self.images["id"]]
        self.row = {image_id: i for i, image_id in enumerate(self.ids)}
        self.handle: tuple[int, h5py.File] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "handle": None}

    def file(self) -> h5py.File:
        if self.handle is None or self.handle[0] != os.getpid():
            if identify_content(self.path) != self.identity:
                raise CheckpointError(f"{self.path} was replaced while it was read", "run it again")
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
        loaded = self.read_maps(image_id) if maps else empty_maps(len(objects), self.num_classes, 0)
        return Mined(image_size=self.image_size(image_id), **{name: objects[column] for name, column in STORED.items()}, **loaded)

    def read_maps(self, image_id: str) -> dict[str, np.ndarray]:
        """The fields of Mined that are maps."""
        rows, image, file = self.rows(image_id), self.row[image_id], self.file()
        if self.earlier:
            maps = rebuild_maps(file["prior"][rows], self.objects["class_id"][rows], self.num_classes)
        else:
            maps = {name: file[name][image] for name in IMAGE_MAPS}
        return {"probs": file["probs"][rows], **maps}

    def read_points(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, P, 2) x y and (N, P) labels of the points that SAM was prompted with."""
        rows = self.rows(image_id)
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
    """CheckpointError unless the tables have the columns of this schema but those ``lacking``, neither fewer nor more."""
    for name, row in (("images", IMAGE_ROW), ("objects", OBJECT_ROW)):
        columns = ", ".join(sorted(set(file[name].dtype.names or ()) ^ (set(row.names or ()) - set(lacking))))
        if columns:
            raise CheckpointError(f"{path}: the table {name} is of another version of samsemi: {columns}", AGAIN)


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file to read; CheckpointError where there is none."""
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder, a store is a file", "give the file that `samsemi mine` wrote as --out")
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such store", "make it with `samsemi mine`; finish an interrupted one with --resume") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not an HDF5 file, or is damaged ({error})", AGAIN) from None


def read_provenance(path: Path) -> Provenance:
    """What a store was made with and from; CheckpointError for a file that is not one, or of another schema."""
    with open_hdf5(path) as file:
        schema = file.attrs.get("schema")
        need_schema(
            schema, EARLIER if schema == EARLIER else SCHEMA, str(path), "a pseudo-label store", "give a store made by `samsemi mine`"
        )
        try:
            about = {name: json.loads(file.attrs[name]) for name in ABOUT}
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is a damaged store ({error!r})", AGAIN) from None
    return from_json(Provenance, about, str(path), AGAIN)
