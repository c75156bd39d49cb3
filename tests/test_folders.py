"""Output folders: nothing of others is removed, the old one stays until the new one is whole, whatever kills the command."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import file_bytes, files_in

from samsemi import folders
from samsemi.data.pictures import write_picture
from samsemi.errors import RefusedError
from samsemi.folders import Claim, Kind, kept_folder, new_folder
from samsemi.outputs import locked_output, write_text

KIND = Kind("a test's output", ("about.json",), r"about\.json|text\.txt|part\.h5|pictures/.+\.png", frozenset({"old", "keys"}))
WRITERS = pytest.mark.parametrize("write", [new_folder, kept_folder])


@pytest.fixture
def claim(tmp_path) -> Claim:
    return Claim(tmp_path / "out", KIND)


def fill(folder: Path, text: str) -> None:
    write_text(folder / "about.json", json.dumps({"schema": "samsemi.test/1"}))
    write_text(folder / "text.txt", text)
    write_picture(folder / "pictures" / "a.png", np.zeros((2, 2), np.uint8))
    with h5py.File(folder / "part.h5", "w") as file:
        file.attrs["schema"] = "samsemi.test/1"


def make(write: Callable, claim: Claim, text: str) -> None:
    with write(claim) as folder:
        fill(folder, text)


def run_killed(action: Callable[[], None]) -> None:
    """An action in a forked process that kills itself by ``os._exit(9)``."""
    if os.fork() == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9


def die(*arguments: object, **options: object) -> None:
    os._exit(9)


@WRITERS
def test_output_is_made_once_and_replaced_when_told(claim, write):
    make(write, claim, "first")
    assert files_in(claim.out) == {"about.json", "text.txt", "pictures/a.png", "part.h5"}
    with pytest.raises(RefusedError, match="exists and is not empty"):
        make(write, claim, "second")
    make(write, replace(claim, overwrite=True), "third")
    assert (claim.out / "text.txt").read_text() == "third"
    assert [path.name for path in claim.out.parent.iterdir()] == ["out"]


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["mine"] = 1


FOREIGN = {
    "a file": ("thesis.txt", lambda path: path.write_text("mine")),
    "a picture named like ours": ("pictures/photo.png", lambda path: path.write_bytes(b"\x89PNG mine")),
    "an HDF5 file named like ours": ("part.h5", write_h5),
    "a file in a folder": ("pictures/deep/notes.txt", lambda path: path.write_text("mine")),
    "a link": ("pictures/b.png", lambda path: path.symlink_to("a.png")),
    "a link to a folder": ("pictures/more", lambda path: path.symlink_to("..")),
    "a hidden file": (".notes", lambda path: path.write_text("mine")),
    "a lock of something else": (".notes.lock", lambda path: path.write_text("mine")),
}


@WRITERS
@pytest.mark.parametrize("which", FOREIGN)
def test_what_samsemi_has_not_made_is_named_and_never_removed(claim, write, which):
    make(write, claim, "first")
    name, place = FOREIGN[which]
    (claim.out / name).parent.mkdir(exist_ok=True)
    place(claim.out / name)
    before = file_bytes(claim.out.parent)
    with pytest.raises(RefusedError, match=name):
        make(write, replace(claim, overwrite=True), "second")
    assert file_bytes(claim.out.parent) == before


@WRITERS
@pytest.mark.parametrize("mark", ['{"schema": "other/1"}', '{"old": 1}', "{", "[]", None], ids=str)
def test_folder_without_our_mark_is_left_alone(claim, write, mark):
    fill(claim.out, "theirs")
    (claim.out / "about.json").unlink()
    if mark:
        (claim.out / "about.json").write_text(mark)
    before = file_bytes(claim.out)
    with pytest.raises(RefusedError, match="was not made by this command"):
        make(write, replace(claim, overwrite=True), "second")
    assert file_bytes(claim.out) == before


@WRITERS
def test_mark_of_before_it_named_a_schema_is_known_by_its_keys(claim, write):
    fill(claim.out, "earlier")
    (claim.out / "about.json").write_text('{"old": 1, "keys": 2, "more": 3}')
    make(write, replace(claim, overwrite=True), "second")
    assert (claim.out / "text.txt").read_text() == "second"


@WRITERS
def test_old_output_stays_where_the_command_is_refused_or_fails(claim, write):
    make(write, claim, "first")
    before = file_bytes(claim.out)
    with pytest.raises(ValueError, match="no"), write(replace(claim, overwrite=True)) as folder:
        fill(folder, "second")
        raise ValueError("no")
    assert file_bytes(claim.out) == before


@WRITERS
def test_file_that_somebody_puts_into_the_old_output_meanwhile_is_not_removed(claim, write):
    make(write, claim, "first")
    with pytest.raises(RefusedError, match=r"thesis\.txt"), write(replace(claim, overwrite=True)) as folder:
        fill(folder, "second")
        (claim.out / "thesis.txt").write_text("mine")
    assert (claim.out / "thesis.txt").read_text() == "mine" and (claim.out / "text.txt").read_text() == "first"


@WRITERS
def test_folder_that_is_removed_while_it_is_written_is_an_error(claim, write):
    with pytest.raises(RefusedError, match="was removed or replaced while"), write(claim) as folder:
        fill(folder, "first")
        shutil.rmtree(folder)
        write_text(folder / "text.txt", "made again by a later write")


@WRITERS
def test_two_at_once_into_one_folder(claim, write):
    with write(claim) as folder:
        fill(folder, "first")
        with pytest.raises(RefusedError, match=f"is being written by process {os.getpid()} on "):
            make(write, replace(claim, overwrite=True), "second")
    assert (claim.out / "text.txt").read_text() == "first"


@WRITERS
def test_folder_behind_a_link_is_the_same_folder(claim, write, tmp_path):
    make(write, claim, "first")
    (tmp_path / "link").symlink_to(claim.out)
    with write(replace(claim, overwrite=True)), pytest.raises(RefusedError, match="is being written"):
        make(write, replace(claim, out=tmp_path / "link", overwrite=True), "second")
    make(write, replace(claim, out=tmp_path / "link", overwrite=True), "third")
    assert (tmp_path / "link").is_symlink() and (claim.out / "text.txt").read_text() == "third"


@WRITERS
def test_mounted_folder_is_not_replaced(claim, write, monkeypatch):
    make(write, claim, "first")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == claim.out)
    with pytest.raises(RefusedError, match="is a mounted folder"):
        make(write, replace(claim, overwrite=True), "second")


def test_mounted_folder_is_written_into(claim, monkeypatch):
    claim.out.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == claim.out)
    make(kept_folder, claim, "first")
    make(kept_folder, replace(claim, resume=True), "second")
    assert (claim.out / "text.txt").read_text() == "second" and [path.name for path in claim.out.parent.iterdir()] == ["out"]


# kills

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_writing_leaves_the_old_output_and_nothing_for_long(claim, overwrite):
    if overwrite:
        make(new_folder, claim, "first")
    before = file_bytes(claim.out) if overwrite else {}

    def half() -> None:
        with new_folder(replace(claim, overwrite=overwrite)) as folder:
            fill(folder, "second")
            die()

    run_killed(half)
    assert (file_bytes(claim.out) if claim.out.exists() else {}) == before
    make(new_folder, replace(claim, overwrite=overwrite), "third")
    assert (claim.out / "text.txt").read_text() == "third"
    assert [path.name for path in claim.out.parent.iterdir()] == ["out"]


@needs_fork
@WRITERS
@pytest.mark.parametrize("number", [1, 2])
def test_killed_between_the_two_renames_the_old_one_comes_back(claim, write, number, monkeypatch):
    """In the first rename the old output goes aside, in the second the new one takes its place."""
    make(write, claim, "first")
    rename, calls = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(None)
        return die() if len(calls) == number else rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        run_killed(lambda: make(write, replace(claim, overwrite=True), "second"))
    assert claim.out.exists() == (number == 1)
    with pytest.raises(RefusedError, match="exists and is not empty"):
        make(write, claim, "third")
    assert (claim.out / "text.txt").read_text() == "first"
    make(write, replace(claim, overwrite=True), "fourth")
    assert [path.name for path in claim.out.parent.iterdir()] == ["out"] and (claim.out / "text.txt").read_text() == "fourth"


@WRITERS
def test_interrupted_between_the_two_renames_the_old_one_comes_back(claim, write, monkeypatch):
    make(write, claim, "first")
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(write, replace(claim, overwrite=True), "second")
    assert (claim.out / "text.txt").read_text() == "first"


@needs_fork
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_when_all_was_in_place_runs_again(claim, monkeypatch, overwrite):
    """Whoever was killed there has not said that it is done."""
    if overwrite:
        make(new_folder, claim, "first")
    with monkeypatch.context() as patch:
        patch.setattr(folders, "remove", die)
        run_killed(lambda: make(new_folder, replace(claim, overwrite=overwrite), "second"))
    assert (claim.out / "text.txt").read_text() == "second"
    make(new_folder, claim, "third")
    assert (claim.out / "text.txt").read_text() == "third" and [path.name for path in claim.out.parent.iterdir()] == ["out"]


@needs_fork
def test_killed_at_the_first_write_is_taken_up(claim, monkeypatch):
    """Nothing says yet that the folder is ours: it holds what a killed process was writing, and that alone."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        run_killed(lambda: make(kept_folder, claim, "first"))
    assert len(files_in(claim.out)) == 1
    make(kept_folder, replace(claim, resume=True), "second")
    assert (claim.out / "text.txt").read_text() == "second"
    assert files_in(claim.out) == {"about.json", "text.txt", "pictures/a.png", "part.h5"}


# taking up


def test_replacing_that_was_interrupted_is_taken_up_beside(claim):
    make(kept_folder, claim, "first")
    with pytest.raises(KeyboardInterrupt), kept_folder(replace(claim, overwrite=True)) as folder:
        fill(folder, "half")
        raise KeyboardInterrupt
    assert (claim.out / "text.txt").read_text() == "first"
    with kept_folder(replace(claim, resume=True)) as folder:
        assert (folder / "text.txt").read_text() == "half"
        fill(folder, "whole")
    assert (claim.out / "text.txt").read_text() == "whole" and [path.name for path in claim.out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_command_that_fails_before_any_work_leaves_nothing(claim, overwrite):
    claim = replace(claim, kind=replace(KIND, begun=r"about\.json"), overwrite=overwrite)
    if overwrite:
        make(kept_folder, claim, "first")
    before = file_bytes(claim.out) if overwrite else {}
    with pytest.raises(RefusedError), kept_folder(claim) as folder:
        write_text(folder / "about.json", json.dumps({"schema": "samsemi.test/1"}))
        raise RefusedError("no", "no")
    assert [path.name for path in claim.out.parent.iterdir()] == ["out"] * overwrite
    assert not overwrite or file_bytes(claim.out) == before
    with pytest.raises(RefusedError), kept_folder(claim) as folder:
        fill(folder, "some work")
        raise RefusedError("no", "no")
    assert (folder / "text.txt").read_text() == "some work"


def test_replacing_that_was_interrupted_may_begin_anew(claim):
    make(kept_folder, claim, "first")
    for text in ("half", "whole"):
        with pytest.raises(KeyboardInterrupt), kept_folder(replace(claim, overwrite=True)) as folder:
            assert not files_in(folder)
            fill(folder, text)
            raise KeyboardInterrupt


def test_folder_of_others_where_the_new_one_would_be_written_is_left_alone(claim, tmp_path):
    make(kept_folder, claim, "first")
    fill(tmp_path / ".out.new", "theirs")
    (tmp_path / ".out.new" / "about.json").unlink()
    before = file_bytes(tmp_path)
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(RefusedError, match=r"\.out\.new was not made"):
            make(kept_folder, replace(claim, **how), "second")
    assert file_bytes(tmp_path) == before


@pytest.mark.parametrize("place", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("others")], ids=["file", "link"])
def test_file_or_link_where_the_new_one_would_be_written_is_left_alone(claim, tmp_path, place):
    make(kept_folder, claim, "first")
    fill(tmp_path / "others", "theirs")
    place(tmp_path / ".out.new")
    before = file_bytes(tmp_path)
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(RefusedError, match=r"\.out\.new is no folder"):
            make(kept_folder, replace(claim, **how), "second")
    assert file_bytes(tmp_path) == before


@pytest.mark.parametrize("how", [{}, {"resume": True}], ids=["new", "resumed"])
def test_nothing_is_written_through_a_link_in_the_folder(claim, tmp_path, how):
    fill(tmp_path / "others", "theirs")
    if how:
        make(kept_folder, claim, "first")
    claim.out.mkdir(exist_ok=True)
    (claim.out / "deep").symlink_to(tmp_path / "others")
    before = file_bytes(tmp_path)
    with pytest.raises(RefusedError, match=r"out/deep is a link to another folder"):
        make(kept_folder, replace(claim, **how), "second")
    assert file_bytes(tmp_path) == before


def test_file_of_the_folder_that_another_command_writes_is_not_removed(claim):
    """A lock that is held among the files: somebody else writes there."""
    make(kept_folder, claim, "first")
    with locked_output(claim.out / "part.h5", break_lock=False), pytest.raises(RefusedError, match=r"part\.h5 is being written by"):
        make(kept_folder, replace(claim, overwrite=True), "second")


def test_error_names_the_file_as_it_will_be_called(claim):
    """Not by the temporary name of the folder in which it is written."""
    for name, said in (("a/text.txt", claim.out / "a/text.txt"), (None, claim.out), ("/elsewhere", Path("/elsewhere"))):
        with pytest.raises(OSError) as caught, new_folder(claim) as folder:
            raise OSError(errno.ENOSPC, "no room", *([] if name is None else [str(folder / name)]))
        assert caught.value.filename == str(said)


@WRITERS
def test_folder_is_called_as_it_was_given(claim, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = replace(claim, out=Path("below/out"))
    make(write, given, "first")
    with pytest.raises(RefusedError, match=r"^below/out exists and is not empty"):
        make(write, given, "second")
    make(write, replace(given, overwrite=True), "second")
    assert (tmp_path / "below/out/text.txt").read_text() == "second"
    with pytest.raises(RefusedError, match=r"^below/out holds .*text.txt, which this command reads"):
        make(write, replace(given, overwrite=True, inputs=(tmp_path / "below/out/text.txt",)), "third")


@WRITERS
def test_folder_that_holds_the_present_one_is_never_taken(claim, write, monkeypatch):
    """Of folders alone it would count as empty, and be replaced with the one in which the user stands."""
    below = claim.out / "here"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with pytest.raises(RefusedError, match="present folder"):
        make(write, claim, "first")
    assert below.is_dir()
