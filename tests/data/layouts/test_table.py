from typing import get_args

import pytest
from PIL import Image

from samsemi.data.layouts import table
from samsemi.data.layouts.given import Given
from samsemi.errors import DataError, UsageError
from samsemi.options.prepare import LayoutName


def test_layout_is_a_row_of_the_table_and_the_first_that_fits_is_taken(tmp_path, monkeypatch):
    special = table.Layout("a file", lambda given: "" if (given.folder / "special").exists() else "no file special", lambda given: None)
    monkeypatch.setattr(table, "LAYOUTS", {"special": special, **table.LAYOUTS})
    given = Given((tmp_path,), tmp_path)
    assert table.choose_layout(given)[0] == "pairs"
    with pytest.raises(DataError, match="no file special") as caught:
        table.choose_layout(given, "special")
    assert caught.value.hint == "special is a file"
    (tmp_path / "special").touch()
    assert table.choose_layout(given)[0] == table.choose_layout(given, "special")[0] == "special"


def test_folders_of_no_layout_are_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match="needs masks") as caught:
        table.choose_layout(Given((tmp_path,)))
    for name, layout in table.LAYOUTS.items():
        assert f"{name}: {layout.lacks(Given((tmp_path,)))}" in caught.value.hint


def test_every_layout_can_be_named():
    assert set(get_args(LayoutName)) == {"auto", *table.LAYOUTS}


def test_data_set_in_one_more_folder_is_found_beside_what_systems_leave_there(tmp_path):
    for name in ("outer/inner/train/images/a.png", "outer/inner/train/masks/a.png", "outer/inner/val/images/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "outer" / "Thumbs.db").touch()
    name, given = table.choose_layout(Given((tmp_path,)))
    assert (name, given.images) == ("knowsam", (tmp_path / "outer" / "inner",))
    (tmp_path / "outer" / "other").mkdir()
    with pytest.raises(UsageError):
        table.choose_layout(Given((tmp_path,)))
