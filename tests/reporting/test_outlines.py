"""Masks as lines, images as text."""

import base64
import io

import numpy as np
import pytest
from builders import rectangle, ring
from PIL import Image

from samsemi.reporting.outlines import BYTES, SIDE, display_size, image_uri, shade_uri, trace_label, trace_mask


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def points_of(path: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split())) for line in path.strip("MZ").split("ZM") for pair in line.split("L")]


def test_line_runs_along_the_border_of_a_mask():
    points = points_of(trace_mask(rectangle(10, 5, 19, 14)))
    xs, ys = zip(*points, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (10, 20, 5, 15)
    assert len(points) <= 8


def test_hole_and_border_of_the_image_have_their_lines():
    assert trace_mask(ring()).count("M") == 2
    xs, ys = zip(*points_of(trace_mask(np.ones((6, 9), dtype=bool))), strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == (0, 9, 0, 6)
    assert trace_mask(np.zeros((6, 9), dtype=bool)) == ""


def test_ignored_pixels_are_no_class():
    assert [k for k, _ in trace_label(np.array([[0, 1], [2, 255]], dtype=np.uint8))] == [1, 2]


@pytest.mark.parametrize(("shape", "kind"), [((40, 60), "png"), ((1300, 900), "jpeg")])
def test_images_have_the_size_that_is_shown_and_are_not_too_large(shape, kind):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    uri = image_uri(image)
    assert uri.startswith(f"data:image/{kind};base64,") and len(uri) < 1.4 * BYTES
    assert decode(uri).size == display_size(shape)[::-1] and max(decode(uri).size) <= SIDE
    if kind == "png":
        assert (np.asarray(decode(uri)) == image).all()


def test_what_is_not_learned_lies_under_a_veil_and_classes_are_stronger_where_they_weigh_more():
    label = np.array([[0, 0, 1, 1, 1]], dtype=np.uint8)
    weight = np.array([[1.0, 0.0, 1.0, 0.3, 0.0]])
    shade = np.asarray(decode(shade_uri(label, weight, np.array([[120, 120, 120], [80, 240, 255]]))).convert("RGBA"))[0].astype(int)
    alpha = shade[:, 3]
    assert alpha[0] == 0 and alpha[1] > 180 and alpha[2] > alpha[3] > 0
    assert np.abs(shade[2, :3] - [80, 240, 255]).max() < 12 and np.abs(shade[4, :3] - 120).max() < 12
