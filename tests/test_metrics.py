import math

import numpy as np
import pytest
from scipy import ndimage

from samsemi.data.dataset import IGNORE
from samsemi.metrics import (
    BINS,
    BOUNDARY,
    METRICS,
    OUTCOMES,
    calibration_error,
    count_reliability,
    dice_score,
    find_border,
    measure,
    overlap,
    surface,
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
    sign, ece = -1 if missed else 1, found.pop("ece")
    outcome = {"missed": float(missed), "false_alarm": float(not missed)}
    areas = {"area_error": sign, "area_difference": sign * 25 * (spacing or 1) ** 2}
    overlaps = dict.fromkeys(("dice", "iou", "precision", "recall", "nsd", "boundary_iou"), 0)
    assert found == {**overlaps, "hd95": diagonal, "assd": diagonal, **areas, **outcome} and math.isnan(ece)


def test_measure_names_every_metric_of_every_class_above_background():
    label = np.zeros((6, 6), dtype=np.uint8)
    found = measure(label, label, ("background", "rv", "myo", "lv"), None, 1.0)
    assert list(found) == ["rv", "myo", "lv"] and all(set(values) == {*METRICS, *OUTCOMES} for values in found.values())


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
    """KnowSAM reports 0.95 times the maximum as HD95."""
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
    expected = brute_force_surface(predicted, true, 0.7, 1.0)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


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
    assert find_border(rectangle(0, 0, 3, 3, (10, 10))).sum() == 12


def test_surface_is_the_same_wherever_the_objects_stand():
    a, b = rectangle(3, 3, 7, 9), rectangle(4, 4, 9, 8)
    moved = [np.roll(mask, (5, 12), axis=(0, 1)) for mask in (a, b)]
    assert surface(a, b, 1.0, 1.0) == surface(*moved, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(9, 12), (5, 6, 7)])
def test_border_is_the_mask_without_its_erosion(shape):
    mask = np.random.default_rng(0).random(shape) < 0.7
    assert (find_border(mask) == (mask & ~ndimage.binary_erosion(mask))).all()


def test_boundary_iou_counts_pixels_nearer_to_the_border_than_2_percent_of_the_diagonal():
    """Of an image of 100 x 75 the diagonal is 125, so 2.5 pixels: the outermost three rings (distances 0, 1, 2) of each square."""
    a, b = rectangle(10, 10, 39, 39, (75, 100)), rectangle(12, 10, 41, 39, (75, 100))
    assert BOUNDARY * math.hypot(75, 100) == 2.5
    rings = [square & ~ndimage.binary_erosion(square, np.ones((3, 3)), iterations=3) for square in (a, b)]
    assert surface(a, b, 1.0, 0.0)["boundary_iou"] == (rings[0] & rings[1]).sum() / (rings[0] | rings[1]).sum() < overlap(a, b)["iou"]
    assert surface(a, a, 1.0, 0.0)["boundary_iou"] == 1
    assert surface(a, b, 0.3, 0.0)["boundary_iou"] == surface(a, b, 1.0, 0.0)["boundary_iou"], "a share of the image, whatever its spacing"


def test_boundary_iou_of_small_masks_is_their_iou():
    a, b = rectangle(5, 5, 7, 7, (200, 200)), rectangle(6, 5, 8, 7, (200, 200))
    assert surface(a, b, 1.0, 0.0)["boundary_iou"] == overlap(a, b)["iou"] == 0.5


def test_area_error_is_relative_to_the_truth_and_its_difference_in_square_or_cubic_mm():
    larger, smaller = rectangle(2, 2, 5, 6).astype(np.uint8), rectangle(2, 2, 5, 5).astype(np.uint8)
    more, less = measure(larger, smaller, CLASSES, (2.0, 0.5), 1.0)["polyp"], measure(smaller, larger, CLASSES, None, 1.0)["polyp"]
    assert (more["area_error"], more["area_difference"]) == (4 / 16, 4.0) and (less["area_error"], less["area_difference"]) == (-4 / 20, -4)
    volume = measure(*(np.stack([label, label]) for label in (larger, smaller)), CLASSES, (5.0, 2.0, 0.5), 1.0)["polyp"]
    assert volume["area_difference"] == 2 * 4 * 5


def test_calibration_error_by_hand():
    """Ten pixels of .9, of which 8 are of the class, and ten of .3, of which 1 is: (.1 + .2) / 2."""
    probs = np.array([0.9] * 10 + [0.3] * 10)
    truth = np.array([1] * 8 + [0] * 2 + [1] + [0] * 9, dtype=np.uint8)
    table = count_reliability(np.stack([1 - probs, probs]), truth)
    assert table.shape == (2, BINS, 3) and table[1].sum(axis=0) == pytest.approx((20, 12, 9))
    assert calibration_error(table[1]) == pytest.approx(0.15)
    assert measure(truth, truth, CLASSES, None, 1.0, table)["polyp"]["ece"] == pytest.approx(0.15)


def test_calibration_error_pair_by_pair():
    """Of each bin of probabilities from i / 15 to (i + 1) / 15."""
    rng = np.random.default_rng(0)
    probs, truth = rng.random(500, dtype=np.float32), rng.integers(2, size=500).astype(np.uint8)
    bins = [(probs >= i / BINS) & (probs < (i + 1) / BINS) for i in range(BINS)]
    expected = sum(b.sum() * abs(probs[b].mean() - truth[b].mean()) for b in bins) / 500
    assert calibration_error(count_reliability(np.stack([1 - probs, probs]), truth)[1]) == pytest.approx(expected, abs=1e-6)


def test_perfect_probabilities_are_calibrated_and_what_is_ignored_or_unknown_counts_for_nothing():
    truth = np.array([0, 1, 1, IGNORE, 0], dtype=np.uint8)
    probs = np.array([[1, 0, 0, 0.5, np.nan], [0, 1, 1, 0.5, np.nan]])
    table = count_reliability(probs, truth)
    assert table[:, :, 0].sum(axis=1).tolist() == [3, 3] and calibration_error(table[1]) == 0
    assert math.isnan(calibration_error(count_reliability(probs[:, 3:], truth[3:])[1]))


def test_a_case_costs_one_distance_transform_per_border_in_the_box_of_both_masks(monkeypatch):
    """Whatever the size of the image: what there is to compute grows with the objects."""
    from samsemi import metrics

    sizes, transform = [], metrics.ndimage.distance_transform_edt
    monkeypatch.setattr(metrics.ndimage, "distance_transform_edt", lambda mask, **more: sizes.append(mask.shape) or transform(mask, **more))
    label, truth = (rectangle(200, 210, 219 + i, 229, (512, 512)).astype(np.uint8) for i in (0, 5))
    measure(label, truth, ("background", "polyp", "not there"), None, 2.0)
    assert sizes == [(20, 25), (20, 25)]
