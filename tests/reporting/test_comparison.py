"""Which evaluations are compared, and which cases are shown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from samsemi.errors import UsageError
from samsemi.evaluations import COLUMNS
from samsemi.reporting.comparison import choose_cases, make_arms
from samsemi.reporting.sources import Evaluation, refuse_alike, split_arm


def evaluation(name: str, dice: list[float], split: str = "test", dataset: str = "d") -> Evaluation:
    scores = {f"c{i:02d}": {"cell": dict.fromkeys(COLUMNS, value)} for i, value in enumerate(dice)}
    return Evaluation(name, Path(name), split, "pixels", {}, {"dataset": dataset}, scores, {case: case for case in scores})


LOW = [0.30 + 0.01 * i for i in range(12)]
HIGH = [value + 0.1 + 0.001 * i for i, value in enumerate(LOW)]


def test_last_is_compared_with_all_others_and_corrected_for_how_many_they_are():
    lower, same, last = make_arms([evaluation("a", LOW), evaluation("b", HIGH), evaluation("c", HIGH)], seed=0)
    assert last.against is None and last.p is None
    assert lower.told_apart and lower.against["mean"] == pytest.approx(0.1055)
    assert lower.p == pytest.approx(2 * lower.against["p"]) and same.p == 1 and not same.told_apart


@pytest.mark.parametrize("changed", [{"split": "val"}, {"dataset": "other"}])
def test_other_cases_are_not_compared(changed):
    arms = make_arms([evaluation("a", LOW), evaluation("b", HIGH, **changed)], seed=0)
    assert arms[0].against is None and arms[0].p is None


def test_evaluation_of_before_which_names_no_data_set_is_compared():
    older = replace(evaluation("a", LOW), made_from={})
    assert make_arms([older, evaluation("b", HIGH)], seed=0)[0].told_apart
    assert make_arms([], seed=0) == []


def seeds(arm: str, dice: list[float], *shifts: float) -> list[Evaluation]:
    return [
        replace(evaluation(f"{arm} {i}", [value + shift for value in dice]), arm=arm, made_from={"dataset": "d", "model": f"{arm} {i}"})
        for i, shift in enumerate(shifts)
    ]


def test_evaluations_of_one_arm_are_its_seeds_and_one_row():
    low, high = make_arms([*seeds("a", LOW, 0.0, 0.02, -0.02), *seeds("b", HIGH, 0.0, 0.01, -0.01)], seed=0)
    assert (low.name, len(low.evaluations), low.first.name) == ("a", 3, "a 0")
    assert low.mean["dice"]["mean"] == pytest.approx(np.mean(LOW)) and low.scores["c00"]["cell"]["dice"] == pytest.approx(LOW[0])
    assert low.mean["dice"]["std"] == pytest.approx(0.02), "of the seeds' means"
    t = ttest_1samp([np.mean(HIGH) - np.mean(LOW) + shift for shift in (0.0, -0.01, 0.01)], 0).pvalue
    assert low.against["mean"] == pytest.approx(0.1055) and low.p == pytest.approx(t) and low.told_apart


def test_seeds_that_differ_more_than_the_arms_tell_nothing_apart_though_all_cases_agree():
    [low, _] = make_arms([*seeds("a", LOW, 0.1, -0.1, 0.0), *seeds("b", [value + 0.03 for value in LOW], -0.1, 0.1, 0.0)], seed=0)
    assert low.against["mean"] == pytest.approx(0.03) and not low.told_apart


def test_arms_of_different_numbers_of_seeds_are_not_tested():
    [one, _] = make_arms([evaluation("a", LOW), *seeds("b", HIGH, 0.0, 0.01)], seed=0)
    assert one.against is None and one.p is None


def test_seeds_of_one_arm_measured_the_same_cases_with_models_of_their_own():
    a, b = seeds("a", LOW, 0.0, 0.1)
    refuse_alike([a, b, replace(a, arm="b"), replace(a, arm="")])
    with pytest.raises(UsageError, match="same model"):
        refuse_alike([a, replace(b, made_from=a.made_from)])
    with pytest.raises(UsageError, match="other cases"):
        refuse_alike([a, replace(b, split="val")])


def test_arm_is_named_before_the_folder_unless_that_is_its_name(tmp_path):
    assert split_arm(Path("mined=runs/eval=1")) == (Path("runs/eval=1"), "mined")
    (tmp_path / "a=b").mkdir()
    assert split_arm(tmp_path / "a=b") == (tmp_path / "a=b", "")
    assert split_arm(Path("eval-1")) == (Path("eval-1"), "")
    assert split_arm(Path("a" * 5000 + "=b")) == (Path("b"), "a" * 5000)


def test_each_kind_of_case_has_its_share_and_none_is_shown_twice():
    before = {f"c{i}": {"cell": {"dice": value}} for i, value in enumerate([0.5, 0.9, 0.2, 0.8, 0.6])}
    after = {f"c{i}": {"cell": {"dice": value}} for i, value in enumerate([0.9, 0.5, 0.1, 0.85, 0.6])}
    chosen = choose_cases(before, after, 5)
    assert chosen == {"c0": "most improved", "c1": "most worsened", "c3": "best", "c4": "median", "c2": "worst"}
    assert [*choose_cases(before, after, 2)] == ["c0", "c1"]
    assert len(choose_cases(before, after, 60)) == 5
    assert set(choose_cases(after, after, 3).values()) == {"best", "median", "worst"}
    assert choose_cases({}, {}, 3) == {}
