"""Scores of evaluations: written, read, compared."""

import csv
import json

import pytest

from samsemi.errors import DataError
from samsemi.evaluations import TABLE, TABLE_HASH, compare_scores, holm, mean_over_classes, read_scores, write_scores
from samsemi.inputs import hash_file
from samsemi.metrics import METRICS


def scores_of(**dice: float) -> dict:
    return {name: {"cell": dict.fromkeys(METRICS, value), "nucleus": dict.fromkeys(METRICS, float("nan"))} for name, value in dice.items()}


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
    "name, cell", [("dice", "7"), ("dice", "-0.1"), ("dice", "nan"), ("dice", "inf"), ("nsd", "1.01"), ("hd95", "-1"), ("assd", "1e400")]
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


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


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
