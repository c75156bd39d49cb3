"""Scores of evaluations: written, read, compared."""

import csv
import json

import pytest

from samsemi.errors import DataError
from samsemi.evaluations import (
    COLUMNS,
    FIRST,
    TABLE,
    TABLE_HASH,
    compare_scores,
    mean_over_classes,
    read_scores,
    summarize_scores,
    write_scores,
)
from samsemi.inputs import hash_file
from samsemi.metrics import SURFACES


def scores_of(**dice: float) -> dict:
    return {name: {"cell": dict.fromkeys(COLUMNS, value), "nucleus": dict.fromkeys(COLUMNS, float("nan"))} for name, value in dice.items()}


def test_scores_are_read_as_they_were_written(tmp_path):
    scores, groups = scores_of(a=0.5, b=0.25), {"a": "p1", "b": "p2"}
    write_scores(tmp_path / TABLE, scores, groups)
    found, found_groups = read_scores(tmp_path, "here")
    assert found_groups == groups and found["a"]["cell"] == scores["a"]["cell"]
    assert [mean_over_classes(found[name], "dice") for name in "ab"] == [0.5, 0.25]


def test_folder_without_scores_is_named(tmp_path):
    with pytest.raises(DataError, match="here: no evaluation there"):
        read_scores(tmp_path, "here")
    (tmp_path / "metrics.csv").write_text("id,class\na,b\n")
    with pytest.raises(DataError, match="here: no evaluation there"):
        read_scores(tmp_path, "here")


@pytest.mark.parametrize(
    "name, cell",
    [
        ("dice", "7"),
        ("dice", "-0.1"),
        ("dice", "nan"),
        ("dice", "inf"),
        ("nsd", "1.01"),
        ("hd95", "-1"),
        ("assd", "1e400"),
        ("area_error", "-1.1"),
        ("ece", "2"),
    ],
)
def test_score_that_cannot_be_is_named(tmp_path, name, cell):
    write_scores(tmp_path / TABLE, scores_of(a=0.5), {"a": "p1"})
    rows = list(csv.DictReader((tmp_path / TABLE).read_text().splitlines()))
    lines = [",".join(rows[0]), *(",".join((row | {name: cell}).values()) for row in rows)]
    (tmp_path / TABLE).write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"here: no evaluation there.*{name} is {cell}"):
        read_scores(tmp_path, "here")


@pytest.mark.parametrize("line", ["a,p1,cell,0.5,0.5,0.5,0.5,1,1,1", "b,p2,cell,0.5"])
def test_row_that_stands_twice_or_ends_early_is_named(tmp_path, line):
    write_scores(tmp_path / TABLE, scores_of(a=0.5), {"a": "p1"})
    (tmp_path / TABLE).write_text((tmp_path / TABLE).read_text() + line)
    with pytest.raises(DataError, match="here: no evaluation there"):
        read_scores(tmp_path, "here")


def test_differences_are_over_the_cases_of_both():
    found = compare_scores(scores_of(a=0.5, b=0.7, c=1), scores_of(a=0.4, b=0.5), dict(zip("abc", "abc", strict=True)), seed=0)
    assert found["dice"]["n"] == 2 and found["dice"]["mean"] == pytest.approx(0.15)


def test_p_is_corrected_for_the_number_of_metrics_that_both_measured():
    one, other = (
        {"abcdef"[i]: {"cell": {**dict.fromkeys(COLUMNS, 0.1 * i + shift), "ece": float("nan")}} for i in range(6)} for shift in (0.2, 0.1)
    )
    found = compare_scores(one, other, {name: name for name in one}, seed=0)
    assert found["dice"]["p"] == 2 / 2**6 and found["dice"]["holm_p"] == 10 * found["dice"]["p"], "ten of eleven metrics"
    assert found["ece"]["p"] is found["ece"]["holm_p"] is None


def test_misses_and_false_alarms_are_counted_beside_metrics_of_surfaces():
    scores = scores_of(a=0.5, b=0.5, c=0.5)
    for name, missed, false_alarm in (("a", 1, 0), ("b", 0, 1), ("c", 1, 0)):
        scores[name]["cell"] |= {"missed": missed, "false_alarm": false_alarm}
    found = summarize_scores(scores, dict(zip("abc", "abc", strict=True)), ["cell", "nucleus"], seed=0)
    for summaries in (found["classes"]["cell"], found["mean"]):
        assert {name for name, summary in summaries.items() if "missed" in summary} == set(SURFACES)
        assert all((summaries[name]["missed"], summaries[name]["false_alarms"]) == (2, 1) for name in SURFACES)


def test_table_of_before_is_read_and_compared(tmp_path):
    scores = scores_of(a=0.5, b=0.25)
    (tmp_path / TABLE).write_text("\n".join([f"id,group,class,{','.join(FIRST)}", *(f"{name},{name},cell" + ",0.5" * 7 for name in "ab")]))
    found, groups = read_scores(tmp_path, "here")
    assert found["a"]["cell"]["dice"] == 0.5 and found["a"]["cell"]["boundary_iou"] != found["a"]["cell"]["boundary_iou"]
    summary = summarize_scores(found, groups, ["cell"], seed=0)["mean"]
    assert summary["hd95"]["n"] == 2 and summary["hd95"]["missed"] is None and summary["ece"]["n"] == 0
    against = compare_scores(scores, found, groups, seed=0)
    assert against["dice"]["n"] == 2 and against["boundary_iou"]["n"] == 0


def test_several_seeds_are_summarized_as_one():
    arm = [scores_of(a=0.5, b=0.7), scores_of(a=0.6, b=0.8)]
    dice = summarize_scores(arm, {"a": "a", "b": "b"}, ["cell"], seed=0)["mean"]["dice"]
    assert dice["mean"] == pytest.approx(0.65) and dice["n"] == 2 and (dice["low"], dice["high"]) == pytest.approx((0.5, 0.8))


def test_scores_that_are_not_those_that_were_written_are_named(tmp_path):
    table = tmp_path / TABLE
    write_scores(table, scores_of(a=0.5), {"a": "p1"})
    (tmp_path / "metrics.json").write_text(json.dumps({TABLE_HASH: hash_file(table)}))
    assert read_scores(tmp_path, "here")
    table.write_text(table.read_text().replace("0.5", "0.6"))
    with pytest.raises(DataError, match=r"here: its metrics\.csv is not the one that was written"):
        read_scores(tmp_path, "here")


def test_table_without_rows_is_no_evaluation(tmp_path):
    (tmp_path / TABLE).write_text("id,group,class\n")
    with pytest.raises(DataError, match=r"metrics\.csv has no rows"):
        read_scores(tmp_path, "here")
