"""One table of scores: columns of the store, thresholds, reasons and options come from it, or are tied to it here."""

from dataclasses import fields

from samsemi.mining.policy import Policy
from samsemi.mining.scores import COLUMNS, REASONS, SCORES, THRESHOLDS
from samsemi.mining.store import OBJECT_ROW, Mined
from samsemi.options.shared import PolicyOptions


def test_options_are_those_of_the_table():
    options = {field.name for field in fields(PolicyOptions) if field.name.startswith("min_")}
    assert options == {f"min_{name}" for name in (*THRESHOLDS, "quality")}


def test_columns_thresholds_and_reasons_are_those_of_the_table():
    scores = ["predicted_iou", "stability", "agreement", "consensus", "confidence", "area_ratio", "ensemble"]
    assert list(COLUMNS) == scores, "the order of columns is that of the schema"
    assert list(OBJECT_ROW.names) == ["image", "class_id", "box", "prompt_box", "window", *scores, "area"]
    assert set(THRESHOLDS) < {field.name for field in fields(Mined)}
    assert {score.name: getattr(Policy(), f"min_{score.name}") for score in SCORES} == {score.name: score.least for score in SCORES}
    assert ("accepted", "empty", *THRESHOLDS, "quality", "background") == REASONS
