"""COCO annotations, against a decoder of their own."""

import json

import numpy as np
import pytest
from builders import HEIGHT, WIDTH, c_shape, disk_at_corner, rectangle, ring

from samsemi.data.coco import encode_runs, make_annotation, make_categories


def decode_runs(segmentation: dict) -> np.ndarray:
    """As the COCO API does it: down the columns, the first run is background."""
    height, width = segmentation["size"]
    flat, value = [], 0
    for count in segmentation["counts"]:
        flat += [value] * count
        value = 1 - value
    return np.array(flat, dtype=bool).reshape(width, height).T


MASKS = [
    ring(),
    c_shape(),
    disk_at_corner(),
    rectangle(0, 0, 0, 0),
    rectangle(0, 0, WIDTH - 1, HEIGHT - 1),
    np.eye(HEIGHT, WIDTH, dtype=bool),
]


@pytest.mark.parametrize("mask", MASKS, ids=range(len(MASKS)))
def test_runs_decode_to_the_mask(mask):
    runs = encode_runs(mask)
    assert runs["size"] == [HEIGHT, WIDTH] and sum(runs["counts"]) == mask.size
    assert (decode_runs(runs) == mask).all()
    assert all(count > 0 for count in runs["counts"][1:]) and (runs["counts"][0] == 0) == bool(mask[0, 0])


def test_runs_of_the_specification():
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert encode_runs(mask) == {"size": [2, 3], "counts": [2, 1, 1, 2]}
    assert encode_runs(np.zeros((2, 3), dtype=bool))["counts"] == [6]


def test_annotation_has_a_box_in_pixels_and_plain_values():
    found = make_annotation(rectangle(7, 3, 20, 5), 4, 2, 1, {"score": 0.5})
    assert found["bbox"] == [7, 3, 14, 3] and found["area"] == 42
    assert (found["id"], found["image_id"], found["category_id"], found["iscrowd"], found["score"]) == (4, 2, 1, 0, 0.5)
    assert json.loads(json.dumps(found)) == found


def test_background_is_no_category():
    assert make_categories(("background", "cell", "nucleus")) == [{"id": 1, "name": "cell"}, {"id": 2, "name": "nucleus"}]
