import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from builders import ALL, block, mined_of
from scipy.special import expit

from samsemi.errors import CheckpointError
from samsemi.mining.policy import REASONS, THRESHOLDS, Policy, Quality, decide, fit_quality, numbers, quality_of, score_table

COUNT = len(THRESHOLDS)
EVEN = Quality(mean=(0.5,) * COUNT, scale=(0.5,) * COUNT, weights=(2.0, *[0.0] * (COUNT - 1)), bias=0.0)
"""Judges by the confidence alone: 0.5 is as probably right as not."""


def test_quality_is_the_logistic_function_of_standardized_scores():
    quality = Quality((0.5, 0, 0, 0, 0, 0), (0.25, 1, 1, 1, 1, 1), (1.0, -2.0, 0, 0, 0, 0), 0.5)
    scores = np.array([[0.75, 0.5, 9, 9, 9, 9], [0.25, 1.0, 9, 9, 9, 9]])
    assert quality(scores) == pytest.approx([expit(1 - 1 + 0.5), expit(-1 - 2 + 0.5)])


def test_objects_are_rejected_by_quality_after_all_thresholds():
    mined = mined_of(*[block(2, 8, 2, 8)] * 4, confidence=[0.9, 0.4, 0.5, np.nan], stability=[1, 1, 0, 1])
    policy = replace(ALL, min_quality=0.5, min_stability=0.1, quality=EVEN)
    assert [REASONS[i] for i in decide(mined, policy)] == ["accepted", "quality", "stability", "confidence"]
    assert quality_of(mined, policy)[:2] == pytest.approx([expit(1.6), expit(-0.4)])


def test_rejected_objects_that_are_surely_none_are_background():
    mined = mined_of(*[block(2, 8, 2, 8)] * 4, confidence=[0.9, 0.4, 0.05, 0.05], agreement=[1, 1, 1, 0])
    policy = replace(ALL, min_quality=0.5, background_below=0.2, min_agreement=0.5, quality=EVEN)
    assert [REASONS[i] for i in decide(mined, policy)] == ["accepted", "quality", "background", "background"]
    assert [REASONS[i] for i in decide(mined, replace(policy, min_quality=0.0))] == ["accepted", "accepted", "accepted", "background"]
    assert "background" not in [REASONS[i] for i in decide(mined, replace(policy, background_below=0.0))]


def test_without_a_calibration_every_object_may_be_right():
    mined = mined_of(*[block(2, 8, 2, 8)] * 2, confidence=[0.1, 0.9])
    assert quality_of(mined, ALL).tolist() == [1, 1]
    assert decide(mined, replace(ALL, min_quality=1.0)).tolist() == [0, 0]


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_score_has_its_threshold_and_its_reason(name):
    mined = mined_of(*[block(2, 8, 2, 8)] * 2, **{name: [0.5, 0.25]})
    assert [REASONS[i] for i in decide(mined, replace(ALL, **{f"min_{name}": 0.5}))] == ["accepted", name]


def test_scores_are_in_the_order_of_the_thresholds_and_at_most_1():
    values = {name: [0.1 * i] for i, name in enumerate(THRESHOLDS)} | {"predicted_iou": [1.25]}
    assert score_table(mined_of(block(2, 8, 2, 8), **values))[0] == pytest.approx([0, 1.0, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_threshold_of_0_asks_nothing_of_an_iou_that_is_predicted_below_0():
    mined = mined_of(block(2, 8, 2, 8), predicted_iou=[-0.01])
    assert decide(mined, ALL).tolist() == [0] and score_table(mined).min() == 0
    assert decide(mined, replace(ALL, min_predicted_iou=0.01)).tolist() == [REASONS.index("predicted_iou")]


def test_fit_finds_the_score_that_tells_right_from_wrong():
    rng = np.random.default_rng(0)
    scores = rng.random((400, COUNT))
    right = rng.random(400) < expit(8 * (scores[:, 2] - 0.5))
    quality = fit_quality(scores, right)
    assert np.abs(quality.weights).argmax() == 2 and quality.weights[2] > 1.5
    found = quality(scores)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (found >= low) & (found < low + 0.25)
        assert right[inside].mean() == pytest.approx(found[inside].mean(), abs=0.12)


def test_fit_satisfies_the_equations_of_its_minimum():
    """The derivatives of log-likelihood and ridge cancel at the fitted weights."""
    rng = np.random.default_rng(1)
    scores, right = rng.random((50, COUNT)), rng.random(50) < 0.4
    quality = fit_quality(scores, right)
    inputs = (scores - quality.mean) / np.asarray(quality.scale)
    assert inputs.T @ (right - quality(scores)) == pytest.approx(np.asarray(quality.weights), abs=1e-3)
    assert (right - quality(scores)).sum() == pytest.approx(0, abs=1e-3), "there is no ridge on the bias"


@pytest.mark.parametrize("base_rate", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("count", [24, 200])
def test_mean_of_the_fitted_probabilities_is_the_share_that_is_right(base_rate, count):
    rng = np.random.default_rng(2)
    right = rng.random(count) < base_rate
    scores = rng.random((count, COUNT)) + 0.5 * right[:, None] * (np.arange(COUNT) < 2)
    assert fit_quality(scores, right)(scores).mean() == pytest.approx(right.mean(), abs=1e-4)


def test_fit_to_objects_told_apart_without_error_is_finite():
    right = np.arange(24) < 23
    quality = fit_quality(np.repeat(right[:, None], COUNT, axis=1).astype(float), right)
    assert np.isfinite(quality.weights).all() and np.isfinite(quality.bias)


@pytest.mark.parametrize(("right", "probability"), [(np.ones(12, dtype=bool), 12.5 / 13), (np.zeros(12, dtype=bool), 0.5 / 13)])
def test_fit_to_objects_that_are_all_alike_is_finite_and_leaves_a_doubt(right, probability):
    for scores in (np.full((12, COUNT), 0.5), np.random.default_rng(3).random((12, COUNT))):
        quality = fit_quality(scores, right)
        assert quality.weights == (0,) * COUNT and quality(scores) == pytest.approx([probability] * 12)


def test_policy_survives_json():
    policy = replace(ALL, min_quality=0.3, sam_share=0.25, quality=EVEN)
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy
    assert Policy.from_json(json.loads(json.dumps(ALL.to_json()))) == ALL


def test_calibration_of_before_there_was_the_ensemble_does_not_weigh_it():
    rule = {"class_id": 1, "min_quality": 0.4, "quality": asdict(EVEN)}
    values = replace(ALL, min_quality=0.3, quality=EVEN).to_json() | {"by_class": [rule]}
    del values["min_ensemble"]
    before = json.loads(json.dumps(values))
    for quality in (before["quality"], before["by_class"][0]["quality"]):
        for name in ("mean", "scale", "weights"):
            quality[name] = quality[name][:6]
    policy = Policy.from_json(before)
    scores = np.random.default_rng(0).random((5, COUNT))
    for quality in (policy.quality, policy.by_class[0].quality):
        assert quality(scores) == pytest.approx(EVEN(scores)) and quality.weights[-1] == 0
    before["quality"]["mean"] = before["quality"]["mean"][:5]
    with pytest.raises(CheckpointError, match="fitted to other scores"):
        Policy.from_json(before)


def test_numbers_of_a_policy_are_all_but_the_fitted_model():
    assert set(numbers(Policy())) == {f"min_{name}" for name in (*THRESHOLDS, "quality")} | {
        "background_below",
        "sam_share",
        "disagreement_weight",
        "sure_pixels",
    }
