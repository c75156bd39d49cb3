"""Calibration: objects mined in cases whose true masks are known -> how probable it is that one is right, and what is accepted.

Judged is the label that would be learnt from an object, not SAM's mask alone. SAM's share in the labels is chosen first, over all
objects; then objects are right or wrong by the labels of that share; then the probability is fitted and the threshold chosen. So no
step depends on a later one. An object that is none has a Dice of 0 whatever the share, and has no say in it.

Fitted to the validation cases, and to the labeled ones where there are out-of-fold predictions of them: never to maps of cases
that the U-Net++ has learnt, nor to SAM's masks on cases that the SAM has learnt or that its weights were chosen by.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from samsemi import console
from samsemi.data.dataset import IGNORE, Case, Dataset, is_among, read_case_images, read_case_label
from samsemi.metrics import overlap
from samsemi.mining.composition import network_map, object_mask
from samsemi.mining.folds import FoldMaps
from samsemi.mining.miner import Miner, choose_policy
from samsemi.mining.policy import ClassRule, Policy, Quality, fit_quality, score_table
from samsemi.mining.precision import (
    Bias,
    choose_threshold,
    describe_precision,
    describe_share,
    estimate_precision,
    measure_bias,
)
from samsemi.mining.scores import THRESHOLDS
from samsemi.mining.store import Mined
from samsemi.mining.store_writer import StoreWriter
from samsemi.options.mine import MineOptions
from samsemi.sam.prompts import number_objects, shared_most
from samsemi.sam.protocol import SamBackend, learned_by

LOG = logging.getLogger("samsemi")
RIGHT = 0.5
"""IoU with a true object from which a label is right."""
LEAST_OBJECTS = 10
"""Fewer are too few to fit to."""
LEAST_PRECISION = 0.5
"""Where no threshold reaches it, nothing is accepted."""
NOTHING = 2.0
"""The least quality where nothing is accepted: no probability reaches it."""
LEAST_CLASS_OBJECTS = 20
"""From so many on, a class among several has a fit and a threshold of its own; the others share those of all objects."""
PARTS = 10
"""The probabilities by which the threshold is chosen come from models that have not seen the patient: one in so many."""
CURVE_POINTS = 20
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of SAM in the soft label, among which the best is chosen where none is given; of equally good ones the first."""
Truth = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of the n objects of a case: (n, 7) scores, (n, 2, shares) truth as of ``measure_objects``, (n,) classes."""


class Rows:
    """A dataclass of arrays that have a row per object."""

    def __getitem__(self, chosen: np.ndarray) -> Self:
        """The objects where (N,) bool ``chosen`` is True."""
        return type(self)(*(getattr(self, field.name)[chosen] for field in fields(self)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Judged(Rows):
    """The N objects of some cases, with the truth about them."""

    scores: np.ndarray
    """(N, 7), in the order of SCORES."""
    iou: np.ndarray
    """(N,) of the label that is learnt from it with the true object that it shares most pixels with; 0 without one."""
    dice: np.ndarray
    """(N,) likewise."""
    image: np.ndarray
    """(N,) index of the case."""
    group: np.ndarray
    """(N,) index of the patient."""
    class_id: np.ndarray
    """(N,) of the object that prompted."""


@dataclass(frozen=True)
class Applied(Rows):
    """What the fits make of N objects."""

    unseen: np.ndarray
    """(N,) probabilities by models that have not seen the patient."""
    accepted: np.ndarray
    """(N,) bool; where nothing may be accepted, what the thresholds alone would accept."""
    right: np.ndarray
    """(N,) bool."""
    optimism: np.ndarray
    """(N,) of the precision of the fit that decides about each; so is its spread."""
    spread: np.ndarray


@dataclass(frozen=True)
class Fit:
    """What is accepted of some objects, and how good that is."""

    quality: Quality
    threshold: float
    """The least quality: the lowest that reaches the target, or that of the highest precision."""
    bias: Bias
    """Of the precision that it has over these objects."""
    usable: bool
    """False: too few of them should be right, so nothing is accepted."""
    unseen: np.ndarray
    """(N,) probabilities by models that have not seen the patient."""

    @property
    def least(self) -> float:
        return self.threshold if self.usable else NOTHING


def finish_store(writer: StoreWriter, miner: Miner, dataset: Dataset, fold_maps: FoldMaps | None = None) -> None:
    """Make the parts one store, calibrated if ``options.calibrate``."""
    ids = [case.id for case in dataset.split("unlabeled")]
    if miner.options.calibrate:
        policy, calibration = calibrate(miner, dataset, fold_maps)
        writer.finish(ids, policy.to_json(), calibration)
    else:
        writer.finish(ids)


def calibrate(miner: Miner, dataset: Dataset, fold_maps: FoldMaps | None = None) -> tuple[Policy, dict[str, object]]:
    """What is accepted for ``target_precision``, and what that was fitted to; the default thresholds where there is too little."""
    options, num_classes = miner.options, len(dataset.classes)
    shares = SHARES if options.sam_share is None else (options.sam_share,)
    sources = find_sources(miner.sam, dataset, fold_maps)
    rows = judge_cases(sources, miner, num_classes, fold_maps, shares)
    cases = [case for found in sources.values() for case in found]
    count = sum(len(scores) for scores, *_ in rows)
    about: dict[str, Any] = {"cases": {name: len(found) for name, found in sources.items()}, "objects": count}
    about["target_precision"] = options.target_precision
    if count < LEAST_OBJECTS:
        LOG.warning(f"only {count} objects to calibrate with: the default thresholds are used")
        return choose_policy(options, Policy()), about
    by_share = measure_shares(rows)
    best = int(by_share.argmax())
    judged = join(rows, [case.group for case in cases], best)
    classes = find_own_classes(judged, num_classes)
    shared = fit_objects(judged, options, "" if len(classes) < num_classes - 1 else None)
    own = {k: fit_objects(judged[judged.class_id == k], options, f"class {dataset.classes[k]}: ") for k in classes}
    rules = tuple(ClassRule(k, fit.least, fit.quality) for k, fit in own.items())
    base = Policy(**{f"min_{name}": 0.0 for name in THRESHOLDS}, min_quality=shared.least, quality=shared.quality, by_class=rules)
    table = apply_fits(judged, shared, own)
    about |= describe_accepted(table) | {"min_quality": shared.threshold}
    about["dice_by_sam_share"] = dict(zip(map(str, shares), by_share.tolist(), strict=True))
    if num_classes > 2:
        about["by_class"] = {
            dataset.classes[k]: {
                "class_id": k,
                "fit": "own" if k in own else "shared",
                "objects": int((judged.class_id == k).sum()),
                **describe_accepted(table[judged.class_id == k]),
                "min_quality": own.get(k, shared).threshold,
                "usable": own.get(k, shared).usable,
            }
            for k in range(1, num_classes)
        }
    about["curve"] = trace_curve(table, judged, len(cases))
    LOG.info(f"calibrated with {len(judged.iou)} objects of {len(cases)} cases: {describe_precision(about)}")
    return choose_policy(options, replace(base, sam_share=shares[best])), about


def find_sources(sam: SamBackend, dataset: Dataset, fold_maps: FoldMaps | None) -> dict[str, list[Case]]:
    """The cases to calibrate with: 'val' without those that the SAM was chosen on; 'out_of_fold'; of both none that it has learnt, in
    whatever data set.

    Weights of before their cards named what they had learnt are known to have learnt the labeled cases of one data set.
    """
    chosen_on: frozenset[str] = getattr(sam, "chosen_on", frozenset())
    learned = learned_by(sam)
    sources = {"val": [case for case in dataset.split("val") if case.id not in chosen_on and not is_among(case, learned)]}
    if left_out := len(dataset.split("val")) - len(sources["val"]):
        LOG.info(f"{left_out} val cases are not calibrated with: the SAM has learnt them, or its weights were chosen by them")
    if fold_maps and getattr(sam, "adapted_to", None) != dataset.fingerprint():
        unseen = [case for case in dataset.split("labeled") if not is_among(case, learned)]
        fold_maps.need([case.id for case in unseen], len(dataset.classes))
        sources |= {"out_of_fold": unseen} if unseen else {}
    return sources


def find_own_classes(judged: Judged, num_classes: int) -> list[int]:
    """The classes with enough objects for a fit of their own; none where there is one class."""
    return [k for k in range(1, num_classes) if num_classes > 2 and (judged.class_id == k).sum() >= LEAST_CLASS_OBJECTS]


def fit_objects(judged: Judged, options: MineOptions, what: str | None) -> Fit:
    """A fit to some objects; warns, beginning with ``what`` unless that is None, where the target is not reached, or too little is right.

    The threshold is chosen for the precision that is counted over the objects, since that comes nearer to the target on others than
    one that must reach it without its optimism. Whether what it accepts can be used is decided without.
    """
    right, target = judged.iou >= RIGHT, options.target_precision
    unseen = predict_unseen(judged)
    threshold, counted = choose_threshold(unseen, right, target)
    bias = measure_bias(unseen, right, judged.group, target)
    precision, interval = estimate_precision(right[unseen >= threshold], *bias)
    reached = counted >= target
    usable = precision >= LEAST_PRECISION or (reached and target < LEAST_PRECISION) or options.allow_low_precision
    if what is not None and not (reached and usable):
        outcome = "which is taken" if usable else "so nothing is accepted"
        LOG.warning(f"{what}a precision of {target:g} is not reached; the best is {describe_share(precision, interval)}, {outcome}")
    return Fit(fit_quality(judged.scores, right), threshold, bias, usable, unseen)


def apply_fits(judged: Judged, shared: Fit, own: Mapping[int, Fit]) -> Applied:
    """What the fit of each object's class, or the shared one, makes of it."""
    rows = np.array([(shared.threshold, shared.usable, *shared.bias)] * len(judged.iou))
    unseen = shared.unseen.copy()
    for k, fit in own.items():
        chosen = judged.class_id == k
        unseen[chosen], rows[chosen] = fit.unseen, (fit.threshold, fit.usable, *fit.bias)
    threshold, usable, optimism, spread = rows.T
    above = unseen >= threshold
    accepted = above & (usable > 0)
    return Applied(unseen, accepted if accepted.any() else above, judged.iou >= RIGHT, optimism, spread)


def describe_accepted(table: Applied) -> dict[str, object]:
    """How many of some objects are accepted, and the estimated precision of these with its interval."""
    found: dict[str, object] = {"accepted": int(table.accepted.sum())}
    if table.accepted.any():
        chosen = table[table.accepted]
        precision, interval = estimate_precision(chosen.right, chosen.optimism, chosen.spread)
        found |= {"precision": precision, "precision_interval": interval, "optimism": float(chosen.optimism.mean())}
    return found


def judge_cases(
    sources: Mapping[str, Sequence[Case]], miner: Miner, num_classes: int, fold_maps: FoldMaps | None, shares: Sequence[float]
) -> list[Truth]:
    """The objects of each case, by the U-Net++'s maps of it or, of the cases 'out_of_fold', by those out-of-fold."""
    rows = []
    with console.progress("calibrate", sum(map(len, sources.values()))) as advance:
        for source, members in sources.items():
            for case in members:
                rows.append(judge_case(case, miner, num_classes, fold_maps if source == "out_of_fold" else None, shares))
                advance()
    return rows


def judge_case(case: Case, miner: Miner, num_classes: int, fold_maps: FoldMaps | None, shares: Sequence[float]) -> Truth:
    """The objects that are mined in a case; an image that cannot be read has none. Left out is what no threshold accepts: objects of
    which SAM's mask is empty, or a score is no number."""
    images = read_case_images([case])
    if fold_maps:
        found = miner.prompt(images, [fold_maps.read(case.id, image.shape[:2]) for image in images.values()])
    else:
        found = miner.mine(images)
    if not found:
        return np.zeros((0, len(THRESHOLDS))), np.zeros((0, 2, len(shares))), np.zeros(0, dtype=int)
    mined, _ = found[case.id]
    scores, truth = score_table(mined), measure_objects(mined, read_case_label(case, case.mask, num_classes), num_classes, shares)
    learnable = np.isfinite(scores).all(axis=1) & (mined.area > 0)
    return scores[learnable], truth[learnable], mined.class_id[learnable].astype(int)


def measure_objects(mined: Mined, label: np.ndarray, num_classes: int, shares: Sequence[float]) -> np.ndarray:
    """(N, 2, shares) IoU and Dice of what is learnt from each object, with such a share of SAM in it, with the true object of its class
    that it shares most pixels with; 0 without one."""
    numbers, class_id = number_objects(label, num_classes)
    found, network = np.zeros((len(mined), 2, len(shares))), network_map(mined, num_classes, label.shape)
    for i, k in enumerate(mined.class_id):
        for number, share in enumerate(shares):
            mask = object_mask(mined, i, network, share) & (label != IGNORE)
            truth = shared_most(numbers[None], class_id, mask, k)
            if truth.any():
                values = overlap(mask, truth)
                found[i, :, number] = values["iou"], values["dice"]
    return found


def measure_shares(rows: Sequence[Truth]) -> np.ndarray:
    """(shares,) mean Dice over all objects."""
    return np.concatenate([truth for _, truth, _ in rows])[:, 1].mean(axis=0)


def join(rows: Sequence[Truth], groups: Sequence[str], share: int) -> Judged:
    """The objects of all cases, judged by their labels with the share of this number."""
    scores, truth, class_id = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    image = np.repeat(np.arange(len(rows)), np.array([len(found) for found, *_ in rows], dtype=int))
    group = np.unique(groups, return_inverse=True)[1][image]
    return Judged(scores, truth[:, 0, share], truth[:, 1, share], image, group, class_id)


def predict_unseen(judged: Judged) -> np.ndarray:
    """(N,) probability that each object is right, by models fitted to the other patients."""
    part, right = judged.group % PARTS, judged.iou >= RIGHT
    unseen = np.zeros(len(right))
    for number in np.unique(part):
        held = part == number
        unseen[held] = fit_quality(judged.scores[~held], right[~held])(judged.scores[held]) if not held.all() else right.mean()
    return unseen


def trace_curve(table: Applied, judged: Judged, images: int) -> list[dict[str, object]]:
    """What thresholds give, from accepting all to accepting little: shares of objects and images, mean true Dice, and the precision with
    its interval, estimated as that of what is accepted is: who chooses a threshold by the curve chooses it by these objects, too."""
    points: list[dict[str, object]] = []
    for threshold in np.unique(np.quantile(table.unseen, np.linspace(0, 1, CURVE_POINTS, endpoint=False), method="lower")):
        accepted = table.unseen >= threshold
        chosen = table[accepted]
        precision, interval = estimate_precision(chosen.right, chosen.optimism, chosen.spread)
        points.append(
            {
                "min_quality": float(threshold),
                "objects": float(accepted.mean()),
                "images": len(np.unique(judged.image[accepted])) / images,
                "precision": precision,
                "precision_interval": interval,
                "dice": float(judged.dice[accepted].mean()),
            }
        )
    return points
