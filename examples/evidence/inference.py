"""How the evidence tells two arms apart, by `samsemi.statistics`, and how many labels an arm saves. Pure, needs no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from samsemi import statistics
from samsemi.statistics import LEVEL, Cases, Difference, Paired, crossed_means

LEAST_SEEDS = 5
"""Fewer are not tested."""


def differ(paired: Paired) -> Difference:
    """Mean, intervals and p of paired differences; of fewer than LEAST_SEEDS seeds the mean alone."""
    found = statistics.differ(paired)
    return found if len(found.seeds) >= LEAST_SEEDS else replace(found, t_interval=None, interval=None, p=None)


@dataclass(frozen=True)
class Saving:
    """How many more labels the labels alone need to be as good as an arm: from ``none``, 0, to ``most``, which means so many or more."""

    labels: float
    low: float
    high: float
    most: float
    seeds: tuple[int, ...]


def labels_saved(curve: Mapping[int, Mapping[int, Cases]], arm: Mapping[int, Cases], groups: Mapping[str, str]) -> Saving | None:
    """Where on the curve of the label-only arm, labels -> seed -> cases, the arm's mean score stands, which has as many labels as the
    curve's first point; with a 95 % interval of the crossed bootstrap. None of fewer than LEAST_SEEDS seeds in common."""
    numbers = sorted(curve)
    seeds = sorted(set(arm).intersection(*curve.values()))
    if len(seeds) < LEAST_SEEDS:
        return None
    cases = sorted(set(groups).intersection(*(one[seed] for one in (arm, *curve.values()) for seed in seeds)))
    values = np.array([[[one[seed][case] for case in cases] for seed in seeds] for one in (*(curve[n] for n in numbers), arm)])
    known = np.isfinite(values).all(axis=(0, 1))
    values, member = values[..., known], [groups[case] for case, is_known in zip(cases, known, strict=True) if is_known]
    draws = np.stack([crossed_means(one, member, np.random.default_rng(0)) for one in values], axis=1)  # the same draws for all
    saved = [find_crossing(numbers, draw[:-1], draw[-1]) - numbers[0] for draw in (values.mean(axis=(1, 2)), *draws)]
    low, high = np.quantile(saved[1:], [LEVEL / 2, 1 - LEVEL / 2])
    return Saving(float(saved[0]), float(low), float(high), float(numbers[-1] - numbers[0]), tuple(seeds))


def find_crossing(numbers: Sequence[int], scores: Sequence[float], level: float) -> float:
    """The least number at which a curve, linear in the logarithm of the numbers, reaches a level; the last where it never does."""
    if scores[0] >= level:
        return float(numbers[0])
    for (n, score), (more, better) in pairwise(zip(numbers, scores, strict=True)):
        if better >= level:
            return float(n * (more / n) ** ((level - score) / (better - score)))
    return float(numbers[-1])
