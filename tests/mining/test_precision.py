from statistics import NormalDist

import numpy as np
import pytest

from samsemi.mining.calibration import Judged, fit_objects
from samsemi.mining.precision import choose_threshold, estimate_precision, measure_bias, wilson_interval
from samsemi.mining.scores import SCORES
from samsemi.options.mine import MineOptions


@pytest.mark.parametrize(
    ("right", "target", "threshold", "precision"),
    [
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], 1.0, 0.6, 1.0),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], 0.8, 0.5, 5 / 6),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], 0.5, 0.0, 0.5),
        ([0, 1, 1, 1, 1, 1, 0, 0, 0, 0], 0.99, 0.5, 5 / 6),
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0.9, 0.6, 1 / 5),
    ],
)
def test_threshold_is_the_lowest_that_reaches_the_target_or_the_best_there_is(right, target, threshold, precision):
    """The qualities are 1.0, 0.9, ..., 0.1; a precision is measured over 5 objects at least."""
    quality = np.arange(10, 0, -1) / 10
    found = choose_threshold(quality, np.array(right, dtype=bool), target)
    assert found == pytest.approx((threshold, precision))
    shuffled = np.random.default_rng(0).permutation(10)
    assert choose_threshold(quality[shuffled], np.array(right, dtype=bool)[shuffled], target) == pytest.approx(found)


def test_objects_of_one_quality_are_accepted_together():
    """Of the five best four are right, and a sixth as good as the fifth is wrong."""
    quality, right = np.array([0.9] * 4 + [0.8] * 2 + [0.1] * 4), np.arange(10) < 4
    assert choose_threshold(quality, right, 0.8) == pytest.approx((0.8, 4 / 6))


@pytest.mark.parametrize(("right", "count", "expected"), [(5, 5, (0.566, 1.0)), (8, 10, (0.490, 0.943)), (0, 10, (0.0, 0.278))])
def test_few_objects_leave_a_wide_interval(right, count, expected):
    assert wilson_interval(right / count, count) == pytest.approx(expected, abs=1e-3)


def draw_objects(rng, patients: int, objects: int, base: float, tell: float, alike: float) -> Judged:
    """Objects of which a share ``base`` is right, with scores that each tell so much of it; correlated by ``alike`` within patients."""

    def normal(columns: int) -> np.ndarray:
        own, common = rng.normal(size=(patients, objects, columns)), rng.normal(size=(patients, 1, columns))
        return (np.sqrt(alike) * common + np.sqrt(1 - alike) * own).reshape(-1, columns)

    truth, group = normal(1), np.repeat(np.arange(patients), objects)
    iou = (truth[:, 0] > NormalDist().inv_cdf(1 - base)).astype(float)
    return Judged(tell * truth + normal(len(SCORES)), iou, iou, group, group, np.ones(len(iou), dtype=int))


def simulate(draws: int, *kind: float, target: float = 0.8) -> np.ndarray:
    """(draws, 5): precision as counted, estimate, its interval, and the precision on fresh objects of the same kind; see draw_objects."""
    rng, found = np.random.default_rng(0), []
    options = MineOptions(dataset="data", model="warm", out="s.h5", target_precision=target)
    fresh = draw_objects(rng, 10000, *kind[1:])
    for _ in range(draws):
        judged = draw_objects(rng, *kind)
        fit = fit_objects(judged, options, None)
        right = judged.iou[fit.unseen >= fit.threshold] > 0
        precision, interval = estimate_precision(right, *fit.bias)
        accepted = fit.quality(fresh.scores) >= fit.threshold
        found.append([right.mean(), precision, *interval, fresh.iou[accepted].mean() if accepted.any() else np.nan])
    return np.array(found)


def test_scores_that_tell_nothing_reach_no_more_than_the_share_that_is_right():
    """The best of the thresholds is too good over the objects that it was chosen by; what is estimated is not."""
    counted, estimated, low, high, true = simulate(100, 24, 1, 0.6, 0.0, 0.0).T
    assert (
        counted.mean() > 0.66
        and abs(estimated.mean() - 0.6) < 0.05 < 2 * (counted - estimated).mean()
        and np.nanmean(true) == pytest.approx(0.6, abs=0.02)
    )
    assert np.mean((low <= 0.6) & (high >= 0.6)) > 0.9


def test_alike_objects_of_a_patient_count_for_fewer():
    quality, right = np.linspace(1, 0, 60), np.repeat(np.arange(12) % 4 > 0, 5)
    together = measure_bias(quality, right, np.repeat(np.arange(12), 5), 0.7)
    alone = measure_bias(quality, right, np.arange(60), 0.7)
    assert (
        3 < together.spread < 7 and 1 <= alone.spread < 1.3 and together == measure_bias(quality, right, np.repeat(np.arange(12), 5), 0.7)
    )
    wide, narrow = (estimate_precision(right, 0.0, bias.spread).interval for bias in (together, alone))
    assert wide[0] < narrow[0] - 0.05 and wide[1] > narrow[1] + 0.02


def test_nothing_is_taken_off_where_every_object_is_right_or_of_one_quality():
    all_right, alike = np.ones(20, dtype=bool), np.arange(20) % 2 > 0
    assert measure_bias(np.linspace(0, 1, 20), all_right, np.arange(20), 0.8) == (0, 1)
    assert measure_bias(np.zeros(20), alike, np.arange(20), 0.8).optimism == pytest.approx(0, abs=0.02)
    assert estimate_precision(all_right, 0.0, 1.0).interval == pytest.approx(wilson_interval(1, 20))
    assert estimate_precision(~all_right, 0.1, 1.0).precision == 0
