"""What a command needs of the process that it runs in: said in two lines, not by a library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ROOT, USAGE

from samsemi import surroundings
from samsemi.errors import UsageError
from samsemi.own_code import own_error


def test_python_without_docstrings_is_refused_and_help_is_not():
    environment = {**os.environ, "PYTHONOPTIMIZE": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "samsemi", "check", "nothing"], env=environment, capture_output=True, text=True)
    assert done.returncode == USAGE and "PYTHONOPTIMIZE" in done.stderr and "Traceback" not in done.stderr
    assert subprocess.run([sys.executable, "-m", "samsemi", "check", "--help"], env=environment, capture_output=True).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the present folder cannot be removed")
def test_present_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="present folder"):
        surroundings.settle()


def test_charts_are_files_whatever_the_user_draws_with(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    surroundings.settle()
    assert os.environ["MPLBACKEND"] == "agg"


def test_error_in_code_of_the_user_is_told_from_a_bug(tmp_path):
    """By the innermost place that is no library's: in samsemi it is a bug, although a library raised it."""
    (tmp_path / "own.py").write_text("import json\ndef broken(text): return json.loads(text)\n")
    own: dict = {}
    exec(compile((tmp_path / "own.py").read_text(), str(tmp_path / "own.py"), "exec"), own)
    error = raised_by(own["broken"], "{")
    named = own_error(error)
    assert named and "own.py, line 2" in named.message and named.exit_code == 5
    inside = compile("import json\njson.loads('{')", str(Path(surroundings.__file__).parent / "sam" / "tiny.py"), "exec")
    assert own_error(raised_by(exec, inside)) is None


def raised_by(function, *arguments) -> Exception:
    try:
        function(*arguments)
    except ValueError as error:
        return error.with_traceback(error.__traceback__.tb_next)  # type: ignore[union-attr]
    raise AssertionError("nothing was raised")
