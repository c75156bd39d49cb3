"""How a stage's options are declared: a frozen dataclass, one field per option, checked against its annotation."""

import math
import types
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from samsemi.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checks the fields of a stage's options against their annotations."""

    def __post_init__(self):
        for name, (kind, info) in declared(type(self)).items():
            value = getattr(self, name)
            check_value(flag(name, info), value, kind, info)
            if isinstance(value, str) and Path in (kind, *get_args(kind)):
                object.__setattr__(self, name, Path(value))


def declared(options: type[Options]) -> dict[str, tuple[object, typing.Any]]:
    """Field name -> (type, typer's Option or Argument) of a stage's options, in the order of the help page."""
    hints = get_type_hints(options, include_extras=True)
    own = [field.name for field in fields(options) if field.name in options.__annotations__]
    inherited = [field.name for field in fields(options) if field.name not in own]
    return {name: get_args(hints[name])[:2] for name in own + inherited}


def flag(name: str, info) -> str:
    """How a person writes the option: '--box-margin', 'DATASET'."""
    return name.upper() if type(info).__name__ == "ArgumentInfo" else "--" + name.replace("_", "-")


def check_value(shown: str, value: object, kind: object, info) -> None:
    """UsageError unless the value has the declared type and stands in the declared range or choice."""
    allowed = get_args(kind) if get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    if value is None and type(None) in allowed:
        return
    base = next(part for part in allowed if part is not type(None))
    if get_origin(base) is Literal:
        if value not in get_args(base):
            raise UsageError(f"{shown} {value}: no such choice", f"one of {', '.join(get_args(base))}")
        return
    accepted = {float: (float, int), Path: (Path, str)}.get(base, (base,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and base is not bool):
        raise UsageError(f"{shown} {value!r}: expected {base.__name__}", f"give a value of type {base.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{shown} {value} is no finite number", "give a finite number")
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{'' if low is None else f'{low} <= '}x{'' if high is None else f' <= {high}'}"
        raise UsageError(f"{shown} {value} is out of range", f"give a value with {bounds}")
