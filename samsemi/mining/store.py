"""The pseudo-label store: plain HDF5 that any h5py reads, schema ``samsemi.pseudo-labels/1``. Needs no torch.

/images   table: id, height, width, first_object, num_objects, readable
/objects  table: image, class_id, box, the scores (samsemi.mining.scores), area
/points   coords (object, P, 2) x y and labels (object, P); P = 0 where SAM was prompted without points
/probs    uint8 (object, S, S) SAM's mask probability times 255, one gzip chunk per object; /prior likewise
attributes of the root: schema, config, made_from, policy, calibration (JSON)
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

import h5py
import numpy as np

from samsemi.errors import CheckpointError
from samsemi.mining.scores import COLUMNS, SCORES
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
    """What a store was made with and from; CheckpointError for a file that is not one, or of another schema."""
    with open_hdf5(path) as file:
        need_schema(file.attrs.get("schema"), SCHEMA, str(path), "a pseudo-label store", "give a store made by `samsemi mine`")
        try:
            about = {name: json.loads(file.attrs[name]) for name in ABOUT}
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is a damaged store ({error!r})", AGAIN) from None
    return from_json(Provenance, about, str(path), AGAIN)
