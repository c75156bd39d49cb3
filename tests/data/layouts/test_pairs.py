import pytest
from PIL import Image

from samsemi.data.layouts.found import FoundCase
from samsemi.data.layouts.given import Given
from samsemi.data.layouts.pairs import find_all_images, find_pairs, lacks_pairs
from samsemi.data.sources import ImageFile, MaskFile
from samsemi.errors import UsageError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / name)


def test_pairs_are_cases_without_split_each_a_group_of_its_own(tmp_path, caplog):
    touch(tmp_path, "i/a.png", "i/b.png", "m/a_gt.png", "m/z_gt.png")
    found = find_pairs(Given((tmp_path / "i",), tmp_path / "m"))
    assert found.cases == [
        FoundCase("a", ImageFile(tmp_path / "i/a.png"), MaskFile(tmp_path / "m/a_gt.png"), "a"),
        FoundCase("b", ImageFile(tmp_path / "i/b.png"), None, "b"),
    ]
    assert found.note == "2 images, 1 with a mask (mask names end in '_gt')"
    assert [record.getMessage() for record in caplog.records] == ["1 masks belong to no image, such as z_gt"]


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("Images", "Labels"), ("img", "ground_truth")])
def test_pairs_within_one_folder_need_no_masks(tmp_path, images, masks):
    touch(tmp_path, f"{images}/a.png", f"{masks}/a.png")
    given = Given((tmp_path,))
    assert lacks_pairs(given) == ""
    assert find_pairs(given).cases == [FoundCase("a", ImageFile(tmp_path / images / "a.png"), MaskFile(tmp_path / masks / "a.png"), "a")]
    assert "no --masks" in lacks_pairs(Given((tmp_path / images,)))


def test_ids_of_several_folders_are_made_unique_where_they_collide(tmp_path, caplog):
    touch(tmp_path, "labeled/a.png", "labeled/b.png", "more/b.png", "more/sub/c.png", "m/labeled/b.png", "m/a.png")
    folders = (tmp_path / "labeled", tmp_path / "more")
    assert list(find_all_images(folders)) == ["a", "labeled__b", "more__b", "sub__c"]
    assert "1 ids occur in several folders, such as b" in caplog.text
    assert [case.id for case in find_pairs(Given(folders, tmp_path / "m")).cases if case.mask] == ["a", "labeled__b"]


def test_folders_of_one_name_are_told_apart_by_those_above_them(tmp_path):
    touch(tmp_path, "x/images/a.png", "y/images/a.png")
    assert list(find_all_images((tmp_path / "x/images", tmp_path / "y/images"))) == ["x__images__a", "y__images__a"]


@pytest.mark.parametrize("inner", ["more", "."])
def test_folder_in_another_is_a_usage_error(tmp_path, inner):
    touch(tmp_path, "a.png", "more/b.png")
    with pytest.raises(UsageError, match="found twice"):
        find_all_images((tmp_path, tmp_path / inner / ".." / inner))
