"""How good a segmentation is, under one stated policy for empty masks.

A class that neither mask holds is not measured (NaN, left out of means, counted in ``n``). A class that one of the
two holds and the other misses costs all: overlap 0, surface distances the diagonal of the image, nsd and boundary_iou 0, area_error -1
where it is missed and 1 where it is a false alarm. So a model never looks better by finding less. ``missed`` and ``false_alarm`` say
which of the two it was. Pixels that the truth ignores are taken out of both masks.

Label maps are images (H, W) or volumes (D, H, W), whose surfaces are those of the whole volume. Distances are in pixels, or in mm where the
spacing is known; it may differ between the axes. hd95 is the larger of the two directed 95th percentiles;
assd the mean over both surfaces; nsd the share of both surfaces within a tolerance; boundary_iou the IoU of the two masks' pixels nearer
to their own border than BOUNDARY of the image's diagonal (the border itself is at 0). area_error is predicted minus true area over true
area, area_difference the same difference in pixels or mm2 (voxels or mm3 of a volume). ece is the expected calibration error of a class
against the rest, where probabilities are known.
"""

from collections.abc import Sequence
from math import hypot, nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from samsemi.data.dataset import IGNORE

METRICS = (
    *("dice", "iou", "precision", "recall", "hd95", "assd", "nsd"),
    *("boundary_iou", "area_error", "area_difference", "ece"),
)
SURFACES = ("hd95", "assd", "nsd", "boundary_iou")
"""Of METRICS, those beside which misses are counted."""
OUTCOMES = ("missed", "false_alarm")
"""1 or 0: the class is in the truth alone; in the prediction alone. Measured with METRICS."""
BOUNDARY = 0.02
"""Source: Cheng et al., Boundary IoU, CVPR 2021, arXiv 2103.16562, who count it in steps of a chessboard's king; here it is Euclidean."""
BINS = 15
"""Of probabilities, equally wide. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599."""
LABELS = 256
"""Values of a label map."""


def dice_score(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """Mean Dice over the classes above background of two (H, W) label maps; NaN where neither holds any."""
    return mean_known(dice_scores(prediction, truth, num_classes))


def dice_scores(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> list[float]:
    """Dice of each class above background of two (H, W) label maps; NaN where neither holds it."""
    counts = count_pixels(prediction, truth)
    return [overlap_of(*pixels_of(counts, k))["dice"] for k in range(1, num_classes)]


def mean_known(scores: Sequence[float]) -> float:
    """The mean of the scores that are numbers; NaN where none is."""
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else nan


def measure(
    prediction: np.ndarray,
    truth: np.ndarray,
    classes: Sequence[str],
    spacing: Sequence[float] | float | None,
    tolerance: float,
    reliability: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """METRICS and OUTCOMES of each class above background: {class name: {metric: value}}.

    uint8 label maps; ``spacing`` is the size of a pixel in mm, one for all axes or one for each, or None; ``tolerance`` is in mm, or pixels
    without one. ``reliability`` is that of ``count_reliability``; without, ece is NaN.
    """
    counts, sizes, found = count_pixels(prediction, truth), np.broadcast_to(spacing or 1.0, truth.ndim), {}
    for k, name in enumerate(classes[1:], start=1):
        common, p, t = pixels_of(counts, k)
        found[name] = {
            **overlap_of(common, p, t),
            **surface(*class_masks(prediction, truth, k), sizes, tolerance),
            **area(p, t, float(sizes.prod())),
            "ece": nan if reliability is None else calibration_error(reliability[k]),
        }
        if not p and not t:
            found[name] = dict.fromkeys(found[name], nan)
    return found


def count_pixels(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(LABELS, LABELS) pixels by their true and predicted class; none of those that the truth ignores."""
    pairs = truth.ravel().astype(np.uint16) * np.uint16(LABELS) + prediction.ravel()
    counts = np.bincount(pairs, minlength=LABELS**2).reshape(LABELS, LABELS)
    counts[IGNORE] = 0
    return counts


def pixels_of(counts: np.ndarray, class_id: int) -> tuple[int, int, int]:
    """(common, predicted, true) pixels of a class."""
    return int(counts[class_id, class_id]), int(counts[:, class_id].sum()), int(counts[class_id].sum())


def class_masks(prediction: np.ndarray, truth: np.ndarray, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, true) bool masks of one class, without the pixels that the truth ignores."""
    return (prediction == class_id) & (truth != IGNORE), truth == class_id


def overlap(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """dice, iou, precision, recall of two bool masks."""
    return overlap_of(*(int(np.count_nonzero(mask)) for mask in (predicted & true, predicted, true)))


def overlap_of(common: int, p: int, t: int) -> dict[str, float]:
    """dice, iou, precision, recall of so many common, predicted and true pixels."""
    if p + t == 0:
        return dict.fromkeys(("dice", "iou", "precision", "recall"), nan)
    precision, recall = common / p if p else 0.0, common / t if t else 0.0
    return {"dice": 2 * common / (p + t), "iou": common / (p + t - common), "precision": precision, "recall": recall}


def area(p: int, t: int, size: float) -> dict[str, float]:
    """area_error, area_difference and OUTCOMES of so many predicted and true pixels, one at least, of a ``size``."""
    return {
        "area_error": (p - t) / (t or p or 1),
        "area_difference": (p - t) * size,
        "missed": float(not p),
        "false_alarm": float(not t),
    }


def surface(predicted: np.ndarray, true: np.ndarray, spacing: ArrayLike, tolerance: float) -> dict[str, float]:
    """hd95, assd, nsd, boundary_iou of two bool masks; the spacing of each axis."""
    if not predicted.any() and not true.any():
        return dict.fromkeys(SURFACES, nan)
    diagonal = hypot(*np.multiply(true.shape, spacing))
    if not predicted.any() or not true.any():
        return {"hd95": diagonal, "assd": diagonal, "nsd": 0.0, "boundary_iou": 0.0}
    box = find_box(predicted | true)
    masks = predicted[box], true[box]
    borders, distances = zip(*(border_distances(mask, spacing) for mask in masks), strict=True)
    to_true, to_predicted = distances[1][borders[0]], distances[0][borders[1]]
    both = np.concatenate([to_true, to_predicted])
    rims = [mask & (distance < BOUNDARY * diagonal) for mask, distance in zip(masks, distances, strict=True)]
    return {
        "hd95": float(max(np.percentile(to_true, 95), np.percentile(to_predicted, 95))),
        "assd": float(both.mean()),
        "nsd": float((both <= tolerance).mean()),
        "boundary_iou": overlap(*rims)["iou"],
    }


def find_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a bool mask, which may not be empty: what is measured there costs as the objects, not as the image."""
    axes = range(mask.ndim)
    places = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places)


def border_distances(mask: np.ndarray, spacing: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The border of a bool mask, and the distance of every pixel to it."""
    border = find_border(mask)
    return border, ndimage.distance_transform_edt(~border, sampling=spacing)


def find_border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a bool mask with a direct neighbor (4 in an image, 6 in a volume) outside it, beyond the array included."""
    inner, padded = mask.copy(), np.pad(mask, 1)
    for axis, size in enumerate(mask.shape):
        for shift in (0, 2):
            around = [slice(1, -1)] * mask.ndim
            around[axis] = slice(shift, shift + size)
            inner &= padded[tuple(around)]
    return mask & ~inner


def count_reliability(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(K, BINS, 3) of (K, ...) probabilities and a label map: of each class, in each bin of its probability, how many pixels there are, the
    sum of their probabilities, and how many are of the class. Left out are pixels that the truth ignores, or without a probability (NaN).
    """
    valid = (truth != IGNORE) & ~np.isnan(probs[0])
    labels, found = truth[valid], np.empty((len(probs), BINS, 3))
    for k, own in enumerate(probs):
        values = own[valid]
        place = np.minimum((values * BINS).astype(np.uint8), BINS - 1)
        pixels = np.bincount(place + np.uint8(BINS) * (labels == k), minlength=2 * BINS).reshape(2, BINS)
        found[k] = np.stack([pixels.sum(axis=0), np.bincount(place, weights=values, minlength=BINS), pixels[1]], axis=1)
    return found


def calibration_error(reliability: np.ndarray) -> float:
    """ECE of a class (BINS, 3): mean over the pixels of how far, in their bin, mean probability and share of the class lie apart; NaN where
    there is none."""
    pixels, probability, own = reliability.T
    return float(np.abs(probability - own).sum() / pixels.sum()) if pixels.sum() else nan
