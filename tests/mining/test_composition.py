"""The rule of the label, by hand on images of 8 x 8 pixels and maps of the same size."""

from dataclasses import replace

import numpy as np
import pytest
from builders import ALL, block, mined_of

from samsemi.mining.composition import average_cells, cells_between, compose_label, network_map, object_label, object_mask, region_of
from samsemi.mining.policy import Policy, Quality
from samsemi.mining.pseudolabels import mined_label, pseudo_label

SIDE = 8
EVEN = Quality((0.5,) * 7, (0.5,) * 7, (2.0, 0, 0, 0, 0, 0, 0), 0.0)
"""The probability that an object is right rises with its confidence: .88 for 1, .5 for .5, .12 for 0."""


def on_8(y0: int, y1: int, x0: int, x1: int, value: float = 1.0) -> np.ndarray:
    return block(y0, y1, x0, x1, value, size=SIDE)


def two_classes(foreground: np.ndarray) -> np.ndarray:
    return np.stack([1 - foreground, foreground])


def mined_on_8(*maps: np.ndarray, **values):
    """Objects on an image of 8 x 8; the network sees what SAM does where nothing else is given."""
    return mined_of(*maps, image_size=(SIDE, SIDE), **values)


def components_of(*rectangles: tuple[int, int, int, int]) -> np.ndarray:
    numbers = np.zeros((SIDE, SIDE), np.uint16)
    for i, (y0, y1, x0, x1) in enumerate(rectangles, start=1):
        numbers[y0:y1, x0:x1] = i
    return numbers


@pytest.mark.parametrize("sam", [on_8(0, 3, 0, 3), on_8(0, 8, 0, 8), on_8(0, 0, 0, 0)], ids=["the object", "everything", "nothing"])
def test_second_object_outside_the_box_keeps_the_networks_probability_whatever_sam_says(sam):
    """Where SAM was not prompted, .47 stays .47 and background of .98 stays that; the weight is the certainty of each times .9 * .8."""
    network = two_classes(np.maximum(np.maximum(on_8(0, 3, 0, 3), on_8(5, 8, 5, 8, 0.47)), 0.02))
    mined = mined_on_8(
        sam,
        network=network,
        prompt_boxes=[[0, 0, 2, 2]],
        components=components_of((0, 3, 0, 3)),
        predicted_iou=[0.9],
        agreement=[0.8],
    )
    target, weight = pseudo_label(mined, ALL, 2, SIDE)
    assert target[:, 6, 6] == pytest.approx([0.53, 0.47], abs=3e-3) and target[:, 1, 6] == pytest.approx([0.98, 0.02], abs=3e-3)
    assert weight[6, 6] == pytest.approx(0.72 * 0.5, abs=2e-3) and weight[1, 6] == pytest.approx(0.72 * 0.93, abs=3e-3)
    blended = (0.9 * sam[1, 1] + 1) / 1.9
    assert target[1, 1, 1] == pytest.approx(blended, abs=2e-3)


def test_silence_of_sam_within_the_box_is_background():
    network = two_classes(on_8(0, 8, 0, 8, 0.47))
    target, _ = pseudo_label(mined_on_8(on_8(0, 4, 0, 4), network=network, components=np.zeros((SIDE, SIDE))), ALL, 2, SIDE)
    assert target[1, 6, 6] == pytest.approx(0.06 * 0.47 / 1.06, abs=3e-3)


def test_box_reaches_a_tenth_of_its_sides_further_and_no_further_than_window_and_image():
    """Of an image of 100 x 200 px on a grid of as many cells; x1 and y1 of boxes are inside, of windows outside."""
    mined = mined_of(
        *[on_8(0, 8, 0, 8)] * 4,
        image_size=(100, 200),
        prompt_boxes=[[50, 20, 89, 39], [2, 3, 41, 22], [180, 90, 199, 99], [50, 20, 89, 39]],
        windows=[*[[0, 0, 200, 100]] * 3, [48, 0, 92, 41]],
    )
    found = [(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in (region_of(mined, i, (100, 200)) for i in range(4))]
    assert found == [(18, 42, 46, 94), (1, 25, 0, 46), (89, 100, 178, 200), (18, 41, 48, 92)]
    rows, columns = region_of(mined, 0, (50, 50))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (9, 21, 12, 24)


def test_region_of_an_object_smaller_than_a_cell_is_a_cell():
    assert cells_between(3.1, 3.3, 1.0, 8) == slice(3, 4) and cells_between(7.9, 8, 1.0, 8) == slice(7, 8)


def test_mask_of_a_window_lies_where_the_window_does():
    """SAM saw the pixels 2 to 6 alone, enlarged twice: the right half of its map is the columns 4 and 5."""
    mined = mined_on_8(on_8(0, 8, 4, 8), prior=[on_8(0, 0, 0, 0)], prompt_boxes=[[2, 2, 5, 5]], windows=[[2, 2, 6, 6]])
    label = object_label(mined, 0, network_map(mined, 2, (SIDE, SIDE)), sam_share=1.0)
    assert ((label > 0.5) == (on_8(2, 6, 4, 6) > 0)).all() and label[2, 2:6] == pytest.approx([0, 0.125, 0.875, 1])
    fine = object_label(mined, 0, network_map(mined, 2, (16, 16)), sam_share=1.0)
    assert fine == pytest.approx(block(4, 12, 8, 12, size=16), abs=1e-6)


def test_maps_are_averaged_where_they_are_made_smaller_and_linear_where_larger():
    assert average_cells(slice(0, 2), 2.0, 4) @ np.array([0, 1, 1, 0]) == pytest.approx([4 / 7, 4 / 7])
    assert average_cells(slice(0, 4), 0.5, 2) @ np.array([0, 1]) == pytest.approx([0, 0.25, 0.75, 1])
    assert average_cells(slice(1, 3), 1.0, 4) @ np.arange(4) == pytest.approx([1, 2])
    assert average_cells(slice(2, 4), 0.5, 2, first=-1.0) @ np.array([0, 1]) == pytest.approx([0, 0.25])


def test_class_that_wins_nowhere_keeps_its_probability():
    """Three classes; the third has .45 everywhere, next to .5 for background outside the box and .9 for the object in it."""
    network = np.stack([np.full((SIDE, SIDE), 0.5), np.full((SIDE, SIDE), 0.05), np.full((SIDE, SIDE), 0.45)])
    network[:, 0:3, 0:3] = np.array([0.0, 0.9, 0.1])[:, None, None]
    values = {"network": network, "prompt_boxes": [[0, 0, 3, 3]], "components": components_of((0, 3, 0, 3))}
    target, weight = pseudo_label(mined_on_8(on_8(0, 3, 0, 3), **values), ALL, 3, SIDE)
    assert target[:, 6, 6] == pytest.approx([0.5, 0.05, 0.45], abs=3e-3)
    assert weight[6, 6] == pytest.approx(1 - (0.5 + 0.05 * 4.32 + 0.45 * 1.152) / 2, abs=3e-3)
    silent = (0.9 * 0.05) / (1 + 0.9)
    assert target[:, 3, 3] == pytest.approx([0.5 * (1 - silent) / 0.95, silent, 0.45 * (1 - silent) / 0.95], abs=4e-3)
    assert target[0, 1, 1] < 0.01 and target[1, 1, 1] + target[2, 1, 1] == pytest.approx(1, abs=1e-3)


def test_rejected_object_is_ignored_pixel_by_pixel_and_the_accepted_one_in_its_box_stands():
    """The rejected object of the columns 4 to 6 is found in a box that covers both; SAM's mask of it leaks over both and below."""
    accepted, rejected, leak = on_8(0, 4, 0, 4), on_8(2, 4, 4, 7, 0.9), on_8(0, 6, 0, 8)
    mined = mined_on_8(accepted, leak, prior=[accepted, rejected], agreement=[1.0, 0.1])
    target, weight = pseudo_label(mined, Policy(), 2, SIDE)
    expected = np.ones((SIDE, SIDE), bool)
    expected[0:6] = False
    expected[0:4, 0:4] = True
    assert ((weight > 0) == expected).all()
    assert target[1, 0:4, 0:4] == pytest.approx(1) and target[1, 7] == pytest.approx(0)
    small = mined_on_8(accepted, on_8(2, 4, 4, 7), prior=[accepted, rejected], agreement=[1.0, 0.1])
    assert ((pseudo_label(small, Policy(), 2, SIDE)[1] == 0) == (on_8(2, 4, 4, 7) > 0)).all(), "of its box nothing else"
    assert (mined_label(small, Policy(), 2) == (on_8(0, 4, 0, 4) > 0)).all()


def test_object_that_the_network_sees_and_that_was_rejected_is_ignored_even_in_a_mask_that_was_accepted():
    mined = mined_on_8(on_8(0, 4, 0, 8), on_8(0, 4, 4, 8), prior=[on_8(0, 4, 0, 4), on_8(0, 4, 4, 8)], agreement=[1.0, 0.1])
    weight = pseudo_label(mined, Policy(), 2, SIDE)[1]
    assert ((weight == 0) == (on_8(0, 4, 4, 8) > 0)).all()


def test_what_the_network_sees_beside_accepted_objects_and_is_too_small_to_be_one_is_ignored():
    """Of two classes: one speck outside the box of the object, one of the other class in it, and one of its own class in it."""
    network = np.zeros((3, SIDE, SIDE))
    network[1, 0:4, 0:4], network[1, 7, 7], network[2, 4, 0], network[1, 4, 3] = 1, 0.8, 0.8, 0.8
    network[0] = 1 - network[1:].sum(axis=0)
    values = {"network": network, "components": components_of((0, 4, 0, 4)), "prompt_boxes": [[0, 0, 4, 4]]}
    mined = mined_on_8(on_8(0, 4, 0, 4), **values)
    target, weight = pseudo_label(mined, ALL, 3, SIDE)
    assert {tuple(place) for place in np.argwhere(weight == 0)} == {(7, 7), (4, 0)}
    assert target[1, 4, 3] == pytest.approx(0.6 * 0.8 / 1.6, abs=3e-3), "SAM, who was prompted about it, does not see it"
    assert (mined_label(mined, ALL, 3) == on_8(0, 4, 0, 4)).all()


def test_object_that_is_none_is_background_and_what_is_around_it_too():
    """Of three classes; the second object, of confidence 0, has the probability .12, and its rim has .3; .1 of it is another class."""
    policy = replace(ALL, min_quality=0.4, background_below=0.2, quality=EVEN)
    network = np.zeros((3, SIDE, SIDE))
    network[1, 0:3, 0:3], network[1, 4:8, 4:8], network[1, 5:7, 5:7], network[2, 4:8, 4:8] = 1, 0.3, 0.9, 0.1
    network[0] = 1 - network[1:].sum(axis=0)
    values = {"network": network, "components": components_of((0, 3, 0, 3), (5, 7, 5, 7)), "confidence": [1.0, 0.0]}
    mined = mined_on_8(on_8(0, 3, 0, 3), on_8(5, 7, 5, 7), prompt_boxes=[[0, 0, 2, 2], [4, 4, 7, 7]], **values)
    target, weight = pseudo_label(mined, policy, 3, SIDE)
    assert target[:, 4:8, 4:8] == pytest.approx(np.broadcast_to(np.array([0.9, 0, 0.1])[:, None, None], (3, 4, 4)), abs=4e-3)
    assert weight[4:8, 4:8] == pytest.approx(0.88 * (1 - 0.469 / 2), abs=6e-3)
    doubtful = pseudo_label(mined, replace(policy, background_below=0.0), 3, SIDE)
    assert not doubtful[1][5:7, 5:7].any() and doubtful[0][1, 4, 4] == pytest.approx(0.3, abs=3e-3)


def test_other_objects_of_its_class_are_not_of_an_objects_label():
    """Two objects of one class in one box: each label has its own, that of all has both."""
    first, second = on_8(0, 4, 0, 4, 0.9), on_8(4, 8, 4, 8, 0.8)
    mined = mined_on_8(first, second)
    network = network_map(mined, 2, (SIDE, SIDE))
    assert object_label(mined, 0, network, 0.5) == pytest.approx(first, abs=2e-3)
    assert object_label(mined, 1, network, 0.5) == pytest.approx(second, abs=2e-3)
    assert pseudo_label(mined, ALL, 2, SIDE)[0][1] == pytest.approx(first + second, abs=2e-3)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_mask_of_an_object_is_where_its_class_wins_in_its_label(num_classes):
    rng = np.random.default_rng(0)
    network = rng.dirichlet(np.full(num_classes, 0.7), (SIDE, SIDE)).transpose(2, 0, 1)
    network[:, 0, 0] = np.arange(num_classes) == 1
    mined = mined_on_8(rng.random((SIDE, SIDE)), network=network, prompt_boxes=[[0, 0, 5, 5]], components=np.zeros((SIDE, SIDE)))
    found = network_map(mined, num_classes, (SIDE, SIDE))
    for share in (1.0, 0.5, 0.0):
        label = compose_label(mined, np.zeros(1, dtype=int), found, share)
        mask = object_mask(mined, 0, found, share)
        region = region_of(mined, 0, (SIDE, SIDE))
        assert (mask[region] == (label.target.argmax(axis=0) == 1)[region]).all() and mask.sum() == mask[region].sum() > 0
        half = object_label(mined, 0, found, share) > 0.5
        assert (mask == half).all() if num_classes == 2 else mask.sum() > half.sum()


def test_overlapping_objects_of_two_classes_leave_nothing_for_the_third():
    network = np.zeros((4, SIDE, SIDE))
    network[1], network[2], network[3] = 0.4, 0.3, 0.3
    mined = mined_on_8(on_8(0, 8, 0, 8, 0.9), on_8(0, 8, 0, 4, 0.6), network=network, class_id=[1, 2], components=components_of())
    target, _ = pseudo_label(mined, replace(ALL, sam_share=1.0), 4, SIDE)
    assert target[:, 1, 1] == pytest.approx([0, 0.6, 0.4, 0], abs=3e-3)
    assert target[:, 1, 6] == pytest.approx([0, 0.9, 0, 0.1], abs=3e-3), "what SAM leaves is as the network has it"


@pytest.mark.parametrize("size", [5, 8, 21])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_targets_sum_to_1_and_weights_are_shares_whatever_is_mined(size, num_classes):
    rng = np.random.default_rng(size + num_classes)
    for _ in range(5):
        corners = np.sort(rng.integers(0, (30, 20), (9, 2, 2)), axis=1).reshape(9, 4)
        mined = mined_of(
            *rng.random((9, SIDE, SIDE)).round(),
            image_size=(20, 30),
            class_id=rng.integers(1, num_classes, 9),
            agreement=rng.random(9),
            confidence=rng.random(9),
            network=rng.dirichlet(np.full(num_classes, 0.3), (SIDE, SIDE)).transpose(2, 0, 1),
            components=rng.integers(0, 10, (SIDE, SIDE)),
            prompt_boxes=corners,
            windows=np.clip(corners + [-3, -2, 4, 5], 0, [30, 20, 30, 20]),
        )
        policy = Policy(min_agreement=0.3, min_confidence=0.0, background_below=0.3, quality=EVEN, sure_pixels=0.5)
        target, weight = pseudo_label(mined, policy, num_classes, size)
        assert target.sum(axis=0) == pytest.approx(np.ones((size, size)), abs=1e-5) and target.min() >= -1e-6
        assert np.isfinite(weight).all() and weight.min() >= 0 and weight.max() <= 1
        assert target.dtype == weight.dtype == np.float32


def test_image_without_an_accepted_object_keeps_its_sure_pixels_where_that_is_wanted():
    """Sure is .95 or more; the weight is ``sure_pixels`` times the certainty; a rejected object is ignored."""
    network = two_classes(np.maximum(on_8(0, 4, 0, 4, 0.99), on_8(4, 8, 0, 8, 0.1)))
    mined = mined_on_8(on_8(0, 4, 0, 4), network=network, components=components_of((0, 4, 0, 4)), agreement=[0.0])
    assert not pseudo_label(mined, Policy(), 2, SIDE)[1].any()
    weight = pseudo_label(mined, Policy(sure_pixels=0.4), 2, SIDE)[1]
    assert weight == pytest.approx(on_8(0, 4, 4, 8, 0.4))
    nothing = mined_on_8(network=network)
    assert pseudo_label(nothing, Policy(sure_pixels=1.0), 2, SIDE)[1] == pytest.approx(on_8(0, 4, 4, 8)), "what is no object is none"


def test_image_of_which_the_networks_map_is_not_known_has_no_sure_pixels():
    mined = mined_on_8(network=np.zeros((2, SIDE, SIDE)))
    target, weight = pseudo_label(mined, Policy(sure_pixels=1.0), 3, SIDE)
    assert not weight.any() and target == pytest.approx(np.full((3, SIDE, SIDE), 1 / 3))
