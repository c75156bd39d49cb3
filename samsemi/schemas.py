"""Files of earlier and later versions: a value is rebuilt from what stands in a file with every key and type checked.

A key that is unknown, or missing where the value has no default for it, is a CheckpointError that names it: what a later
version of samsemi has written is refused, never half understood, and what an earlier one has written is read.
"""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from samsemi.errors import CheckpointError, UsageError
from samsemi.inputs import read_text

Value = TypeVar("Value")
HINT = "make it again with this samsemi, or read it with the samsemi that wrote it"
DEEPEST = 32
"""Tables and lists within each other."""


def read_object(path: Path, hint: str = HINT) -> dict[str, object]:
    """The JSON object in a file; CheckpointError where there is none."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", hint) from None
    return parse_object(text, str(path), hint)


def parse_object(text: str, where: str, hint: str = HINT) -> dict[str, object]:
    """A JSON object; CheckpointError, beginning with ``where``, for any other text."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} cannot be read ({error})", hint) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} cannot be read: it is no JSON object", hint)
    refuse_deep(values, where, hint)
    return values


def refuse_deep(values: object, where: str, hint: str) -> None:
    """CheckpointError for tables and lists more than DEEPEST within each other."""
    level = [values]
    for _ in range(DEEPEST):
        level = [
            part for value in level for part in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    if level:
        raise CheckpointError(f"{where} cannot be read: nested too deep", hint)


def need_schema(found: object, expected: str, where: str, what: str, hint: str = HINT) -> None:
    """CheckpointError unless a file is ``what`` its reader takes: of the schema that it knows."""
    if found != expected:
        raise CheckpointError(f"{where} is not {what} (schema {found!s:.60}, expected {expected})", hint)


def need_keys(found: Mapping[str, object], known: set[str], required: set[str], where: str, hint: str = HINT) -> None:
    """CheckpointError naming the keys that are unknown or missing."""
    unknown, missing = sorted(f"{name:.60}" for name in set(found) - known), sorted(required - set(found))
    if unknown or missing:
        kinds = {"unknown": ", ".join(unknown[:8]), "missing": ", ".join(missing)}
        raise CheckpointError(f"{where}: {'; '.join(f'{kind} {names}' for kind, names in kinds.items() if names)}", hint)


def from_json(kind: type[Value], values: object, where: str, hint: str = HINT) -> Value:
    """A frozen dataclass from plain values, lists taken as tuples; CheckpointError, beginning with ``where``, for any that do not fit."""
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where} is no table of values", hint)
    known = fields(kind)  # type: ignore[arg-type]
    required = {field.name for field in known if field.default is MISSING and field.default_factory is MISSING}
    need_keys(values, {field.name for field in known}, required, where, hint)
    hints = get_type_hints(kind)
    plain = {name: as_kind(hints[name], value, f"{where}: {name}", hint) for name, value in values.items()}
    try:
        return kind(**plain)
    except UsageError as error:
        raise CheckpointError(f"{where}: {error.message}", hint) from None


def as_kind(kind: Any, value: object, where: str, hint: str) -> object:
    """A plain value as the type of a field; CheckpointError where it is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in inner:
            return None
        return as_kind(next(part for part in inner if part is not type(None)), value, where, hint)
    if isinstance(kind, type) and is_dataclass(kind):
        return from_json(kind, value, where, hint)
    if kind is Any:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(as_kind(inner[0], part, where, hint) for part in value)
    if origin is Literal and value in inner:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {
            name: part if inner[1] is object else as_kind(inner[1], part, f"{where}: {name!s:.60}", hint) for name, part in value.items()
        }
    accepted = {float: (float, int), Path: (Path, str)}.get(kind, kind if isinstance(kind, type) else ())
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"{where} is {value!r:.60}, not of type {getattr(kind, '__name__', kind)}", hint)
    if isinstance(value, int | float) and not is_finite(value):
        raise CheckpointError(f"{where} is {value!r:.60}, no finite number", hint)
    return value


def is_finite(value: float) -> bool:
    """Also of a whole number, that it is one to a computer."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
