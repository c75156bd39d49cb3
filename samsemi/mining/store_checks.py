"""Whether what stands in a store fits together: tables, maps, the calibration. CheckpointError names what does not. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from samsemi import remedies
from samsemi.errors import CheckpointError, UsageError
from samsemi.mining.scores import COLUMNS
from samsemi.schemas import from_json

MOST_SIDE = 2**20
"""Pixels of a side of an image."""
ROUNDING = 1e-3
"""By which a score may lie beyond its range."""


@dataclass(frozen=True)
class FoundOfClass:
    """What is read of the calibration of a class."""

    precision: float | None = None
    precision_interval: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.precision_interval) != 2:
            raise UsageError("precision_interval is no pair of numbers", remedies.STORE)


@dataclass(frozen=True)
class FoundByCalibration(FoundOfClass):
    """What is read of a calibration."""

    target_precision: float = 0.0
    objects: int = 0
    min_quality: float = 0.0
    by_class: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def check_calibration(calibration: Mapping[str, object], where: str) -> None:
    """CheckpointError for a calibration of which nothing can be told; what is never read may be anything."""
    known = {entry.name for entry in fields(FoundByCalibration)}
    found = from_json(FoundByCalibration, {name: value for name, value in calibration.items() if name in known}, where, remedies.STORE)
    if found.precision is not None and "target_precision" not in calibration:
        raise CheckpointError(f"{where}: missing target_precision", remedies.STORE)
    for name, values in found.by_class.items():
        own = {key: value for key, value in values.items() if key in ("precision", "precision_interval")}
        from_json(FoundOfClass, own, f"{where}: {name:.60}", remedies.STORE)


def check_tables(images: np.ndarray, objects: np.ndarray, maps: int, num_classes: int, path: Path) -> None:
    """CheckpointError unless the tables of images and of objects, and the number of ``maps`` of objects, belong together, and every
    number is one that mining can have written."""
    counts, sizes = images["num_objects"].astype(np.int64), np.stack([images["height"], images["width"]], axis=1)
    owner = np.repeat(np.arange(len(images)), counts.clip(0)) if (counts.clip(0).sum() <= len(objects)) else None
    no_scores = [name for name in COLUMNS if name in (objects.dtype.names or ()) and not in_range(name, objects[name])]
    problems = {
        "numbers of objects": owner is None or len(owner) != len(objects) or (counts < 0).any(),
        "first_object": not np.array_equal(images["first_object"], np.cumsum(counts) - counts),
        "sizes of images": ((sizes < 1) | (sizes > MOST_SIDE))[images["readable"]].any(),
        "unreadable images with objects": counts[~images["readable"]].any(),
        "the images of objects": owner is None or not np.array_equal(objects["image"], owner),
        "maps of objects": maps != len(objects),
        "classes": ((objects["class_id"] < 1) | (objects["class_id"] >= num_classes)).any(),
        "areas": (objects["area"] < 0).any(),
        ", ".join(no_scores): bool(no_scores),
        "boxes": owner is None or not all(boxes_fit(objects, name, sizes[owner]) for name in ("box", "prompt_box", "window")),
    }
    for what, wrong in problems.items():
        if wrong:
            raise CheckpointError(f"{path} is a damaged store: {what} cannot be", remedies.STORE)


def in_range(name: str, scores: np.ndarray) -> bool:
    """Whether scores are shares; SAM's own estimate is any number."""
    if name == "predicted_iou":
        return bool(np.isfinite(scores).all())
    return bool(((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all())


def boxes_fit(objects: np.ndarray, name: str, sizes: np.ndarray) -> bool:
    """Whether boxes x0 y0 x1 y1 lie in their images (N, 2) H W; x1 y1 of windows are outside. True where a schema has none."""
    if name not in (objects.dtype.names or ()):
        return True
    boxes, (height, width), window = objects[name], sizes.T, name == "window"
    low, high = boxes[:, :2], boxes[:, 2:]
    last = np.stack([width, height], axis=1) - (0 if window else 1)
    return bool(((low >= 0) & ((low < high) if window else (low <= high)) & (high <= last)).all())


def check_maps(maps: Mapping[str, np.ndarray], count: int, where: str) -> None:
    """CheckpointError unless the network's map of an image has something in every pixel, or nothing at all, and its components are those
    of so many objects."""
    network = maps["network_probs"].max(axis=0)
    if not network.all() and network.any():
        raise CheckpointError(f"{where}: network_probs has pixels of no class", remedies.STORE)
    if maps["components"].max(initial=0) > count:
        raise CheckpointError(f"{where}: components are more than its {count} objects", remedies.STORE)
