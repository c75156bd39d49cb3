import numpy as np
import pytest
from PIL import Image

from samsemi.data.images import read_label
from samsemi.data.outlines import Polygons, Stamp
from samsemi.data.pictures import turn_upright
from samsemi.data.sources import JOINED, OVERLAP, ChannelFiles, ClassFiles, DrawnMask, JoinedFiles, to_binary
from samsemi.errors import DataError, WrongValues

ONE = np.array([[0, 255, 0], [0, 0, 0]], dtype=np.uint8)
OTHER = np.array([[0, 255, 255], [0, 255, 255]], dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_masks_of_one_image_are_joined(tmp_path):
    joined = JoinedFiles((save(tmp_path / "a.png", ONE), save(tmp_path / "b.png", OTHER)))
    assert (joined.read() == np.maximum(ONE, OTHER)).all() and joined.remarks() == [JOINED] and joined.path == tmp_path / "a.png"


def test_parts_of_different_sizes_are_named(tmp_path):
    files = (save(tmp_path / "a.png", ONE), save(tmp_path / "b.png", OTHER.T.copy()))
    for source in (JoinedFiles(files), ClassFiles(((1, files[0]), (2, files[1]))), ChannelFiles(files)):
        with pytest.raises(DataError, match=r"b.png: 2 x 3 pixels, a.png has 3 x 2"):
            source.read()


def test_of_masks_per_class_the_smaller_lies_on_top(tmp_path):
    one, other = save(tmp_path / "a.png", ONE), save(tmp_path / "b.png", OTHER // 255)
    for files in (((1, one), (2, other)), ((2, other), (1, one))):
        source = ClassFiles(files)
        assert source.read().tolist() == [[0, 1, 2], [0, 2, 2]] and source.remarks() == [OVERLAP]
    assert ClassFiles(((3, one),)).remarks() == []


@pytest.mark.parametrize(
    ("values", "mask"),
    [
        ([0, 1], [False, True]),
        ([0, 0], [False, False]),
        ([0, 255], [False, True]),
        ([0, 65535], [False, True]),
        ([3] * 50 + [250], [False] * 50 + [True]),
    ],
)
def test_mask_of_one_class_is_black_and_white_or_of_0_and_1(tmp_path, values, mask):
    assert to_binary(np.array([values]), tmp_path).tolist() == [mask]


@pytest.mark.parametrize("values", [[0, 1, 2, 3], [0, 100], [0, 100, 100, 255], [-1, 255]], ids=["numbers", "gray", "middle", "negative"])
def test_other_values_in_a_mask_of_one_class_are_named(tmp_path, values):
    with pytest.raises(WrongValues, match=f"m.png: values {values[0]}, "):
        to_binary(np.array([values]), tmp_path / "m.png")


def test_channels_that_are_files_make_a_color_image(tmp_path):
    source = ChannelFiles((save(tmp_path / "a.png", ONE), save(tmp_path / "b.png", OTHER)))
    assert (source.read() == np.stack([ONE, OTHER, np.zeros_like(ONE)], axis=2)).all() and not source.stays


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_pillow_turns_pictures(tmp_path, orientation):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_label(save(tmp_path / "a.png", pixels, exif=exif))
    assert np.array_equal(turn_upright(pixels, orientation), expected)


def test_objects_drawn_before_an_image_was_turned_are_turned_with_it(tmp_path):
    objects = (Polygons(1, (np.array([(0.0, 0), (2, 0), (2, 1), (0, 1)]),)),)
    drawn = DrawnMask(tmp_path, objects, 2, 3, orientation=6)
    assert drawn.read().tolist() == [[0, 1], [0, 1], [0, 0]] and drawn.remarks() == []
    both = DrawnMask(tmp_path, (*objects, Stamp(2, 0, 0, np.ones((2, 3), dtype=bool))), 2, 3)
    assert both.read().tolist() == [[1, 1, 2], [2, 2, 2]] and both.remarks() == [OVERLAP]
