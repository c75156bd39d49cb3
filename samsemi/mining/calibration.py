"""Calibration: SAM's masks on cases whose true masks are known -> how probable it is that an object is right, and what is accepted.

Fitted to the validation cases, and to the labeled ones where there are out-of-fold predictions of them: never to maps of cases
that the U-Net++ has learnt, nor to SAM's masks on cases that the SAM has learnt.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from samsemi import console
from samsemi.data.dataset import IGNORE, Case, Dataset, read_case_images, read_case_label
from samsemi.metrics import overlap
from samsemi.mining.folds import FoldMaps
from samsemi.mining.miner import Miner, choose_policy
from samsemi.mining.policy import Policy, fit_quality, score_table
from samsemi.mining.pseudolabels import blend
from samsemi.mining.scores import THRESHOLDS
from samsemi.mining.store import Mined
from samsemi.mining.store_writer import StoreWriter
from samsemi.sam.prompts import number_objects, shared_most

LOG = logging.getLogger("samsemi")
RIGHT = 0.5
"""IoU with a true object from which a mask is right."""
LEAST_OBJECTS = 10
"""Fewer are too few to fit to."""
LEAST_PRECISION = 0.5
"""Where no threshold reaches it, nothing is accepted."""
NOTHING = 2.0
"""The least quality where nothing is accepted: no probability reaches it."""
LEAST_ACCEPTED = 5
"""Objects over which a precision is measured, at least."""
PARTS = 10
"""The probabilities by which the threshold is chosen come from models that have not seen the patient: one in so many."""
CURVE_POINTS = 20
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of SAM in the soft label, among which the best is chosen; SAM's own mask comes first."""
NO_OBJECTS = np.zeros((0, len(THRESHOLDS))), np.zeros((0, 1 + len(SHARES)))
"""Scores, and the truth about them, of a case without objects."""


@dataclass(frozen=True)
class Judged:
    """The N objects of some cases, with the truth about them."""

    scores: np.ndarray
    """(N, 6), in the order of SCORES."""
    iou: np.ndarray
    """(N,) of SAM's mask with the true object that it shares most pixels with; 0 without one."""
    dice: np.ndarray
    """(N, 5) likewise, of the mask with each of the SHARES of SAM in it; the rest is the U-Net++."""
    image: np.ndarray
    """(N,) index of the case."""
    group: np.ndarray
    """(N,) index of the patient."""


def finish_store(writer: StoreWriter, miner: Miner, dataset: Dataset, fold_maps: FoldMaps | None = None) -> None:
    """Make the parts one store, calibrated if ``options.calibrate``."""
    if miner.options.calibrate:
        policy, calibration = calibrate(miner, dataset, fold_maps)
        writer.finish(policy.to_json(), calibration)
    else:
        writer.finish()


def calibrate(miner: Miner, dataset: Dataset, fold_maps: FoldMaps | None = None) -> tuple[Policy, dict[str, object]]:
    """What is accepted for ``target_precision``, and what that was fitted to; the default thresholds where there is too little."""
    options, num_classes = miner.options, len(dataset.classes)
    sources = {"val": dataset.split("val")}
    if fold_maps and getattr(miner.sam, "adapted_to", None) != dataset.fingerprint():
        sources["out_of_fold"] = dataset.split("labeled")
        fold_maps.need([case.id for case in sources["out_of_fold"]])
    cases = [case for found in sources.values() for case in found]
    rows = []
    with console.progress("calibrate", len(cases)) as advance:
        for source, members in sources.items():
            for case in members:
                rows.append(judge_case(case, miner, num_classes, fold_maps if source == "out_of_fold" else None))
                advance()
    judged = join(rows, [case.group for case in cases])
    about = {"cases": {name: len(found) for name, found in sources.items()}, "objects": len(judged.iou)}
    about["target_precision"] = options.target_precision
    if len(judged.iou) < LEAST_OBJECTS:
        LOG.warning(f"only {len(judged.iou)} objects to calibrate with: the default thresholds are used")
        return choose_policy(options, Policy()), about
    base = Policy(**{f"min_{name}": 0.0 for name in THRESHOLDS}, quality=fit_quality(judged.scores, judged.iou >= RIGHT))
    unseen = predict_unseen(judged)
    threshold, precision = choose_threshold(unseen, judged.iou >= RIGHT, options.target_precision)
    reached = precision >= options.target_precision
    usable = reached or precision >= LEAST_PRECISION or options.allow_low_precision
    if not reached:
        outcome = "which is taken" if usable else "so nothing is accepted"
        LOG.warning(f"a precision of {options.target_precision:g} is not reached; the best is {precision:.2f}, {outcome}")
    accepted = unseen >= threshold
    by_share = judged.dice[accepted].mean(axis=0)
    best = int(by_share.argmax())
    about |= {
        "precision": precision,
        "precision_interval": wilson_interval(precision, int(accepted.sum())),
        "accepted": int(accepted.sum()),
        "min_quality": threshold,
        "dice_by_sam_share": dict(zip(map(str, SHARES), by_share.tolist(), strict=True)),
    }
    about["curve"] = trace_curve(unseen, judged, judged.dice[:, best], len(cases))
    LOG.info(f"calibrated with {len(judged.iou)} objects of {len(cases)} cases: {describe_precision(about)}")
    least = threshold if usable else NOTHING
    return choose_policy(options, replace(base, min_quality=least, sam_share=SHARES[best])), about


def wilson_interval(share: float, count: int) -> list[float]:
    """95 % interval of a share of ``count`` objects, taken as independent. Source: Wilson 1927, without a correction for continuity."""
    z = 1.96
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return [max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)]


def describe_precision(about: Mapping[str, Any]) -> str:
    """The estimate of a calibration in words; of a store that keeps no interval, the estimate alone."""
    interval = " [{:.2f}, {:.2f}] (Wilson, 95 %)".format(*about["precision_interval"]) if "precision_interval" in about else ""
    return f"estimated precision of what is accepted {about['precision']:.2f}{interval}, target {about['target_precision']:g}"


def judge_case(case: Case, miner: Miner, num_classes: int, fold_maps: FoldMaps | None) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6) scores of the objects that are mined in a case, and the truth about them as of ``measure_objects``; an image that cannot
    be read has none, and an object with a score that is no number is left out."""
    images = read_case_images([case])
    maps = [fold_maps.read(case.id, image.shape[:2]) for image in images.values()] if fold_maps else miner.find(list(images.values()))
    found = miner.prompt(images, maps)
    if not found:
        return NO_OBJECTS
    mined, _ = found[case.id]
    scores, truth = score_table(mined), measure_objects(mined, read_case_label(case, case.mask, num_classes), num_classes)
    known = np.isfinite(scores).all(axis=1)
    return scores[known], truth[known]


def measure_objects(mined: Mined, label: np.ndarray, num_classes: int) -> np.ndarray:
    """(N, 1 + 5) IoU of SAM's masks with the true objects of their class that they share most pixels with; Dice with each of SHARES."""
    numbers, class_id = number_objects(label, num_classes)
    rows = np.zeros((len(mined), 1 + len(SHARES)))
    for i, k in enumerate(mined.class_id):
        found = []
        for share in SHARES:
            probs = Image.fromarray(blend(mined, i, share)).resize(label.shape[::-1], Image.Resampling.BILINEAR)
            mask = (np.asarray(probs) > 0.5) & (label != IGNORE)
            truth = shared_most(numbers[None], class_id, mask, k)
            found.append(overlap(mask, truth) if truth.any() else {"iou": 0.0, "dice": 0.0})
        rows[i] = [found[0]["iou"], *(values["dice"] for values in found)]
    return rows


def join(rows: Sequence[tuple[np.ndarray, np.ndarray]], groups: Sequence[str]) -> Judged:
    """The objects of all cases."""
    scores, truth = (np.concatenate(parts) for parts in zip(NO_OBJECTS, *rows, strict=True))
    image = np.repeat(np.arange(len(rows)), np.array([len(found) for found, _ in rows], dtype=int))
    group = np.unique(groups, return_inverse=True)[1][image]
    return Judged(scores, truth[:, 0], truth[:, 1:], image, group)


def predict_unseen(judged: Judged) -> np.ndarray:
    """(N,) probability that each object is right, by models fitted to the other patients."""
    part, right = judged.group % PARTS, judged.iou >= RIGHT
    unseen = np.zeros(len(right))
    for number in np.unique(part):
        held = part == number
        unseen[held] = fit_quality(judged.scores[~held], right[~held])(judged.scores[held]) if not held.all() else right.mean()
    return unseen


def choose_threshold(quality: np.ndarray, right: np.ndarray, target: float) -> tuple[float, float]:
    """The lowest quality at which the precision of what is accepted reaches the target, and that precision.

    0 where everything may be accepted; where the target is not reached, the quality of the highest precision.
    """
    order = np.argsort(-quality, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    allowed = np.arange(len(order)) >= min(LEAST_ACCEPTED, len(order)) - 1
    reached = np.flatnonzero(allowed & (precision >= target))
    last = reached[-1] if len(reached) else np.flatnonzero(allowed)[precision[allowed].argmax()]
    return (0.0 if last == len(order) - 1 else float(quality[order[last]])), float(precision[last])


def trace_curve(quality: np.ndarray, judged: Judged, dice: np.ndarray, images: int) -> list[dict[str, float]]:
    """What thresholds give, from accepting all to accepting little: shares of objects and images, precision, mean true Dice."""
    points = []
    for threshold in np.unique(np.quantile(quality, np.linspace(0, 1, CURVE_POINTS, endpoint=False), method="lower")):
        accepted = quality >= threshold
        points.append(
            {
                "min_quality": float(threshold),
                "objects": float(accepted.mean()),
                "images": len(np.unique(judged.image[accepted])) / images,
                "precision": float((judged.iou[accepted] >= RIGHT).mean()),
                "dice": float(dice[accepted].mean()),
            }
        )
    return points
