"""Temporary files: names that nobody foresees, and nothing left of them for long."""

import os
import shutil

import pytest
from builders import files_in, write_lock

from samsemi.errors import RefusedError
from samsemi.locks import describe_self
from samsemi.outputs import locked_output, try_file, whole_file, write_rows, write_text

DEAD = {"host": describe_self().host, "pid": 2**22 + 1}


def test_temporary_names_are_new_each_time(tmp_path):
    names = set()
    for _ in range(20):
        with whole_file(tmp_path / "a.txt") as part:
            part.write_text("a")
            names.add(part.parent.name)
            assert part.parent.parent == tmp_path and list(part.parent.iterdir()) == [part]
    assert len(names) == 20


@pytest.mark.parametrize("name", [".a.txt.part", "a.txt.part", "a.txt.tmp", ".a.txt.old", ".a.txt.new"])
def test_what_stands_at_a_likely_temporary_name_is_left_alone(tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / name).symlink_to("precious")
    with locked_output(tmp_path / "a.txt", break_lock=False):
        write_text(tmp_path / "a.txt", "new")
        try_file(tmp_path / "a.txt")
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / name).is_symlink()


def test_name_may_be_as_long_as_the_system_allows(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    write_text(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


def test_leftovers_of_the_process_that_held_the_lock_are_removed_and_no_others(tmp_path):
    """Beside the output, in it, and in the folders that belong to it."""
    other = "1" * 16
    for token in ("0" * 16, other):
        write_text(tmp_path / f".samsemi-{token}-a.part" / "out", "half")
        write_text(tmp_path / "out" / "last" / f".samsemi-{token}-b.part" / "x", "half")
        write_text(tmp_path / "out.parts" / f".samsemi-{token}-c.part" / "x", "half")
    write_text(tmp_path / ".samsemi-notes", "mine")
    write_lock(tmp_path / ".out.lock", **DEAD)
    with locked_output(tmp_path / "out", False, [tmp_path / "out.parts"]):
        pass
    left = {f".samsemi-{other}-a.part/out", f"out/last/.samsemi-{other}-b.part/x", f"out.parts/.samsemi-{other}-c.part/x"}
    assert files_in(tmp_path) == {*left, ".samsemi-notes"}


def test_junk_that_a_library_leaves_beside_a_file_goes_with_it(tmp_path):
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("a")
        part.with_name(".tmpAbC").write_text("half")
    assert files_in(tmp_path) == {"a.txt"}


def test_table_that_cannot_be_written_to_its_end_leaves_the_old_one_whole(tmp_path):
    def fail():
        yield ["id", "dice"]
        raise ValueError("in the middle")

    write_rows(tmp_path / "a.csv", [["id", "dice"], ["a, b", 0.5]])
    with pytest.raises(ValueError, match="in the middle"):
        write_rows(tmp_path / "a.csv", fail())
    assert (tmp_path / "a.csv").read_bytes() == b'id,dice\n"a, b",0.5\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_folder_that_is_removed_while_a_file_is_written_is_named(tmp_path):
    with (
        pytest.raises(RefusedError, match="out was removed while this command wrote there"),
        whole_file(tmp_path / "out" / "a.txt") as part,
    ):
        part.write_text("a")
        shutil.rmtree(tmp_path / "out")
