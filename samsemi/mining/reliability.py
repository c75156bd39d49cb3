"""How far what is said of a mined object can be believed, where the truth is known: SAM's predicted IoU, and the calibrated quality."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from samsemi.evaluations import describe_curve
from samsemi.mining.calibration import RIGHT, measure_objects
from samsemi.mining.policy import Policy, quality_of
from samsemi.mining.store import Mined

BINS = 10
"""Equally wide, from 0 to 1: of objects there are fewer than of pixels."""


def judge_objects(images: Iterable[tuple[Mined, np.ndarray]], policy: Policy, num_classes: int) -> dict[str, Any]:
    """Curves of ``describe_curve`` by all objects of some images, each with its true label map (H, W).

    "predicted_iou": against the IoU of SAM's mask with the true object that it shares most pixels with, 0 without one. "quality": against
    the share of objects that are right, as calibration judges them; only of a store that was calibrated.
    """
    rows = [np.zeros((0, 4))]
    for mined, truth in images:
        iou, learned = measure_objects(mined, truth, num_classes, (1.0, policy.sam_share))[:, 0].T
        said = np.stack([np.clip(mined.predicted_iou, 0, 1), quality_of(mined, policy)], axis=1)
        rows.append(np.column_stack([said, iou, learned >= RIGHT])[mined.area > 0])
    predicted, quality, iou, right = np.concatenate(rows).T
    found = {"predicted_iou": describe_curve(count_objects(predicted, iou))}
    return found | ({"quality": describe_curve(count_objects(quality, right))} if policy.quality else {})


def count_objects(said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(BINS, 3): number, sum of what was said and sum of what is true, by what was said (N,), which is left out where it is NaN."""
    known = np.isfinite(said)
    place = np.minimum((said[known] * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(place, weights=w, minlength=BINS) for w in (np.ones(len(place)), said[known], true[known])], axis=1)
