"""Intervals and tests, on values whose answer is known."""

import math
from itertools import product

import numpy as np
import pytest

from samsemi.statistics import (
    bootstrap_interval,
    compare,
    compare_seeds,
    holm,
    permutation_p,
    summarize_seeds,
    summarize_values,
    wilcoxon_p,
)


def test_summary_leaves_nan_out_and_counts_what_is_left():
    found = summarize_values([0.5, math.nan, 1.0, math.nan], ["a", "b", "c", "d"], seed=0)
    assert (found["mean"], found["n"]) == (0.75, 2) and found["std"] == pytest.approx(np.std([0.5, 1.0], ddof=1))
    assert (found["low"], found["high"]) == (0.5, 1.0)


def test_summary_of_nothing_and_of_one_value():
    assert summarize_values([math.nan], ["a"], seed=0) == {"mean": None, "std": None, "low": None, "high": None, "n": 0}
    assert summarize_values([], [], seed=0)["n"] == 0
    assert summarize_values([0.25], ["a"], seed=0) == {"mean": 0.25, "std": 0.0, "low": 0.25, "high": 0.25, "n": 1}


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_independent_cases():
    values = np.random.default_rng(0).normal(0.8, 0.1, size=400)
    low, high = bootstrap_interval(values, [str(i) for i in range(400)], np.random.default_rng(1))
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.002), pytest.approx(values.mean() + half, abs=0.002))


def test_bootstrap_draws_whole_groups():
    """Ten copies of each of 10 values are worth 10 values, not 100: the interval is that of the 10."""
    values = np.random.default_rng(2).random(10)
    copies, groups = np.repeat(values, 10), np.repeat([f"p{i}" for i in range(10)], 10)
    by_group = bootstrap_interval(copies, groups, np.random.default_rng(0))
    single = bootstrap_interval(values, groups[::10], np.random.default_rng(0))
    by_case = bootstrap_interval(copies, [str(i) for i in range(100)], np.random.default_rng(0))
    assert by_group == pytest.approx(single)
    assert by_case[1] - by_case[0] < 0.5 * (by_group[1] - by_group[0])


def test_bootstrap_interval_holds_unequal_groups_and_nan():
    low, high = bootstrap_interval(np.array([0.0, 1.0, 1.0, 1.0, math.nan]), ["a", "b", "b", "b", "c"], np.random.default_rng(0))
    assert (low, high) == (0.0, 1.0)
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([math.nan]), ["a"], np.random.default_rng(0)))


def test_summary_is_a_function_of_its_seed():
    values, groups = np.random.default_rng(3).random(12), [str(i) for i in range(12)]
    assert summarize_values(values, groups, 5) == summarize_values(values, groups, 5) != summarize_values(values, groups, 6)


def test_comparison_pairs_the_cases_that_both_measured():
    ours = {"a": 0.9, "b": 0.8, "c": math.nan, "d": 0.5, "only ours": 0.0}
    theirs = {"d": 0.4, "b": 0.5, "a": 0.7, "c": 0.9, "only theirs": 1.0}
    found = compare(ours, theirs, {name: name for name in ours}, seed=0)
    assert found["n"] == 3 and found["mean"] == pytest.approx((0.2 + 0.3 + 0.1) / 3)
    assert found["wilcoxon_p"] == pytest.approx(0.25), "the least possible two-sided p of three pairs is 2 / 2**3"


def test_comparison_of_nothing_in_common():
    found = compare({"a": 0.1}, {"b": 0.2}, {"a": "a"}, seed=0)
    assert (found["n"], found["mean"], found["wilcoxon_p"]) == (0, None, None)


@pytest.mark.parametrize(("differences", "expected"), [([0.0, 0.0, 0.0], 1.0), ([0.3], None), ([], None)])
def test_tests_of_degenerate_differences(differences, expected):
    patients = [str(i) for i in range(len(differences))]
    assert wilcoxon_p(np.array(differences), patients) == expected == permutation_p(np.array(differences), patients)


def test_wilcoxon_counts_sign_patterns():
    """Exact for small samples: the share of the 2**n sign patterns with a rank sum as extreme."""
    differences = np.array([0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7])
    ranks = np.arange(1, 8)
    sums = np.array([sum(r for i, r in enumerate(ranks) if pattern >> i & 1) for pattern in range(2**7)])
    observed = 3
    expected = 2 * (sums <= observed).mean()
    assert wilcoxon_p(differences, list("abcdefg")) == pytest.approx(expected)


def test_permutation_test_counts_sign_patterns_of_patients():
    """Three patients, the first of two cases: of 8 patterns of signs the sums are as extreme as 0.7 in two."""
    differences, patients = np.array([0.2, 0.1, 0.3, 0.1]), ["a", "a", "b", "c"]
    sums = [abs(np.dot(signs, (0.3, 0.3, 0.1))) for signs in product((-1, 1), repeat=3)]
    assert permutation_p(differences, patients) == pytest.approx(np.mean(np.array(sums) >= 0.7 - 1e-9)) == 0.25


def test_copies_of_a_case_of_one_patient_are_no_more_proof():
    differences, patients = np.array([0.1, 0.3, 0.2, 0.4]), list("abcd")
    for test in (wilcoxon_p, permutation_p):
        assert test(np.repeat(differences, 9), np.repeat(patients, 9)) == test(differences, patients)
    assert compare(
        dict(zip(patients, differences, strict=True)), dict.fromkeys(patients, 0.0), dict(zip(patients, patients, strict=True)), 0
    )["p"] == pytest.approx(0.125)


def test_permutation_test_of_many_patients_agrees_with_a_t_test():
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(0).normal(0.02, 0.1, 120)
    assert permutation_p(differences, [str(i) for i in range(120)]) == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_summary_of_several_seeds_crosses_seeds_and_cases():
    rng = np.random.default_rng(0)
    patients = [str(i) for i in range(50)]
    values = 0.7 + 0.1 * rng.standard_normal((6, 1)) + 0.1 * rng.standard_normal((1, 50))
    found, cases_alone = summarize_seeds(values, patients, 0), summarize_values(values.mean(axis=0), patients, 0)
    assert found["mean"] == pytest.approx(values.mean()) and found["std"] == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert found["n"] == 50 and found["high"] - found["low"] > 1.15 * (cases_alone["high"] - cases_alone["low"])
    assert summarize_seeds(values[:1], patients, 0) == summarize_values(values[0], patients, 0)


def test_false_alarm_of_one_seed_counts_though_the_others_found_nothing():
    """The case is not measured with the second seed: neither mask holds the class."""
    found = summarize_seeds(np.array([[1.0, 0.0], [1.0, math.nan]]), ["a", "b"], 0)
    assert found["mean"] == 0.75 and found["n"] == 2
    assert summarize_seeds(np.full((2, 2), math.nan), ["a", "b"], 0)["mean"] is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_copies_of_a_seed_tell_no_more_than_the_cases():
    """The seeds' means do not differ at all, the cases do: no seed is proof of a difference that other cases would not show."""
    cases = dict(enumerate(np.random.default_rng(0).normal(0.0, 0.2, 20)))
    ours, nothing, names = (
        {str(i): value for i, value in cases.items()},
        dict.fromkeys(map(str, cases), 0.0),
        {str(i): str(i) for i in cases},
    )
    found = compare_seeds([ours] * 3, [nothing] * 3, names, 0)
    assert found["p"] > 0.3 and found["low"] < 0 < found["high"]
    assert compare_seeds([ours] * 3, [ours] * 3, names, 0)["p"] == 1
