import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samsemi.data.dataset import IGNORE
from samsemi.data.layouts import find_group, interpret_values, is_noisy_binary, match_masks, read_split_file
from samsemi.errors import DataError, UsageError


def paths(*names: str) -> dict[str, Path]:
    return {name: Path(f"{name}.png") for name in names}


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
    ("images", "masks", "suffix", "matched"),
    [
        (["a", "b"], ["a", "b"], "", {"a": "a", "b": "b"}),
        (["a", "b"], ["a_segmentation", "b_segmentation"], "_segmentation", {"a": "a_segmentation", "b": "b_segmentation"}),
        (["1", "10", "100"], ["1_mask", "10_mask", "100_mask"], "_mask", {"1": "1_mask", "10": "10_mask", "100": "100_mask"}),
        (["1", "11", "111"], ["1", "11"], "", {"1": "1", "11": "11"}),
        (["s/1", "t/1"], ["s/1-gt"], "-gt", {"s/1": "s/1-gt"}),
        (["a", "b", "c"], ["b"], "", {"b": "b"}),
        (["a", "b"], ["a", "a_seg", "b_seg"], "_seg", {"a": "a_seg", "b": "b_seg"}),
    ],
)
def test_masks_are_matched_by_name_with_or_without_a_shared_suffix(images, masks, suffix, matched):
    found, found_suffix, homeless = match_masks(paths(*images), paths(*masks))
    assert found == {name: Path(f"{mask}.png") for name, mask in matched.items()}
    assert found_suffix == suffix and homeless == [name for name in masks if name not in matched.values()]


def test_masks_that_belong_to_no_image_are_named():
    matched, _, homeless = match_masks(paths("a", "b"), paths("a_m", "b_m", "c_m", "a_x"))
    assert set(matched) == {"a", "b"} and homeless == ["c_m", "a_x"]


def test_no_match_is_a_data_error_that_shows_names_of_both():
    with pytest.raises(DataError, match="img1.png.*lesion7.png"):
        match_masks(paths("img1", "img2"), paths("lesion7"))


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
    assert values.said


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
    assert values.num_classes == 2 and "noisy" in values.said
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


@pytest.mark.parametrize(
    ("name", "pattern", "group"),
    [
        ("patient012_frame3", None, "patient012_frame3"),
        ("patient012_frame3", r"patient\d+", "patient012"),
        ("patient012_frame3", r"patient(\d+)_", "012"),
        ("x-7-y", r"(\d)-(\w)", "7"),
    ],
)
def test_group_is_found_in_the_name(name, pattern, group):
    assert find_group(name, pattern) == group


@pytest.mark.parametrize("pattern", [r"case\d+", r"(zzz)?patient", r"\d*"], ids=["none", "group left out", "empty"])
def test_group_that_is_not_found_is_a_data_error(pattern):
    with pytest.raises(DataError, match="patient012"):
        find_group("patient012", pattern)


def test_bad_expression_is_a_usage_error():
    with pytest.raises(UsageError, match="--groups"):
        find_group("a", "(")


def test_split_file_is_read_with_and_without_groups(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("\ufeffid,split,group\na,labeled,p1\nb,test,\n", encoding="utf-8")
    assert read_split_file(path) == {"a": ("labeled", "p1"), "b": ("test", None)}
    path.write_text("split,id\nval,c\n")
    assert read_split_file(path) == {"c": ("val", None)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "id,split"),
        ("id,split\n", "id,split"),
        ("name,split\na,test\n", "id,split"),
        ("id,split\na,train\n", "'train'"),
        ("id,split\na\n", "split"),
        ("id,split\na,test\na,labeled\n", "a"),
    ],
    ids=["empty", "no rows", "no id", "unknown split", "short row", "two splits for one case"],
)
def test_malformed_split_file_is_a_data_error(tmp_path, text, named):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_split_file(path)
    assert str(path) in caught.value.message and named in caught.value.message


def test_missing_and_binary_split_files_are_data_errors(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing.csv", "binary.csv"):
        with pytest.raises(DataError, match=name):
            read_split_file(tmp_path / name)
