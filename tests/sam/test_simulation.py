import numpy as np
import pytest
from builders import c_shape, disk_at_corner, rectangle, ring, u_shape

from samsemi.sam.prompts import tight_boxes
from samsemi.sam.simulation import BOX_ERRORS, POINTS, box_of, move_box, random_place, simulate_box, simulate_logits, simulate_points

SHAPES = [u_shape(), c_shape(), ring(), disk_at_corner(), rectangle(3, 4, 3, 4), rectangle(0, 0, 59, 39)]


def smooth_mask(height: int, width: int) -> np.ndarray:
    """A large ellipse in the middle."""
    y, x = np.mgrid[:height, :width]
    return np.hypot((y - height / 2) / (0.3 * height), (x - width / 2) / (0.25 * width)) < 1


def near(mask: np.ndarray, margin: int = 0) -> np.ndarray:
    """The box of a mask, widened."""
    x0, y0, x1, y1 = box_of(mask).astype(int)
    return rectangle(max(0, x0 - margin), max(0, y0 - margin), x1 + margin, y1 + margin, mask.shape)


@pytest.mark.parametrize("box", [(3, 5, 20, 30), (0, 0, 59, 39), (59, 39, 59, 39), (0, 7, 0, 9)])
def test_box_is_that_of_the_outermost_pixels(box):
    found = box_of(rectangle(*box))
    assert found.tolist() == list(box) and found.dtype == np.float32


def test_box_of_several_parts_holds_them_all():
    mask = rectangle(3, 5, 6, 7) | rectangle(30, 20, 41, 33)
    assert box_of(mask).tolist() == [3, 5, 41, 33]
    for shape in SHAPES:
        assert np.array_equal(box_of(shape), tight_boxes(shape.astype(np.int32), 1)[0])


@pytest.mark.parametrize(("share", "slack"), [(0.1, 0.0), (0.4, 0.6), (0.0, 2.0)])
@pytest.mark.parametrize("box", [(20, 10, 39, 29), (0, 0, 59, 39), (50, 2, 59, 5)])
def test_no_side_of_a_moved_box_goes_further_than_its_share_and_slack(box, share, slack):
    rng, box = np.random.default_rng(0), np.array(box, dtype=np.float32)
    most = share * np.array([box[2] - box[0] + 1, box[3] - box[1] + 1] * 2) + slack
    moved = np.array([move_box(rng, box, share, (40, 60), slack) for _ in range(300)])
    assert moved.dtype == np.float32
    assert (np.abs(moved - box) <= most + 1e-5).all()
    assert (moved >= 0).all() and (moved <= [59, 39, 59, 39]).all()
    inner = (box > 0) & (box < [59, 39, 59, 39])
    assert (np.abs(moved - box).max(axis=0)[inner] > 0.9 * most[inner]).all(), "all of the allowance is used"


def test_box_that_is_moved_by_nothing_stays():
    box = box_of(u_shape())
    assert np.array_equal(move_box(np.random.default_rng(0), box, 0.0, (40, 60)), box)


def test_simulated_boxes_are_mostly_near_and_at_times_wrong():
    rng, box = np.random.default_rng(0), np.array([100, 100, 199, 199], dtype=np.float32)
    errors = np.array([np.abs(simulate_box(rng, box, (300, 300)) - box).max() for _ in range(600)])
    assert errors.max() <= max(BOX_ERRORS) * 100 + 0.6
    assert (errors <= 0.6).mean() == pytest.approx(BOX_ERRORS[0.0], abs=0.06)
    assert (errors > 21).mean() == pytest.approx(BOX_ERRORS[0.4], abs=0.05)


@pytest.mark.parametrize("mask", SHAPES[:4], ids=["u", "c", "ring", "corner"])
def test_points_are_on_the_object_or_beside_it_but_near(mask):
    rng, around, drawn = np.random.default_rng(0), near(mask), []
    for _ in range(40):
        coords, labels = simulate_points(rng, mask, around)
        assert coords.shape == (POINTS, 2) and labels.shape == (POINTS,)
        assert labels[:2].tolist() == [1, 0]
        for (x, y), label in zip(coords, labels, strict=True):
            assert mask[y, x] if label else around[y, x] and not mask[y, x]
        drawn.append(labels[2])
    assert set(drawn) == {0, 1}


@pytest.mark.parametrize("mask", SHAPES[4:], ids=["pixel", "whole image"])
def test_object_that_fills_its_surroundings_gets_only_points_on_it(mask):
    rng = np.random.default_rng(0)
    for _ in range(10):
        coords, labels = simulate_points(rng, mask, near(mask))
        assert labels.tolist() == [1] * POINTS
        assert all(mask[y, x] for x, y in coords)
        assert coords[1].tolist() == coords[0].tolist()


def test_places_are_mostly_deep_and_at_times_anywhere():
    rng, mask = np.random.default_rng(0), rectangle(10, 10, 30, 30)
    places = np.array([random_place(rng, mask) for _ in range(200)])
    away = np.abs(places - 20).max(axis=1)
    assert (away <= 10).all() and (away <= 1).any()
    assert (away > 5).any()


@pytest.mark.parametrize("shape", [(64, 64), (256, 256), (64, 96)])
def test_simulated_logits_are_a_weak_likeness_of_the_mask(shape):
    rng, mask, likeness = np.random.default_rng(0), smooth_mask(*shape).astype(np.float32), []
    for _ in range(20):
        logits = simulate_logits(rng, mask)
        assert logits.shape == shape and logits.dtype == np.float32 and np.isfinite(logits).all()
        likeness.append(np.corrcoef(logits.ravel(), mask.ravel())[0, 1])
    assert min(likeness) > 0.5 and np.mean(likeness) > 0.7
    assert max(likeness) < 0.999


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_logits_of_nothing_and_of_everything_are_finite(value):
    logits = simulate_logits(np.random.default_rng(0), np.full((64, 64), value))
    assert np.isfinite(logits).all() and ((logits > 0).mean() > 0.5) == bool(value)


def simulate_all(rng: np.random.Generator) -> list[np.ndarray]:
    mask = u_shape()
    return [simulate_box(rng, box_of(mask), mask.shape), *simulate_points(rng, mask, near(mask)), simulate_logits(rng, smooth_mask(64, 64))]


def test_the_generator_alone_decides():
    first, same, other = (simulate_all(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first[::3], other[::3], strict=True))
