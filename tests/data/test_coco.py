"""COCO annotations, against a decoder of their own."""

import json

import numpy as np
import pytest
from builders import HEIGHT, WIDTH, c_shape, disk_at_corner, rectangle, ring
from foreign.layouts import pack

from samsemi.data.coco import encode_runs, make_annotation, make_categories, unpack_runs


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


PACKED = [
    ("7132300000007", [[0] * 7] * 2 + [[0] + [1] * 5 + [0]] * 3 + [[0] * 7] * 2 + [[1] + [0] * 6] + [[0] * 7]),
    ("06", [[1, 1], [1, 1], [1, 1]]),
    ("6", [[0, 0], [0, 0], [0, 0]]),
]
"""Run lengths as pycocotools 2.0 packs them, and the mask that it packed."""


@pytest.mark.parametrize(("text", "mask"), PACKED)
def test_packed_run_lengths_are_those_of_the_mask(text, mask):
    assert unpack_runs(text) == encode_runs(np.array(mask, dtype=bool))["counts"]


def test_packed_run_lengths_of_many_forms_are_read(tmp_path):
    """Longer and shorter than the length two before, of one character and of several."""
    rng = np.random.default_rng(0)
    for share in (0.001, 0.1, 0.5, 0.9):
        counts = encode_runs(rng.random((60, 70)) < share)["counts"]
        assert unpack_runs(pack(counts)) == counts


@pytest.mark.parametrize("text", ["\x10", "PPPPPPPPPPPPPPPPPPPPPP", "P", "7\u00e9"])
def test_text_that_packs_nothing_is_a_value_error(text):
    with pytest.raises(ValueError, match="packed"):
        unpack_runs(text)
