import math

import numpy as np
import pytest
from scipy import ndimage

from samsemi.data.dataset import IGNORE
from samsemi.metrics import (
    METRICS,
    bootstrap_interval,
    compare,
    dice_score,
    measure,
    overlap,
    summarize_values,
    surface,
    surface_distances,
    wilcoxon_p,
)

CLASSES = ("background", "polyp")


def rectangle(x0: int, y0: int, x1: int, y1: int, shape=(20, 30)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def border(mask: np.ndarray) -> np.ndarray:
    """(n, 2) pixels of a mask with a 4-neighbor off it, found one by one."""
    padded = np.pad(mask, 1)
    return np.array(
        [(y, x) for y, x in np.argwhere(mask) if not all(padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))]
    )


def brute_force_surface(predicted: np.ndarray, true: np.ndarray, spacing: float, tolerance: float) -> dict[str, float]:
    """The definitions, pair by pair."""
    a, b = border(predicted), border(true)
    distances = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) * spacing
    there, back = distances.min(axis=1), distances.min(axis=0)
    both = np.concatenate([there, back])
    return {
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "assd": both.sum() / len(both),
        "nsd": (np.count_nonzero(there <= tolerance) + np.count_nonzero(back <= tolerance)) / len(both),
    }


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([1, 1, 0, 0], [1, 0, 1, 0], (1 / 2, 1 / 3, 1 / 2, 1 / 2)),
        ([1, 1, 1, 0], [1, 0, 0, 0], (1 / 2, 1 / 3, 1 / 3, 1.0)),
        ([1, 0, 0, 0], [1, 1, 1, 0], (1 / 2, 1 / 3, 1.0, 1 / 3)),
        ([1, 1, 0, 0], [1, 1, 0, 0], (1.0, 1.0, 1.0, 1.0)),
        ([1, 1, 0, 0], [0, 0, 1, 1], (0.0, 0.0, 0.0, 0.0)),
        ([0, 0, 0, 0], [0, 0, 1, 1], (0.0, 0.0, 0.0, 0.0)),
        ([0, 1, 1, 1], [0, 0, 0, 0], (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_overlap_of_four_pixels(predicted, true, expected):
    found = overlap(np.array([predicted], dtype=bool), np.array([true], dtype=bool))
    assert [found[name] for name in ("dice", "iou", "precision", "recall")] == pytest.approx(expected)


def test_class_in_neither_mask_is_not_measured():
    empty = np.zeros((4, 6), dtype=np.uint8)
    assert all(math.isnan(value) for value in measure(empty, empty, CLASSES, None, 2.0)["polyp"].values())
    assert math.isnan(dice_score(empty, empty, 2))


@pytest.mark.parametrize("missed", [True, False])
@pytest.mark.parametrize(("spacing", "diagonal"), [(None, 50.0), (0.5, 25.0)])
def test_class_in_one_mask_only_costs_all(missed, spacing, diagonal):
    empty, full = np.zeros((30, 40), dtype=np.uint8), rectangle(5, 5, 9, 9, (30, 40)).astype(np.uint8)
    found = measure(*((empty, full) if missed else (full, empty)), CLASSES, spacing, 2.0)["polyp"]
    assert found == {"dice": 0, "iou": 0, "precision": 0, "recall": 0, "hd95": diagonal, "assd": diagonal, "nsd": 0}


def test_measure_names_every_metric_of_every_class_above_background():
    label = np.zeros((6, 6), dtype=np.uint8)
    found = measure(label, label, ("background", "rv", "myo", "lv"), None, 1.0)
    assert list(found) == ["rv", "myo", "lv"] and all(set(values) == set(METRICS) for values in found.values())


def test_classes_are_measured_apart():
    truth = np.array([[1, 1, 2, 2], [0, 0, 2, 2]], dtype=np.uint8)
    prediction = np.array([[1, 2, 2, 2], [0, 0, 0, 2]], dtype=np.uint8)
    found = measure(prediction, truth, ("background", "a", "b"), None, 0.0)
    assert found["a"]["dice"] == pytest.approx(2 / 3) and found["b"]["dice"] == pytest.approx(6 / 8)
    assert dice_score(prediction, truth, 3) == pytest.approx((2 / 3 + 6 / 8) / 2)


def test_mean_dice_leaves_out_classes_that_neither_mask_holds():
    truth = np.array([[1, 1, 0, 0]], dtype=np.uint8)
    assert dice_score(truth, truth, 4) == 1.0
    assert dice_score(np.array([[1, 1, 2, 0]], dtype=np.uint8), truth, 4) == pytest.approx(0.5)


def test_pixels_that_the_truth_ignores_count_for_nothing():
    truth = np.array([[1, 1, IGNORE, IGNORE, 0, 0]], dtype=np.uint8)
    prediction = np.array([[1, 0, 1, 0, 1, 0]], dtype=np.uint8)
    found = measure(prediction, truth, CLASSES, None, 0.0)["polyp"]
    assert (found["dice"], found["precision"], found["recall"]) == (0.5, 0.5, 0.5)


def test_class_that_is_predicted_only_where_ignored_is_not_measured():
    truth = np.array([[0, 0, IGNORE]], dtype=np.uint8)
    prediction = np.array([[0, 0, 1]], dtype=np.uint8)
    assert all(math.isnan(value) for value in measure(prediction, truth, CLASSES, None, 0.0)["polyp"].values())


@pytest.mark.parametrize("shift", [1, 3, 6])
@pytest.mark.parametrize("spacing", [1.0, 0.25])
def test_surfaces_of_shifted_lines(shift, spacing):
    """Two parallel lines: every border pixel is ``shift`` away from the other line."""
    a, b = rectangle(5, 4, 24, 4), rectangle(5, 4 + shift, 24, 4 + shift)
    found = surface(a, b, spacing, tolerance=3 * spacing)
    assert (found["hd95"], found["assd"]) == (shift * spacing, shift * spacing)
    assert found["nsd"] == (1.0 if shift <= 3 else 0.0)


def test_hd95_is_the_larger_of_the_two_directed_percentiles():
    """40 pixels in a line, and the same with one far pixel. Towards the line: 1 of 41 distances is not 0, so the 95th
    percentile is 0. With a tail of 10 of 50 it is far from 0, while the other direction stays 0."""
    line = rectangle(0, 0, 39, 0, (60, 60))
    speck = line | rectangle(0, 30, 0, 30, (60, 60))
    tail = line | rectangle(0, 30, 9, 30, (60, 60))
    assert surface(speck, line, 1.0, 0.0)["hd95"] == 0.0
    assert surface(tail, line, 1.0, 0.0)["hd95"] == 30.0
    assert surface(line, tail, 1.0, 0.0)["hd95"] == 30.0


def test_hd95_is_no_shrunken_maximum():
    """KnowSAM reports 0.95 times the maximum as HD95 (style.md, traps)."""
    line, shifted = rectangle(5, 4, 24, 4), rectangle(5, 10, 24, 10)
    assert surface(line, shifted, 1.0, 0.0)["hd95"] == 6.0 != 0.95 * 6.0


def test_surface_values_of_nested_squares_by_hand():
    """Borders of a 5 x 5 and a 3 x 3 square, one inside the other: 16 and 8 pixels. From the outer one, 12 are 1 away and
    the corners sqrt(2); from the inner one all are 1 away."""
    outer, inner = rectangle(5, 5, 9, 9), rectangle(6, 6, 8, 8)
    found = surface(outer, inner, 1.0, tolerance=1.0)
    assert found["assd"] == pytest.approx((12 + 4 * math.sqrt(2) + 8) / 24)
    assert found["hd95"] == pytest.approx(math.sqrt(2))
    assert found["nsd"] == pytest.approx(20 / 24)


@pytest.mark.parametrize("seed", range(6))
def test_surface_metrics_equal_the_definitions_pair_by_pair(seed):
    rng = np.random.default_rng(seed)
    predicted, true = (
        rectangle(x, y, x + w, y + h) | (rng.random((20, 30)) < 0.02)
        for x, y, w, h in rng.integers((0, 0, 4, 3), (14, 10, 16, 10), size=(2, 4))
    )
    found = surface(predicted, true, 0.7, tolerance=1.0)
    assert found == pytest.approx(brute_force_surface(predicted, true, 0.7, 1.0))


@pytest.mark.parametrize("spacing", [(0.5, 2.0), (3.0, 0.7, 0.8)], ids=["image", "volume"])
def test_surface_metrics_of_uneven_voxels_equal_the_definitions_pair_by_pair(spacing):
    rng = np.random.default_rng(0)
    shape = (9, 12, 10)[-len(spacing) :]
    masks = [ndimage.gaussian_filter(rng.normal(size=shape), 2) > 0.02 for _ in range(2)]
    a, b = (np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in masks)
    distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    there, back = distances.min(axis=1), distances.min(axis=0)
    found = measure(*(mask.astype(np.uint8) for mask in masks), ("background", "organ"), spacing, tolerance=1.0)["organ"]
    assert found["hd95"] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found["assd"] == pytest.approx(np.concatenate([there, back]).mean())
    assert found["nsd"] == pytest.approx((np.concatenate([there, back]) <= 1).mean())
    assert found["dice"] == pytest.approx(2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()))


def test_missed_structure_costs_the_diagonal_in_mm():
    nothing, organ = np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.uint8)
    found = measure(nothing, organ, ("background", "organ"), (5.0, 2.0, 1.0), 1.0)["organ"]
    assert found["hd95"] == pytest.approx(math.hypot(10, 6, 4))


def test_object_cut_by_the_image_border_has_a_surface_there():
    mask = rectangle(0, 0, 3, 3, (10, 10))
    there, back = surface_distances(mask, mask, 1.0)
    assert len(there) == len(back) == 12 and not there.any()


def test_surface_is_the_same_wherever_the_objects_stand():
    a, b = rectangle(3, 3, 7, 9), rectangle(4, 4, 9, 8)
    moved = [np.roll(mask, (5, 12), axis=(0, 1)) for mask in (a, b)]
    assert surface(a, b, 1.0, 1.0) == surface(*moved, 1.0, 1.0)


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
def test_wilcoxon_of_degenerate_differences(differences, expected):
    assert wilcoxon_p(np.array(differences)) == expected


def test_wilcoxon_counts_sign_patterns():
    """Exact for small samples: the share of the 2**n sign patterns with a rank sum as extreme."""
    differences = np.array([0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7])
    ranks = np.arange(1, 8)
    sums = np.array([sum(r for i, r in enumerate(ranks) if pattern >> i & 1) for pattern in range(2**7)])
    observed = 3
    expected = 2 * (sums <= observed).mean()
    assert wilcoxon_p(differences) == pytest.approx(expected)
