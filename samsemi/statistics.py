"""How sure a figure is: intervals and tests over patients and, where there are several, over seeds of the training. Pure, needs no file.

Of one seed: a bootstrap over patients; two are told apart by Wilcoxon's signed-rank test and a permutation test over patients. That knows
how much other cases would change, not how much another seed would.

Of several seeds: a bootstrap crossed over seeds and patients, and a t-test over the seeds' mean differences. The t-test knows how much
another seed changes, on these cases. The bootstrap also knows how much other cases would change, but with few seeds is a little too narrow
where the cases do not matter. So p is the larger of the two.

Several tests at once are corrected by Holm's method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
"""Of the patients."""
CROSSED = 4000
"""Of seeds and patients together."""
PERMUTATIONS = 4999
"""All are tried where there are no more."""
LEVEL = 0.05
TAILS = (LEVEL / 2, 1 - LEVEL / 2)
"""Quantiles at which an interval begins and ends."""
ALIKE = 1e-9
"""Means that differ by less do not differ."""
Summary = dict[str, float | int | None]
Cases = Mapping[str, float]
"""Case -> score; NaN where it was not measured."""


def bootstrap_interval(values: np.ndarray, groups: Sequence[str], rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean, by resampling whole groups (patients); NaN values are left out."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return nan, nan
    sums, counts = by_group(values[known], np.asarray(groups)[known])
    draws = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, TAILS)
    return float(low), float(high)


def by_group(values: np.ndarray, groups: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(G,) sum and number of the values of each group."""
    _, member = np.unique(groups, return_inverse=True)
    return np.bincount(member, weights=values), np.bincount(member)


def summarize_values(values: ArrayLike, groups: Sequence[str], seed: int) -> Summary:
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


def summarize_seeds(values: np.ndarray, groups: Sequence[str], seed: int) -> Summary:
    """As ``summarize_values`` of the (S, C) values of several seeds: mean and std of the seeds' means, the interval of the crossed
    bootstrap; n cases were measured with a seed at least."""
    if len(values) == 1:
        return summarize_values(values[0], groups, seed)
    known = np.isfinite(values)
    means = np.array([own[own_known].mean() for own, own_known in zip(values, known, strict=True) if own_known.any()])
    if not len(means):
        return summarize_values([], [], seed)
    low, high = crossed_interval(values, groups, seed)
    std = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    return {"mean": float(means.mean()), "std": std, "low": low, "high": high, "n": int(known.any(axis=0).sum())}


def compare(values: Cases, others: Cases, groups: Mapping[str, str], seed: int) -> Summary:
    """Paired difference over the cases that both measured: its summary, the p-values of both tests, and p, the larger of them."""
    ids = [name for name in values if name in others and not np.isnan(values[name]) and not np.isnan(others[name])]
    differences, members = np.array([values[name] - others[name] for name in ids]), [groups[name] for name in ids]
    tested = {"wilcoxon_p": wilcoxon_p(differences, members), "permutation_p": permutation_p(differences, members)}
    known = [p for p in tested.values() if p is not None]
    return {**summarize_values(differences, members, seed), **tested, "p": max(known) if known else None}


def wilcoxon_p(differences: np.ndarray, groups: Sequence[str]) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test over the patients' mean differences; None for fewer than two patients, 1 where all
    are zero."""
    from scipy.stats import wilcoxon

    sums, counts = by_group(differences, groups)
    if len(sums) < 2:
        return None
    return float(wilcoxon(sums / counts).pvalue) if sums.any() else 1.0


def permutation_p(differences: np.ndarray, groups: Sequence[str]) -> float | None:
    """Two-sided p-value of the mean difference where the two that are compared change places, patient by patient; None for fewer than two
    patients, 1 where all are zero."""
    from scipy.stats import permutation_test

    sums, _ = by_group(differences, groups)
    if len(sums) < 2 or not sums.any():
        return None if len(sums) < 2 else 1.0
    settings = {"permutation_type": "samples", "n_resamples": PERMUTATIONS, "batch": 500, "rng": np.random.default_rng(0)}
    return float(permutation_test((sums,), np.sum, vectorized=True, **settings).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values, in the given order. Source: Holm, Scandinavian Journal of Statistics 1979."""
    order = np.argsort(p_values)
    rising = np.maximum.accumulate([(len(order) - rank) * p_values[i] for rank, i in enumerate(order)])
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(rising, 1.0)
    return corrected.tolist()


@dataclass(frozen=True)
class Paired:
    """Differences of two arms over the seeds and cases that both have; NaN where one of the two was not measured."""

    values: np.ndarray
    """(S, C)."""
    seeds: tuple[int, ...]
    groups: tuple[str, ...]
    """(C,) patients."""

    @property
    def by_seed(self) -> np.ndarray:
        return np.nanmean(self.values, axis=1)


def pair(one: Mapping[int, Cases], other: Mapping[int, Cases], groups: Mapping[str, str]) -> Paired:
    """Arms as seed -> cases, over what both have. ValueError where that is nothing, or no case of a seed was measured in both."""
    seeds = tuple(sorted(one.keys() & other.keys()))
    cases = sorted(set.intersection(*(set(arm[seed]) for arm in (one, other) for seed in seeds))) if seeds else []
    values = np.array([[one[seed][case] - other[seed][case] for case in cases] for seed in seeds]).reshape(len(seeds), len(cases))
    known = np.isfinite(values)
    if not seeds or not known.any(axis=1).all():
        raise ValueError("the arms share no seed and case")
    kept = known.any(axis=0)
    return Paired(values[:, kept], seeds, tuple(groups[case] for case, is_kept in zip(cases, kept, strict=True) if is_kept))


@dataclass(frozen=True)
class Difference:
    """A paired difference of two arms of several seeds, in the unit of the scores."""

    mean: float
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    cases: int
    t_interval: tuple[float, float] | None = None
    """Over seeds; None of a single one, as what follows."""
    interval: tuple[float, float] | None = None
    """Of the crossed bootstrap."""
    p: float | None = None
    """The larger of the t-test's and the bootstrap's, two-sided."""


def differ(paired: Paired, seed: int = 0) -> Difference:
    """Mean, intervals and p of paired differences."""
    from scipy import stats

    means = paired.by_seed
    mean, told = float(means.mean()), (tuple(means.tolist()), paired.seeds, paired.values.shape[1])
    if len(means) < 2:
        return Difference(mean, *told)
    draws = crossed_means(paired.values, paired.groups, np.random.default_rng(seed))
    tail = min((draws <= 0).mean(), (draws >= 0).mean())
    low, high = (float(end) for end in np.quantile(draws, TAILS))
    p = min(2 * float(tail), 1.0)
    if np.ptp(means) < ALIKE:  # such as an arm that is measured as the other one, or an arm whose seeds are copies: the cases alone tell
        return Difference(mean, *told, (mean, mean), (low, high), 1.0 if abs(mean) < ALIKE else p)
    test = stats.ttest_1samp(means, 0.0)
    over_seeds = test.confidence_interval(1 - LEVEL)
    return Difference(mean, *told, (float(over_seeds.low), float(over_seeds.high)), (low, high), max(float(test.pvalue), p))


def compare_seeds(values: Sequence[Cases], others: Sequence[Cases], groups: Mapping[str, str], seed: int) -> Summary:
    """As ``compare`` of two arms of as many seeds, the first with the first and so on: the mean and standard deviation of the seeds' mean
    differences, the interval of the crossed bootstrap, and p as of ``differ``."""
    if len(values) == len(others) == 1:
        return compare(values[0], others[0], groups, seed)
    if len(values) != len(others):
        raise ValueError("arms of different numbers of seeds are not paired")
    try:
        found = differ(pair(dict(enumerate(values)), dict(enumerate(others)), groups), seed)
    except ValueError:
        return {**summarize_values([], [], seed), "p": None}
    assert found.interval, "there are two seeds or more"
    (low, high), std = found.interval, float(np.std(found.by_seed, ddof=1))
    return {"mean": found.mean, "std": std, "low": low, "high": high, "n": found.cases, "p": found.p}


def crossed_interval(values: np.ndarray, groups: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % interval of the mean of (S, C) values, NaN where not measured, over seeds and patients."""
    low, high = np.nanquantile(crossed_means(values, groups, np.random.default_rng(seed)), TAILS)
    return float(low), float(high)


def crossed_means(values: np.ndarray, groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(R,) means of (S, C) values whose seeds and groups of cases are drawn again with replacement, each by itself; NaN values are left
    out, and a mean is NaN where all that was drawn are.

    Source: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007.
    """
    seed_weights, case_weights = draw_weights(len(values), rng), draw_group_weights(groups, rng)
    known = np.isfinite(values)
    measured = case_weights @ known.T
    sums = case_weights @ np.where(known, values, 0.0).T
    with np.errstate(invalid="ignore"):
        by_seed = np.where(measured > 0, sums / measured, 0.0)
        return (seed_weights * by_seed).sum(axis=1) / (seed_weights * (measured > 0)).sum(axis=1)


def draw_weights(count: int, rng: np.random.Generator) -> np.ndarray:
    """(R, count), each row the shares of as many draws with replacement."""
    return rng.multinomial(count, np.full(count, 1 / count), size=CROSSED) / count


def draw_group_weights(groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """(R, C): the weight of each case, whose rows sum to 1, where groups are drawn."""
    names, member = np.unique(groups, return_inverse=True)
    weights = draw_weights(len(names), rng)[:, member]
    return weights / weights.sum(axis=1, keepdims=True)
