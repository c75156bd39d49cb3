"""Stores and caches of strangers."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from hostile.case import CHECKPOINT, DATA, DEVICE, NOTHING, REFUSED, USAGE, Case, Place, at, data, link, replace, text

EXPORT = "export-labels store.h5 --out out"
LEARN = "finetune {dataset} --model {warm} --store store.h5 --out out --iterations 2 --min-confidence 0 --min-quality 0"
MEASURE = "eval {dataset} --store store.h5 --out out"
CACHED = "mine {dataset} --model {warm} --out out.h5 --embeddings cache.h5 --min-area 16"
Change = Callable[[h5py.File], object]


def store(change: Change, name: str = "store") -> Callable[[Place], None]:
    def make(place: Place) -> None:
        with h5py.File(place.copy(name), "r+") as file:
            change(file)

    return make


def cache(change: Change) -> Callable[[Place], None]:
    return store(change, "cache")


def column(table: str, name: str, value: object, row: int = 0) -> Change:
    """One value of a table."""

    def change(file: h5py.File) -> None:
        values = file[table][:]
        values[name][row] = value
        file[table][...] = values

    return change


def whole_column(table: str, name: str, value: object) -> Change:
    return column(table, name, value, slice(None))  # type: ignore[arg-type]


def attribute(name: str, value: object) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def policy(**values: object) -> Change:
    return lambda file: file.attrs.__setitem__("policy", json.dumps({**json.loads(file.attrs["policy"]), **values}))


def instead(name: str, make: Callable[[h5py.File, str], object]) -> Change:
    """Something else under the name of a dataset."""

    def change(file: h5py.File) -> None:
        del file[name]
        make(file, name)

    return change


def external(file: h5py.File, name: str) -> None:
    with h5py.File(Path(file.filename).with_name("other.h5"), "w") as other:
        other.create_dataset("x", (6, 64, 64), "u1")
    file[name] = h5py.ExternalLink("other.h5", "x")


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((6, 64, 64), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (6, 64, 64))
    file.create_virtual_dataset(name, layout)


def raw(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (6, 8, 8), "u1", external=[("/etc/passwd", 0, 384)])


def dataset(shape: tuple[int, ...], kind: str, **options: object) -> Callable[[h5py.File, str], object]:
    return lambda file, name: file.create_dataset(name, shape, kind, **options)


def damaged_chunk(file: h5py.File) -> None:
    file["probs"].id.write_direct_chunk((0, 0, 0), b"no gzip at all")


def same_id(file: h5py.File) -> None:
    images = file["images"][:]
    images["id"][1] = images["id"][0]
    file["images"][...] = images


def id_of(split: str) -> Callable[[Place], None]:
    """The id of a case of another split in place of the first."""

    def make(place: Place) -> None:
        lines = (place.world.dataset / "manifest.csv").read_text().splitlines()[1:]
        name = next(line.split(",")[0] for line in lines if line.split(",")[4] == split)
        store(column("images", "id", name))(place)

    return make


def in_place(name: str, write: Callable[[Path], object]) -> Callable[[Place], None]:
    return lambda place: replace(place.copy(name), write)


def earlier_schema(file: h5py.File) -> None:
    file.attrs["schema"] = "samsemi.pseudo-labels/1"


ODD = {
    "a pipe": lambda path: os.mkfifo(path),
    "an endless device": link("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "text": text("x"),
    "empty": data(b""),
}
TABLES: dict[str, tuple[str, Change]] = {
    "a NaN among the scores": (LEARN, column("objects", "stability", np.nan)),
    "all scores NaN": (LEARN, whole_column("objects", "predicted_iou", np.nan)),
    "an infinite score": (LEARN, column("objects", "confidence", np.inf)),
    "a score of -5": (LEARN, column("objects", "agreement", -5)),
    "a box of NaN": (LEARN, column("objects", "box", np.nan)),
    "a window of NaN": (EXPORT, column("objects", "window", np.nan)),
    "a window far outside": (EXPORT, column("objects", "window", [1e9, 1e9, 2e9, 2e9])),
    "a window of size 0": (EXPORT, column("objects", "window", [5, 5, 5, 5])),
    "a window turned over": (EXPORT, column("objects", "window", [40, 40, 5, 5])),
    "an area of -1": (EXPORT, column("objects", "area", -1)),
    "a class beyond the last": (EXPORT, column("objects", "class_id", 200)),
    "a class that is the background": (EXPORT, column("objects", "class_id", 0)),
    "an image beyond the last": (EXPORT, column("objects", "image", 10**12)),
    "objects that begin beyond the end": (EXPORT, column("images", "first_object", 10**12)),
    "objects that begin before the first": (EXPORT, column("images", "first_object", -3)),
    "more objects than there are": (EXPORT, column("images", "num_objects", 10**6)),
    "-1 objects": (EXPORT, column("images", "num_objects", -1)),
    "fewer objects than there are": (EXPORT, column("images", "num_objects", 0)),
    "an image of 10^9 rows": (EXPORT, column("images", "height", 10**9)),
    "an image of 30,000 x 30,000": (EXPORT, lambda f: (column("images", "height", 30_000)(f), column("images", "width", 30_000)(f))),
    "an image of -1 rows": (EXPORT, column("images", "height", -1)),
    "an image of 0 rows": (EXPORT, column("images", "height", 0)),
    "an image of another size, learnt": (LEARN, column("images", "height", 41)),
    "an id that is a path": (EXPORT, column("images", "id", "../../evil")),
    "an id that is absolute": (EXPORT, column("images", "id", "/tmp/samsemi-evil")),
    "an id that is no text": (EXPORT, column("images", "id", b"\xff\xfe")),
    "an empty id": (EXPORT, column("images", "id", "")),
    "an id of 1 MB": (EXPORT, column("images", "id", "x" * 1_000_000)),
    "an id twice": (EXPORT, same_id),
    "a component beyond the last object": (EXPORT, lambda f: f["components"].__setitem__(0, 999)),
    "a link to another file": (EXPORT, instead("probs", external)),
    "masks that are a link to themselves": (EXPORT, instead("probs", lambda f, n: f.__setitem__(n, h5py.SoftLink("/probs")))),
    "virtual data": (EXPORT, instead("probs", virtual)),
    "data in a file of the machine": (EXPORT, instead("probs", raw)),
    "masks that are a group": (EXPORT, instead("probs", lambda f, n: f.create_group(n))),
    "no masks": (EXPORT, instead("probs", lambda f, n: None)),
    "masks of 10^12 objects": (EXPORT, instead("probs", dataset((10**12, 64, 64), "u1", chunks=(1, 64, 64)))),
    "masks of side 10^5": (EXPORT, instead("probs", dataset((6, 10**5, 10**5), "u1", chunks=(1, 1000, 1000)))),
    "masks that are not square": (EXPORT, instead("probs", dataset((6, 64, 32), "u1"))),
    "masks of 0 pixels": (EXPORT, instead("probs", dataset((6, 0, 0), "u1"))),
    "masks in two dimensions": (EXPORT, instead("probs", dataset((6, 64), "u1"))),
    "masks of floats": (EXPORT, instead("probs", dataset((6, 64, 64), "f4"))),
    "masks of text": (EXPORT, instead("probs", dataset((6, 64, 64), "S8"))),
    "masks of fewer objects": (EXPORT, instead("probs", dataset((2, 64, 64), "u1"))),
    "masks packed by a plugin": (EXPORT, instead("probs", dataset((6, 64, 64), "u1", compression="lzf"))),
    "the network's maps of fewer images": (EXPORT, instead("network_probs", dataset((2, 2, 64, 64), "u1"))),
    "the network's maps of 200 classes": (EXPORT, instead("network_probs", dataset((6, 200, 64, 64), "u1"))),
    "a chunk that does not unpack": (EXPORT, damaged_chunk),
    "a table that is a list of numbers": (EXPORT, instead("images", dataset((6,), "i8"))),
    "a table without rows": (EXPORT, instead("images", lambda f, n: f.create_dataset(n, (0,), "i8"))),
    "no schema": (EXPORT, lambda f: f.attrs.__delitem__("schema")),
    "a schema of numbers": (EXPORT, attribute("schema", np.arange(5))),
    "a schema of tomorrow": (EXPORT, attribute("schema", "samsemi.pseudo-labels/9")),
    "the schema of yesterday": (EXPORT, earlier_schema),
    "a policy that is a number": (EXPORT, attribute("policy", 3)),
    "a policy that is no JSON": (EXPORT, attribute("policy", "{")),
    "a policy nested deep": (EXPORT, attribute("policy", "[" * 60_000)),
    "a policy of NaN": (EXPORT, policy(min_confidence=float("nan"))),
    "a policy of text": (EXPORT, policy(min_confidence="high")),
    "a policy with a key of tomorrow": (EXPORT, policy(color="red")),
    "a quality of other lengths": (EXPORT, policy(quality={"mean": [1.0], "scale": [1.0], "weights": [1.0, 2.0], "bias": 0.0})),
    "a SAM of one's own": (
        "finetune {dataset} --model {warm} --store store.h5 --out out --schedule continuous --iterations 2",
        lambda f: f.attrs.__setitem__("config", json.dumps({**json.loads(f.attrs["config"]), "sam": "evil:load"})),
    ),
    "made from a list": (LEARN, attribute("made_from", "[1]")),
    "a calibration of text": (LEARN, attribute("calibration", '{"precision": "high", "by_class": 3}')),
}
OTHERS = {
    "a component beyond the last object": (0, CHECKPOINT),
    "an image of another size, learnt": (0, CHECKPOINT),
    "the schema of yesterday": (0, CHECKPOINT),
    "the network's maps of 200 classes": (0, CHECKPOINT),
    "an image of 30,000 x 30,000": (CHECKPOINT, DEVICE),
    "a SAM of one's own": (USAGE,),
}
"""Codes that are right as well: some may be read where the result is sound, or are as large as they say."""
FINE = ("10^12 rows", "one tensor too many")
"""Caches that may be read."""

CACHES: dict[str, Change] = {
    "a NaN": lambda f: f["features"].__setitem__((0, 0, 0, 0), np.nan),
    "rows of NaN": lambda f: f["features"].__setitem__(slice(None), np.nan),
    "rows of infinity": lambda f: f["features"].__setitem__(slice(None), np.inf),
    "rows of another shape": instead("features", dataset((9, 64, 16, 16), "f2")),
    "rows of another type": instead("features", dataset((9, 128, 16, 16), "f8")),
    "rows of text": instead("features", dataset((9, 128, 16, 16), "S4")),
    "fewer rows": instead("features", dataset((3, 128, 16, 16), "f2")),
    "10^12 rows": instead("features", dataset((10**12, 128, 16, 16), "f2", chunks=(1, 128, 16, 16))),
    "rows that are a group": instead("features", lambda f, n: f.create_group(n)),
    "rows in another file": instead("features", external),
    "virtual rows": instead("features", virtual),
    "rows in a file of the machine": instead("features", raw),
    "keys that are numbers": instead("keys", dataset((9,), "i8")),
    "keys all alike": lambda f: f["keys"].__setitem__(slice(None), f["keys"][0]),
    "keys of another length": instead("keys", dataset((9, 2), "S64")),
    "an identity that is a number": attribute("identity", 3),
    "no identity": lambda f: f.attrs.__delitem__("identity"),
    "one tensor too many": lambda f: f.create_dataset("more", (9, 3), "f2"),
}

CASES = [
    *(
        Case(f"store: {name}", line, OTHERS.get(name, CHECKPOINT), "" if name in OTHERS else "store.h5", store(change))
        for name, (line, change) in TABLES.items()
    ),
    *(Case(f"store: {name}", EXPORT, CHECKPOINT, "store.h5", in_place("store", write)) for name, write in ODD.items()),
    *(
        Case(f"cache: {name}", CACHED, (0, CHECKPOINT) if name in FINE else CHECKPOINT, "cache.h5", cache(change))
        for name, change in CACHES.items()
    ),
    *(
        Case(f"cache: {name}", CACHED, (0, CHECKPOINT) if name == "empty" else (CHECKPOINT, REFUSED), "cache.h5", at("cache.h5", write))
        for name, write in ODD.items()
    ),
    Case("store: an id of a test case, learnt", LEARN, (CHECKPOINT, DATA), "", id_of("test")),
    Case("store: an id of a labeled case, learnt", LEARN, (CHECKPOINT, DATA), "", id_of("labeled")),
    Case("store: an id of a val case, measured", MEASURE, (CHECKPOINT, DATA), "", id_of("val")),
    Case("store: shown, with a score of NaN", "info store.h5", (0, CHECKPOINT), "", store(column("objects", "stability", np.nan))),
    Case("store: shown, with masks elsewhere", "info store.h5", CHECKPOINT, "store.h5", store(instead("probs", external))),
    Case("store: all masks 0", LEARN, (0, NOTHING, CHECKPOINT), "", store(lambda f: f["probs"].__setitem__(slice(None), 0))),
    Case(
        "out-of-fold maps: elsewhere",
        "mine {dataset} --model folds --out out.h5 --sam none",
        CHECKPOINT,
        "out_of_fold.h5",
        lambda place: (place.copy("folds"), change_maps(place)),
    ),
    Case(
        "cache: a store",
        "mine {dataset} --model {warm} --out out.h5 --embeddings store.h5",
        (CHECKPOINT, REFUSED),
        "store.h5",
        lambda place: place.copy("store"),
    ),
]


def change_maps(place: Place) -> None:
    """The out-of-fold predictions of the first case in another file."""
    with h5py.File(place.here / "folds/out_of_fold.h5", "r+") as file:
        name = next(key for key, item in file.items() if isinstance(item, h5py.Dataset) and item.ndim)
        instead(name, external)(file)
