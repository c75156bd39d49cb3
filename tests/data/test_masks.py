"""Masks as they are written: values are class indices, colors can be told apart."""

import numpy as np
import pytest
from builders import read_array
from PIL import Image

from samsemi.data.images import read_label
from samsemi.data.masks import mask_palette, write_mask
from samsemi.data.overlays import PALETTE, color_of
from samsemi.data.pictures import picture_label


def test_values_are_read_back_and_each_is_shown_in_its_color(tmp_path):
    label = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "m.png", label)
    assert (read_array(tmp_path / "m.png") == label).all() and (read_label(tmp_path / "m.png") == label).all()
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "P"
        assert (np.array(picture.convert("RGB")).reshape(-1, 3) == mask_palette()).all()


@pytest.mark.parametrize("values", [(0,), (0, 1), (1,), (0, 255), (0, 1, 255)], ids=str)
def test_few_values_are_read_back(tmp_path, values):
    """A palette that is cut, or taken for the negative of what one sees, would change them."""
    label = np.resize(np.array(values, dtype=np.uint8), (5, 7))
    write_mask(tmp_path / "m.png", label)
    assert (picture_label((tmp_path / "m.png").read_bytes(), tmp_path / "m.png") == label).all()


def test_colors_are_those_of_overlays_and_all_differ():
    palette = np.array(mask_palette())
    assert palette.shape == (256, 3) and tuple(palette[0]) == (0, 0, 0)
    assert [color_of(k) for k in range(1, len(PALETTE) + 1)] == [tuple(color) for color in palette[1 : len(PALETTE) + 1]]
    distance = np.abs(palette[:, None] - palette).sum(axis=2) + 1000 * np.eye(256, dtype=int)
    shown = [*range(20), 255]
    assert distance.min() > 20 and distance[np.ix_(shown, shown)].min() > 60
