"""Windows: they hold the box, stay in the image, are alike for boxes that are nearly alike; prompts move with them."""

import numpy as np
import pytest

from samsemi.sam.prompts import Prompts
from samsemi.sam.windows import crop_pixels, crop_prompts, paste_maps, round_window, snap_window, zoom_window


def boxes_of(seed: int, size: tuple[int, int], count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, np.array(size[::-1]), (count, 2, 2)), axis=1)
    return corners.reshape(count, 4).astype(np.float32)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize(("factor", "size"), [(1.2, (64, 64)), (1.5, (45, 300)), (3.0, (333, 97))])
def test_a_window_on_the_grid_holds_the_box_in_the_image(factor, size, square):
    for box in boxes_of(0, size):
        x0, y0, x1, y1 = snap_window(box, factor, size, square)
        assert 0 <= x0 <= box[0] and 0 <= y0 <= box[1] and box[2] + 1 <= x1 <= size[1] and box[3] + 1 <= y1 <= size[0]
        assert all(place == int(place) for place in (x0, y0, x1, y1))


def test_a_window_on_the_grid_is_about_as_large_as_the_exact_one():
    for box in np.float32([[400, 400, 419, 449], [480, 300, 519, 399]]):
        exact, snapped = (window(box, 2.0, (1000, 1000)) for window in (zoom_window, snap_window))
        for axis in (0, 1):
            ratio = (snapped[axis + 2] - snapped[axis]) / (exact[axis + 2] - exact[axis])
            assert 1 / 1.3 < ratio < 1.3
            assert abs(snapped[axis + 2] + snapped[axis] - exact[axis + 2] - exact[axis]) / 2 < (snapped[axis + 2] - snapped[axis]) / 8 + 1


def test_boxes_that_differ_by_a_pixel_mostly_have_the_same_window():
    size = (256, 256)
    boxes = [box for box in boxes_of(1, size) if min(box[2:] - box[:2]) > 40]
    same = [snap_window(box, 1.5, size) == snap_window(box + np.float32([1, 0, 1, 1]), 1.5, size) for box in boxes]
    exact = [zoom_window(box, 1.5, size) == zoom_window(box + np.float32([1, 0, 1, 1]), 1.5, size) for box in boxes]
    assert np.mean(same) > 0.5 > np.mean(exact)


def test_a_window_is_never_empty():
    assert round_window((3.2, 4.6, 7.5, 9.4)) == (3, 5, 8, 9)
    assert round_window((3.2, 4.1, 3.4, 4.2)) == (3, 4, 4, 5)


def test_prompts_move_with_the_window_and_points_outside_it_give_way_to_the_last_inside():
    coords = np.float32([[[12, 22], [15, 25], [2, 25], [15, 60]], [[19, 29], [60, 60], [11, 21], [60, 61]]])
    labels = np.int32([[1, 0, 0, 0], [1, 0, 0, 0]])
    masks = np.zeros((2, 4, 4), np.float32)
    found = crop_prompts(Prompts(np.float32([[11, 21, 18, 28], [5, 22, 40, 50]]), coords, labels, masks), (10, 20, 20, 30))
    assert found.boxes.tolist() == [[1, 1, 8, 8], [0, 2, 9, 9]]
    assert found.point_coords.tolist() == [[[2, 2], [5, 5], [5, 5], [5, 5]], [[9, 9], [1, 1], [1, 1], [1, 1]]]
    assert found.point_labels.tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert found.mask_logits is masks
    assert crop_prompts(Prompts(boxes=np.float32([[11, 21, 18, 28]])), (10, 20, 20, 30)).point_coords is None


def test_what_is_cut_out_is_pasted_where_it_was():
    image = np.arange(30).reshape(5, 6)
    cut = crop_pixels(image, (1, 2, 5, 4))
    assert cut.tolist() == [[13, 14, 15, 16], [19, 20, 21, 22]]
    pasted = paste_maps(cut[None], (1, 2, 5, 4), (5, 6), outside=-1)
    assert (pasted[0] >= 0).sum() == 8 and (pasted[0, 2:4, 1:5] == cut).all()
