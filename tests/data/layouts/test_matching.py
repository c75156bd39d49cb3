from pathlib import Path

import pytest

from samsemi.data.layouts.matching import match
from samsemi.errors import DataError


def paths(*names: str) -> dict[str, Path]:
    """Files by id."""
    return {name.replace("/", "__"): Path(f"{name}.png") for name in names}


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
        (["image_001", "image_002", "image_010"], ["mask_001", "mask_010"], "", {"image_001": "mask_001", "image_010": "mask_010"}),
        (["001", "002"], ["gt_001", "gt_002"], "", {"001": "gt_001", "002": "gt_002"}),
        (["001_rgb", "010_rgb"], ["001_label", "010_label"], "", {"001_rgb": "001_label", "010_rgb": "010_label"}),
        (["img (1)", "img (2)"], ["Mask (2)", "Mask (1)"], "", {"img (1)": "Mask (1)", "img (2)": "Mask (2)"}),
        (["image_7"], ["mask_7"], "", {"image_7": "mask_7"}),
        (["s/1", "t/2"], ["1_m", "2_m"], "_m", {"s/1": "1_m", "t/2": "2_m"}),
        (["labeled/1", "more/1", "2", "more/3"], ["2", "3", "labeled/1"], "", {"2": "2", "more/3": "3", "labeled/1": "labeled/1"}),
    ],
)
def test_masks_are_matched_by_name(images, masks, suffix, matched):
    found = match(paths(*images), paths(*masks))
    assert found.masks == {name.replace("/", "__"): Path(f"{mask}.png") for name, mask in matched.items()}
    assert found.suffix == suffix
    assert found.homeless == [name.replace("/", "__") for name in masks if name not in matched.values()]


def test_masks_that_belong_to_no_image_are_named():
    found = match(paths("a", "b"), paths("a_m", "b_m", "c_m", "a_x"))
    assert set(found.masks) == {"a", "b"} and found.homeless == ["c_m", "a_x"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["img1", "img2"], ["lesion7"]),
        (["1", "2"], ["10", "20"]),
        (["a", "b"], ["c", "d"]),
        (["x"], ["y"]),
    ],
    ids=["numbers", "digits of a number are no suffix", "letters", "single ones"],
)
def test_no_match_is_a_data_error_that_shows_names_of_both(images, masks):
    with pytest.raises(DataError, match=f"{images[0]}.png.*{masks[0]}.png"):
        match(paths(*images), paths(*masks))


@pytest.mark.parametrize(
    ("images", "masks"),
    [(["s/1", "t/1"], ["1"]), (["1"], ["s/1", "t/1"]), (["s/1", "t/1", "2"], ["2", "1"])],
    ids=["two images", "two masks", "two images beside others"],
)
def test_mask_that_may_be_of_two_images_is_a_data_error(images, masks):
    with pytest.raises(DataError, match="s__1, t__1") as caught:
        match(paths(*images), paths(*masks))
    assert "sub-folders" in caught.value.hint


def test_case_and_unicode_form_do_not_matter():
    found = match(paths("B\u00e4r", "Hut"), {"ba\u0308r_m": Path("1.png"), "HUT_m": Path("2.png")})
    assert found.masks == {"B\u00e4r": Path("1.png"), "Hut": Path("2.png")} and found.respelled == ["ba\u0308r_m", "HUT_m"]


def test_way_of_matching_is_said():
    assert match(paths("a"), paths("a")).note == ""
    assert match(paths("a"), paths("a_m")).note == " (mask names end in '_m')"
    assert match(paths("image_1"), paths("mask_1")).note == " (by what differs in their names: image_1.png with mask_1.png)"
