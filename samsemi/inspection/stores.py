"""HDF5 files: pseudo-label stores, caches of embeddings, out-of-fold predictions."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from samsemi.errors import CheckpointError
from samsemi.hdf5 import named_damage, open_hdf5
from samsemi.inspection.made import Facts, changed_options, count_bytes, table_of
from samsemi.mining.policy import Policy, numbers
from samsemi.mining.store import Provenance, Store, read_provenance
from samsemi.mining.store_writer import PARTS
from samsemi.mining.summary import count_reasons, find_reasons, summarize_store

WAIT = "wait for the command that writes it, or make it again"
REMOVE = "remove it and make it again; `samsemi mine` and `adapt` fill a cache anew"


def describe_store(path: Path) -> Facts:
    """A finished store: what is accepted by its own policy, and why the rest is not."""
    store = Store(path)
    reasons = find_reasons(store, Policy.from_json(store.provenance.policy, f"{path}, policy"))
    return {
        "kind": "store",
        "schema": read_schema(path),
        "finished": True,
        "command": "mine",
        **describe_provenance(store.provenance),
        **summarize_store(store, reasons),
        "by_class": {str(k): describe_class(store, reasons, k) for k in np.unique(store.objects["class_id"]).tolist()},
        "calibration": describe_calibration(store.provenance.calibration),
        "policy": numbers(Policy.from_json(store.provenance.policy, f"{path}, policy")),
        "bytes": count_bytes(path),
    }


def describe_provenance(provenance: Provenance) -> Facts:
    return {"made_from": dict(provenance.made_from), "options": changed_options("mine", provenance.config)}


def describe_calibration(calibration: Mapping[str, object]) -> Facts:
    """All but the curve."""
    by_class = {name: table_of(found) for name, found in table_of(calibration.get("by_class")).items()}
    rest = {name: value for name, value in calibration.items() if name not in ("curve", "by_class")}
    return rest | ({"by_class": by_class} if by_class else {})


def describe_class(store: Store, reasons: np.ndarray, class_id: int) -> Facts:
    """Objects of a class, how many are accepted, in how many images, and why the others are not."""
    own = store.objects["class_id"] == class_id
    images = np.unique(store.objects["image"][own & (reasons == 0)])
    return {
        "objects": int(own.sum()),
        "accepted": int((reasons[own] == 0).sum()),
        "images": len(images),
        "rejected": count_reasons(reasons[own]),
    }


def parts_of(path: Path) -> list[Path]:
    """The parts of a store that is not finished; ``path`` is the store, or the folder of its parts."""
    folder = path if path.name.endswith(".parts") else path.with_name(path.name + ".parts")
    return sorted(folder.glob(PARTS))


def describe_parts(path: Path) -> Facts:
    """A store that was begun and not finished: what was mined so far. What is accepted is decided at the end."""
    parts = parts_of(path)
    stores = [Store(part) for part in parts]
    return {
        "kind": "store",
        "schema": read_schema(parts[0]),
        "finished": False,
        "command": "mine",
        **describe_provenance(read_provenance(parts[0])),
        "images": sum(len(store.ids) for store in stores),
        "objects": sum(len(store.objects) for store in stores),
        "by_class": {str(k): {"objects": count} for k, count in sorted(count_classes(stores).items())},
        "parts": len(parts),
        "bytes": count_bytes(*parts),
    }


def count_classes(stores: Iterable[Store]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for store in stores:
        counts.update(store.objects["class_id"].tolist())
    return counts


def read_schema(path: Path) -> str:
    """The schema that an HDF5 file names, '' for none; CheckpointError where it cannot be read."""
    with open_hdf5(path, WAIT) as file, named_damage(path, WAIT):
        return str(file.attrs.get("schema", ""))


def describe_embeddings(path: Path) -> Facts:
    """A cache of embeddings; CheckpointError where images lack tensors."""
    with open_hdf5(path, REMOVE) as file:
        tensors = {name: list(file[name].shape) for name in file if name != "keys"}
        images = len(file["keys"]) if "keys" in file else 0
        if any(shape[0] < images for shape in tensors.values()) or (images and not tensors):
            raise CheckpointError(f"{path} is damaged: it lacks tensors of its {images} images", REMOVE)
        about = {name: str(file.attrs[name]) for name in ("sam", "identity", "precision")}
    made_from = {"sam": about["sam"], "sam_weights": about["identity"]}
    shapes = {name: shape[1:] for name, shape in tensors.items()}
    return {
        "kind": "embeddings",
        "schema": read_schema(path),
        "made_from": made_from,
        "precision": about["precision"],
        "images": images,
        "tensors": shapes,
        "bytes": count_bytes(path),
    }


def describe_folds(path: Path) -> Facts:
    """Out-of-fold predictions of a run."""
    with open_hdf5(path, WAIT) as file:
        _, classes, side, _ = file["probs"].shape
        images = len(file["ids"])
    counts = {"images": images, "num_classes": classes, "size": side}
    return {"kind": "out_of_fold", "schema": read_schema(path), "finished": True, **counts, "bytes": count_bytes(path)}


FAMILIES = {
    "samsemi.pseudo-labels": describe_store,
    "samsemi.embeddings": describe_embeddings,
    "samsemi.out-of-fold": describe_folds,
}
"""Schema without its number -> what describes a file of it."""


def describe_hdf5(path: Path) -> Facts:
    """An HDF5 file by the schema that it names."""
    schema = read_schema(path)
    family = schema.rpartition("/")[0]
    if family not in FAMILIES:
        raise CheckpointError(
            f"{path} is an HDF5 file of {f'schema {schema}' if schema else 'no schema'}, which info does not know",
            f"it knows {', '.join(FAMILIES)}",
        )
    return FAMILIES[family](path)


def is_hdf5(path: Path) -> bool:
    """By its name or by its first bytes."""
    return os.path.isfile(path) and (path.suffix in (".h5", ".hdf5") or bool(h5py.is_hdf5(path)))
