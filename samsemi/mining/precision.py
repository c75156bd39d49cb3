"""How many of the accepted objects are right: the threshold, and the estimate of its precision with an interval. Pure, needs no torch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from samsemi.mining.scores import THRESHOLDS
from samsemi.options.shared import PolicyOptions

LEAST_ACCEPTED = 5
"""Objects over which a precision is measured, at least."""
RESAMPLES = 200
"""Of the patients."""


class Bias(NamedTuple):
    """What the precision that is counted over the objects of a threshold conceals, because it was chosen by them, and by how many."""

    optimism: float
    """By how much it is too high."""
    spread: float
    """Its variance over that of independent objects, 1 or more: of so many, alike within patients, there is one independent one."""


class Estimate(NamedTuple):
    """Of the share of some accepted objects that is right."""

    precision: float
    interval: list[float]
    """Of 95 %."""


def choose_threshold(quality: np.ndarray, right: np.ndarray, target: float) -> tuple[float, float]:
    """The lowest quality at which the precision of what is accepted reaches the target, and that precision; objects of one quality are
    accepted together.

    0 where everything may be accepted; where the target is not reached, the quality of the highest precision.
    """
    order = np.argsort(-quality, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    allowed = np.arange(len(order)) >= min(LEAST_ACCEPTED, len(order)) - 1
    allowed &= np.append(np.diff(quality[order]) < 0, True)
    reached = np.flatnonzero(allowed & (precision >= target))
    last = reached[-1] if len(reached) else np.flatnonzero(allowed)[precision[allowed].argmax()]
    return (0.0 if last == len(order) - 1 else float(quality[order[last]])), float(precision[last])


def measure_bias(quality: np.ndarray, right: np.ndarray, group: np.ndarray, target: float) -> Bias:
    """Of the precision of ``choose_threshold`` over N objects, by bootstrap over the patients ``group`` (N,).

    The optimism is the mean, over the resamples, of the precision that a threshold chosen there has there minus that which it has over
    the original objects. Source: Efron 1983, doi 10.1080/01621459.1983.10477973; Harrell, Lee and Mark 1996. The spread is that of the
    precision at the original threshold, over the resamples. Source of the design effect: Kish 1965.
    """
    rng, (patients, number) = np.random.default_rng(0), np.unique(group, return_inverse=True)
    accepted = quality >= choose_threshold(quality, right, target)[0]
    optimism, precisions = [], []
    for _ in range(RESAMPLES):
        counts = np.bincount(rng.integers(len(patients), size=len(patients)), minlength=len(patients))[number]
        drawn = np.repeat(np.arange(len(right)), counts)
        threshold, precision = choose_threshold(quality[drawn], right[drawn], target)
        optimism.append(precision - right[quality >= threshold].mean())
        if counts[accepted].any():
            precisions.append(np.average(right[accepted], weights=counts[accepted]))
    alone = right[accepted].var() / accepted.sum()
    return Bias(float(np.mean(optimism)), max(1.0, float(np.var(precisions) / alone)) if alone else 1.0)


def estimate_precision(right: np.ndarray, optimism: np.ndarray | float, spread: np.ndarray | float) -> Estimate:
    """Of n accepted objects, at least one, that are ``right`` (n,) bool, each with the optimism and the spread of its threshold.

    The interval is that of so many independent objects as the spread leaves of the n.
    """
    precision = float(np.clip(right.mean() - np.mean(optimism), 0, 1))
    return Estimate(precision, wilson_interval(precision, float(np.mean(1 / spread)) * len(right)))


def wilson_interval(share: float, count: float) -> list[float]:
    """95 % interval of a share of ``count`` independent objects. Source: Wilson 1927, without a correction for continuity."""
    z = 1.96
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return [max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)]


def describe_precision(about: Mapping[str, Any]) -> str:
    """The estimate of a calibration in words; of a store that keeps no interval, the estimate alone."""
    found, how = describe_share(about["precision"], about.get("precision_interval")), ""
    if "precision_interval" in about:
        how = " (95 % interval)"
    return f"estimated precision of what is accepted {found}{how}, target {about['target_precision']:g}"


def describe_decision(about: Mapping[str, Any], options: PolicyOptions) -> str:
    """``describe_precision``, and by which thresholds: where the options give others, it is not of what they accept."""
    flags = given_thresholds(options)
    return describe_precision(about) + (f", by the calibration's own thresholds, not by {', '.join(flags)}" if flags else "")


def given_thresholds(options: PolicyOptions) -> list[str]:
    """The flags of the thresholds that the options give."""
    names = (f"min_{name}" for name in (*THRESHOLDS, "quality"))
    return ["--" + name.replace("_", "-") for name in names if getattr(options, name) is not None]


def describe_share(share: float, interval: Sequence[float] | None) -> str:
    """'0.80 [0.60, 0.92]', or '0.80' where the interval is not known."""
    return f"{share:.2f}" + (" [{:.2f}, {:.2f}]".format(*interval) if interval else "")
