"""Files of earlier and later versions: a value is rebuilt from what stands in a file with every key and type checked.

A key that is unknown, or missing where the value has no default for it, is a CheckpointError that names it: what a later
version of samsemi has written is refused, never half understood, and what an earlier one has written is read.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from samsemi.errors import CheckpointError, UsageError

Value = TypeVar("Value")
HINT = "make it again with this samsemi, or read it with the samsemi that wrote it"


def parse_object(text: str, where: str, hint: str = HINT) -> dict[str, object]:
    """A JSON object; CheckpointError, beginning with ``where``, for any other text."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} cannot be read ({error})", hint) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} cannot be read: it is no JSON object", hint)
    return values


def need_schema(found: object, expected: str, where: str, what: str, hint: str = HINT) -> None:
    """CheckpointError unless a file is ``what`` its reader takes: of the schema that it knows."""
    if found != expected:
        raise CheckpointError(f"{where} is not {what} (schema {found}, expected {expected})", hint)


def need_keys(found: Mapping[str, object], known: set[str], required: set[str], where: str, hint: str = HINT) -> None:
    """CheckpointError naming the keys that are unknown or missing."""
    unknown, missing = sorted(set(found) - known), sorted(required - set(found))
    if unknown or missing:
        kinds = {"unknown": ", ".join(unknown), "missing": ", ".join(missing)}
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
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(as_kind(inner[0], part, where, hint) for part in value)
    if origin is Literal and value in inner:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    accepted = {float: (float, int), Path: (Path, str)}.get(kind, kind if isinstance(kind, type) else ())
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CheckpointError(f"{where} is {value!r}, not of type {getattr(kind, '__name__', kind)}", hint)
    return value
