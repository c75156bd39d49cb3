"""What became of the unlabeled images: found, prompted, accepted, rejected and why; scores; coverage against precision; drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from samsemi import remedies
from samsemi.hdf5 import named_damage
from samsemi.inputs import read_rows
from samsemi.mining.policy import Policy, quality_of
from samsemi.mining.precision import describe_share
from samsemi.mining.scores import REASONS, SCORES
from samsemi.mining.store import Store
from samsemi.mining.summary import find_reasons, summarize_store
from samsemi.reporting.sources import Training

FLAT = 1e-6
"""A score that varies less tells nothing, and is not shown."""


class CurvePoint(NamedTuple):
    """What a threshold gives where the truth is known."""

    min_quality: float
    objects: float
    """Share that is accepted."""
    precision: float
    low: float
    high: float
    dice: float


@dataclass(frozen=True)
class ClassRow:
    """A class of a store."""

    name: str
    objects: int
    accepted: int
    images: int
    """With an accepted object of the class."""
    rejected: Mapping[str, int]
    """By reason."""
    precision: str
    """Estimated, with its interval; '' where it was not calibrated."""


@dataclass(frozen=True)
class Funnel:
    """A store in numbers."""

    name: str
    sam: str
    counts: Mapping[str, Any]
    """As of ``summarize_store``."""
    classes: Sequence[ClassRow]
    reasons: Sequence[str]
    """Those that occur."""
    scores: Mapping[str, tuple[np.ndarray, np.ndarray, float]]
    """Score -> values of accepted and of rejected objects, and what must be reached (0 where everything does)."""
    precision: str
    """Estimated of all that is accepted; '' where it was not calibrated."""
    curve: Sequence[CurvePoint]
    """From accepting all to accepting little."""
    min_quality: float


def measure_funnel(name: str, store: Store, classes: Sequence[str] | None) -> Funnel:
    """A store by its own policy; classes are numbered where no data set names them."""
    policy = Policy.from_json(store.provenance.policy, f"{store.path}, policy")
    reasons = find_reasons(store, policy)
    calibration: Mapping[str, Any] = store.provenance.calibration
    names = classes or ["background", *(f"class {k}" for k in range(1, store.num_classes))]
    judged = calibration.get("by_class", {}) if store.num_classes > 2 else {names[1]: calibration}
    rows = [measure_class(store, reasons, k, names[k], judged) for k in range(1, store.num_classes)]
    occurring = [reason for reason in REASONS[1:] if any(reason in row.rejected for row in rows)]
    sam = str(store.provenance.made_from.get("sam", "?"))
    with named_damage(f"{store.path}, calibration", remedies.STORE):
        curve = [read_point(point) for point in calibration.get("curve", ())]
    counts, scores = summarize_store(store, reasons), split_scores(store, reasons, policy)
    return Funnel(name, sam, counts, rows, occurring, scores, estimate(calibration), curve, policy.min_quality)


def read_point(point: Mapping[str, Any]) -> CurvePoint:
    low, high = point["precision_interval"]
    return CurvePoint(*(float(value) for value in (point["min_quality"], point["objects"], point["precision"], low, high, point["dice"])))


def measure_class(store: Store, reasons: np.ndarray, class_id: int, name: str, by_class: Mapping[str, Any]) -> ClassRow:
    own = store.objects["class_id"] == class_id
    kept = own & (reasons == 0)
    counts = np.bincount(reasons[own], minlength=len(REASONS))
    rejected = {reason: int(count) for reason, count in zip(REASONS[1:], counts[1:], strict=True) if count}
    images = len(np.unique(store.objects["image"][kept]))
    return ClassRow(name, int(own.sum()), int(kept.sum()), images, rejected, estimate(by_class.get(name, {})))


def estimate(calibration: Mapping[str, Any]) -> str:
    """'0.80 [0.60, 0.92]'."""
    found = "precision" in calibration and "precision_interval" in calibration
    return describe_share(calibration["precision"], calibration["precision_interval"]) if found else ""


def split_scores(store: Store, reasons: np.ndarray, policy: Policy) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Of each score that varies, the values of accepted and rejected objects; first, where there is one, of the calibrated quality."""
    values = {score.name: np.clip(store.objects[score.name].astype(float), 0, 1) for score in SCORES}
    least = {name: float(getattr(policy, f"min_{name}")) for name in values}
    if policy.quality:
        known = [quality_of(store.read(name, maps=False), policy) for name in store.ids]
        values, least = {"quality": np.concatenate(known), **values}, {"quality": policy.min_quality, **least}
    shown = {name: v for name, v in values.items() if np.isfinite(v).all() and np.ptp(v) > FLAT} if len(store.objects) else {}
    return {name: (v[reasons == 0], v[reasons > 0], least[name]) for name, v in shown.items()}


def read_drift(training: Training) -> list[dict[str, float]]:
    """drift.csv of a run that mined again; empty for any other."""
    path = training.folder / "drift.csv"
    if not path.is_file():
        return []
    with named_damage(path, remedies.STORE):
        rows = [{name: float(value) for name, value in row.items() if value} for row in read_rows(path)]
    return [row for row in rows if {"iteration", "coverage", "flips"} <= row.keys()]
