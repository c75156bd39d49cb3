"""What a command needs of the process that it runs in: said in two lines, not by a library."""

import os
import subprocess
import sys

import pytest
from builders import ROOT, USAGE

from samsemi import surroundings
from samsemi.errors import UsageError


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


def test_time_of_builds_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        surroundings.settle()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    surroundings.settle()


def test_charts_are_files_whatever_the_user_draws_with(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    surroundings.settle()
    assert os.environ["MPLBACKEND"] == "nonsense", "a notebook that calls a command goes on drawing as it did"
    surroundings.set_libraries()
    assert os.environ["MPLBACKEND"] == "agg"
    assert os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "0", "what the user has set stays"
