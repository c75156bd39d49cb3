"""Files that may be anything are read without waiting for pipes, without end, and without filling memory."""

import os
from pathlib import Path

import pytest

from samsemi import inputs
from samsemi.inputs import begins_with, read_regular, read_rows, read_text

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@needs_pipes
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "pipe")


@needs_pipes
def test_endless_device_is_not_read():
    with pytest.raises(OSError, match="not a regular file"):
        read_text(Path("/dev/zero"))


def test_folder_and_file_that_is_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    (tmp_path / "large").write_bytes(b"12345")
    assert read_regular(tmp_path / "large", most=5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_regular(tmp_path / "large", most=4)
    monkeypatch.setattr(inputs, "MOST_TEXT", 4)
    with pytest.raises(OSError, match="larger than"):
        read_text(tmp_path / "large")


def test_table_is_read_by_its_first_line(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffa,b\r\n1,"x\ny"\r\n'.encode())
    assert read_rows(tmp_path / "t.csv") == [{"a": "1", "b": "x\ny"}]


@pytest.mark.parametrize("content", [b"a,b\n1," + b"x" * 2**20, b"a\n\xff\xfe\n"], ids=["cell of 1 MB", "no UTF-8"])
def test_what_is_no_table_is_a_value_error(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError):
        read_rows(tmp_path / "t.csv")


@needs_pipes
def test_mark_is_looked_for_in_the_first_bytes_of_a_regular_file(tmp_path):
    (tmp_path / "f").write_bytes(b"....mark")
    os.mkfifo(tmp_path / "pipe")
    assert begins_with(tmp_path / "f", b"mark", 8) and not begins_with(tmp_path / "f", b"mark", 7)
    assert not any(begins_with(tmp_path / name, b"mark", 8) for name in ("", "pipe", "gone"))
