import io

import numpy as np
import pytest
from builders import succeed, write_image
from PIL import Image

from samsemi.data.dataset import IGNORE, read_case_label, read_dataset
from samsemi.data.mask_values import covers_most, interpret_predictions, interpret_values, is_noisy_binary
from samsemi.errors import DataError


def counts(**masks: list[int]) -> dict[str, np.ndarray]:
    """Histograms of masks given as their pixels."""
    return {name: np.bincount(pixels, minlength=256) for name, pixels in masks.items()}


def jpeg_counts(mask: np.ndarray, quality: int = 75) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(255) * mask).save(buffer, "JPEG", quality=quality)
    return np.bincount(np.asarray(Image.open(buffer)).ravel(), minlength=256)


def disk(radius: float, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - size / 2, x - size / 2) < radius


@pytest.mark.parametrize(
    ("masks", "num_classes", "pixels", "expected"),
    [
        ({"a": [0, 255], "b": [0]}, None, [0, 255], [0, 1]),
        ({"a": [0, 0]}, None, [0], [0]),
        ({"a": [0, 1, 2, 3]}, None, [0, 1, 2, 3], [0, 1, 2, 3]),
        ({"a": [0, 1, 255], "b": [0, 1]}, None, [0, 1, 255], [0, 1, IGNORE]),
        ({"a": [0, 1, 255], "b": [0, 255]}, None, [0, 1, 255], [0, 1, IGNORE]),
        ({"a": [0, 2], "b": [0, 1]}, 3, [0, 1, 2], [0, 1, 2]),
    ],
)
def test_values_of_masks_are_understood(masks, num_classes, pixels, expected):
    values = interpret_values(counts(**masks), num_classes)
    converted = values.convert(np.array([pixels], dtype=np.uint8))
    assert converted.dtype == np.uint8 and converted.tolist() == [expected]
    assert values.note


@pytest.mark.parametrize(
    ("masks", "num_classes", "found"),
    [
        ({"a": [0, 255]}, None, 2),
        ({"a": [0, 1]}, None, 2),
        ({"a": [0]}, None, 2),
        ({"a": [0, 1], "b": [0, 3]}, None, 4),
        ({"a": [0, 1]}, 4, 4),
    ],
)
def test_number_of_classes_comes_from_the_masks_or_from_the_user(masks, num_classes, found):
    assert interpret_values(counts(**masks), num_classes).num_classes == found


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_masks_of_black_and_white_are_understood(quality):
    masks = {"large": disk(25), "small": disk(8), "empty": disk(0), "full": disk(99)}
    histograms = {name: jpeg_counts(mask, quality) for name, mask in masks.items()}
    values = interpret_values(histograms, None)
    assert values.num_classes == 2 and "noisy" in values.note
    assert values.convert(np.array([[0, 3, 100, 127, 128, 200, 252, 255]], dtype=np.uint8)).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    "masks",
    [{"a": [0] * 100 + [255] * 50, "b": [0] * 100 + [1] * 50}, {"a": [0] * 100 + [255] * 50, "b": [0] * 90 + [1] * 30 + [2] * 30}],
)
def test_mixed_kinds_are_refused_with_a_file_of_each(masks):
    with pytest.raises(DataError, match=r"\(a\).*\(b\)"):
        interpret_values(counts(**masks), None)


def test_jpeg_masks_beside_class_indices_are_refused():
    """A mask of 0 and 1 is no black one with noise: taken for that, its object would vanish in silence."""
    masks = {"jpeg": jpeg_counts(disk(20)), **counts(indices=[0] * 3000 + [1] * 1000)}
    with pytest.raises(DataError, match="indices"):
        interpret_values(masks, None)


@pytest.mark.parametrize(
    ("pixels", "num_classes", "named"),
    [
        ([0] * 10 + [120] * 10, None, "0, 120"),
        ([0, 1, 2, 3], 3, "0, 1, 2, 3"),
        (list(range(256)), None, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."),
        ([0] * 10 + [80] * 5 + [160] * 5, None, "0, 80, 160"),
    ],
)
def test_other_values_are_refused_and_named_with_the_mask(pixels, num_classes, named):
    with pytest.raises(DataError, match="mask of odd") as caught:
        interpret_values(counts(odd=pixels), num_classes)
    assert named in caught.value.message


def test_no_masks_are_refused():
    with pytest.raises(DataError):
        interpret_values({}, None)


def test_noisy_binary_allows_only_little_between_black_and_white():
    count = np.zeros(256, dtype=int)
    count[[2, 253, 120]] = 500, 460, 40
    assert is_noisy_binary(count)
    count[120] = 60
    assert not is_noisy_binary(count)


@pytest.mark.parametrize("pixels", [[0, 255], [0] * 90 + [3] * 5 + [250] * 5])
def test_black_and_white_predictions_of_one_class_are_understood(pixels):
    values = interpret_predictions(counts(a=pixels, b=[0]), 2)
    assert values.convert(np.array([pixels], dtype=np.uint8)).max() == 1 and "class 1" in values.note


@pytest.mark.parametrize(
    ("masks", "num_classes", "named"),
    [
        ({"a": [0, 255]}, 3, "a holds values 0, 255"),
        ({"a": [0, 1, 255]}, 2, "a holds values 0, 1, 255"),
        ({"a": [0, 1], "b": [0, 255]}, 2, "0, 255"),
        ({"a": [0, 9]}, 2, "a holds values 0, 9"),
    ],
)
def test_predictions_that_cannot_be_told_are_refused_with_their_values(masks, num_classes, named):
    """255 means ignored in a true mask alone."""
    with pytest.raises(DataError, match=named):
        interpret_predictions(counts(**masks), num_classes)


@pytest.mark.parametrize(
    ("masks", "option"),
    [
        ({"a": [0] * 500 + [255] * 500, "b": [0] * 500 + [255] * 499 + [7]}, "--mask-values binary"),
        ({"a": [0] * 500 + [255] * 500, "b": [0] * 500 + [255] * 499 + [60]}, "--mask-values binary"),
        ({"a": [0, 1, 2, 3, 4], "b": [0, 1, 2], "c": [0, 1]}, "--mask-values nonzero"),
        ({"a": list(range(12)), "b": list(range(30))}, "--mask-values nonzero"),
    ],
)
def test_masks_that_may_mean_two_things_are_refused_with_the_option_that_settles_it(masks, option):
    with pytest.raises(DataError) as caught:
        interpret_values(counts(**masks), None)
    assert option in caught.value.hint


def test_named_classes_are_no_instance_numbers():
    assert interpret_values(counts(a=[0, 1, 2, 3, 4], b=[0, 1, 2], c=[0, 1]), 5).num_classes == 5


@pytest.mark.parametrize(
    ("kind", "expected"), [("indices", [0, 1, 7, 60, IGNORE]), ("binary", [0, 0, 0, 0, 1]), ("nonzero", [0, 1, 1, 1, 1])]
)
def test_user_says_what_values_mean(kind, expected):
    pixels = [0] * 900 + [1, 7, 60] + [255] * 900
    assert interpret_values(counts(a=pixels), None, kind).convert(np.array([[0, 1, 7, 60, 255]])).tolist() == [expected]


def test_inverted_masks_are_counted_and_turned():
    histograms = counts(a=[0] * 10 + [255] * 90, b=[0] * 40 + [255] * 60, c=[0] * 9 + [255])
    values = interpret_values(histograms, None)
    assert (covers_most(histograms, values), covers_most(histograms, values.inverted())) == (2, 1)
    assert values.inverted().convert(np.array([[0, 255]])).tolist() == [[1, 0]]
    indices = interpret_values(counts(a=[0, 1, 255]), None).inverted()
    assert indices.convert(np.array([[0, 1, 255]])).tolist() == [[1, 0, IGNORE]]


def test_faint_noise_of_jpeg_is_no_class(tmp_path):
    """Of rectangles in a file of the best quality 1 and 255 may be all that is not 0: no class, and nothing ignored."""
    shape = np.zeros((96, 96), dtype=np.uint8)
    shape[5:35, 8:33] = 1
    for number in range(8):
        write_image(tmp_path / f"images/{number}.png", np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(255 * shape).save(tmp_path / f"masks/{number}.jpg", quality=98)
    assert set(np.flatnonzero(jpeg_counts(shape, 98))) == {0, 1, 2, 255}
    succeed("prepare", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "data")
    data = read_dataset(tmp_path / "data")
    assert all(np.array_equal(read_case_label(case, case.mask, 2), shape) for case in data.cases.values())
