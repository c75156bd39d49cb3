"""Which evaluations are compared, and which cases are shown."""

from dataclasses import replace
from pathlib import Path

import pytest

from samsemi.metrics import METRICS
from samsemi.reporting.comparison import choose_cases, make_arms
from samsemi.reporting.sources import Evaluation


def evaluation(name: str, dice: list[float], split: str = "test", dataset: str = "d") -> Evaluation:
    scores = {f"c{i:02d}": {"cell": dict.fromkeys(METRICS, value)} for i, value in enumerate(dice)}
    return Evaluation(name, Path(name), split, "pixels", {}, {"dataset": dataset}, scores, {case: case for case in scores})


LOW = [0.30 + 0.01 * i for i in range(12)]
HIGH = [value + 0.1 + 0.001 * i for i, value in enumerate(LOW)]


def test_last_is_compared_with_all_others_and_corrected_for_how_many_they_are():
    lower, same, last = make_arms([evaluation("a", LOW), evaluation("b", HIGH), evaluation("c", HIGH)], seed=0)
    assert last.against is None and last.p is None
    assert lower.told_apart and lower.against["dice"]["mean"] == pytest.approx(0.1055)
    assert lower.p == pytest.approx(2 * lower.against["dice"]["wilcoxon_p"]) and same.p == 1 and not same.told_apart


@pytest.mark.parametrize("changed", [{"split": "val"}, {"dataset": "other"}])
def test_other_cases_are_not_compared(changed):
    arms = make_arms([evaluation("a", LOW), evaluation("b", HIGH, **changed)], seed=0)
    assert arms[0].against is None and arms[0].p is None


def test_evaluation_of_before_which_names_no_data_set_is_compared():
    older = replace(evaluation("a", LOW), made_from={})
    assert make_arms([older, evaluation("b", HIGH)], seed=0)[0].told_apart
    assert make_arms([], seed=0) == []


def test_each_kind_of_case_has_its_share_and_none_is_shown_twice():
    before = {f"c{i}": {"cell": {"dice": value}} for i, value in enumerate([0.5, 0.9, 0.2, 0.8, 0.6])}
    after = {f"c{i}": {"cell": {"dice": value}} for i, value in enumerate([0.9, 0.5, 0.1, 0.85, 0.6])}
    chosen = choose_cases(before, after, 5)
    assert chosen == {"c0": "most improved", "c1": "most worsened", "c3": "best", "c4": "median", "c2": "worst"}
    assert [*choose_cases(before, after, 2)] == ["c0", "c1"]
    assert len(choose_cases(before, after, 60)) == 5
    assert set(choose_cases(after, after, 3).values()) == {"best", "median", "worst"}
    assert choose_cases({}, {}, 3) == {}
