"""How far scores of mined objects can be believed, by hand on images of 32 x 64 pixels."""

from dataclasses import replace

import numpy as np
import pytest
from builders import ALL, block, mined_of, succeed

from samsemi.mining.policy import Quality
from samsemi.mining.reliability import judge_objects
from samsemi.mining.store import Store

TRUTH = np.zeros((32, 64), dtype=np.uint8)
TRUTH[0:16, 0:16] = 1


def judge(*said: float, policy=ALL) -> dict:
    """Of two objects, of which the second is none, SAM says these IoUs."""
    mined = mined_of(block(0, 8, 0, 4), block(10, 16, 10, 15), class_id=[1, 1], predicted_iou=list(said))
    return judge_objects([(mined, TRUTH)], policy, 2)


def test_predicted_iou_is_held_against_the_iou_with_the_true_object():
    found = judge(0.95, 0.55)
    assert [*found] == ["predicted_iou"] and [point["count"] for point in found["predicted_iou"]["curve"]] == [1, 1]
    low, high = found["predicted_iou"]["curve"]
    assert (low["predicted"], low["true"]) == (pytest.approx(0.55), 0)
    assert (high["predicted"], high["true"]) == (pytest.approx(0.95), pytest.approx(1, abs=0.02))
    assert found["predicted_iou"]["error"] == pytest.approx((0.55 + high["true"] - 0.95) / 2)


def test_objects_of_one_bin_are_a_point_and_sams_own_excess_is_cut():
    [point] = judge(1.02, 0.97)["predicted_iou"]["curve"]
    assert point["count"] == 2 and point["predicted"] == pytest.approx((1 + 0.97) / 2) and point["true"] == pytest.approx(0.5, abs=0.02)


def test_quality_is_held_against_the_share_that_is_right():
    even = Quality((0.0,) * 7, (1.0,) * 7, (0.0,) * 7, 0.0)  # one half, whatever the scores
    assert judge(0.9, 0.9, policy=replace(ALL, quality=even))["quality"]["curve"] == [{"count": 2, "predicted": 0.5, "true": 0.5}]


def test_nothing_to_judge_is_an_empty_curve():
    assert judge_objects([], ALL, 2)["predicted_iou"] == {"error": None, "curve": []}


def test_eval_of_a_store_judges_every_object_accepted_or_not(dataset, store, tmp_path):
    found = succeed("eval", dataset, "--store", store, "--min-agreement", 0.8, "--out", tmp_path / "e", "--overlays", 0, "--json").result
    objects = (Store(store).objects["area"] > 0).sum()
    assert sum(point["count"] for point in found["reliability"]["predicted_iou"]["curve"]) == objects
    assert found["reliability"]["probabilities"]["foreground"]["curve"] and 0 <= found["mean"]["ece"]["mean"] < 0.5, "of its soft labels"
