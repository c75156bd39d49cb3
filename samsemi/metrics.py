"""How good a segmentation is, under one stated policy for empty masks.

A class that neither mask holds is not measured (NaN, left out of means, counted in ``n``). A class that one of the
two holds and the other misses costs all: overlap 0, surface distances the diagonal of the image, nsd 0. So a model
never looks better by finding less. Pixels that the truth ignores are taken out of both masks.

Label maps are images (H, W) or volumes (D, H, W), whose surfaces are those of the whole volume. Distances are in pixels, or in mm where the
spacing is known; it may differ between the axes. hd95 is the larger of the two directed 95th percentiles;
assd the mean over both surfaces; nsd the share of both surfaces within a tolerance.
"""

from collections.abc import Mapping, Sequence
from math import hypot, nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from samsemi.data.dataset import IGNORE

METRICS = ("dice", "iou", "precision", "recall", "hd95", "assd", "nsd")
RESAMPLES = 2000


def dice_score(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """Mean Dice over the classes above background of two (H, W) label maps; NaN where neither holds any."""
    return mean_known(dice_scores(prediction, truth, num_classes))


def dice_scores(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> list[float]:
    """Dice of each class above background of two (H, W) label maps; NaN where neither holds it."""
    return [overlap(*class_masks(prediction, truth, k))["dice"] for k in range(1, num_classes)]


def mean_known(scores: Sequence[float]) -> float:
    """The mean of the scores that are numbers; NaN where none is."""
    known = [score for score in scores if not np.isnan(score)]
    return float(np.mean(known)) if known else nan


def measure(
    prediction: np.ndarray, truth: np.ndarray, classes: Sequence[str], spacing: Sequence[float] | float | None, tolerance: float
) -> dict[str, dict[str, float]]:
    """All metrics of each class above background: {class name: {metric: value}}.

    Label maps; ``spacing`` is the size of a pixel in mm, one for all axes or one for each, or None; ``tolerance`` is in mm, or pixels
    without one.
    """
    found = {}
    for k, name in enumerate(classes[1:], start=1):
        masks = class_masks(prediction, truth, k)
        found[name] = {**overlap(*masks), **surface(*masks, spacing or 1.0, tolerance)}
    return found


def class_masks(prediction: np.ndarray, truth: np.ndarray, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, true) bool masks of one class, without the pixels that the truth ignores."""
    valid = truth != IGNORE
    return (prediction == class_id) & valid, (truth == class_id) & valid


def overlap(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """dice, iou, precision, recall of two bool masks."""
    p, t = int(predicted.sum()), int(true.sum())
    common = int((predicted & true).sum())
    if p + t == 0:
        return dict.fromkeys(("dice", "iou", "precision", "recall"), nan)
    precision, recall = common / p if p else 0.0, common / t if t else 0.0
    return {"dice": 2 * common / (p + t), "iou": common / (p + t - common), "precision": precision, "recall": recall}


def surface(predicted: np.ndarray, true: np.ndarray, spacing: ArrayLike, tolerance: float) -> dict[str, float]:
    """hd95, assd, nsd of two bool masks; the spacing of each axis."""
    if not predicted.any() and not true.any():
        return {"hd95": nan, "assd": nan, "nsd": nan}
    if not predicted.any() or not true.any():
        diagonal = hypot(*np.multiply(true.shape, spacing))
        return {"hd95": diagonal, "assd": diagonal, "nsd": 0.0}
    to_true, to_predicted = surface_distances(predicted, true, spacing)
    distances = np.concatenate([to_true, to_predicted])
    return {
        "hd95": float(max(np.percentile(to_true, 95), np.percentile(to_predicted, 95))),
        "assd": float(distances.mean()),
        "nsd": float((distances <= tolerance).mean()),
    }


def surface_distances(predicted: np.ndarray, true: np.ndarray, spacing: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each border pixel of one mask to the other's border, both ways; neither mask may be empty.

    A border pixel is one of the mask with a direct neighbor (4 in an image, 6 in a volume) outside it, beyond the image included.
    Works on the box around the two masks: cost grows with the objects, not with the image.
    """
    box = tuple(slice(axis.min(), axis.max() + 1) for axis in np.nonzero(predicted | true))
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted[box], true[box])]
    to_predicted, to_true = (ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders)
    return to_true[borders[0]], to_predicted[borders[1]]


def bootstrap_interval(values: np.ndarray, groups: Sequence[str], rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean, by resampling whole groups (patients); NaN values are left out."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return nan, nan
    _, member = np.unique(np.asarray(groups)[known], return_inverse=True)
    sums = np.bincount(member, weights=values[known])
    counts = np.bincount(member)
    draws = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarize_values(values: ArrayLike, groups: Sequence[str], seed: int) -> dict[str, float | int | None]:
    """mean, std, bootstrap interval (low, high) and number of the values that are not NaN; None where there is none."""
    array = np.asarray(values, dtype=np.float64)
    known = array[~np.isnan(array)]
    if not known.size:
        return {"mean": None, "std": None, "low": None, "high": None, "n": 0}
    low, high = bootstrap_interval(array, groups, np.random.default_rng(seed))
    return {
        "mean": float(known.mean()),
        "std": float(known.std(ddof=1)) if known.size > 1 else 0.0,
        "low": low,
        "high": high,
        "n": int(known.size),
    }


def compare(
    values: Mapping[str, float], others: Mapping[str, float], groups: Mapping[str, str], seed: int
) -> dict[str, float | int | None]:
    """Paired difference over the cases that both measured: its summary and the p-value of Wilcoxon's signed-rank test."""
    ids = [name for name in values if name in others and not np.isnan(values[name]) and not np.isnan(others[name])]
    differences = np.array([values[name] - others[name] for name in ids])
    found = summarize_values(differences, [groups[name] for name in ids], seed)
    return {**found, "wilcoxon_p": wilcoxon_p(differences)}


def wilcoxon_p(differences: np.ndarray) -> float | None:
    """Two-sided p-value; None for fewer than two differences, 1 where all are zero."""
    from scipy.stats import wilcoxon

    if differences.size < 2:
        return None
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
