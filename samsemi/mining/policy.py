"""What is accepted from a store, and why not: thresholds, and the probability that an object is right. Pure, needs no torch.

Decided when a store is read, so that thresholds can be changed without mining again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, make_dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from samsemi.errors import CheckpointError
from samsemi.mining.scores import REASONS, SCORES, THRESHOLDS
from samsemi.mining.store import Mined
from samsemi.schemas import HINT, from_json

FIRST_SCORES = 6
"""That calibrations of stores of schema 1 were fitted to: all but the last."""
MOST_QUALITY = 2.0
"""Of thresholds: above 1 nothing is accepted."""
RIDGE = 1.0
"""Penalty of a squared weight of the logistic model: that of a standard normal prior."""


@dataclass(frozen=True)
class Quality:
    """The probability that an object is right: a logistic function of its standardized scores."""

    mean: tuple[float, ...]
    """Of each of THRESHOLDS over the objects that it was fitted to."""
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(N,) probabilities of (N, 7) scores; NaN where a score is."""
        return expit((scores - self.mean) / self.scale @ np.asarray(self.weights) + self.bias)


Thresholds = make_dataclass("Thresholds", [(f"min_{score.name}", float, score.least) for score in SCORES], frozen=True)
"""A field min_NAME for each of SCORES."""


@dataclass(frozen=True)
class ClassRule:
    """What is accepted of a class that was calibrated on its own."""

    class_id: int
    min_quality: float
    quality: Quality


@dataclass(frozen=True)
class Policy(Thresholds):  # type: ignore[valid-type, misc]
    """What is accepted: every threshold must be reached; and what is learnt from it."""

    min_quality: float = 0.0
    background_below: float = 0.0
    """The places of objects of a lower quality are background; those of other rejected objects are ignored."""
    sam_share: float = 0.5
    """Share of SAM in the soft label; the rest is the U-Net++."""
    disagreement_weight: float = 1.0
    """Weight of the pixels where SAM and the U-Net++ disagree."""
    sure_pixels: float = 0.0
    """Weight of the sure pixels of images without an accepted object."""
    quality: Quality | None = None
    """None: not calibrated, every object may be right."""
    by_class: tuple[ClassRule, ...] = ()
    """In place of ``quality`` and ``min_quality``, for classes with enough objects to be calibrated on their own."""

    def to_json(self) -> dict[str, object]:
        """Without ``by_class`` where it is empty: as before there were rules of classes."""
        return {name: value for name, value in asdict(self).items() if name != "by_class" or value}

    @classmethod
    def from_json(cls, values: Mapping[str, object], where: str = "policy") -> "Policy":
        """CheckpointError, beginning with ``where``, for values of no policy."""
        policy = from_json(cls, values, where)
        check_policy(policy, where)
        rules = tuple(replace(rule, quality=with_all_scores(rule.quality, where)) for rule in policy.by_class)
        return replace(policy, quality=with_all_scores(policy.quality, where) if policy.quality else None, by_class=rules)


def check_policy(policy: Policy, where: str) -> None:
    """CheckpointError for numbers that no policy can have."""
    beyond = [name for name, value in numbers(policy).items() if not 0 <= value <= (MOST_QUALITY if name == "min_quality" else 1)]
    qualities = [quality for quality in (policy.quality, *(rule.quality for rule in policy.by_class)) if quality]
    if beyond or not all(scale > 0 for quality in qualities for scale in quality.scale):
        raise CheckpointError(f"{where}: {beyond[0] if beyond else 'a scale of quality'} is out of range", HINT)


def with_all_scores(quality: Quality, where: str) -> Quality:
    """A quality of before the last of SCORES does not weigh it; CheckpointError for one that was fitted to other scores."""
    counts = {len(quality.mean), len(quality.scale), len(quality.weights)}
    if counts == {FIRST_SCORES}:
        none, one = (0.0,) * (len(SCORES) - FIRST_SCORES), (1.0,) * (len(SCORES) - FIRST_SCORES)
        return replace(quality, mean=quality.mean + none, scale=quality.scale + one, weights=quality.weights + none)
    if counts != {len(SCORES)}:
        raise CheckpointError(f"{where}: quality was fitted to other scores than {', '.join(THRESHOLDS)}", HINT)
    return quality


def numbers(policy: Policy) -> dict[str, float]:
    """All of a policy that is one number and can be given as an option."""
    return {field.name: getattr(policy, field.name) for field in fields(policy) if field.name not in ("quality", "by_class")}


def score_table(mined: Mined) -> np.ndarray:
    """(N, 7) float64: the scores that decide, in the order of THRESHOLDS."""
    return np.stack(bounded_scores(mined), axis=1, dtype=np.float64)


def bounded_scores(mined: Mined) -> list[np.ndarray]:
    """The (N,) scores in the order of THRESHOLDS; an IoU that SAM predicts below 0 is 0, so that a threshold of 0 asks nothing, and one
    above 1 is 1."""
    return [np.clip(getattr(mined, name), 0, 1) for name in THRESHOLDS]


def quality_of(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) probability that each object is right; 1 without a calibration."""
    quality = policy.quality(score_table(mined)) if policy.quality else np.ones(len(mined))
    for rule in policy.by_class:
        quality = np.where(mined.class_id == rule.class_id, rule.quality(score_table(mined)), quality)
    return quality


def least_quality(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) that each object must reach, by its class."""
    least = np.full(len(mined), policy.min_quality)
    for rule in policy.by_class:
        least[mined.class_id == rule.class_id] = rule.min_quality
    return least


def decide(mined: Mined, policy: Policy) -> np.ndarray:
    """(N,) index into REASONS for each object."""
    scores = [*bounded_scores(mined), quality_of(mined, policy)]
    least = [*(getattr(policy, f"min_{name}") for name in THRESHOLDS), least_quality(mined, policy)]
    failed = np.stack([mined.area == 0, *(~(score >= value) for score, value in zip(scores, least, strict=True))])
    reason = np.where(failed.any(axis=0), failed.argmax(axis=0) + 1, 0)
    return np.where((reason > 0) & (scores[-1] < policy.background_below), REASONS.index("background"), reason)


def fit_quality(scores: np.ndarray, right: np.ndarray) -> Quality:
    """Logistic regression of (N, 7) scores on (N,) bool, with a ridge on the weights, not on the bias; a score that never varies gets
    weight 0.

    So the mean of the N probabilities is the share that is right. Where all are alike, no bias is finite that fits them: the probability
    of every object is then that share by Jeffreys' prior, (number right + 1/2) / (N + 1). Source: Jeffreys 1946.
    """
    mean, scale = scores.mean(axis=0), scores.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.inf)
    inputs = np.column_stack([(scores - mean) / scale, np.ones(len(scores))])
    ridge = np.append(np.full(scores.shape[1], RIDGE), 0.0)
    sign = np.where(right, 1.0, -1.0)
    start = np.append(np.zeros(scores.shape[1]), logit((right.sum() + 0.5) / (len(right) + 1)))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (inputs @ w)
        return np.logaddexp(0, -margin).sum() + ridge / 2 @ w**2, -inputs.T @ (sign * expit(-margin)) + ridge * w

    w = minimize(loss, start, jac=True, method="L-BFGS-B").x if 0 < right.sum() < len(right) else start
    finite = np.where(np.isfinite(scale), scale, 1.0)
    return Quality(tuple(mean.tolist()), tuple(finite.tolist()), tuple(w[:-1].tolist()), float(w[-1]))
