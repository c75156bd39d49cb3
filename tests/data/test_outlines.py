import numpy as np
import pytest
from skimage.draw import polygon

from samsemi.data import outlines
from samsemi.data.outlines import Patch, Polygons, Runs, Stamp, draw_objects, fill_ring
from samsemi.errors import WrongValues


def whole(patch: Patch, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[patch.top : patch.top + patch.mask.shape[0], patch.left : patch.left + patch.mask.shape[1]] = patch.mask
    return mask


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


@pytest.mark.parametrize("seed", range(40))
def test_pixels_within_an_outline_are_those_of_scikit_image(seed):
    """Outlines of any form, also crossing themselves and leading out of the image."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 60, 2)
    ring = rng.uniform(-10, 70, (rng.integers(3, 20), 2))
    expected = np.zeros((height, width), dtype=bool)
    expected[polygon(ring[:, 1] - 0.5, ring[:, 0] - 0.5, (height, width))] = True
    assert np.array_equal(whole(fill_ring(ring, height, width), height, width), expected)


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        (box(2, 3, 7, 9), 30),
        (box(-1e6, -1e6, 1e6, 1e6), 200),
        (box(30, 3, 40, 9), 0),
        (box(-9, -9, -1, -1), 0),
        (box(2.4, 3.4, 2.6, 3.6), 1),
        (box(2.6, 3.6, 3.4, 4.4), 0),
        (np.array([(2.0, 3.0), (9.0, 8.0)]), 0),
        (np.array([(2.0, 3.0)]), 0),
    ],
    ids=["pixels", "everything", "right of it", "before it", "around a center", "between centers", "a line", "a point"],
)
def test_pixel_belongs_to_an_object_where_its_center_does(ring, area):
    assert whole(fill_ring(ring, 10, 20), 10, 20).sum() == area


def test_outline_that_no_object_has_is_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr(outlines, "MOST_CROSSINGS", 1000)
    zigzag = np.array([(i, 100.0 * (i % 2)) for i in range(100)])
    with pytest.raises(WrongValues, match="outline of 100 points"):
        fill_ring(zigzag, 100, 100)


def test_smaller_object_lies_on_top_and_overlaps_are_counted():
    large, small = Polygons(1, (box(0, 0, 8, 8),)), Polygons(2, (box(2, 2, 4, 5),))
    for objects in ((large, small), (small, large)):
        label, covered, vanished = draw_objects(objects, 10, 10)
        assert covered == 6 and vanished == 0 and (label == 2).sum() == 6 and (label == 1).sum() == 58
    assert draw_objects((large, Polygons(1, (box(2, 2, 4, 5),))), 10, 10).covered == 0, "of one class"


def test_object_of_several_outlines_is_all_of_them():
    label = draw_objects([Polygons(3, (box(0, 0, 2, 2), box(5, 5, 7, 6)))], 8, 8).label
    assert (label == 3).sum() == 6 and label[5, 6] == 3


def test_run_lengths_go_down_the_columns():
    label = draw_objects([Runs(1, 2, 3, np.array([1, 2, 3]))], 2, 3).label
    assert label.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(("size", "counts"), [((3, 2), [1, 2, 3]), ((2, 3), [1, 2]), ((2, 3), [6, 1])])
def test_run_lengths_of_another_size_are_refused(size, counts):
    with pytest.raises(WrongValues, match="run lengths"):
        draw_objects([Runs(1, *size, np.array(counts))], 2, 3)


@pytest.mark.parametrize(("top", "left", "area"), [(0, 0, 6), (-1, 0, 3), (4, 4, 1), (9, 9, 0), (-9, 0, 0)])
def test_stamp_is_cut_off_at_the_edges(top, left, area):
    assert draw_objects([Stamp(1, top, left, np.ones((2, 3), dtype=bool))], 5, 5).label.sum() == area
