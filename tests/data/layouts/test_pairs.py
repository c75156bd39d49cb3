from pathlib import Path

import pytest

from samsemi.data.layouts import table
from samsemi.data.layouts.found import FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.pairs import find_pairs, match_masks
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.errors import DataError, UsageError


def paths(*names: str) -> dict[str, Path]:
    return {name: Path(f"{name}.png") for name in names}


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


def test_pairs_are_cases_without_split_each_a_group_of_its_own(tmp_path, caplog):
    for name in ("i/a.png", "i/b.png", "m/a_gt.png", "m/z_gt.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_pairs(Given((tmp_path / "i",), tmp_path / "m"))
    assert found.cases == [
        FoundCase("a", ImageFile(tmp_path / "i/a.png"), MaskFile(tmp_path / "m/a_gt.png"), "a"),
        FoundCase("b", ImageFile(tmp_path / "i/b.png"), None, "b"),
    ]
    assert found.note == "2 images, 1 with a mask (mask names end in '_gt')"
    assert [record.getMessage() for record in caplog.records] == ["1 masks belong to no image, such as z_gt"]
    with pytest.raises(UsageError, match="masks"):
        table.choose_layout(Given((tmp_path / "i",)))


def test_layout_is_a_row_of_the_table_and_the_first_that_fits_is_taken(tmp_path, monkeypatch):
    special = table.Layout("a file", lambda given: "" if (given.folder / "special").exists() else "no file special", lambda given: None)
    monkeypatch.setattr(table, "LAYOUTS", {"special": special, **table.LAYOUTS})
    given = Given((tmp_path,), tmp_path)
    assert table.choose_layout(given) == "pairs"
    with pytest.raises(DataError, match="no file special"):
        table.choose_layout(given, "special")
    (tmp_path / "special").touch()
    assert table.choose_layout(given) == table.choose_layout(given, "special") == "special"


def test_digits_of_a_number_are_no_suffix():
    """10 and 20 are no masks of the images 1 and 2."""
    with pytest.raises(DataError, match="no mask is named like an image"):
        match_masks(paths("1", "2"), paths("10", "20"))
