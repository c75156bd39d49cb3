"""Whose fault an error is: told by where it was raised."""

import json
from pathlib import Path

import pytest
import torch

import samsemi
from samsemi.errors import CheckpointError
from samsemi.own_code import call_own, own_error


def own_code(text: str, folder: Path) -> dict:
    """What a file of the user's own defines."""
    (folder / "own.py").write_text(text)
    own: dict = {"torch": torch}
    exec(compile(text, str(folder / "own.py"), "exec"), own)
    return own


def test_error_in_code_of_the_user_is_told_from_a_bug(tmp_path):
    """By the innermost place that is no library's: in samsemi it is a bug, although a library raised it."""
    own = own_code("import json\ndef broken(text): return json.loads(text)\n", tmp_path)
    error = raised_by(own["broken"], "{")
    named = own_error(error)
    assert named and "own.py, line 2" in named.message and named.exit_code == 5
    inside = compile("import json\njson.loads('{')", str(Path(samsemi.__file__).parent / "sam" / "tiny.py"), "exec")
    assert own_error(raised_by(exec, inside)) is None


def test_place_is_named_where_a_library_calls_code_of_the_user(tmp_path):
    """As torch does, between samsemi and the network of the user's own."""
    network = own_code("class Net(torch.nn.Module):\n    def forward(self):\n        raise ValueError('mine')\n", tmp_path)["Net"]()
    named = own_error(raised_by(network))
    assert named and named.message == f"code of your own: ValueError in {tmp_path / 'own.py'}, line 3: mine"
    with pytest.raises(CheckpointError, match=r"--sam own:load: ValueError in .*own\.py, line 3: mine"):
        call_own(network, "--sam own:load")


def test_place_in_installed_code_that_the_user_gave_is_its_own():
    with pytest.raises(CheckpointError, match=r"--sam json:loads: JSONDecodeError in .*json/__init__\.py, line \d+: Expecting"):
        call_own(json.loads, "--sam json:loads", "{")


def raised_by(function, *arguments) -> Exception:
    try:
        function(*arguments)
    except ValueError as error:
        return error.with_traceback(error.__traceback__.tb_next)  # type: ignore[union-attr]
    raise AssertionError("nothing was raised")
