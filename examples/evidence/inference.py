"""Whether two arms can be told apart: paired differences over seeds and cases, their intervals and tests. Pure, needs no file.

A t-test over the seeds' mean differences knows how much another seed changes, on these test cases. A bootstrap crossed over seeds and
cases also knows how much other cases would change, but with few seeds is a little too narrow where the cases do not matter. So p is the
larger of the two, and two arms are told apart where it, corrected by Holm's method where it is one of several, is below .05.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import stats

RESAMPLES = 4000
LEAST_SEEDS = 5
"""Fewer are not tested."""
LEVEL = 0.05
ALIKE = 1e-9
"""Means that differ by less do not differ."""
Cases = Mapping[str, float]
"""Test case -> score."""


@dataclass(frozen=True)
class Paired:
    """Differences of two arms over the seeds and cases that both have."""

    values: np.ndarray
    """(S, C)."""
    seeds: tuple[int, ...]
    groups: tuple[str, ...]
    """(C,) patients."""

    @property
    def by_seed(self) -> np.ndarray:
        return self.values.mean(axis=1)


def pair(one: Mapping[int, Cases], other: Mapping[int, Cases], groups: Mapping[str, str]) -> Paired:
    """Arms as seed -> cases; a case that could not be measured with some seed is left out. ValueError where they share nothing."""
    seeds = tuple(sorted(one.keys() & other.keys()))
    cases = sorted(set.intersection(*(set(arm[seed]) for arm in (one, other) for seed in seeds))) if seeds else []
    values = np.array([[one[seed][case] - other[seed][case] for case in cases] for seed in seeds]).reshape(len(seeds), len(cases))
    known = np.isfinite(values).all(axis=0)
    if not known.any():
        raise ValueError("the arms share no seed and case")
    return Paired(values[:, known], seeds, tuple(groups[case] for case, is_known in zip(cases, known, strict=True) if is_known))


@dataclass(frozen=True)
class Difference:
    """A paired difference, in the unit of the scores."""

    mean: float
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    cases: int
    t_interval: tuple[float, float] | None = None
    """Over seeds; None of fewer than LEAST_SEEDS, as what follows."""
    interval: tuple[float, float] | None = None
    """Of the crossed bootstrap."""
    p: float | None = None
    """The larger of the t-test's and the bootstrap's, two-sided."""


def differ(paired: Paired) -> Difference:
    """Mean, intervals and p of paired differences."""
    means = paired.by_seed
    found = Difference(float(means.mean()), tuple(means.tolist()), paired.seeds, paired.values.shape[1])
    if len(means) < LEAST_SEEDS:
        return found
    if np.ptp(means) < ALIKE:  # such as an arm that is measured as the other one
        p = float(abs(found.mean) < ALIKE)
        return replace(found, t_interval=(found.mean, found.mean), interval=(found.mean, found.mean), p=p)
    test = stats.ttest_1samp(means, 0.0)
    draws = crossed_means(paired.values, paired.groups, np.random.default_rng(0))
    tail = min((draws <= 0).mean(), (draws >= 0).mean())
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    over_seeds = test.confidence_interval(1 - LEVEL)
    return replace(
        found,
        t_interval=(float(over_seeds.low), float(over_seeds.high)),
        interval=(float(low), float(high)),
        p=max(float(test.pvalue), min(2 * float(tail), 1.0)),
    )


def crossed_means(values: np.ndarray, groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(R,) means of (S, C) values whose seeds and groups of cases are drawn again with replacement, each by itself.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.
    """
    seed_weights, case_weights = draw_weights(len(values), rng), draw_group_weights(groups, rng)
    return np.einsum("rs,sc,rc->r", seed_weights, values, case_weights, optimize=True)


def draw_weights(count: int, rng: np.random.Generator) -> np.ndarray:
    """(R, count), each row the shares of as many draws with replacement."""
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def draw_group_weights(groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(R, C): the weight of each case, whose rows sum to 1, where groups are drawn."""
    names, member = np.unique(groups, return_inverse=True)
    weights = draw_weights(len(names), rng)[:, member]
    return weights / weights.sum(axis=1, keepdims=True)


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
