"""The commands as functions, for notebooks."""

import inspect
import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from samsemi import clock, console, processes, surroundings
from samsemi.options.commands import STAGES, TOGETHER, function_name
from samsemi.options.fields import Option, declared, fill_presets


def function_of(name: str) -> Callable[..., dict[str, object]]:
    """A command, by its name in Python, as a function whose signature is the command's options; ``quiet`` shows no progress."""
    command = next(command for command in STAGES if function_name(command) == name)
    module, options = STAGES[command]

    def function(**values: object) -> dict[str, object]:
        need_place(command)
        chosen = {option: as_plain(value) for option, value in signature.bind(**values).arguments.items()}
        console.set_quiet(bool(chosen.pop("quiet", False)))
        clock.start()
        stage = getattr(import_module(f"samsemi.stages.{module}"), module)
        return json.loads(json.dumps(stage(options(**fill_presets(options, chosen))), default=str))

    parameters = [as_keyword(option) for option in declared(options).values()]
    parameters.append(inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=bool))
    signature = inspect.Signature(parameters, return_annotation=dict[str, object])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": dict[str, object]}
    function.__name__ = function.__qualname__ = name
    function.__module__ = "samsemi"
    lines = [f"    {option.name}: {option.field.help}" for option in declared(options).values()]
    function.__doc__ = "\n".join([options.__doc__ or "", "", *lines, "    quiet: No progress."])
    return function


def need_place(command: str) -> None:
    """UsageError where a command cannot run in this process: of the process, or as one of several of a command that takes one."""
    surroundings.settle()
    if command not in TOGETHER:
        processes.need_one(f"samsemi {command}", "start it without a launcher")


def as_plain(value: object) -> object:
    """A number of numpy as one of Python, and what stands for a path as a path."""
    if isinstance(value, list | tuple):
        return tuple(map(as_plain, value))
    if isinstance(value, os.PathLike) and not isinstance(value, Path):
        return Path(value)
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def as_keyword(option: Option) -> inspect.Parameter:
    """A keyword-only parameter; a path may be given as text, too, and one alone where there may be several."""
    kind = option.kind | Path | str if option.base is Path else option.kind
    default = inspect.Parameter.empty if option.required else option.default
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
