import numpy as np
import pytest
from builders import c_shape, disk_at_corner, probs_of, rectangle, ring, u_shape

from samsemi.sam.prompts import Prompts, class_margins, find_objects, make_prompts


def test_no_object_gives_empty_objects_and_prompts():
    objects = find_objects(probs_of())
    assert len(objects) == 0 and not objects.components.any()
    prompts = make_prompts(objects, "box+point+mask", mask_size=16)
    assert len(prompts) == 0
    assert prompts.boxes.shape == (0, 4) and prompts.point_coords.shape == (0, 2, 2) and prompts.point_labels.shape == (0, 2)
    assert prompts.mask_logits.shape == (0, 16, 16)


def test_components_are_ranked_by_mean_probability_not_by_area():
    large, small = rectangle(2, 2, 21, 21), rectangle(40, 5, 49, 14)
    objects = find_objects(probs_of((large, 1, 0.7), (small, 1, 0.95)))
    assert objects.area.tolist() == [100, 400]
    assert objects.confidence == pytest.approx([0.95, 0.7])
    assert (objects.components == 1).sum() == 100 and (objects.components[small] == 1).all()
    assert (objects.components[large] == 2).all()


def test_confidence_is_the_mean_over_an_uneven_component():
    mask = rectangle(10, 10, 19, 19)
    probs = probs_of((mask, 1, 0.6), (rectangle(10, 10, 14, 19), 1, 0.9))
    assert find_objects(probs).confidence == pytest.approx([0.75])


def test_components_touching_at_a_corner_are_one_object():
    objects = find_objects(probs_of((rectangle(2, 2, 11, 11) | rectangle(12, 12, 21, 21), 1, 0.8)))
    assert objects.area.tolist() == [200]


@pytest.mark.parametrize(("min_area", "areas"), [(1, [100, 25, 1]), (2, [100, 25]), (25, [100, 25]), (26, [100]), (101, [])])
def test_min_area_drops_smaller_components(min_area, areas):
    parts = [(rectangle(2, 2, 11, 11), 1, 0.9), (rectangle(30, 5, 34, 9), 1, 0.8), (rectangle(50, 30, 50, 30), 1, 0.7)]
    objects = find_objects(probs_of(*parts), min_area)
    assert objects.area.tolist() == areas
    assert {*np.unique(objects.components)} - {-1} == {*range(len(areas) + 1)}
    assert (objects.components == -1).sum() == 126 - sum(areas), "what was too small is neither an object nor background"


def test_objects_of_several_classes_are_ranked_together_and_keep_their_class():
    parts = [(rectangle(2, 2, 11, 11), 3, 0.7), (rectangle(12, 2, 21, 11), 1, 0.9), (rectangle(40, 20, 49, 29), 2, 0.8)]
    objects = find_objects(probs_of(*parts, num_classes=4))
    assert objects.class_id.tolist() == [1, 2, 3]
    assert objects.boxes.tolist() == [[12, 2, 21, 11], [40, 20, 49, 29], [2, 2, 11, 11]]
    for i, (mask, *_) in enumerate([parts[1], parts[2], parts[0]], start=1):
        assert (objects.components == i).sum() == 100 and (objects.components[mask] == i).all()


def test_box_is_x_before_y_on_a_wide_image_with_an_object_off_center():
    objects = find_objects(probs_of((rectangle(41, 7, 55, 11), 1, 0.9)))
    assert objects.boxes.tolist() == [[41, 7, 55, 11]]
    assert make_prompts(objects, "box", margin=3).boxes.tolist() == [[38, 4, 58, 14]]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 9, 9), [0, 0, 14, 14]),
        ((50, 30, 59, 39), [45, 25, 59, 39]),
        ((2, 20, 12, 38), [0, 15, 17, 39]),
        ((0, 0, 59, 39), [0, 0, 59, 39]),
    ],
)
def test_margin_stops_at_the_border_of_the_image(box, expected):
    objects = find_objects(probs_of((rectangle(*box), 1, 0.9)))
    assert make_prompts(objects, "box", margin=5).boxes.tolist() == [expected]


def test_only_the_kinds_that_were_asked_are_made():
    objects = find_objects(probs_of((rectangle(10, 10, 30, 20), 1, 0.9)))
    for kinds in ("box", "point", "box+point", "point+mask", ("mask",)):
        prompts = make_prompts(objects, kinds, mask_size=8)
        given = kinds if isinstance(kinds, tuple) else kinds.split("+")
        assert (prompts.boxes is not None, prompts.point_coords is not None, prompts.mask_logits is not None) == tuple(
            kind in given for kind in ("box", "point", "mask")
        )
        assert (prompts.point_labels is None) == (prompts.point_coords is None)
        assert len(prompts) == 1


def brute_force_depth(mask: np.ndarray, y: int, x: int) -> float:
    """Distance of a pixel to the nearest one off the mask; beyond the image is off it."""
    off = np.argwhere(~np.pad(mask, 1)) - 1
    return np.hypot(off[:, 0] - y, off[:, 1] - x).min()


@pytest.mark.parametrize("shape", [u_shape, ring, c_shape, disk_at_corner])
def test_positive_point_is_deepest_inside_and_negative_farthest_off_in_the_box(shape):
    mask = shape()
    prompts = make_prompts(find_objects(probs_of((mask, 1, 0.9))), "box+point", margin=2)
    assert prompts.point_labels.tolist() == [[1, 0]]
    (px, py), (nx, ny) = prompts.point_coords[0].astype(int)
    x0, y0, x1, y1 = prompts.boxes[0].astype(int)
    assert mask[py, px]
    inside_depths = [brute_force_depth(mask, y, x) for y, x in np.argwhere(mask)]
    assert brute_force_depth(mask, py, px) == pytest.approx(max(inside_depths))
    assert x0 <= nx <= x1 and y0 <= ny <= y1 and not mask[ny, nx]
    rows, columns = np.nonzero(mask)
    distance = np.hypot(*(np.mgrid[y0 : y1 + 1, x0 : x1 + 1].reshape(2, -1, 1) - np.stack([rows, columns])[:, None])).min(axis=1)
    assert np.hypot(rows - ny, columns - nx).min() == pytest.approx(distance.max())


def test_centroid_of_a_ring_is_not_the_positive_point():
    (x, y), _ = make_prompts(find_objects(probs_of((ring(), 1, 0.9))), "point").point_coords[0]
    assert np.hypot(y - 20, x - 35) == pytest.approx(12.5, abs=1.5)


def test_object_that_fills_its_box_gets_positive_points_instead_of_negative():
    objects = find_objects(probs_of((rectangle(10, 10, 30, 20), 1, 0.9)))
    prompts = make_prompts(objects, "point", margin=0, positive=1, negative=2)
    assert prompts.point_labels.tolist() == [[1, 1, 1]]
    assert all(10 <= x <= 30 and 10 <= y <= 20 for x, y in prompts.point_coords[0])
    with_margin = make_prompts(objects, "point", margin=2, negative=2)
    assert with_margin.point_labels.tolist() == [[1, 0, 0]]
    assert not any(10 <= x <= 30 and 10 <= y <= 20 for x, y in with_margin.point_coords[0, 1:])


def test_object_that_fills_the_image_has_no_negative_point_whatever_the_margin():
    prompts = make_prompts(find_objects(probs_of((np.ones((20, 30), dtype=bool), 1, 0.9))), "point", margin=4)
    assert prompts.point_labels.tolist() == [[1, 1]]
    assert prompts.point_coords[0, 0].tolist() in ([x, y] for x in range(9, 21) for y in (9, 10))


@pytest.mark.parametrize(("positive", "negative"), [(1, 0), (1, 1), (3, 2), (5, 0)])
def test_every_object_has_the_same_number_of_points_each_on_the_side_it_says(positive, negative):
    """A missing point is never padded: SAM's mask would change."""
    masks = [u_shape(), rectangle(2, 2, 9, 9), rectangle(50, 0, 59, 12)]
    objects = find_objects(probs_of(*((mask, 1, p) for mask, p in zip(masks, (0.9, 0.8, 0.7), strict=True))))
    prompts = make_prompts(objects, "box+point", margin=1, positive=positive, negative=negative)
    assert prompts.point_coords.shape == (3, positive + negative, 2) and prompts.point_coords.dtype == np.float32
    assert set(np.unique(prompts.point_labels)) <= {0, 1}
    for mask, box, coords, labels in zip(masks, prompts.boxes, prompts.point_coords.astype(int), prompts.point_labels, strict=True):
        assert [mask[y, x] for x, y in coords] == labels.astype(bool).tolist()
        assert all(box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in coords)


def test_several_points_in_a_long_object_are_spread():
    objects = find_objects(probs_of((rectangle(5, 10, 54, 18), 1, 0.9)))
    x = np.sort(make_prompts(objects, "point", positive=3, negative=0).point_coords[0, :, 0])
    assert np.diff(x).min() >= 4


@pytest.mark.parametrize(("positive", "negative"), [(2, 1), (5, 3)])
def test_object_with_fewer_pixels_than_points_repeats_its_points(positive, negative):
    objects = find_objects(probs_of((rectangle(30, 20, 30, 20), 1, 0.9)), min_area=1)
    prompts = make_prompts(objects, "point", margin=1, positive=positive, negative=negative)
    assert prompts.point_labels.tolist() == [[1] * positive + [0] * negative]
    assert prompts.point_coords[0, :positive].tolist() == [[30, 20]] * positive
    assert all(abs(x - 30) <= 1 and abs(y - 20) <= 1 and (x, y) != (30, 20) for x, y in prompts.point_coords[0, positive:])


def test_box_with_one_free_pixel_repeats_its_negative_point():
    mask = rectangle(0, 0, 9, 9)
    mask[9, 9] = False
    prompts = make_prompts(find_objects(probs_of((mask, 1, 0.9))), "point", margin=0, negative=3)
    assert prompts.point_coords[0, 1:].tolist() == [[9, 9]] * 3


def test_points_are_the_same_each_time():
    objects = find_objects(probs_of((u_shape(), 1, 0.9)))
    first, second = (make_prompts(objects, "point", positive=2, negative=2).point_coords for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_mask_logits_are_positive_exactly_on_the_object_at_image_size(num_classes):
    shape = (48, 48)
    masks = [rectangle(3, 3, 14, 14, shape), rectangle(20, 5, 40, 40, shape)]
    parts = [(mask, 1, p) for mask, p in zip(masks, (0.9, 0.7), strict=True)]
    if num_classes == 3:
        masks.append(rectangle(2, 20, 15, 40, shape))
        parts.append((masks[-1], 2, 0.6))
    logits = make_prompts(find_objects(probs_of(*parts, num_classes=num_classes)), "box+mask", mask_size=48).mask_logits
    assert logits.shape == (len(masks), 48, 48) and logits.dtype == np.float32
    for mask, logit in zip(masks, logits, strict=True):
        assert ((logit > 0) == mask).all()


def test_mask_logit_of_two_classes_is_the_log_odds():
    shape = (32, 32)
    logits = find_objects(probs_of((rectangle(4, 4, 19, 19, shape), 1, 0.8))).logits(32)[0]
    assert logits[10, 10] == pytest.approx(np.log(0.8 / 0.2), abs=1e-4)
    assert logits[30, 30] == pytest.approx(np.log(0.1 / 0.9), abs=1e-4)


def test_mask_logits_of_dropped_specks_are_not_positive():
    """What ``min_area`` drops belongs to no object, so it must not be shown to SAM as part of one."""
    shape = (48, 48)
    large, speck = rectangle(3, 3, 22, 22, shape), rectangle(40, 40, 42, 42, shape)
    logits = find_objects(probs_of((large, 1, 0.8), (speck, 1, 0.9)), min_area=64).logits(48)
    assert ((logits[0] > 0) == large).all()


def test_mask_logits_squeeze_a_wide_image_into_the_square():
    logits = find_objects(probs_of((rectangle(30, 0, 59, 19), 1, 0.9))).logits(64)[0]
    inside = logits > 0
    assert inside[:31, 33:].all() and not inside[33:].any() and not inside[:, :31].any()


def test_mask_logits_of_certain_maps_are_finite():
    mask = rectangle(10, 10, 30, 30)
    logits = find_objects(probs_of((mask, 1, 1.0))).logits(40)
    assert np.isfinite(logits).all() and logits.max() > 5


def test_class_margins_are_log_ratios_to_the_best_other_class():
    probs = np.array([0.2, 0.5, 0.3], dtype=np.float32).reshape(3, 1, 1)
    expected = [np.log(0.2 / 0.5), np.log(0.5 / 0.3), np.log(0.3 / 0.5)]
    assert class_margins(probs).ravel() == pytest.approx(expected, abs=1e-5)


def test_class_margins_of_many_classes_are_those_of_each_against_all_others():
    probs = np.random.default_rng(0).integers(1, 5, (6, 7, 9)).astype(np.float32) / 8  # many ties
    logs = np.log(probs)
    assert np.array_equal(class_margins(probs), np.stack([logs[k] - np.delete(logs, k, axis=0).max(axis=0) for k in range(6)]))


def test_length_of_prompts_comes_from_whatever_kind_there_is():
    assert len(Prompts(boxes=np.zeros((3, 4)))) == 3
    assert len(Prompts(point_coords=np.zeros((2, 1, 2)), point_labels=np.zeros((2, 1)))) == 2
    assert len(Prompts(mask_logits=np.zeros((1, 8, 8)))) == 1
