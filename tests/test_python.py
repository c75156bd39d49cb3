"""The commands as functions: what a notebook sees of them."""

import inspect
import json
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import succeed

import samsemi
from samsemi.errors import DataError, UsageError
from samsemi.options.commands import STAGES, function_name
from samsemi.options.fields import Option, declared


def test_package_names_one_function_per_command():
    names = [function_name(command) for command in STAGES]
    assert sorted(samsemi.__all__) == sorted(names) == samsemi.__all__
    assert {*names, "__version__", "__doc__"} <= set(dir(samsemi))
    assert succeed("--version").out == f"samsemi {samsemi.__version__}\n"
    with pytest.raises(AttributeError, match="segment"):
        _ = samsemi.segment


def test_signatures_are_the_options_of_the_commands():
    for command, (_, options) in STAGES.items():
        name = function_name(command)
        function = getattr(samsemi, name)
        assert function is getattr(samsemi, name) and (function.__name__, function.__module__) == (name, "samsemi")
        assert_same_parameters(function, declared(options))


def assert_same_parameters(function: Callable, options: dict[str, Option]) -> None:
    parameters = inspect.signature(function).parameters
    assert [*parameters] == [*options, "quiet"]
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    hints = typing.get_type_hints(function)
    for option in options.values():
        default = inspect.Parameter.empty if option.required else option.default
        assert parameters[option.name].default is default
        assert (
            hints[option.name] == parameters[option.name].annotation == (option.kind | Path | str if option.base is Path else option.kind)
        )
        assert f"{option.name}: {option.field.help}" in inspect.getdoc(function)
    assert parameters["quiet"].default is False and hints["return"] == dict[str, object]


def test_help_of_a_function_shows_types_and_defaults():
    code = "import samsemi; help(samsemi.mine)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for text in (
        "dataset: pathlib.Path | str",
        "box_margin: int = 2",
        "sam_checkpoint: pathlib.Path | None | str = None",
        "quiet: bool = False",
    ):
        assert text in " ".join(shown.split())


def test_function_gives_what_json_prints(dataset, warm, tmp_path):
    assert samsemi.check(dataset=str(dataset)) == succeed("check", dataset, "--json").result
    common = {"dataset": dataset, "model": warm, "device": "cpu", "overlays": 0}
    found = samsemi.eval(**common, out=tmp_path / "a")
    printed = succeed("eval", dataset, "--model", warm, "--out", tmp_path / "b", "--overlays", 0, "--json").result
    assert json.loads(json.dumps(found)) == found and [*found] == [*printed]
    assert found["classes"] == printed["classes"]


def test_quiet_is_of_one_call(dataset, capsys):
    samsemi.check(dataset=dataset, quiet=True)
    assert capsys.readouterr().err == ""
    samsemi.check(dataset=dataset)
    assert "check" in capsys.readouterr().err


def test_wrong_arguments_are_told_as_of_any_function(dataset):
    with pytest.raises(TypeError, match="'data'"):
        samsemi.check(dataset=dataset, data=1)
    with pytest.raises(TypeError, match="'dataset'"):
        samsemi.check()
    with pytest.raises(TypeError, match="positional"):
        samsemi.check(dataset)
    with pytest.raises(DataError, match="nowhere"):
        samsemi.check(dataset="nowhere")


@pytest.mark.parametrize(
    ("code", "big"),
    [
        ("import samsemi; dir(samsemi), samsemi.mine, samsemi.__version__", {"typer", "rich", "torch", "numpy", "h5py"}),
        ("import samsemi.data.dataset", {"typer", "torch"}),
    ],
)
def test_import_loads_nothing_big(code, big):
    code = f"import sys; {code}; sys.exit(', '.join({big} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", ["\0", [["a"]], [{}, {}], [], ["a", "a"], [3], (name for name in "ab")], ids=str)
def test_model_that_is_none_is_wrong_usage(model, tmp_path):
    with pytest.raises(UsageError, match="--model"):
        samsemi.mine(dataset=tmp_path, model=model, out=tmp_path / "s.h5")


def test_numbers_of_numpy_and_what_stands_for_a_path_are_taken(tmp_path):
    """As they come in a notebook."""

    class Place:
        def __fspath__(self) -> str:
            return str(tmp_path / "nothing")

    with pytest.raises(DataError, match="nothing"):
        samsemi.eval(dataset=Place(), model=tmp_path, out=tmp_path / "out", seed=np.int64(3), tolerance=np.float32(2), quiet=True)
    with pytest.raises(UsageError, match="seed"):
        samsemi.eval(dataset=Place(), model=tmp_path, out=tmp_path / "out", seed=np.array([3]), quiet=True)
