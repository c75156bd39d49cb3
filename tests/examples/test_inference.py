"""The statistics of the evidence, on differences whose truth is known."""

import sys

import numpy as np
import pytest
from builders import ROOT
from scipy import stats

sys.path.insert(0, str(ROOT / "examples" / "evidence"))
from inference import differ, find_crossing, labels_saved

from samsemi import statistics
from samsemi.statistics import Paired, crossed_means, pair

CASES = tuple(f"c{i}" for i in range(60))
GROUPS = dict(zip(CASES, CASES, strict=True))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "CROSSED", 600)


def draw(rng, mean: float, seeds: int = 5, by_seed: float = 0.03, by_case: float = 0.0, noise: float = 0.1) -> Paired:
    """Differences with an effect of each seed, one of each case, and noise."""
    shape = (seeds, len(CASES))
    parts = by_seed * rng.standard_normal((seeds, 1)) + by_case * rng.standard_normal((1, len(CASES))) + noise * rng.standard_normal(shape)
    return Paired(mean + parts, tuple(range(seeds)), CASES)


def rejected(by_case: float, seeds: int, runs: int = 400) -> tuple[float, float]:
    """How often there is a difference where there is none: by p, and by the t-test over seeds alone."""
    rng, ours, t_alone = np.random.default_rng(1), 0, 0
    for _ in range(runs):
        paired = draw(rng, 0.0, seeds, by_case=by_case)
        ours += differ(paired).p < 0.05
        t_alone += stats.ttest_1samp(paired.by_seed, 0).pvalue < 0.05
    return ours / runs, t_alone / runs


@pytest.mark.parametrize("seeds", [5, 10])
def test_of_no_difference_one_in_twenty_is_found(seeds):
    ours, t_alone = rejected(by_case=0.0, seeds=seeds)
    assert 0.02 <= ours <= 0.075 and 0.03 <= t_alone <= 0.075


def test_other_cases_count_which_a_test_over_seeds_alone_does_not_know():
    ours, t_alone = rejected(by_case=0.2, seeds=10)
    assert t_alone > 0.15 and 0.01 <= ours <= 0.08


@pytest.mark.parametrize("by_case", [0.0, 0.1])
def test_a_planted_difference_is_found(by_case):
    rng = np.random.default_rng(2)
    found = [differ(draw(rng, 0.06, seeds=10, by_seed=0.02, by_case=by_case)) for _ in range(50)]
    assert np.mean([one.p < 0.05 and one.mean > 0 for one in found]) > 0.9
    assert np.mean([one.mean for one in found]) == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize(("seeds", "by_case", "least"), [(5, 0.0, 0.87), (5, 0.2, 0.91), (10, 0.0, 0.91), (10, 0.2, 0.92)])
def test_the_crossed_bootstrap_covers(seeds, by_case, least):
    rng, covered = np.random.default_rng(3), []
    for _ in range(300):
        low, high = differ(draw(rng, 0.02, seeds, by_case=by_case)).interval
        covered.append(low <= 0.02 <= high)
    assert least <= np.mean(covered) <= 0.99


def test_interval_is_that_of_the_effects_that_were_drawn():
    """With seeds alone, or cases alone, it is the normal interval of so many independent values."""
    rng = np.random.default_rng(4)
    for paired, count in ((draw(rng, 0, 40, 0.03, 0, 0), 40), (draw(rng, 0, 40, 0, 0.1, 0), len(CASES))):
        spread = paired.values.std() / np.sqrt(count)
        low, high = differ(paired).interval if count == 40 else np.quantile(crossed_means(paired.values, CASES, rng), [0.025, 0.975])
        assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_patients_are_drawn_whole():
    values = np.repeat([[0.0, 1.0]], 5, axis=0).repeat(30, axis=1)  # two patients of 30 cases
    draws = crossed_means(values, ["a"] * 30 + ["b"] * 30, np.random.default_rng(0))
    assert set(np.unique(draws.round(6))) == {0.0, 0.5, 1.0}


def test_fewer_than_five_seeds_are_not_tested():
    paired = draw(np.random.default_rng(0), 0.1, seeds=4)
    found = differ(paired)
    assert found.p is None and found.interval is None and found.t_interval is None and len(found.by_seed) == 4
    assert statistics.differ(paired).p >= stats.ttest_1samp(paired.by_seed, 0).pvalue, "the report does"


def test_arms_that_are_the_same_do_not_differ():
    same = differ(Paired(np.zeros((5, 4)), tuple(range(5)), CASES[:4]))
    assert same.p == 1 and same.interval == (0, 0) and same.mean == 0


def test_pairs_are_of_the_seeds_and_cases_that_both_have():
    one = {1: {"a": 0.5, "b": 0.7, "c": 0.1}, 2: {"a": 0.6, "b": 0.8, "c": float("nan")}, 3: {"a": 1.0, "b": 1.0, "c": 1.0}}
    other = {2: {"a": 0.5, "b": 0.5, "c": 0.5}, 1: {"a": 0.4, "b": 0.4, "c": 0.4}}
    paired = pair(one, other, {"a": "x", "b": "x", "c": "y"})
    assert paired.seeds == (1, 2) and paired.groups == ("x", "x", "y")
    assert paired.values == pytest.approx(np.array([[0.1, 0.3, -0.3], [0.1, 0.3, np.nan]]), nan_ok=True)
    assert paired.by_seed == pytest.approx([0.1 / 3, 0.2])
    with pytest.raises(ValueError, match="share no seed"):
        pair(one, {9: {"a": 0.1}}, {})


def arm(mean: float, seeds: int = 6) -> dict[int, dict[str, float]]:
    """Cases differ, arms do not but for their mean."""
    return {seed: {name: mean + 0.1 * (i % 5 - 2) + 0.01 * (seed % 3 - 1) for i, name in enumerate(CASES)} for seed in range(1, seeds + 1)}


def test_labels_saved_are_those_that_the_labels_alone_would_need_more():
    curve = {24: arm(0.5), 72: arm(0.6, seeds=5)}
    half = labels_saved(curve, arm(0.55), GROUPS)
    assert half.labels == pytest.approx(24 * 3**0.5 - 24) and half.low <= half.labels <= half.high and half.seeds == (1, 2, 3, 4, 5)
    assert half.low == pytest.approx(half.high)  # all arms rise and fall together
    assert labels_saved(curve, arm(0.49), GROUPS).labels == 0
    assert labels_saved(curve, arm(0.7), GROUPS).labels == labels_saved(curve, arm(0.7), GROUPS).most == 48
    assert labels_saved(curve, arm(0.55, seeds=4), GROUPS) is None


def test_interval_of_the_labels_saved_grows_with_the_seeds_noise():
    rng = np.random.default_rng(0)
    noisy = {
        seed: {name: value + shift for name, value in cases.items()}
        for (seed, cases), shift in zip(arm(0.55).items(), 0.05 * rng.standard_normal(6), strict=True)
    }
    found = labels_saved({24: arm(0.5), 72: arm(0.6)}, noisy, GROUPS)
    assert found.low < found.labels < found.high and found.high - found.low > 5


def test_crossing_of_a_curve_that_falls():
    assert find_crossing([24, 72], [0.6, 0.5], 0.55) == 24
    assert find_crossing([24, 72], [0.6, 0.5], 0.65) == 72
    assert find_crossing([8, 24, 72], [0.5, 0.5, 0.7], 0.6) == pytest.approx(24 * 3**0.5)
