"""How far probabilities, SAM's predicted IoU and the calibrated quality can be believed, as evaluations have measured it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from samsemi.inspection.made import table_of
from samsemi.metrics import BINS, calibration_error

MOST = 2**53
"""Pixels or objects that are counted exactly."""


class BinPoint(NamedTuple):
    """What is in a bin of what was predicted."""

    number: float
    predicted: float
    """Mean."""
    true: float


Curve = Sequence[BinPoint]


@dataclass(frozen=True)
class Reliability:
    """Of an evaluation; empty where it was not measured."""

    probabilities: Mapping[str, Curve] = field(default_factory=dict)
    """By class, over pixels."""
    predicted_iou: Curve = ()
    """Over the objects of a store; so is the next."""
    quality: Curve = ()


def read_reliability(values: object) -> Reliability:
    """As it stands in metrics.json; ValueError, TypeError or KeyError for what it cannot be."""
    about = table_of(values)
    classes = {name: read_curve(one) for name, one in table_of(about.get("probabilities")).items()}
    return Reliability(classes, *(read_curve(about.get(name)) for name in ("predicted_iou", "quality")))


def read_curve(values: object) -> Curve:
    points = [BinPoint(*(float(point[name]) for name in ("count", "predicted", "true"))) for point in rows_of(values)]
    if any(not 0 < p.number <= MOST or not (0 <= p.predicted <= 1 and 0 <= p.true <= 1) for p in points):
        raise ValueError("a curve of reliability that cannot be")
    return points


def rows_of(values: object) -> Any:
    return table_of(values).get("curve") or ()


def pool(curves: Sequence[Curve]) -> Curve:
    """Of several seeds, the bins of all together."""
    if len(curves) == 1:
        return curves[0]
    found: dict[int, list[BinPoint]] = {}
    for point in (point for curve in curves for point in curve):
        found.setdefault(min(int(point.predicted * BINS), BINS - 1), []).append(point)
    return [join(points) for _, points in sorted(found.items())]


def join(points: Sequence[BinPoint]) -> BinPoint:
    count = sum(p.number for p in points)
    return BinPoint(count, sum(p.number * p.predicted for p in points) / count, sum(p.number * p.true for p in points) / count)


def error_of(curve: Curve) -> float:
    """The calibration error: the mean distance, over all that was counted, of a bin from the diagonal."""
    number, predicted, true = np.array(curve).T
    return calibration_error(np.column_stack([number, number * predicted, number * true]))
